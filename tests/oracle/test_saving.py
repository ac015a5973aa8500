"""Files that go from Keras to us and from us to Keras: the same models, the same numbers, the same training."""

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest

import lamina

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import keras


class Row(NamedTuple):
    """A model: `make(k)` builds it with the names of the module `k`, for inputs of these shapes."""

    name: str
    make: Callable[[Any], Any]
    shapes: tuple[tuple[int, ...], ...] = ((3, 4),)
    integers: int = 0  # inputs are integers below

    def inputs(self) -> list[np.ndarray]:
        rng = np.random.default_rng(7)
        if self.integers:
            return [rng.integers(0, self.integers, shape).astype("int32") for shape in self.shapes]
        return [rng.normal(size=shape).astype("float32") for shape in self.shapes]

    def __repr__(self) -> str:
        return self.name


def stack(*layers: Callable[[Any], Any], shape: tuple[int, ...] = (4,), dtype: str = "float32") -> Callable:
    """Maker of a Sequential of `layers`, each a function of the namespace of layers."""
    return lambda k: k.Sequential([k.Input(shape, dtype=dtype), *(make(k.layers) for make in layers)])


def graph(body: Callable, *shapes: tuple[int, ...]) -> Callable:
    """Maker of the model whose outputs are `body(k, *inputs)`."""

    def make(k):
        inputs = [k.Input(shape) for shape in shapes or ((4,),)]
        outputs = body(k, *inputs)
        return k.Model(inputs if len(inputs) > 1 else inputs[0], outputs)

    return make


def layer(name: str, *shapes: tuple[int, ...], arguments: tuple = (), **options: Any) -> Row:
    """The row of a Sequential of one layer, or of a graph where it takes several inputs."""
    detail = "-".join(f"{k}={v}" for k, v in options.items())
    batched = tuple((3, *shape) for shape in shapes)
    if len(shapes) == 1:
        make = stack(lambda L: getattr(L, name)(*arguments, **options), shape=shapes[0])
    else:
        make = graph(lambda k, *inputs: getattr(k.layers, name)(*arguments, **options)(list(inputs)), *shapes)
    return Row(f"{name}-{detail}".rstrip("-"), make, batched)


