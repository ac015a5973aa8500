"""How often predictions are right."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from lamina.core import dtypes
from lamina.losses.loss import align, as_array
from lamina.metrics.reduction import MeanMetricWrapper

Text = str | None


def accuracy(y_true: Any, y_pred: Any) -> Any:
    """1 where `y_true = y_pred`, else 0."""
    y_pred = as_array(y_pred)
    y_true, y_pred = align(as_array(y_true, y_pred.dtype), y_pred)
    return _ones_where(y_true == y_pred)


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Any:
    """1 where `y_true = (y_pred > threshold)`, else 0."""
    y_true, y_pred = align(as_array(y_true), as_array(y_pred))
    return _ones_where(y_true == (y_pred > threshold).astype(y_true.dtype))


def categorical_accuracy(y_true: Any, y_pred: Any) -> Any:
    """1 where `argmax(y_true) = argmax(y_pred)` over the last axis, else 0."""
    return _ones_where(jnp.argmax(as_array(y_true), -1) == jnp.argmax(as_array(y_pred), -1))


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Any:
    """1 where `y_true = argmax(y_pred)` over the last axis, else 0; `y_true` holds integer classes."""
    y_pred = as_array(y_pred)
    matches = _ones_where(_class_indices(y_true, y_pred) == jnp.argmax(y_pred, -1))
    return matches[..., 0] if matches.ndim > 1 and matches.shape[-1] == 1 else matches


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Any:
    """1 where the class `argmax(y_true)` is among the `k` with the highest predictions, else 0."""
    return _in_top_k(jnp.argmax(as_array(y_true), -1), as_array(y_pred), k)


def sparse_top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5, from_sorted_ids: bool = False) -> Any:
    """1 where the class `y_true` is among the `k` with the highest predictions, else 0.

    Args:
        y_true: integer classes.
        y_pred: predictions `(batch, ..., classes)`, or classes, the likeliest first.
        k: how many count.
        from_sorted_ids: `y_pred` holds classes.
    """
    y_true, y_pred = as_array(y_true), as_array(y_pred)
    classes = _class_indices(y_true, y_pred)
    if from_sorted_ids:
        matches = _ones_where(jnp.any(classes[..., None] == y_pred[..., :k], -1))
    else:
        matches = _in_top_k(classes.astype("int32"), y_pred, k)
    return matches.reshape(y_true.shape)


def _ones_where(condition: Any) -> Any:
    return condition.astype(dtypes.floatx())


def _class_indices(y_true: Any, y_pred: Any) -> Any:
    """Classes without the axis of size 1 that stands where the predictions have one for each class."""
    y_true = as_array(y_true)
    return y_true[..., 0] if y_true.ndim == y_pred.ndim and y_true.shape[-1] == 1 else y_true


def _in_top_k(classes: Any, y_pred: Any, k: int) -> Any:
    right = jnp.take_along_axis(y_pred, classes[..., None], -1)
    right = jnp.where(jnp.isnan(right), -jnp.inf, right)
    return _ones_where(jnp.sum(y_pred > right, -1) < k)


class Accuracy(MeanMetricWrapper):
    """The share of predictions that equal their targets: mean of `accuracy`."""

    direction = "max"

    def __init__(self, name: Text = "accuracy", dtype: Any = None):
        super().__init__(accuracy, name, dtype)


class BinaryAccuracy(MeanMetricWrapper):
    """The share of predictions that, cut at `threshold`, equal their targets: mean of `binary_accuracy`."""

    direction = "max"

    def __init__(self, name: Text = "binary_accuracy", dtype: Any = None, threshold: float = 0.5):
        super().__init__(binary_accuracy, name, dtype, threshold=threshold)


class CategoricalAccuracy(MeanMetricWrapper):
    """The share of right classes, targets one-hot: mean of `categorical_accuracy`."""

    direction = "max"

    def __init__(self, name: Text = "categorical_accuracy", dtype: Any = None):
        super().__init__(categorical_accuracy, name, dtype)


class SparseCategoricalAccuracy(MeanMetricWrapper):
    """The share of right classes, targets integers: mean of `sparse_categorical_accuracy`."""

    direction = "max"

    def __init__(self, name: Text = "sparse_categorical_accuracy", dtype: Any = None):
        super().__init__(sparse_categorical_accuracy, name, dtype)


class TopKCategoricalAccuracy(MeanMetricWrapper):
    """The share of right classes among the `k` likeliest, targets one-hot."""

    direction = "max"

    def __init__(self, k: int = 5, name: Text = "top_k_categorical_accuracy", dtype: Any = None):
        super().__init__(top_k_categorical_accuracy, name, dtype, k=k)


class SparseTopKCategoricalAccuracy(MeanMetricWrapper):
    """The share of right classes among the `k` likeliest, targets integers."""

    direction = "max"
    _omit_none = frozenset({"from_sorted_ids"})

    def __init__(
        self,
        k: int = 5,
        name: Text = "sparse_top_k_categorical_accuracy",
        dtype: Any = None,
        from_sorted_ids: bool = False,
    ):
        super().__init__(sparse_top_k_categorical_accuracy, name, dtype, k=k, from_sorted_ids=from_sorted_ids)
