"""How often predictions are right."""

from typing import Any

import jax.numpy as jnp

from lamina.core import dtypes
from lamina.core.arrays import as_array
from lamina.losses.weighting import align, check_same_shape, class_indices
from lamina.metrics.reduction import MeanOf
from lamina.ops.math import in_top_k
from lamina.ops.reductions import argmax

__all__ = [
    "Accuracy", "BinaryAccuracy", "CategoricalAccuracy", "SparseCategoricalAccuracy", "SparseTopKCategoricalAccuracy",
    "TopKCategoricalAccuracy", "binary_accuracy", "categorical_accuracy", "sparse_categorical_accuracy",
    "sparse_top_k_categorical_accuracy", "top_k_categorical_accuracy",
]  # fmt: skip


def accuracy(y_true: Any, y_pred: Any) -> Any:
    """1 where `y_true = y_pred`, else 0.

    >>> metric = lamina.metrics.Accuracy()
    >>> metric.update_state([1, 2, 3, 4], [1, 2, 3, 0])
    >>> float(metric.result())
    0.75
    """
    y_pred = as_array(y_pred)
    y_true, y_pred = align(as_array(y_true, y_pred.dtype), y_pred)
    return _ones_where(y_true == y_pred)


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Any:
    """1 where `y_true = (y_pred > threshold)`, else 0.

    Args:
        y_true, y_pred: targets 0 and 1, and predictions between them.
        threshold: where the predictions are cut.
    """
    y_true, y_pred = align(as_array(y_true), as_array(y_pred))
    return _ones_where(y_true == (y_pred > threshold).astype(y_true.dtype))


def categorical_accuracy(y_true: Any, y_pred: Any) -> Any:
    """1 where `argmax(y_true) = argmax(y_pred)` over the last axis, else 0."""
    y_true, y_pred = _one_hot("categorical_accuracy", y_true, y_pred)
    return _ones_where(argmax(y_true, -1) == argmax(y_pred, -1))


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Any:
    """1 where `y_true = argmax(y_pred)` over the last axis, else 0; `y_true` holds integer classes."""
    y_pred = as_array(y_pred)
    classes = class_indices("sparse_categorical_accuracy", y_true, y_pred, instead="categorical_accuracy")
    matches = _ones_where(classes == argmax(y_pred, -1))
    return matches[..., 0] if matches.ndim > 1 and matches.shape[-1] == 1 else matches


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Any:
    """1 where the class `argmax(y_true)` is among the `k` with the highest predictions, else 0.

    Args:
        y_true, y_pred: one-hot targets and predictions `(batch, ..., classes)`.
        k: how many count.
    """
    y_true, y_pred = _one_hot("top_k_categorical_accuracy", y_true, y_pred)
    return _ones_where(in_top_k(argmax(y_true, -1), y_pred, k))


def sparse_top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5, from_sorted_ids: bool = False) -> Any:
    """1 where the class `y_true` is among the `k` with the highest predictions, else 0.

    Args:
        y_true: integer classes.
        y_pred: predictions `(batch, ..., classes)`, or classes, the likeliest first.
        k: how many count.
        from_sorted_ids: `y_pred` holds classes.
    """
    y_true, y_pred = as_array(y_true), as_array(y_pred)
    classes = class_indices("sparse_top_k_categorical_accuracy", y_true, y_pred, instead="top_k_categorical_accuracy")
    if from_sorted_ids:
        matches = jnp.any(classes[..., None] == y_pred[..., :k], -1)
    else:
        matches = in_top_k(classes.astype("int32"), y_pred, k)
    return _ones_where(matches).reshape(y_true.shape)


def _ones_where(condition: Any) -> Any:
    return condition.astype(dtypes.floatx())


def _one_hot(who: str, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    y_true, y_pred = as_array(y_true), as_array(y_pred)
    check_same_shape(who, y_true, y_pred, f"; for integer classes use sparse_{who}")
    return y_true, y_pred


class Accuracy(MeanOf, fn=accuracy, direction="max"): ...


class BinaryAccuracy(MeanOf, fn=binary_accuracy, direction="max"): ...


class CategoricalAccuracy(MeanOf, fn=categorical_accuracy, direction="max"): ...


class SparseCategoricalAccuracy(MeanOf, fn=sparse_categorical_accuracy, direction="max"): ...


class TopKCategoricalAccuracy(MeanOf, fn=top_k_categorical_accuracy, order="k name dtype", direction="max"): ...


class SparseTopKCategoricalAccuracy(
    MeanOf, fn=sparse_top_k_categorical_accuracy, order="k name dtype from_sorted_ids", direction="max"
):
    _omit_none = frozenset({"from_sorted_ids"})