MERGING = ("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply")
LAYERS = [
    layer("Dense", (4,), arguments=(3,), activation="relu", kernel_regularizer="l2", bias_constraint="non_neg"),
    layer("Activation", (4,), arguments=("softmax",)),
    layer("ReLU", (4,), max_value=1.0, negative_slope=0.1),
    layer("LeakyReLU", (4,)),
    layer("ELU", (4,)),
    layer("PReLU", (4,)),
    layer("Softmax", (4,)),
    layer("Dropout", (4,), arguments=(0.5,), seed=3),
    layer("SpatialDropout1D", (4, 3), arguments=(0.5,)),
    layer("SpatialDropout2D", (4, 4, 3), arguments=(0.5,), data_format="channels_first"),
    layer("GaussianNoise", (4,), arguments=(0.1,)),
    layer("GaussianDropout", (4,), arguments=(0.1,)),
    layer("ActivityRegularization", (4,), l2=0.125),
    layer("Flatten", (4, 3)),
    layer("Reshape", (4, 3), arguments=((2, -1),)),
    layer("Permute", (4, 3), arguments=((2, 1),)),
    layer("RepeatVector", (4,), arguments=(3,)),
    layer("Masking", (4, 3), mask_value=0.5),
    layer("Identity", (4,)),
    layer("ZeroPadding1D", (4, 3)),
    layer("ZeroPadding2D", (4, 3, 2), padding=((1, 0), (2, 1))),
    layer("Cropping2D", (4, 5, 2)),
    layer("UpSampling2D", (4, 3, 2)),
    layer("Conv1D", (8, 3), arguments=(4, 3), padding="causal", dilation_rate=2),
    layer("Conv2D", (8, 7, 3), arguments=(4, 3), strides=2, padding="same"),
    layer("Conv2D", (8, 7, 4), arguments=(4, (3, 2)), groups=2, activation="tanh", use_bias=False),
    layer("Conv3D", (4, 4, 4, 2), arguments=(3, 2)),
    layer("Conv1DTranspose", (5, 3), arguments=(4, 3), strides=3, output_padding=2),
    layer("Conv2DTranspose", (5, 4, 3), arguments=(2, 3), strides=(2, 1), padding="same", activation="tanh"),
    layer("Conv3DTranspose", (3, 3, 3, 2), arguments=(2, 2), data_format="channels_first"),
    layer("DepthwiseConv1D", (8, 3), arguments=(3,), depth_multiplier=2),
    layer("DepthwiseConv2D", (8, 7, 3), arguments=((3, 2),), strides=2, depthwise_regularizer="l2"),
    layer("SeparableConv1D", (8, 3), arguments=(4, 3), depthwise_constraint="max_norm"),
    layer("SeparableConv2D", (8, 7, 3), arguments=(4, 3), dilation_rate=2, use_bias=False),
    layer("MaxPooling1D", (8, 3)),
    layer("MaxPooling2D", (8, 7, 3), pool_size=(2, 3), padding="same"),
    layer("AveragePooling1D", (8, 3), pool_size=3, strides=1),
    layer("AveragePooling2D", (8, 7, 3), pool_size=2),
    layer("GlobalMaxPooling1D", (8, 3)),
    layer("GlobalMaxPooling2D", (8, 7, 3), keepdims=True),
    layer("GlobalAveragePooling1D", (8, 3)),
    layer("GlobalAveragePooling2D", (8, 7, 3)),
    layer("BatchNormalization", (4,), momentum=0.9),
    layer("BatchNormalization", (4, 3), axis=1, scale=False),
    layer("BatchNormalization", (4,), renorm=True, renorm_clipping={"rmax": 2.0, "rmin": 0.5, "dmax": 1.0}),
    layer("LayerNormalization", (4, 3)),
    layer("LayerNormalization", (4, 3), axis=(1, 2), center=False),
    layer("GroupNormalization", (5, 4), groups=2, epsilon=0.01),
    layer("GroupNormalization", (4, 5), groups=-1, axis=1, scale=False),
    layer("RMSNormalization", (4, 3), axis=(1, 2)),
    layer("UnitNormalization", (4, 3)),
    layer("AdaptiveAveragePooling2D", (7, 6, 3), output_size=(2, 3)),
    layer("AdaptiveMaxPooling1D", (7, 3), arguments=(2,)),
    Row(
        "SpectralNormalization",
        stack(lambda L: L.SpectralNormalization(L.Conv2D(3, 2), 2), shape=(5, 4, 2)),
        ((3, 5, 4, 2),),
    ),
    layer("EinsumDense", (4, 3), arguments=("abc,cd->abd",), output_shape=(None, 5), bias_axes="d"),
    *(layer(name, (4, 3), (4, 3)) for name in MERGING),
    layer("Subtract", (4,), (4,)),
    layer("Dot", (4, 3), (5, 3), axes=2),
    layer("Attention", (4, 3), (5, 3), use_scale=True),
    layer("AdditiveAttention", (4, 3), (5, 3)),
    layer("LSTM", (4, 3), arguments=(5,), return_sequences=True, dropout=0.2),
    layer("GRU", (4, 3), arguments=(5,), reset_after=False),
    layer("GRU", (4, 3), arguments=(5,), go_backwards=True),
    layer("SimpleRNN", (4, 3), arguments=(5,)),
    layer("ConvLSTM1D", (3, 5, 2), arguments=(2, 3), dropout=0.2, strides=2),
    layer("ConvLSTM2D", (3, 4, 5, 2), arguments=(2, 2), data_format="channels_first", return_sequences=True),
    layer("ConvLSTM3D", (2, 3, 3, 3, 1), arguments=(2, 2), use_bias=False, padding="same"),
]


def shared(k, x):
    dense = k.layers.Dense(4, activation="tanh")
    return dense(dense(x) + x)


