"""One row a layer, or a variant of it: what it is made with and called on. A new layer is a new row."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from lamina import KerasTensor, layers, saving


class Each(tuple):
    """Shapes of arguments that a layer is called on one by one; a list of shapes is one argument, a list."""


class Made(NamedTuple):
    """An argument that is a layer of the same library."""

    layer: str
    arguments: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.layer}({_brief_all(self.arguments)})"


@dataclass(frozen=True, eq=False, repr=False)
class Row:
    """A layer of a library, by name, and its inputs.

    free: axes of the inputs, besides the batch, whose size may be unknown.
    mask: what becomes of a mask over time: it "passes" or "ends"; nothing for layers that are not called on sequences.
    below: inputs are integers below this number.
    noisy: training draws random numbers.
    whole: the results are integers, whatever the layer computes in.
    call: keyword arguments of the call.
    refused: a shape that is an error, `None` where every rank goes.
    jumps: values are sorted into bins, so a last bit of the input may change the output by any amount.
    """

    layer: str
    arguments: dict[str, Any]
    inputs: Any
    free: tuple[int, ...] = ()
    mask: str = ""
    below: int = 0
    noisy: bool = False
    whole: bool = False
    call: dict[str, Any] = field(default_factory=dict)
    refused: tuple[int, ...] | None = None
    jumps: bool = False

    def __repr__(self) -> str:
        return f"{self.layer}({_brief_all({**self.arguments, **self.call})})"

    def make(self, library: Any = layers, **more: Any) -> Any:
        """The layer, in this library or another with the same names; layers inside it get the dtype too."""
        inside = {"dtype": more["dtype"]} if "dtype" in more else {}

        def resolved(value: Any) -> Any:
            if isinstance(value, Made):
                arguments = {"name": value.layer.lower(), **inside, **value.arguments}
                return getattr(library, value.layer)(**{k: resolved(v) for k, v in arguments.items()})
            return [resolved(v) for v in value] if isinstance(value, list) else value

        return getattr(library, self.layer)(**{k: resolved(v) for k, v in {**self.arguments, **more}.items()})

    @property
    def trained(self) -> dict[str, Any]:
        """Keyword arguments of the call in training."""
        return {**self.call, "training": True}

    def shapes(self) -> tuple[Any, ...]:
        """The shape, or list of shapes, of each argument of the call."""
        return tuple(self.inputs) if isinstance(self.inputs, Each) else (self.inputs,)

    def data(self) -> tuple[Any, ...]:
        """Arguments of the call, the same each time."""
        draw = np.random.default_rng(3)

        def array(shape: tuple[int, ...]) -> np.ndarray:
            if self.below:
                return draw.integers(0, self.below, shape).astype("int32")
            return draw.normal(size=shape).astype("float32")

        return tuple(_each_shape(array, shape) for shape in self.shapes())

    def symbolic(self, free: tuple[int, ...] = ()) -> tuple[Any, ...]:
        """Arguments of the call without values, the sizes of the batch and of the axes in `free` unknown."""

        def tensor(shape: tuple[int, ...]) -> KerasTensor:
            sizes = (None if axis == 0 or axis in free else n for axis, n in enumerate(shape))
            return KerasTensor(sizes, "int32" if self.below else "float32")

        return tuple(_each_shape(tensor, shape) for shape in self.shapes())


def _each_shape(function: Any, shapes: Any) -> Any:
    return [_each_shape(function, shape) for shape in shapes] if isinstance(shapes, list) else function(shapes)


def _brief_all(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{name}={_brief(value)}" for name, value in arguments.items())


def _brief(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_brief, value))}]"
    return str(value) if isinstance(value, (str, int, float, tuple)) else getattr(value, "__name__", "...")


@saving.register_keras_serializable("laws")
def doubled(x: Any, plus: float = 0.0) -> Any:
    """What the rows' `Lambda` computes."""
    return 2 * x + plus


VECTORS, SEQUENCES = (4, 5), (4, 6, 5)
IMAGES, VOLUMES = (2, 7, 6, 4), (2, 5, 6, 5, 2)
PHOTOS, SIGNALS = (4, 7, 6, 3), (2, 40, 2)
FIRST = {"data_format": "channels_first"}

