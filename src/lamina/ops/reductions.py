"""Reductions, written so that XLA's CPU backend runs them fast.

- One over the places of images of few channels has vectors of these: 10 times as long as line by line.
- One of pairs (`argmax`) is single comparisons too: 4 to 9 times as long as one by value and one by place,
  from 32 values on; fewer are unrolled.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lamina.core.runtime import by_platform

# Below so many values along an axis XLA unrolls a reduction of pairs.
_UNROLLED = 32


def _place_of(extreme: Callable, plain: Callable) -> Callable:
    """`plain`, which is `argmax` or `argmin`, by the `extreme` and then the first place that holds it, or NaN."""

    def by_value(x: Any, axis: int, keepdims: bool) -> Any:
        places = lax.broadcasted_iota(np.int32, x.shape, axis)
        found = (x == extreme(x, axis, keepdims=True)) | (x != x)
        return jnp.where(found, places, x.shape[axis]).min(axis, keepdims=keepdims)

    @functools.partial(jax.jit, static_argnames=("axis", "keepdims"))
    @functools.wraps(plain)
    def place(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
        if axis is None or x.shape[axis] < _UNROLLED:
            return plain(x, axis, keepdims=keepdims)
        options = {"axis": axis % x.ndim, "keepdims": keepdims}
        dtype = jax.eval_shape(functools.partial(plain, **options), x).dtype
        own, other = lambda x: by_value(x, **options).astype(dtype), lambda x: plain(x, **options)
        return by_platform(x, cpu=own, default=other)

    return place


argmax, argmin = _place_of(jnp.max, jnp.argmax), _place_of(jnp.min, jnp.argmin)


def over_places(reduce: Callable, images: Any) -> Any:
    """A reduction of images (batch, height, width, channels) to (batch, 1, 1, channels), where vectors lie along the
    lines: over both axes at once XLA's CPU backend takes ten times as long, for it has vectors of few channels."""
    return reduce(lax.optimization_barrier(reduce(images, 1, keepdims=True)), 2, keepdims=True)


def to_places(values: Any, images: Any) -> Any:
    """(batch, 1, 1, channels) at all places of images: the transpose of the sum by `over_places`."""
    line = lax.optimization_barrier(jnp.broadcast_to(values, (len(images), 1, *images.shape[2:])))
    return jnp.broadcast_to(line, images.shape)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def extreme(reduce: Callable, images: Any) -> Any:
    """The least or greatest value of each channel: `over_places`; the gradient goes to all that have it alike."""
    return over_places(reduce, images)


@extreme.defjvp
def _extreme_change(reduce: Callable, primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    (images,), (change,) = primals, tangents
    out = extreme(reduce, images)
    there = (images == to_places(out, images)).astype(change.dtype)
    return out, over_places(jnp.sum, change * there) / over_places(jnp.sum, there)
