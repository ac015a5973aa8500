"""Sample weights and masks: what losses and metrics multiply their values by, and how these become one number."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from lamina.core.arrays import as_array
from lamina.ops.numpy import divide_no_nan


def align(first: Any, second: Any, expand_vectors: bool = True) -> tuple[Any, Any]:
    """The two arrays with as many axes, where they differ by one last axis of size 1.

    `(batch,)` beside `(batch, 1)` becomes `(batch, 1)` unless `expand_vectors` is false; else that axis goes.
    """
    if second.ndim > first.ndim:
        return align(second, first, expand_vectors)[::-1]
    if first.ndim == second.ndim + 1 and first.shape[-1] == 1:
        if second.ndim == 1 and expand_vectors:
            return first, second[:, None]
        return first[..., 0], second
    return first, second


def check_same_shape(who: str, y_true: Any, y_pred: Any, remedy: str = "") -> None:
    """Raise unless targets and predictions have one shape: others would broadcast, to numbers that mean nothing."""
    if y_true.shape != y_pred.shape:
        raise ValueError(f"{who}: y_true must have the shape of y_pred {y_pred.shape}, got {y_true.shape}{remedy}.")


def class_indices(who: str, y_true: Any, y_pred: Any, axis: int = -1, instead: str = "categorical_crossentropy") -> Any:
    """Classes without the axis of size 1 that stands where the predictions have one for each class."""
    y_true = as_array(y_true)
    classes = jnp.squeeze(y_true, axis) if y_true.ndim == y_pred.ndim and y_true.shape[axis] == 1 else y_true
    expected = tuple(np.delete(y_pred.shape, axis).tolist())
    if classes.shape != expected:
        rule = f"y_true must hold integer classes of shape {expected}"
        raise ValueError(f"{who}: {rule}, got shape {y_true.shape}; for one-hot targets use {instead}.")
    return classes


def beside(weight: Any, values: Any) -> Any:
    """A weight with as many axes as the values: its own are the first, `(batch,)` beside `(batch, time)`."""
    return weight.reshape(*weight.shape, *[1] * (values.ndim - weight.ndim)) if weight.ndim else weight


def mask_weights(sample_weight: Any, mask: Any, dtype: Any, reduction: str | None) -> Any:
    """Sample weights that are 0 where `mask` is false.

    Where a reduction divides by the number of losses, those that are left weigh more: it becomes their mean.
    """
    if mask is None:
        return sample_weight
    weight = as_array(mask, dtype)
    if reduction in ("mean", "sum_over_batch_size"):
        weight = weight * divide_no_nan(jnp.asarray(weight.size, dtype), jnp.sum(weight))
    if sample_weight is None:
        return weight
    weight, sample_weight = align(weight, as_array(sample_weight, dtype))
    return beside(sample_weight, weight) * beside(weight, sample_weight)


def _weighted(values: Any, weight: Any) -> Any:
    if weight.ndim == 0:
        return values * weight
    values, weight = align(values, weight)
    if weight.ndim > values.ndim > 0:
        raise TypeError("a weight has more axes than the values")
    return values * beside(weight, values)


def reduce_weighted(values: Any, sample_weight: Any, mask: Any, reduction: str | None, dtype: Any, who: str) -> Any:
    """`values · sample_weight`, 0 where `mask` is false, reduced as `Loss` says."""
    values = as_array(values, dtype)
    weight = None if sample_weight is None else as_array(sample_weight, values.dtype)
    try:
        weight = mask_weights(weight, mask, values.dtype, reduction)
        values = values if weight is None else _weighted(values, weight)
    except TypeError:
        given = " and ".join(str(np.shape(x)) for x in (sample_weight, mask) if x is not None)
        rule = f"sample_weight and mask must have the first axes of the losses of shape {values.shape}"
        raise ValueError(f"{who}: {rule}, got {given}.") from None
    if reduction in ("none", None) or values.ndim == 0:
        return values
    total = jnp.sum(values)
    if reduction == "sum":
        return total
    if reduction == "mean_with_sample_weight" and weight is not None:
        return divide_no_nan(total, jnp.sum(weight))
    return divide_no_nan(total, jnp.asarray(values.size, total.dtype))