_sequence = functools.partial(Row, inputs=SEQUENCES, free=(1,), refused=(4, 6))
_image = functools.partial(Row, inputs=IMAGES, free=(1, 2), refused=(2, 7, 6))
_image_first = functools.partial(Row, inputs=IMAGES, free=(2, 3), refused=(2, 7, 6))
_volume = functools.partial(Row, inputs=VOLUMES, free=(1, 2, 3), refused=(2, 5, 6, 5))


def _plain() -> Iterator[Row]:
    yield Row("Dense", {"units": 3}, VECTORS, refused=(4,))
    yield Row(
        "Dense",
        {"units": 3, "activation": "relu", "use_bias": False, "kernel_regularizer": "l2"},
        SEQUENCES,
        free=(1,),
        mask="passes",
    )
    yield Row("Embedding", {"input_dim": 7, "output_dim": 3}, (4, 6), free=(1,), below=7)
    yield Row("Embedding", {"input_dim": 7, "output_dim": 3, "mask_zero": True}, (4, 6), free=(1,), below=7)
    capped = {"input_dim": 9, "output_dim": 5, "logit_soft_cap": 2.0}
    yield Row("ReversibleEmbedding", capped, SEQUENCES, free=(1,), call={"reverse": True})
    yield Row("ReversibleEmbedding", {**capped, "tie_weights": False}, SEQUENCES, call={"reverse": True})
    masked = {"input_dim": 7, "output_dim": 3, "mask_zero": True}
    yield Row("ReversibleEmbedding", masked, (4, 6), free=(1,), below=7)
    yield Row("Lambda", {"function": doubled, "arguments": {"plus": 3.0}}, SEQUENCES, free=(1, 2))
    yield Row("Masking", {"mask_value": 0.5}, SEQUENCES, free=(1, 2))
    yield Row("Identity", {}, SEQUENCES, free=(1, 2), mask="passes")


def _activation() -> Iterator[Row]:
    for name, arguments in (
        ("Activation", {"activation": "tanh"}),
        ("Activation", {"activation": "softmax"}),
        ("ReLU", {}),
        ("ReLU", {"max_value": 1.0, "negative_slope": 0.2, "threshold": 0.3}),
        ("LeakyReLU", {}),
        ("LeakyReLU", {"negative_slope": 0.1}),
        ("ELU", {"alpha": 0.7}),
        ("Softmax", {}),
    ):
        yield Row(name, arguments, SEQUENCES, free=(1,), mask="passes")
    yield Row("Softmax", {"axis": (-1, -2)}, (2, 3, 4, 5))
    yield Row("PReLU", {"alpha_initializer": "uniform"}, SEQUENCES, mask="passes")
    yield Row("PReLU", {"alpha_initializer": "uniform", "shared_axes": [1]}, SEQUENCES, free=(1,), mask="passes")


def _noise() -> Iterator[Row]:
    yield Row("ActivityRegularization", {"l1": 0.1, "l2": 0.2}, SEQUENCES, free=(1, 2), mask="passes")
    noisy = functools.partial(Row, inputs=SEQUENCES, free=(1, 2), mask="passes", noisy=True)
    yield noisy("Dropout", {"rate": 0.5, "seed": 1})
    yield noisy("Dropout", {"rate": 0.5, "noise_shape": (None, 1, None), "seed": 1})
    yield noisy("AlphaDropout", {"rate": 0.5, "seed": 1})
    yield noisy("GaussianNoise", {"stddev": 0.5, "seed": 1})
    yield noisy("GaussianDropout", {"rate": 0.5, "seed": 1})
    yield noisy("SpatialDropout1D", {"rate": 0.5, "seed": 1}, refused=(4, 6))
    yield _image("SpatialDropout2D", {"rate": 0.5, "seed": 1}, noisy=True)
    yield _image("SpatialDropout2D", {"rate": 0.5, "seed": 1, **FIRST}, noisy=True)
    yield _volume("SpatialDropout3D", {"rate": 0.5, "seed": 1}, noisy=True)


