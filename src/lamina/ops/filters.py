"""Filters of images that are one window down times another one across."""

import functools
import operator
from typing import Any

import jax.numpy as jnp
from jax import lax

_SHORT = 16  # windows up to this size are sums of moved images, longer ones a product with a matrix


def gaussian(size: int, sigma: Any, dtype: Any, within: Any = None) -> Any:
    """The weights of a Gaussian window, whose sum is 1.

    Args:
        size: the number of weights.
        sigma: the standard deviation.
        dtype: of the result.
        within: the number of weights in the middle that are not 0; all if not given.
    """
    places = jnp.arange(size, dtype=dtype) - (size - 1) / 2
    values = jnp.exp(-0.5 * (places / sigma) ** 2)
    values = values if within is None else jnp.where(jnp.abs(places) <= (within - 1) / 2, values, 0)
    return (values / values.sum()).astype(dtype)


def separable(batch: Any, down: Any, across: Any, padding: str = "same") -> Any:
    """Each channel under the window of the weights down times those across; outside are zeros.

    Args:
        batch: images (batch, height, width, channels).
        down, across: weights, the middle one for the pixel itself.
        padding: `"same"`, or `"valid"` for places where the whole window lies in the image.
    """
    return _along(_along(batch, down, 1, padding), across, 2, padding)


def _along(batch: Any, weights: Any, axis: int, padding: str) -> Any:
    weights = jnp.asarray(weights, batch.dtype)
    size, length = weights.shape[0], batch.shape[axis]
    before = (size - 1) // 2 if padding == "same" else 0
    out = length if padding == "same" else length - size + 1
    if size > _SHORT and isinstance(length, int):
        # (out, length), in each line the weights around the place of the result
        index = jnp.arange(length) - jnp.arange(out)[:, None] + before
        lines = jnp.where((index >= 0) & (index < size), weights[jnp.clip(index, 0, size - 1)], 0)
        return jnp.moveaxis(jnp.tensordot(lines, batch, axes=(1, axis), precision="highest"), 0, axis)
    if padding == "same":
        batch = jnp.pad(batch, [(before, size - 1 - before) if i == axis else (0, 0) for i in range(batch.ndim)])
    moved = (weights[i] * lax.slice_in_dim(batch, i, i + out, axis=axis) for i in range(size))
    return functools.reduce(operator.add, moved)