def several_outputs(k, x, y):
    both = k.layers.Concatenate()([x, y])
    return {"first": k.layers.Dense(2, name="first")(both), "second": k.layers.Dense(1, name="second")(x)}


def nested(k, x):
    inner_input = k.Input((4,))
    inner = k.Model(inner_input, k.layers.Dense(3)(k.layers.Dense(5)(inner_input)), name="inner")
    stack = k.Sequential([k.Input((3,)), k.layers.Dense(2), k.layers.BatchNormalization()], name="stack")
    return stack(inner(x))


def grouped_queries(k, x):
    return k.layers.GroupQueryAttention(3, 4, 2, use_gate=True)(x, x)


def there_and_back(k, tied):
    words = k.Input((5,), dtype="int32")
    table = k.layers.ReversibleEmbedding(9, 4, tie_weights=tied, mask_zero=True, logit_soft_cap=3.0)
    return k.Model(words, table(k.layers.LSTM(4, return_sequences=True)(table(words)), reverse=True))


def masked(k):
    words = k.Input((5,), dtype="int32")
    h = k.layers.Embedding(9, 4, mask_zero=True)(words)
    return k.Model(words, k.layers.GlobalAveragePooling1D()(k.layers.Dense(3)(h)))


def attention(k, x):
    return k.layers.MultiHeadAttention(2, 3, value_dim=2, dropout=0.1)(x, x, use_causal_mask=True)


def cells(k, x):
    L = k.layers
    return L.RNN([L.LSTMCell(3), L.GRUCell(4), L.SimpleRNNCell(2)], return_sequences=True)(x)


MODELS = [
    Row("graph", graph(lambda k, x: k.layers.Dense(2)(k.layers.Dense(3, activation="relu")(x)))),
    Row("shared layer", graph(shared)),
    Row("several outputs", graph(several_outputs, (4,), (2,)), ((3, 4), (3, 2))),
    Row("nested", graph(nested)),
    Row("nested stack", lambda k: k.Sequential([k.Sequential([k.Input((4,)), k.layers.Dense(3)]), k.layers.Dense(2)])),
    Row("masked", masked, ((3, 5),), 9),
    Row(
        "grouped queries",
        graph(lambda k, x: k.layers.GroupQueryAttention(3, 4, 2, use_gate=True)(x, x), (5, 4)),
        ((3, 5, 4),),
    ),
    Row("there and back", lambda k: there_and_back(k, tied=True), ((3, 5),), 9),
    Row("there and back, untied", lambda k: there_and_back(k, tied=False), ((3, 5),), 9),
    Row("embedding", stack(lambda L: L.Embedding(9, 4), shape=(5,), dtype="int32"), ((3, 5),), 9),
    Row("half precision", stack(lambda L: L.Dense(3, dtype="bfloat16"), lambda L: L.Dense(2, dtype="mixed_float16"))),
    Row("MultiHeadAttention", graph(attention, (4, 6)), ((3, 4, 6),)),
    Row("TimeDistributed", stack(lambda L: L.TimeDistributed(L.Dense(3)), shape=(4, 3)), ((3, 4, 3),)),
    Row("Bidirectional", stack(lambda L: L.Bidirectional(L.LSTM(3), merge_mode="sum"), shape=(4, 3)), ((3, 4, 3),)),
    Row("RNN", graph(cells, (4, 3)), ((3, 4, 3),)),
    Row(
        "masked recurrence",
        stack(lambda L: L.Embedding(9, 4, mask_zero=True), lambda L: L.Bidirectional(L.GRU(3)), shape=(5,)),
        ((3, 5),),
        9,
    ),
]