def _reshaping() -> Iterator[Row]:
    yield Row("Flatten", {}, SEQUENCES, mask="ends")
    yield Row("Flatten", FIRST, IMAGES)
    yield Row("Reshape", {"target_shape": (5, 6)}, SEQUENCES, mask="ends")
    yield Row("Reshape", {"target_shape": (-1, 10)}, SEQUENCES, mask="ends")
    yield Row("Permute", {"dims": (2, 1)}, SEQUENCES, free=(1, 2), mask="ends", refused=(4, 6))
    yield Row("Permute", {"dims": (3, 1, 2)}, IMAGES, free=(1, 2, 3), refused=(4, 6))
    yield Row("RepeatVector", {"n": 3}, VECTORS, free=(1,), refused=SEQUENCES)
    yield _sequence("ZeroPadding1D", {}, mask="ends")
    yield _sequence("ZeroPadding1D", {"padding": (1, 2)}, mask="ends")
    yield Row("ZeroPadding1D", {"padding": (2, 0), **FIRST}, SEQUENCES, free=(2,), refused=(4, 6))
    yield _image("ZeroPadding2D", {})
    yield _image("ZeroPadding2D", {"padding": ((1, 0), (2, 3))})
    yield _image_first("ZeroPadding2D", {"padding": (2, 1), **FIRST})
    yield _volume("ZeroPadding3D", {"padding": (1, 2, 0)})
    yield _sequence("Cropping1D", {"cropping": (1, 2)}, mask="ends")
    yield _image("Cropping2D", {"cropping": ((1, 0), (2, 1))})
    yield _image_first("Cropping2D", {"cropping": 1, **FIRST})
    yield _volume("Cropping3D", {"cropping": (1, 2, 1)})
    yield _sequence("UpSampling1D", {"size": 3}, mask="ends")
    yield _image("UpSampling2D", {})
    yield _image_first("UpSampling2D", {"size": (2, 3), **FIRST})
    yield _image("UpSampling2D", {"size": (2, 3), "interpolation": "bilinear"})
    yield _image("UpSampling2D", {"interpolation": "bicubic"})
    yield _volume("UpSampling3D", {"size": (1, 2, 3)})


def _merging() -> Iterator[Row]:
    pair = functools.partial(Row, inputs=[SEQUENCES, SEQUENCES], free=(1,), mask="passes")
    for name in ("Add", "Average", "Maximum", "Minimum", "Multiply"):
        yield pair(name, {})
        yield Row(name, {}, [SEQUENCES, (4, 1, 5), (4, 5)])
    yield pair("Subtract", {})
    yield pair("Concatenate", {})
    yield Row("Concatenate", {"axis": 1}, [SEQUENCES, (4, 2, 5)])
    yield Row("Dot", {"axes": 2}, [SEQUENCES, (4, 3, 5)])
    yield Row("Dot", {"axes": (1, 2), "normalize": True}, [SEQUENCES, (4, 3, 6)])
    yield Row("Dot", {"axes": -1}, [VECTORS, VECTORS])


def _convolution() -> Iterator[Row]:
    yield _sequence("Conv1D", {"filters": 3, "kernel_size": 2}, mask="ends")
    yield _sequence("Conv1D", {"filters": 3, "kernel_size": 3, "padding": "same"}, mask="ends")
    yield _sequence("Conv1D", {"filters": 3, "kernel_size": 3, "padding": "causal", "dilation_rate": 2}, mask="ends")
    yield _sequence("Conv1D", {"filters": 3, "kernel_size": 3, "padding": "same", "strides": 2}, mask="ends")
    yield Row("Conv1D", {"filters": 3, "kernel_size": 2, **FIRST}, SEQUENCES, free=(2,), refused=(4, 6))
    yield _image("Conv2D", {"filters": 6, "kernel_size": 3, "activation": "relu"})
    yield _image("Conv2D", {"filters": 6, "kernel_size": (3, 2), "padding": "same", "strides": (2, 1)})
    yield _image("Conv2D", {"filters": 6, "kernel_size": 3, "dilation_rate": 2, "use_bias": False})
    yield _image("Conv2D", {"filters": 6, "kernel_size": 3, "groups": 2, "padding": "same"})
    yield _image_first("Conv2D", {"filters": 6, "kernel_size": 3, "strides": 2, **FIRST})
    yield _volume("Conv3D", {"filters": 3, "kernel_size": 2})
    yield _volume("Conv3D", {"filters": 3, "kernel_size": (1, 2, 3), "padding": "same", "strides": (1, 2, 2)})
    yield _sequence("Conv1DTranspose", {"filters": 3, "kernel_size": 3}, mask="ends")
    yield _sequence("Conv1DTranspose", {"filters": 3, "kernel_size": 3, "dilation_rate": 2}, mask="ends")
    yield _sequence("Conv1DTranspose", {"filters": 3, "kernel_size": 2, "strides": 3}, mask="ends")
    yield _image("Conv2DTranspose", {"filters": 6, "kernel_size": (3, 2), "activation": "relu"})
    yield _image("Conv2DTranspose", {"filters": 6, "kernel_size": 3, "strides": 2, "padding": "same"})
    yield _image("Conv2DTranspose", {"filters": 6, "kernel_size": 3, "strides": (2, 3), "output_padding": (1, 2)})
    yield _image_first("Conv2DTranspose", {"filters": 6, "kernel_size": 3, "strides": (2, 1), **FIRST})
    yield _volume("Conv3DTranspose", {"filters": 3, "kernel_size": 2})
    yield _volume("Conv3DTranspose", {"filters": 3, "kernel_size": 2, "strides": (1, 2, 2), "use_bias": False})


