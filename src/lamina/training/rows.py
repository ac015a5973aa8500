"""Whether a short batch may be filled up with rows that do not count, so that one program serves batches of every size.

It may where each row of the outputs comes from the same row of the inputs, and where losses and metrics are means or
sums that heed a mask: then the results are those of the short batch, but for the order of sums. Random numbers are
drawn by place, the same for a row whatever rows follow; statistics of a batch are those of the rows that count.
"""

import re
from collections.abc import Iterator
from typing import Any

import jax
from jax import tree_util

from lamina import losses
from lamina.core.registry import is_own
from lamina.core.symbolic import OpCall
from lamina.core.tree import is_shape
from lamina.layer.parts import look, walk
from lamina.metrics import MeanMetricWrapper, RootMeanSquaredError
from lamina.metrics.confusion import ConfusionMetric
from lamina.metrics.f_score import FBetaScore

# Those whose rows meet, and those that run a program's own functions.
_MEET = frozenset({
    "AugMix", "Circle", "CutMix", "Dice", "Distiller", "Equalization", "FlaxLayer", "JaxLayer", "Lambda", "MixUp",
    "RandAugment", "Tversky",
})  # fmt: skip
MOST_WASTE = 1 / 8
# Metrics that count a sample as often as its weight says.
_WEIGHING = (ConfusionMetric, FBetaScore, RootMeanSquaredError)


def stay_apart(model: Any, compiled_loss: Any, compiled_metrics: Any, trains: bool, waste: float = 0.0) -> bool:
    """Whether rows of a batch neither meet in the model nor in its losses and metrics.

    Rows that do not count are a `waste`, a part of an epoch. Models with statistics or noise are often large: they bear
    `MOST_WASTE`. Statistics of a part of a batch take 3 % of a step, and last bits of those of a whole one: where there
    is nothing to fill up, they are taken as they are.
    """
    counted = [*(compiled_loss.parts if compiled_loss is not None else ())]
    measured = [*(compiled_metrics.metrics if compiled_metrics is not None else ())]
    layers = walk(model)
    if trains and waste > MOST_WASTE and changed_by_training(model):
        return False
    if trains and not waste and any(map(_takes_statistics, layers)):
        return False
    if trains and not _draws_by_place() and any(look(layer).seeds for layer in layers):
        return False
    return (
        all(map(layer_keeps_apart, layers))
        and all(isinstance(part.places, int) and _heeds_masks(part.loss, losses.Loss) for part in counted)
        and all(_heeds_masks(each, (MeanMetricWrapper, *_WEIGHING)) for each in measured)
    )


def changed_by_training(model: Any) -> list[Any]:
    """The library's layers in a model that do something else in training: those with statistics and noise."""
    strengths = ("rate", "stddev", "dropout", "recurrent_dropout")
    own = (layer for layer in walk(model) if is_own(type(layer)))
    return [each for each in own if _takes_statistics(each) or any(getattr(each, key, 0) for key in strengths)]


def _takes_statistics(layer: Any) -> bool:
    return type(layer).__name__ == "BatchNormalization" and layer.trainable


def _draws_by_place() -> bool:
    """Whether a random number depends on its place in an array and not on the array's size."""
    settings: Any = jax.config
    return settings.jax_default_prng_impl == "threefry2x32" and settings.jax_threefry_partitionable


def layer_keeps_apart(layer: Any) -> bool:
    """Whether each row of what a layer gives comes from the same row of what it gets."""
    if not _is_apart(layer) or layer.activity_regularizer is not None or getattr(layer, "stateful", False):
        return False
    functions = [
        value for key, value in vars(layer).items() if key.endswith(("activation", "call")) and callable(value)
    ]
    if not all(map(is_own, functions)):
        return False
    if type(layer).__name__ == "EinsumDense":
        inputs, kernel, outputs = re.split(",|->", layer.equation)
        return inputs[0] == outputs[0] and (inputs[0] == "." or inputs[0] not in kernel)
    operations = getattr(layer, "operations", ())
    return all(operation.op.elementwise for operation in operations if isinstance(operation, OpCall))


def _is_apart(one: Any) -> bool:
    """Whether this is the library's own, and its arguments let no rows meet."""
    return is_own(type(one)) and type(one).__name__ not in _MEET and not any(_may_be_first(one))


def _may_be_first(one: Any) -> Iterator[bool]:
    """Of each axis that arguments name, whether it may be that of the rows."""
    shapes = tree_util.tree_leaves(getattr(one, "get_build_config", dict)(), is_leaf=is_shape)
    for key in ("axis", "axes", "attention_axes"):
        given = getattr(one, key, None)
        for axis in given if isinstance(given, (list, tuple)) else (given,):
            yield axis is not None and (axis == 0 or (axis == -len(shapes[0]) if shapes else axis < -1))


def _heeds_masks(one: Any, kind: type | tuple[type, ...]) -> bool:
    """Whether it leaves rows out that a mask, or a weight of 0, leaves out."""
    fn = getattr(one, "fn", None)
    return (
        isinstance(one, kind)
        and _is_apart(one)
        and getattr(one, "reduction", "sum") not in ("none", None)
        and (fn is None or (is_own(fn) and not isinstance(fn, losses.Loss)))  # a loss object is a mean already
    )
