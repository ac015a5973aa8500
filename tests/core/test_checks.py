"""Arguments that a constructor refuses, in the one form of errors."""

import numpy as np
import pytest

from lamina import callbacks, layers, losses
from lamina.core.checks import shorten, some

REFUSED = [
    ("Dense", {"units": 0}, "units"),
    ("Dense", {"units": 2.5}, "units"),
    ("Embedding", {"input_dim": 0, "output_dim": 2}, "input_dim"),
    ("Embedding", {"input_dim": 2, "output_dim": -1}, "output_dim"),
    ("InputLayer", {"shape": (2, -1)}, "sizes"),
    ("InputLayer", {}, "either shape, with batch_size or without, or batch_shape must be given"),
    ("InputLayer", {"shape": (2,), "ragged": True}, "ragged"),
    ("Lambda", {"function": 3}, "function"),
    ("ReLU", {"max_value": -1.0}, "max_value"),
    ("ReLU", {"negative_slope": None}, "negative_slope"),
    ("ReLU", {"threshold": -0.1}, "threshold"),
    ("LeakyReLU", {"negative_slope": -0.1}, "negative_slope"),
    ("ELU", {"alpha": "1"}, "alpha"),
    ("Dropout", {"rate": 1.5}, "rate"),
    ("Dropout", {"rate": "0.5"}, "rate"),
    ("AlphaDropout", {"rate": 1.0}, "rate"),
    ("GaussianDropout", {"rate": 1.0}, "rate"),
    ("GaussianNoise", {"stddev": -1.0}, "stddev"),
    (
        "SpatialDropout2D",
        {"rate": 0.5, "data_format": "last"},
        "data_format must be 'channels_first' or 'channels_last'",
    ),
    ("Reshape", {"target_shape": (-1, -1)}, "target_shape"),
    ("Reshape", {"target_shape": (-2, 3)}, "target_shape"),
    ("Permute", {"dims": (0, 1)}, "dims"),
    ("RepeatVector", {"n": 2.5}, "n"),
    ("RepeatVector", {"n": -1}, "n"),
    ("ZeroPadding1D", {"padding": (1, 2, 3)}, "padding"),
    ("ZeroPadding2D", {"padding": -1}, "padding"),
    ("Cropping2D", {"cropping": (1, 2, 3)}, "cropping"),
    ("Cropping3D", {"cropping": ((1, 1), (1, 1))}, "cropping"),
    ("UpSampling2D", {"size": 0}, "size"),
    ("UpSampling2D", {"interpolation": "cubic"}, "interpolation"),
    ("Dot", {"axes": (1, 2, 3)}, "axes"),
    ("Conv2D", {"filters": 0, "kernel_size": 2}, "filters"),
    ("Conv2D", {"filters": 3, "kernel_size": (3, 3, 3)}, "kernel_size"),
    ("Conv2D", {"filters": 3, "kernel_size": 0}, "kernel_size"),
    ("Conv2D", {"filters": 3, "kernel_size": 2, "strides": 0}, "strides"),
    ("Conv2D", {"filters": 3, "kernel_size": 2, "strides": 2, "dilation_rate": 2}, "strides and dilation_rate"),
    ("Conv2D", {"filters": 3, "kernel_size": 2, "padding": "causal"}, "padding"),
    ("Conv2D", {"filters": 3, "kernel_size": 2, "groups": 2}, "filters"),
    (
        "Conv2D",
        {"filters": 3, "kernel_size": 2, "data_format": "NHWC"},
        "data_format must be 'channels_first' or 'channels_last'",
    ),
    ("MaxPooling2D", {"pool_size": (2, 2, 2)}, "pool_size"),
    ("MaxPooling1D", {"padding": "full"}, "padding"),
    ("BatchNormalization", {"momentum": 1.5}, "momentum"),
    ("BatchNormalization", {"epsilon": -0.1}, "epsilon"),
    ("Attention", {"score_mode": "sum"}, "score_mode"),
    ("Attention", {"dropout": 1.5}, "dropout"),
    ("EinsumDense", {"equation": "ab,bc", "output_shape": 3}, "equation"),
    ("EinsumDense", {"equation": "...b,...c->...c", "output_shape": 3}, "equation"),
    ("MultiHeadAttention", {"num_heads": 0, "key_dim": 2}, "num_heads"),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 2, "value_dim": -1}, "value_dim"),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 2, "sliding_window": 0}, "sliding_window"),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 2, "dropout": -0.5}, "dropout"),
]


@pytest.mark.parametrize(("layer", "arguments", "what"), REFUSED, ids=str)
def test_a_bad_argument_is_refused_by_name(layer, arguments, what):
    with pytest.raises((ValueError, TypeError)) as caught:
        getattr(layers, layer)(**arguments, name="stem")
    assert str(caught.value).startswith((f'{layer} "stem": {what}', f"{layer}: {what}"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("base", [layers.Layer, callbacks.Callback, losses.Loss])
def test_what_a_program_annotates_its_arguments_with_is_its_own_affair(base):
    class Own(base):
        def __init__(self, data: "np.nothing" = None, size: int = 1, flag: "list[" = True):  # noqa: F722
            super().__init__()
            self.size = size

    assert Own(size="large", flag=[]).size == "large"


@pytest.mark.parametrize("layer", ["Dense", "Conv2D", "Dropout", "Add", "Flatten"])
def test_an_unknown_argument_is_refused(layer):
    needed = {"Dense": {"units": 2}, "Conv2D": {"filters": 2, "kernel_size": 2}, "Dropout": {"rate": 0.5}}
    with pytest.raises(ValueError, match=f"{layer}: must not be given unknown arguments, got unit"):
        getattr(layers, layer)(**needed.get(layer, {}), unit=3)


@pytest.mark.parametrize(
    ("layer", "arguments"),
    [
        ("Dense", {"units": np.int64(3)}),
        ("Conv2D", {"filters": np.int64(4), "kernel_size": np.int32(2), "strides": np.array([1, 2])}),
        ("MaxPooling2D", {"pool_size": np.int64(2)}),
        ("ZeroPadding2D", {"padding": np.int64(2)}),
        ("RepeatVector", {"n": np.int64(2)}),
        ("Reshape", {"target_shape": np.array([3, 4])}),
        ("MultiHeadAttention", {"num_heads": np.int64(2), "key_dim": np.int64(3)}),
    ],
    ids=str,
)
def test_integers_of_numpy_are_integers(layer, arguments):
    plain = {name: value.tolist() for name, value in arguments.items()}
    made = (getattr(layers, layer)(**each, name="stem") for each in (arguments, plain))
    ours, theirs = (str(each.get_config()) for each in made)
    assert ours == theirs


def test_what_a_message_shows_is_bounded():
    assert shorten({"a": np.ones((2, 3), "float32"), "b": [1, 2]}) == "{'a': float32(2, 3), 'b': [1, 2]}"
    assert shorten(list(range(1000))) == "[0, 1, 2, 3, ...]"
    assert len(shorten([["x" * 50] * 50] * 50)) <= 160
    assert some([str(i) for i in range(9)], 3) == "0, 1, 2, ... and 6 more"