def _convolution_by_channel() -> Iterator[Row]:
    yield _sequence("DepthwiseConv1D", {"kernel_size": 2, "depth_multiplier": 2}, mask="ends")
    yield _sequence("DepthwiseConv1D", {"kernel_size": 3, "padding": "same", "dilation_rate": 2}, mask="ends")
    yield _image("DepthwiseConv2D", {"kernel_size": (3, 2), "strides": 2, "depth_multiplier": 2})
    yield _image("DepthwiseConv2D", {"kernel_size": 3, "padding": "same", "activation": "relu", "use_bias": False})
    yield _image_first("DepthwiseConv2D", {"kernel_size": 3, "padding": "same", "strides": 2, **FIRST})
    yield _sequence("SeparableConv1D", {"filters": 3, "kernel_size": 2}, mask="ends")
    yield _image("SeparableConv2D", {"filters": 3, "kernel_size": 3, "depth_multiplier": 2, "dilation_rate": (1, 2)})
    yield _image("SeparableConv2D", {"filters": 6, "kernel_size": 3, "padding": "same", "strides": 2})
    yield _image_first("SeparableConv2D", {"filters": 6, "kernel_size": (3, 2), "activation": "relu", **FIRST})


def _pooling() -> Iterator[Row]:
    for kind in ("Max", "Average"):
        yield _sequence(f"{kind}Pooling1D", {"pool_size": 2}, mask="ends")
        yield _sequence(f"{kind}Pooling1D", {"pool_size": 3, "strides": 1, "padding": "same"}, mask="ends")
        yield _image(f"{kind}Pooling2D", {"pool_size": 2})
        yield _image(f"{kind}Pooling2D", {"pool_size": (3, 2), "strides": (2, 3), "padding": "same"})
        yield _image_first(f"{kind}Pooling2D", {"pool_size": 3, "strides": 1, **FIRST})
        yield _volume(f"{kind}Pooling3D", {"pool_size": (2, 3, 2)})
        yield _volume(f"{kind}Pooling3D", {"pool_size": 2, "padding": "same"})
        yield _sequence(f"Adaptive{kind}Pooling1D", {"output_size": 4}, mask="ends")
        yield _image(f"Adaptive{kind}Pooling2D", {"output_size": (3, 6)})
        yield _image_first(f"Adaptive{kind}Pooling2D", {"output_size": 2, **FIRST})
        yield _volume(f"Adaptive{kind}Pooling3D", {"output_size": (2, 3, 1)})
        yield _sequence(f"Global{kind}Pooling1D", {}, mask="ends")
        yield _sequence(f"Global{kind}Pooling1D", {"keepdims": True, **FIRST})
        yield _image(f"Global{kind}Pooling2D", {})
        yield _image_first(f"Global{kind}Pooling2D", {"keepdims": True, **FIRST})
        yield _volume(f"Global{kind}Pooling3D", {})