CALLS = {
    "x + y": lambda k, x, y: x + y,
    "1 - x": lambda k, x, y: 1 - x,
    "x / 2": lambda k, x, y: x / 2,
    "x // y": lambda k, x, y: x // y,
    "x % 2": lambda k, x, y: x % 2,
    "-abs(x) ** 2": lambda k, x, y: -(abs(x) ** 2),
    "x @ y.T": lambda k, x, y: x @ k.ops.transpose(y),
    "x[:, 1:]": lambda k, x, y: x[:, 1:],
    "x[..., 0]": lambda k, x, y: x[..., 0],
    "x > y": lambda k, x, y: k.ops.cast((x > y) & ~(x < 0), "float32"),
    "mean": lambda k, x, y: k.ops.mean(x, 1, True),
    "max": lambda k, x, y: k.ops.max(x, axis=(1,)),
    "reshape": lambda k, x, y: k.ops.reshape(x, (-1, 2, 2)),
    "concatenate": lambda k, x, y: k.ops.concatenate([x, y], axis=-1),
    "stack": lambda k, x, y: k.ops.stack([x, y], axis=1),
    "split": lambda k, x, y: k.ops.split(x, 2, axis=-1),
    "where": lambda k, x, y: k.ops.where(x > 0, x, 0.0),
    "clip": lambda k, x, y: k.ops.clip(x, 0, 1),
    "one_hot": lambda k, x, y: k.ops.one_hot(k.ops.cast(x, "int32"), 5),
    "einsum": lambda k, x, y: k.ops.einsum("bi,bi->b", x, y),
    "take": lambda k, x, y: k.ops.take(x, np.array([0, 2]), axis=1),
    "pad": lambda k, x, y: k.ops.pad(x, [[0, 0], [1, 2]]),
    "expand and squeeze": lambda k, x, y: k.ops.squeeze(k.ops.expand_dims(x, 1), 1),
    "top_k": lambda k, x, y: k.ops.top_k(x, 2)[0],
    "full_like": lambda k, x, y: k.ops.full_like(x, 3.0),
    "average": lambda k, x, y: k.ops.average(x, axis=1, weights=np.arange(4, dtype="float32")),
    "matmul with a constant": lambda k, x, y: k.ops.matmul(x, np.ones((4, 2), "float32")),
    "layer_normalization": lambda k, x, y: k.ops.layer_normalization(x),
    "relu op": lambda k, x, y: k.ops.relu(x),
    "relu activation": lambda k, x, y: k.activations.relu(x, max_value=0.5),
    "gelu": lambda k, x, y: k.activations.gelu(x),
    "exponential": lambda k, x, y: k.activations.exponential(x),
    "leaky_relu": lambda k, x, y: k.activations.leaky_relu(x),
}
OPS = [Row(f"op {name}", graph(body, (4,), (4,)), ((3, 4), (3, 4))) for name, body in CALLS.items()]
ROWS = LAYERS + MODELS + OPS


