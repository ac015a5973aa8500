"""Crossentropies: -sum(target log(output)) for many classes, one class a place, or yes and no."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax import nn as jnn

from lamina.core import dtypes
from lamina.core.symbolic import op
from lamina.ops.binding import fractions


def _same_shape(who: str, target: Any, output: Any) -> None:
    if target.shape != output.shape:
        raise ValueError(f"{who}: target and output must have one shape, got {target.shape} and {output.shape}.")


def _clipped(p: Any) -> Any:
    return jnp.clip(p, dtypes.epsilon(), 1 - dtypes.epsilon())


def clipped_shares(output: Any, axis: int) -> Any:
    """`output` divided by its sum along an axis, a little away from 0 and 1."""
    return _clipped(output / jnp.sum(output, axis, keepdims=True))


def _shifted(logits: Any, axis: int) -> tuple[Any, Any]:
    """x, log(sum(exp(x))), x the logits minus the highest: log(softmax) is the first minus the second.

    Apart they give crossentropies in fewer passes over the classes than `log_softmax`, of which there may be many.
    """
    x = logits - lax.stop_gradient(jnp.max(logits, axis, keepdims=True))
    return x, jnp.log(jnp.sum(jnp.exp(x), axis))


def at_class(values: Any, classes: Any, axis: int) -> Any:
    """values[class] along an axis, 0 for no class: a comparison and a sum, which XLA fuses with what is around it."""
    axis %= values.ndim
    index = lax.broadcasted_iota("int32", values.shape, axis)
    return jnp.sum(jnp.where(index == jnp.expand_dims(classes, axis), values, 0), axis)


@op
def categorical_crossentropy(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> Any:
    """-sum(target log(output)) over an axis."""
    target, output = jnp.asarray(target), fractions(output)
    _same_shape("categorical_crossentropy", target, output)
    if not from_logits:
        return -jnp.sum(target * jnp.log(clipped_shares(output, axis)), axis)
    shifted, log_total = _shifted(output, axis)
    return log_total * jnp.sum(target, axis) - jnp.sum(target * shifted, axis)


@op
def sparse_categorical_crossentropy(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> Any:
    """-log(output[target]) along an axis, for integers `target`; 0 for those that are no class."""
    target, output = jnp.asarray(target, "int32"), jnp.asarray(output)
    output = output.astype(dtypes.wide(output.dtype))
    if target.ndim == output.ndim and target.shape[axis] == 1:
        target = jnp.squeeze(target, axis)
    if target.shape != tuple(np.delete(output.shape, axis).tolist()):
        raise ValueError(
            f"sparse_categorical_crossentropy: target must have the shape of output without axis {axis}, "
            f"got {target.shape} and {output.shape}."
        )
    if from_logits:
        shifted, log_total = _shifted(output, axis)
        losses = log_total - at_class(shifted, target, axis)
    else:
        losses = -jnp.log(_clipped(at_class(output, target, axis) / jnp.sum(output, axis)))
    return jnp.where((target >= 0) & (target < output.shape[axis]), losses, 0)


@op
def binary_crossentropy(target: Any, output: Any, from_logits: bool = False) -> Any:
    """-target log(output) - (1 - target) log(1 - output), element by element."""
    target, output = jnp.asarray(target), fractions(output)
    _same_shape("binary_crossentropy", target, output)
    target = target if jnp.issubdtype(target.dtype, jnp.floating) else target.astype(output.dtype)
    if from_logits:
        return -target * jnn.log_sigmoid(output) - (1 - target) * jnn.log_sigmoid(-output)
    output = _clipped(output)
    return -(target * jnp.log(output) + (1 - target) * jnp.log(1 - output))