def _normalization() -> Iterator[Row]:
    yield Row("BatchNormalization", {}, VECTORS)
    yield Row("BatchNormalization", {"momentum": 0.7, "center": False}, SEQUENCES, free=(1,), mask="passes")
    yield Row("BatchNormalization", {"epsilon": 0.1, "scale": False}, IMAGES, free=(1, 2))
    yield Row("BatchNormalization", {"axis": 1}, IMAGES, free=(2, 3))
    yield Row("BatchNormalization", {"renorm": True, "momentum": 0.7, "renorm_momentum": 0.8}, VECTORS)
    clipped = {"renorm": True, "renorm_clipping": {"rmin": 0.9, "rmax": 1.1, "dmax": 0.1}, "scale": False}
    yield Row("BatchNormalization", {**clipped, "moving_variance_initializer": "ones"}, IMAGES, free=(1, 2))
    yield Row("LayerNormalization", {}, SEQUENCES, free=(1,), mask="passes")
    yield Row("LayerNormalization", {"epsilon": 0.1, "center": False}, VECTORS)
    yield Row("LayerNormalization", {"axis": (-2, -1), "scale": False}, SEQUENCES, mask="passes")
    yield Row("LayerNormalization", {"axis": (1, -1)}, IMAGES, free=(2,))
    yield Row("LayerNormalization", {"rms_scaling": True, "scale": False}, VECTORS)
    yield Row("GroupNormalization", {"groups": 2}, IMAGES, free=(1, 2))
    yield Row("GroupNormalization", {"groups": 3, "axis": 1, "epsilon": 0.1}, SEQUENCES, free=(2,), mask="passes")
    yield Row("GroupNormalization", {"groups": -1, "center": False}, SEQUENCES, free=(1,), mask="passes")
    yield Row("GroupNormalization", {"groups": 2, "axis": -2, "scale": False}, IMAGES)
    yield Row("RMSNormalization", {}, SEQUENCES, free=(1,), mask="ends")
    yield Row("RMSNormalization", {"axis": (-2, -1), "epsilon": 0.1}, SEQUENCES, mask="ends")
    yield Row("UnitNormalization", {}, SEQUENCES, free=(1,), mask="passes")
    yield Row("UnitNormalization", {"axis": (1, -1)}, IMAGES, free=(1, 2))
    yield Row("SpectralNormalization", {"layer": Made("Dense", {"units": 3})}, VECTORS)
    kernel = Made("Conv2D", {"filters": 3, "kernel_size": 2})
    yield Row("SpectralNormalization", {"layer": kernel, "power_iterations": 3}, IMAGES, free=(1, 2))


def _attention() -> Iterator[Row]:
    pair = functools.partial(Row, inputs=[SEQUENCES, (4, 3, 5)], free=(1,), mask="passes")
    yield pair("Attention", {})
    yield pair("Attention", {"use_scale": True}, call={"use_causal_mask": True})
    yield pair("Attention", {"score_mode": "concat", "use_scale": True})
    yield pair("Attention", {}, inputs=[SEQUENCES, (4, 3, 2), (4, 3, 5)])
    yield pair("Attention", {"dropout": 0.5, "seed": 1}, noisy=True)
    yield pair("AdditiveAttention", {})
    yield pair("AdditiveAttention", {"use_scale": False})
    yield Row("EinsumDense", {"equation": "ab,bc->ac", "output_shape": 3, "bias_axes": "c"}, VECTORS, refused=SEQUENCES)
    yield Row(
        "EinsumDense",
        {"equation": "abc,cde->abde", "output_shape": (None, 2, 3), "bias_axes": "e", "activation": "relu"},
        SEQUENCES,
        free=(1,),
        mask="ends",
        refused=VECTORS,
    )
    yield Row("EinsumDense", {"equation": "...x,xy->...y", "output_shape": 3, "bias_axes": "y"}, SEQUENCES, mask="ends")
    attention = functools.partial(Row, "MultiHeadAttention", inputs=Each([SEQUENCES, SEQUENCES]), mask="passes")
    yield attention({"num_heads": 2, "key_dim": 3}, free=(1,))
    yield attention({"num_heads": 2, "key_dim": 3}, call={"use_causal_mask": True}, free=(1,))
    yield attention({"num_heads": 2, "key_dim": 3, "output_shape": 7, "use_bias": False}, free=(1,))
    yield attention({"num_heads": 2, "key_dim": 3, "value_dim": 4}, free=(1,))
    yield attention({"num_heads": 2, "key_dim": 3, "value_dim": 4, "use_gate": True}, free=(1,))
    yield attention({"num_heads": 2, "key_dim": 3}, inputs=Each([SEQUENCES, (4, 3, 2), (4, 3, 5)]))
    yield attention({"num_heads": 2, "key_dim": 3, "sliding_window": 2})
    yield attention({"num_heads": 1, "key_dim": 3, "dropout": 0.5, "seed": 1}, noisy=True)
    yield attention({"num_heads": 2, "key_dim": 3, "attention_axes": (2,)}, inputs=Each([IMAGES, IMAGES]), mask="")
    grouped = functools.partial(Row, "GroupQueryAttention", inputs=Each([SEQUENCES, SEQUENCES]), mask="passes")
    heads = {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2}
    yield grouped(heads, free=(1,))
    yield grouped({**heads, "use_gate": True, "use_bias": False}, call={"use_causal_mask": True}, free=(1,))
    yield grouped(
        {**heads, "num_key_value_heads": 1, "sliding_window": 2}, inputs=Each([SEQUENCES, (4, 3, 5), (4, 3, 2)])
    )
    yield grouped(heads, call={"return_attention_scores": True})
    yield grouped({**heads, "dropout": 0.5, "seed": 1}, noisy=True)


