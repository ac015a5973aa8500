"""Every layer's forward pass and gradient beside Keras on JAX, one size each: `make bench-layers`.

    python -m benchmarks.layers [NAME ...] [--seconds 0.3]

Both libraries run in this process, compiled, in turns; printed is their time over ours, so more is better. Layers that
run on the host get a million values (Keras's need TensorFlow), and a pipeline of augmentation a thousand images.
"""

import argparse
import inspect
import os
import statistics
import time

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
import numpy as np
from rich.console import Console
from rich.table import Table

import lamina

TOKENS, SEQUENCES, IMAGES, VOLUMES = (32, 128), (32, 128, 64), (32, 32, 32, 32), (4, 16, 16, 16, 16)
PHOTOS, VECTORS, FILMS, SIGNALS = (16, 224, 224, 3), (256, 256), (4, 8, 16, 16, 8), (16, 16000)
PAIR, WINDOW, IMAGE_WINDOW = (
    [SEQUENCES, SEQUENCES],
    {"filters": 64, "kernel_size": 3},
    {"filters": 32, "kernel_size": 3},
)
SHAPES = {1: SEQUENCES, 2: IMAGES, 3: VOLUMES}
SEEN = {"seed": 1}

# (layer, arguments, shape of the input, or of several in a list or, each an argument of its own, in a tuple of lists)
ROWS = [
    ("Dense", {"units": 256, "activation": "relu"}, VECTORS),
    ("EinsumDense", {"equation": "abc,cde->abde", "output_shape": (None, 4, 16), "bias_axes": "de"}, SEQUENCES),
    ("Embedding", {"input_dim": 5000, "output_dim": 64}, TOKENS),
    ("ReversibleEmbedding", {"input_dim": 5000, "output_dim": 64}, TOKENS),
    *((name, {}, SEQUENCES) for name in ("ReLU", "LeakyReLU", "ELU", "Softmax", "PReLU", "Masking", "Flatten")),
    ("Activation", {"activation": "gelu"}, SEQUENCES),
    *((name, {}, PAIR) for name in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")),
    ("Dot", {"axes": 2}, PAIR),
    *((name, {}, SEQUENCES) for name in ("BatchNormalization", "LayerNormalization", "RMSNormalization")),
    ("UnitNormalization", {}, SEQUENCES),
    ("BatchNormalization", {}, IMAGES),
    ("GroupNormalization", {"groups": 8}, IMAGES),
    *((name, {"rate": 0.2, **SEEN}, SEQUENCES) for name in ("Dropout", "GaussianDropout", "AlphaDropout")),
    ("GaussianNoise", {"stddev": 0.2, **SEEN}, SEQUENCES),
    *((f"SpatialDropout{rank}D", {"rate": 0.2, **SEEN}, shape) for rank, shape in SHAPES.items()),
    ("Attention", {}, PAIR),
    ("AdditiveAttention", {}, [(8, 64, 32), (8, 64, 32)]),
    ("MultiHeadAttention", {"num_heads": 4, "key_dim": 16}, ([SEQUENCES], [SEQUENCES])),
    ("GroupQueryAttention", {"head_dim": 16, "num_query_heads": 4, "num_key_value_heads": 2},
     ([SEQUENCES], [SEQUENCES])),
    *((name, {"units": 32}, (16, 64, 32)) for name in ("SimpleRNN", "GRU", "LSTM")),
    *((f"ConvLSTM{rank}D", {"filters": 8, "kernel_size": 3, "padding": "same"}, shape)
      for rank, shape in ((1, (8, 8, 32, 8)), (2, FILMS), (3, (2, 4, 8, 8, 8, 4)))),
    *((f"Conv{rank}D", WINDOW if rank == 1 else IMAGE_WINDOW, shape) for rank, shape in SHAPES.items()),
    *((f"Conv{rank}DTranspose", {**IMAGE_WINDOW, "strides": 2}, shape) for rank, shape in SHAPES.items()),
    *((f"DepthwiseConv{rank}D", {"kernel_size": 3}, SHAPES[rank]) for rank in (1, 2)),
    *((f"SeparableConv{rank}D", IMAGE_WINDOW, SHAPES[rank]) for rank in (1, 2)),
    *((f"{kind}Pooling{rank}D", {"pool_size": 2}, shape)
      for kind in ("Max", "Average") for rank, shape in SHAPES.items()),
    *((f"Adaptive{kind}Pooling{rank}D", {"output_size": 7}, shape)
      for kind in ("Max", "Average") for rank, shape in SHAPES.items()),
    *((f"Global{kind}Pooling{rank}D", {}, shape) for kind in ("Max", "Average") for rank, shape in SHAPES.items()),
    *((f"{name}{rank}D", {}, shape)
      for name in ("ZeroPadding", "Cropping", "UpSampling") for rank, shape in SHAPES.items()),
    ("Reshape", {"target_shape": (64, 128)}, SEQUENCES),
    ("Permute", {"dims": (2, 1)}, SEQUENCES),
    ("RepeatVector", {"n": 16}, VECTORS),
    ("Normalization", {"mean": 0.5, "variance": 2.0}, SEQUENCES),
    ("Discretization", {"bin_boundaries": [-1.0, 0.0, 1.0]}, SEQUENCES),
    ("Rescaling", {"scale": 1 / 255}, PHOTOS),
    ("Resizing", {"height": 128, "width": 128}, PHOTOS),
    ("CenterCrop", {"height": 128, "width": 128}, PHOTOS),
    ("STFTSpectrogram", {}, (*SIGNALS, 1)),
    ("MelSpectrogram", {}, SIGNALS),
    *((name, {**given, **SEEN}, PHOTOS) for name, given in {
        "RandomBrightness": {"factor": 0.2}, "RandomContrast": {"factor": 0.2}, "RandomFlip": {},
        "RandomCrop": {"height": 128, "width": 128}, "RandomRotation": {"factor": 0.1},
        "RandomZoom": {"height_factor": 0.1}, "RandomHue": {"factor": 0.1},
        "RandomTranslation": {"height_factor": 0.1, "width_factor": 0.1}, "RandomShear": {"x_factor": 0.1},
        "RandomPerspective": {}, "RandomErasing": {}, "RandomGaussianBlur": {}, "RandomSharpness": {"factor": 0.2},
        "RandomSaturation": {"factor": 0.2}, "RandomGrayscale": {}, "RandomInvert": {},
        "RandomPosterization": {"factor": 4},
        "RandomElasticTransform": {}, "RandomColorDegeneration": {"factor": 0.2}, "MixUp": {}, "CutMix": {},
        "RandomColorJitter": {"brightness_factor": 0.2, "contrast_factor": 0.2},
    }.items()),
    *((name, {}, PHOTOS) for name in ("AutoContrast", "Equalization", "Solarization")),
]  # fmt: skip

MILLION, FIFTY, TIMES = 10**6, (50, 224, 224, 3), 20
SLOW = 10.0  # seconds after which one turn is enough


def words(count, wide=False):
    numbers = np.random.default_rng(0).integers(0, 10**8 if wide else 20_000, count)
    return np.char.add("word", numbers.astype(str))


def integers(high):
    return lambda: np.random.default_rng(0).integers(0, high, MILLION)


def texts():
    return np.array([" ".join(line).title() + "!" for line in words((MILLION, 6))], object)


def photos():
    return np.random.default_rng(0).integers(0, 256, FIFTY, "uint8").astype("float32")


def vocabulary(size):
    return {"vocabulary": [f"word{i}" for i in range(size)]}


# (layer, arguments, function that makes the input), for what runs on the host
ON_HOST = [
    ("TextVectorization", {**vocabulary(20_000), "output_sequence_length": 8}, texts),
    ("TextVectorization", {**vocabulary(20_000), "output_mode": "count", "max_tokens": 20_002, "ngrams": 2},
     lambda: texts()[:1000]),
    ("StringLookup", vocabulary(20_000), lambda: words(MILLION)),
    ("StringLookup", vocabulary(20_000), lambda: words(MILLION).astype(object)),
    ("StringLookup", vocabulary(1000), lambda: words(MILLION, wide=True)),
    ("IntegerLookup", {"vocabulary": list(range(1000))}, integers(1000)),
    ("IntegerLookup", {"vocabulary": list(range(0, 10**10, 10**5))}, integers(10**10)),
    ("Hashing", {"num_bins": 1000}, integers(5000)),
    ("Hashing", {"num_bins": 1000}, integers(2**60)),
    ("Hashing", {"num_bins": 1000}, lambda: words(MILLION, wide=True)),
    ("Hashing", {"num_bins": 1000}, lambda: words(MILLION, wide=True).astype(object)),
    ("Hashing", {"num_bins": 1000, "salt": 7}, lambda: words(MILLION, wide=True)),
    ("HashedCrossing", {"num_bins": 1000}, lambda: (integers(5000)(), integers(300)())),
    ("CategoryEncoding", {"num_tokens": 100}, lambda: integers(100)().reshape(-1, 10)),
    ("Discretization", {"bin_boundaries": [100.0, 1000.0, 4000.0]}, integers(5000)),
    ("Normalization", {"mean": 0.5, "variance": 2.0}, lambda: integers(5000)().reshape(-1, 10).astype("float32")),
    ("Pipeline", {"layers": {"RandomFlip": {}, "RandomRotation": {"factor": 0.1}, "RandomZoom": {"height_factor": 0.2},
                             "RandomContrast": {"factor": 0.2}}},
     photos),
    ("RandAugment", {}, photos),
]  # fmt: skip


def on_host(library, name, given, data):
    """The call of a layer by itself."""
    if name == "Pipeline":
        given = {"layers": [getattr(library.layers, inner)(**{**of, **SEEN}) for inner, of in given["layers"].items()]}
    layer = getattr(library.layers, name)(**given)
    times = TIMES if np.shape(data) == FIFTY else 1
    return lambda: jax.block_until_ready([layer(data) for _ in range(times)])


def arrays(name, shape):
    draw = np.random.default_rng(0)
    if name.endswith("Embedding"):
        return draw.integers(0, 5000, shape).astype("int32")
    values = draw.random(shape, "float32")
    return 255 * values if shape == PHOTOS else values


def arguments(name, shapes):
    """The arguments of the call."""
    if isinstance(shapes, list):
        return ([arrays(name, shape) for shape in shapes],)
    each = [shape for (shape,) in shapes] if isinstance(shapes[0], list) else [shapes]
    return tuple(arrays(name, shape) for shape in each)


def functions(library, name, given, args):
    """The compiled forward pass, and the compiled gradient of a sum of squares where floats go in."""
    layer = getattr(library.layers, name)(**given)
    training = {"training": True} if "training" in inspect.signature(layer.call).parameters else {}
    layer(*args, **training)
    trained = [v.value for v in layer.trainable_variables]
    fixed = [v.value for v in layer.non_trainable_variables]

    def forward(trained, args):
        return layer.stateless_call(trained, fixed, *args, **training)[0]

    def total(trained, args):
        # Of squares: XLA knows what to do with a gradient that is 1 everywhere.
        return sum((leaf.astype("float32") ** 2).sum() for leaf in jax.tree.leaves(forward(trained, args)))

    floats = all(leaf.dtype.kind == "f" for leaf in jax.tree.leaves(args))
    gradient = jax.grad(total, (0, 1) if floats else 0)
    compiled = [jax.jit(forward)] + ([jax.jit(gradient)] if trained or floats else [])
    for fn in compiled:
        fn(trained, args)
    return [lambda fn=fn: jax.block_until_ready(fn(trained, args)) for fn in compiled]


def ratio(ours, theirs, seconds):
    """The time of theirs over that of ours, taken in turns."""
    ours(), theirs()
    times, begun = ([], []), time.perf_counter()
    while (spent := time.perf_counter() - begun) < seconds or not times[0] or (len(times[0]) < 3 and spent < SLOW):
        for run, kept in zip((ours, theirs), times):
            start = time.perf_counter()
            run()
            kept.append(time.perf_counter() - start)
    mine, other = map(statistics.median, times)
    return mine, other / mine


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layers", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="layers, all if not given")
    parser.add_argument("--seconds", type=float, default=0.3, help="time for each measurement")
    options = parser.parse_args()
    console, found = Console(), []
    table = Table("layer", "input", "forward ms", "Keras / lamina", "gradient ms", "Keras / lamina")
    rows = [row for row in ROWS if not options.names or row[0] in options.names]
    for name, given, shapes in rows:
        args = jax.device_put(arguments(name, shapes))
        cells = [name, "x".join(map(str, jax.tree.leaves(args)[0].shape))]
        own = functions(lamina, name, given, args)
        try:
            pairs = list(zip(own, functions(keras, name, given, args)))
        except Exception:  # some of Keras's layers cannot be compiled
            table.add_row(*cells, *(cell for run in own for cell in (f"{1000 * ratio(run, run, 0)[0]:.3f}", "-")))
            continue
        for what, (ours, theirs) in zip(("forward", "gradient"), pairs):
            mine, relation = ratio(ours, theirs, options.seconds)
            found.append((relation, name, what))
            cells += [f"{1000 * mine:.3f}", f"{relation:.2f}"]
        table.add_row(*cells)
        console.print(" ".join(cells), style="dim")
    for name, given, make in ON_HOST:
        if not options.names or name in options.names:
            data = make()
            mine, relation = ratio(
                *(on_host(library, name, given, data) for library in (lamina, keras)), options.seconds
            )
            found.append((relation, name, "call"))
            kind = data[0] if isinstance(data, tuple) else data
            cells = [name, f"{'x'.join(map(str, kind.shape))} {kind.dtype}", f"{1000 * mine:.1f}", f"{relation:.2f}"]
            table.add_row(*cells)
            console.print(" ".join(cells), style="dim")
    console.print(table)
    console.print("slowest:", ", ".join(f"{name} {what} {relation:.2f}" for relation, name, what in sorted(found)[:5]))


if __name__ == "__main__":
    main()