def with_random_weights(model):
    """Other values than zeros and ones, and variances that are positive."""
    rng = np.random.default_rng(11)
    model.set_weights([rng.uniform(0.1, 1.0, w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


def outputs(model, inputs: list[np.ndarray]) -> list[np.ndarray]:
    result = model(inputs if len(inputs) > 1 else inputs[0])
    flat = (
        list(result.values()) if isinstance(result, dict) else result if isinstance(result, (list, tuple)) else [result]
    )
    return [np.asarray(x, "float32") for x in flat]


def arrays(path) -> dict[str, tuple[int, ...]]:
    """The shapes of the arrays of a .keras file by path; without seeds, which Keras does not keep."""
    found: dict[str, Any] = {}
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        file.visititems(lambda name, item: found.update({name: getattr(item, "shape", None)}))
    return {name: shape for name, shape in found.items() if shape is not None and "seed_generator" not in name}


def layer_configs(path) -> list[Any]:
    """What config.json says of each layer, without Nones, numbers of names, and what Keras adds to calls unasked."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            left_out = ("shared_object_id", "build_config", "compile_config", "training", "ops_pass_masks")
            return {key: plain(item) for key, item in value.items() if key not in left_out and item is not None}
        if isinstance(value, list):
            return [plain(item) for item in value]
        return value.rstrip("0123456789").rstrip("_") if isinstance(value, str) else value

    with zipfile.ZipFile(path) as archive:
        return plain(json.loads(archive.read("config.json"))["config"]["layers"])


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Callable[[Row, Any], tuple[Any, Any]]:
    """(model, path of its file) of a row in Keras or here, made once."""
    made: dict[tuple[str, str], tuple[Any, Any]] = {}
    folder = tmp_path_factory.mktemp("files")

    def get(row: Row, k: Any) -> tuple[Any, Any]:
        key = (row.name, k.__name__)
        if key not in made:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Keras on today's JAX
                model = with_random_weights(row.make(k))
                path = folder / f"{len(made)}.keras"
                model.save(path)
            made[key] = model, path
        return made[key]

    return get


@pytest.mark.parametrize("row", ROWS, ids=repr)
@pytest.mark.filterwarnings("ignore")
def test_file_of_keras_opens_here(row, files):
    model, path = files(row, keras)
    twin = lamina.saving.load_model(path)
    for theirs, ours in zip(outputs(model, row.inputs()), outputs(twin, row.inputs()), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    for theirs, ours in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("row", ROWS, ids=repr)
@pytest.mark.filterwarnings("ignore")
def test_our_file_opens_in_keras(row, files):
    model, path = files(row, lamina)
    twin = keras.saving.load_model(path)
    for ours, theirs in zip(outputs(model, row.inputs()), outputs(twin, row.inputs()), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_arrays_lie_where_keras_puts_them(row, files):
    assert arrays(files(row, lamina)[1]) == arrays(files(row, keras)[1])


# Where our files say the same in other words: how the mask of an Embedding comes about is not part of our graphs,
# what an op is called on stands in its order, and defaults that no argument sets are left out.
OTHER_WORDS = ("masked", "op pad", "op average", "op one_hot", "LayerNormalization", "op layer_normalization")


@pytest.mark.parametrize("row", [row for row in ROWS if not any(word in row.name for word in OTHER_WORDS)], ids=repr)
def test_layers_are_described_as_keras_does(row, files):
    assert layer_configs(files(row, lamina)[1]) == layer_configs(files(row, keras)[1])


# What Keras itself cannot read of its .h5 files either: numbers of bfloat16, ops that have the name of a layer, "...".
OLD_FILES_LOSE = {
    (keras, lamina): ("half precision", "op reshape", "op average"),
    (lamina, keras): ("half precision", "op x[..., 0]"),
    (lamina, lamina): (),
}


@pytest.mark.parametrize(
    "writer, reader, row",
    [(*pair, row) for pair, lost in OLD_FILES_LOSE.items() for row in ROWS if row.name not in lost],
    ids=lambda each: getattr(each, "__name__", None) or repr(each),
)
@pytest.mark.filterwarnings("ignore")
def test_old_files_go_both_ways(writer, reader, row, files, tmp_path):
    model, _ = files(row, writer)
    model.save(tmp_path / "m.h5")
    twin = reader.saving.load_model(tmp_path / "m.h5")
    for before, after in zip(outputs(model, row.inputs()), outputs(twin, row.inputs()), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("writer, reader", [(keras, lamina), (lamina, keras)])
def test_training_comes_out_of_an_old_file(writer, reader, tmp_path):
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    y = x.sum(1, keepdims=True)
    model = stack(lambda L: L.Dense(3, activation="tanh"), lambda L: L.Dense(1))(writer)
    schedule = writer.optimizers.schedules.ExponentialDecay(0.1, 4, 0.5)
    model.compile(
        writer.optimizers.Adam(schedule), writer.losses.MeanSquaredError(), metrics=["mae", writer.metrics.R2Score()]
    )
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    model.save(tmp_path / "m.h5")
    twin = reader.saving.load_model(tmp_path / "m.h5")
    if reader is lamina:  # Keras builds the optimizer of an .h5 file for no variables
        for before, after in zip(model.optimizer.variables, twin.optimizer.variables, strict=True):
            np.testing.assert_array_equal(after, before)
        for each in (model, twin):
            each.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    np.testing.assert_allclose(model.evaluate(x, y, verbose=0), twin.evaluate(x, y, verbose=0), rtol=1e-4)