def _recurrent() -> Iterator[Row]:
    states = [(4, 3)]
    yield Row("SimpleRNNCell", {"units": 3}, Each([VECTORS, states]))
    yield Row("GRUCell", {"units": 3, "reset_after": False}, Each([VECTORS, states]))
    yield Row("LSTMCell", {"units": 3}, Each([VECTORS, states * 2]))
    cells = [Made("LSTMCell", {"units": 3}), Made("GRUCell", {"units": 2})]
    yield Row("StackedRNNCells", {"cells": cells}, Each([VECTORS, [states * 2, [(4, 2)]]]))
    yield Row("RNN", {"cell": Made("LSTMCell", {"units": 3})}, SEQUENCES, free=(1,), mask="ends")
    stack = {"cell": cells, "return_sequences": True, "return_state": True}
    yield Row("RNN", stack, SEQUENCES, free=(1,), mask="passes")
    yield _sequence("SimpleRNN", {"units": 3}, mask="ends")
    yield _sequence("SimpleRNN", {"units": 3, "return_sequences": True, "unroll": True}, mask="passes", free=())
    yield _sequence("LSTM", {"units": 3}, mask="ends")
    yield _sequence("LSTM", {"units": 3, "return_sequences": True, "go_backwards": True}, mask="passes")
    yield _sequence("LSTM", {"units": 3, "dropout": 0.5, "recurrent_dropout": 0.5, "seed": 1}, noisy=True)
    yield _sequence("GRU", {"units": 3, "return_sequences": True}, mask="passes")
    yield _sequence("GRU", {"units": 3, "reset_after": False, "return_state": True, "use_bias": False}, mask="ends")
    yield _sequence("Bidirectional", {"layer": Made("GRU", {"units": 3})}, mask="ends")
    lstm = Made("LSTM", {"units": 3, "return_sequences": True})
    yield _sequence("Bidirectional", {"layer": lstm, "merge_mode": "sum"}, mask="passes")
    yield _sequence("Bidirectional", {"layer": lstm, "merge_mode": None}, mask="passes")
    films, refused = functools.partial(Row, inputs=(2, 3, 5, 6, 2), free=(1,)), (2, 5, 6, 2)
    yield Row("ConvLSTM1D", {"filters": 3, "kernel_size": 2}, IMAGES, free=(1,), mask="ends", refused=(2, 7, 6))
    masked = {"filters": 3, "kernel_size": 3, "padding": "same", "return_sequences": True}
    yield Row("ConvLSTM1D", {**masked, "dilation_rate": 2}, IMAGES, free=(1,), mask="passes", refused=(2, 7, 6))
    yield films("ConvLSTM2D", {"filters": 3, "kernel_size": (3, 2)}, refused=refused)
    strided = {"filters": 2, "kernel_size": 3, "strides": 2, "padding": "same", "go_backwards": True}
    yield films("ConvLSTM2D", {**strided, "return_state": True, "use_bias": False}, refused=refused)
    dropped = {"filters": 3, "kernel_size": 2, "dropout": 0.5, "recurrent_dropout": 0.5, "seed": 1}
    yield films("ConvLSTM2D", {**dropped, **FIRST}, noisy=True, refused=refused)
    yield Row("ConvLSTM3D", {"filters": 2, "kernel_size": 2}, (2, 3, 4, 3, 3, 2), free=(1,), refused=refused)
    yield Row("TimeDistributed", {"layer": Made("Dense", {"units": 3})}, SEQUENCES, mask="passes")
    pooling = Made("GlobalMaxPooling1D", {})
    yield Row("TimeDistributed", {"layer": pooling}, IMAGES, free=(1,), mask="passes")


