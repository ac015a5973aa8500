"""Whether a short batch may be filled up with rows that do not count, so that one program serves batches of every size.

It may where each row of the outputs comes from the same row of the inputs, and where losses and metrics are means or
sums that heed a mask: then the results are those of the short batch, but for the order of sums.
"""

from __future__ import annotations

import re
from typing import Any

from lamina import losses
from lamina.core.registry import is_own
from lamina.core.symbolic import OpCall
from lamina.layer.parts import walk
from lamina.metrics import MeanMetricWrapper

# Layers whose rows never meet, as long as no argument names the first axis.
_APART = frozenset({
    "Activation", "Add", "AdditiveAttention", "Attention", "Average", "Bidirectional", "Concatenate", "Dense", "ELU",
    "Embedding", "Flatten", "Functional", "GRU", "GRUCell", "Identity", "InputLayer", "LSTM", "LSTMCell",
    "LayerNormalization", "LeakyReLU", "Masking", "Maximum", "Minimum", "MultiHeadAttention", "Multiply", "PReLU",
    "Permute", "RNN", "ReLU", "RepeatVector", "Reshape", "Sequential", "SimpleRNN", "SimpleRNNCell", "Softmax",
    "StackedRNNCells", "Subtract", "TimeDistributed",
    *(f"{name}{rank}D" for rank in (1, 2, 3) for name in (
        "AveragePooling", "Conv", "Cropping", "GlobalAveragePooling", "GlobalMaxPooling", "MaxPooling", "UpSampling",
        "ZeroPadding",
    )),
})  # fmt: skip
# Those that draw or take statistics in training, and do neither otherwise.
_APART_OUTSIDE_TRAINING = frozenset({
    "AlphaDropout", "BatchNormalization", "Dropout", "GaussianDropout", "GaussianNoise", "SpatialDropout1D",
    "SpatialDropout2D", "SpatialDropout3D",
})  # fmt: skip


def stay_apart(model: Any, compiled_loss: Any, compiled_metrics: Any, trains: bool) -> bool:
    """Whether rows of a batch neither meet in the model nor in its losses and metrics."""
    counted = [*(compiled_loss.parts if compiled_loss is not None else ())]
    measured = [*(compiled_metrics.metrics if compiled_metrics is not None else ())]
    return (
        all(_layer_keeps_apart(layer, trains) for layer in walk(model))
        and all(isinstance(part.places, int) and _heeds_masks(part.loss, losses.Loss) for part in counted)
        and all(_heeds_masks(metric, MeanMetricWrapper) for metric in measured)
    )


def _layer_keeps_apart(layer: Any, trains: bool) -> bool:
    name = type(layer).__name__
    draws = trains and any(getattr(layer, key, 0) for key in ("dropout", "recurrent_dropout"))
    if not is_own(type(layer)) or layer.activity_regularizer is not None or getattr(layer, "stateful", False) or draws:
        return False
    functions = [
        value for key, value in vars(layer).items() if key.endswith(("activation", "call")) and callable(value)
    ]
    if not all(map(is_own, functions)):
        return False
    if name == "EinsumDense":
        inputs, kernel, outputs = re.split(",|->", layer.equation)
        return inputs[0] == outputs[0] and (inputs[0] == "." or inputs[0] not in kernel)
    idle = name in _APART_OUTSIDE_TRAINING and (not trains or getattr(layer, "rate", 1) == 0)
    if name not in _APART and not idle:
        return False
    axes = [getattr(layer, key, None) for key in ("axis", "axes", "attention_axes")]
    if any(0 in (axis if isinstance(axis, (list, tuple)) else (axis,)) for axis in axes):
        return False
    operations = getattr(layer, "operations", ())
    return all(operation.op.elementwise for operation in operations if isinstance(operation, OpCall))


def _heeds_masks(one: Any, kind: type) -> bool:
    fn = getattr(one, "fn", None)
    return (
        isinstance(one, kind)
        and is_own(type(one))
        and getattr(one, "reduction", "sum") not in ("none", None)
        and (fn is None or (is_own(fn) and not isinstance(fn, losses.Loss)))  # a loss object is a mean already
    )