def _photos() -> Iterator[Row]:
    values = {"value_range": (-3.0, 3.0)}
    image = functools.partial(Row, inputs=PHOTOS, refused=(4, 7))
    first = functools.partial(Row, inputs=(4, 3, 7, 6), refused=(4, 7))
    yield Row("Rescaling", {"scale": 0.5, "offset": -1.0}, PHOTOS, free=(1, 2), mask="passes")
    yield Row("Rescaling", {"scale": [0.5, 1.0, 2.0], "offset": [0.0, 1.0, 2.0]}, PHOTOS, free=(1, 2))
    yield image("Resizing", {"height": 5, "width": 9}, free=(1, 2))
    yield image("Resizing", {"height": 5, "width": 3, "interpolation": "bicubic", "antialias": True})
    yield image("Resizing", {"height": 4, "width": 6, "crop_to_aspect_ratio": True})
    yield first("Resizing", {"height": 4, "width": 8, "pad_to_aspect_ratio": True, "fill_value": 0.5, **FIRST})
    yield image("CenterCrop", {"height": 4, "width": 3})
    yield first("CenterCrop", {"height": 9, "width": 4, **FIRST})
    yield image("MaxNumBoundingBoxes", {"max_number": 3}, free=(1, 2))
    yield image("AutoContrast", values, free=(1, 2))
    tiles = {"tile_grid_size": (2, 3), **values}
    yield image("ContrastLimitedAdaptiveHistogramEqualization", tiles, jumps=True)
    still = {"training": False}
    yield image("Equalization", values, free=(1, 2), call=still)
    drawn = functools.partial(image, free=(1, 2), noisy=True, call=still)
    for name, factor in (
        ("RandomBrightness", 0.3),
        ("RandomColorDegeneration", 0.4),
        ("RandomContrast", 0.6),
        ("RandomHue", 0.5),
        ("RandomPosterization", 4),
        ("RandomSharpness", (0.2, 0.9)),
        ("RandomInvert", 1.0),
    ):
        yield drawn(name, {"factor": factor, "seed": 1, **values})
    yield drawn("RandomSaturation", {"factor": (0.2, 0.8), "seed": 1})
    yield first("RandomHue", {"factor": 0.5, "seed": 1, **values, **FIRST}, noisy=True, call=still)
    yield drawn("RandomGrayscale", {"seed": 1})
    yield drawn("RandomColorJitter", {"brightness_factor": 0.2, "contrast_factor": 0.3, "seed": 1, **values})
    yield drawn("Solarization", {"addition_factor": 0.3, "threshold_factor": 0.8, "seed": 1, **values})
    yield drawn("RandomGaussianBlur", {"kernel_size": (5, 3), "sigma": (0.5, 1.0), "seed": 1, **values})
    yield drawn("RandomErasing", {"scale": (0.1, 0.6), "seed": 1, **values})
    yield drawn("RandomErasing", {"fill_value": 0.5, "seed": 1, **values})
    yield drawn("RandomFlip", {"seed": 2})
    yield drawn("RandomFlip", {"mode": "vertical", "seed": 2})
    yield first("RandomFlip", {"mode": "horizontal", "seed": 2, **FIRST}, noisy=True, call=still)
    yield drawn("RandomRotation", {"factor": 0.2, "seed": 1})
    yield drawn("RandomRotation", {"factor": (-0.5, 0.1), "fill_mode": "wrap", "interpolation": "nearest", "seed": 1})
    yield drawn("RandomTranslation", {"height_factor": 0.3, "width_factor": (-0.2, 0.5), "seed": 1})
    yield drawn("RandomZoom", {"height_factor": 0.3, "seed": 1})
    zoom = {"height_factor": (-0.3, 0.4), "width_factor": 0.2, "fill_mode": "constant", "fill_value": 0.5}
    yield first("RandomZoom", {**zoom, "seed": 1, **FIRST}, noisy=True, call=still)
    yield drawn("RandomShear", {"x_factor": 0.3, "y_factor": (0.1, 0.5), "fill_mode": "nearest", "seed": 1})
    yield drawn("RandomPerspective", {"scale": 0.6, "seed": 1})
    yield drawn("RandomElasticTransform", {"seed": 1, **values})
    yield drawn("RandomCrop", {"height": 3, "width": 4, "seed": 1})
    yield image("RandomCrop", {"height": 9, "width": 4, "seed": 1}, call=still)
    yield drawn("MixUp", {"alpha": 0.7, "seed": 1})
    yield drawn("CutMix", {"seed": 1})
    yield drawn("RandAugment", {"seed": 1, **values})
    yield drawn("AugMix", {"seed": 1, **values})


def _signals() -> Iterator[Row]:
    mel = {"fft_length": 16, "sequence_stride": 4, "num_mel_bins": 6, "sampling_rate": 80, "min_freq": 1.0}
    yield Row("MelSpectrogram", mel, (2, 40), refused=(2, 40, 1))
    yield Row("MelSpectrogram", {**mel, "sequence_length": 12, "power_to_db": False, "mag_exp": 1.0}, (2, 40))
    frames = functools.partial(Row, "STFTSpectrogram", inputs=SIGNALS, free=(1,), refused=(2, 40), mask="ends")
    for mode in ("log", "magnitude", "psd", "real", "imag", "angle", "stft"):
        yield frames({"mode": mode, "frame_length": 8}, jumps=mode == "angle")
    odd = {"frame_length": 7, "frame_step": 3, "fft_length": 16}
    yield frames({"mode": "magnitude", **odd, "window": "hamming", "padding": "same"})
    yield frames({"mode": "stft", "frame_length": 8, "expand_dims": True, "scaling": "spectrum", "periodic": True})
    channels = {"mode": "psd", "frame_length": 8, **FIRST}
    yield frames(channels, inputs=(2, 2, 40), free=(2,), mask="")
    yield frames({**channels, "expand_dims": True}, inputs=(2, 2, 40), free=(2,), mask="")


def _numbers_and_categories() -> Iterator[Row]:
    yield Row("Normalization", {}, VECTORS)
    yield Row("Normalization", {"axis": (1, 2)}, SEQUENCES, mask="passes")
    yield Row("Normalization", {"axis": None, "mean": 0.5, "variance": 2.0}, SEQUENCES, free=(1, 2), mask="passes")
    statistics = {"mean": [0.1] * 5, "variance": [2.0] * 5}
    yield Row("Normalization", {**statistics, "invert": True}, SEQUENCES, free=(1,), mask="passes")
    yield Row("Discretization", {"bin_boundaries": [-0.5, 0.0, 0.75]}, VECTORS, free=(1,), whole=True)
    categories = functools.partial(Row, inputs=(4, 6), free=(1,), below=300, whole=True)
    unknown = {"num_oov_indices": 3, "oov_method": "farmhash"}
    yield categories("IntegerLookup", {"vocabulary": [3, 1, 50], "max_tokens": 20, **unknown})
    yield categories("IntegerLookup", {"vocabulary": [3, 1, 5], "mask_token": 0}, below=7)
    yield categories("IntegerLookup", {"vocabulary": [3, 1, 5], "invert": True}, below=7)
    yield categories("Hashing", {"num_bins": 5})
    yield categories("Hashing", {"num_bins": 5, "salt": [3, 4], "mask_value": 2})
    for mode in ("one_hot", "multi_hot", "count"):
        yield Row("Discretization", {"bin_boundaries": [-0.5, 0.0], "output_mode": mode}, VECTORS)
        yield Row("CategoryEncoding", {"num_tokens": 6, "output_mode": mode}, (4, 6), below=7)
        yield Row("Hashing", {"num_bins": 5, "output_mode": mode}, (4, 6), below=300)
        yield Row("IntegerLookup", {"vocabulary": [3, 1], "output_mode": mode}, (4, 6), below=7)


FAMILIES = (
    _plain, _activation, _noise, _reshaping, _merging, _convolution, _convolution_by_channel, _pooling,
    _normalization, _attention, _recurrent, _photos, _signals, _numbers_and_categories,
)  # fmt: skip
ROWS: list[Row] = [row for family in FAMILIES for row in family()]

# Public names of lamina.layers that no row can be made of.
NOT_IN_ROWS = {"FlaxLayer", "Input", "InputLayer", "InputSpec", "JaxLayer", "Layer", "Pipeline", "Wrapper"}
# Those of strings: see tests/layers/test_preprocessing.py.
NOT_IN_ROWS |= {"HashedCrossing", "StringLookup", "TextVectorization"}

# Layers whose calls in training change weights that no optimizer does.
CHANGED_BY_TRAINING = {"BatchNormalization", "SpectralNormalization"}
