"""Sums, means and maxima of the windows of a batch, and of as many nearly equal windows as are asked for.

On CPUs (measured with jax 0.10.2) `reduce_window` goes value by value where windows overlap, 2 to 40 times as slow as
sums or maxima of slices. So are its gradients wherever windows lie: that of maxima (select-and-scatter) is single
comparisons, where masks are vectors.
"""

import functools
import math
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lamina.core import dtypes
from lamina.core.dtypes import standardize_data_format
from lamina.core.runtime import by_platform
from lamina.ops.windows import count, each

_MOST_SLICES = 49  # more than so many make programs long
_FEW_WINDOWS, _MOST_POINTS = 6, 64


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def windows(inputs: Any, window: tuple, step: tuple, pads: tuple, join: Any) -> Any:
    """The sum (`lax.add`) or maximum (`lax.max`) of each window, for one size and step of it along each axis."""
    return by_platform(
        inputs,
        cpu=lambda x: _on_cpu(x, join, window, step, pads),
        default=lambda x: lax.reduce_window(x, _neutral(join, x.dtype), join, window, step, pads),
    )


@functools.partial(jax.jit, static_argnums=(1, 2, 3), inline=True)
def means(inputs: Any, window: tuple, step: tuple, pads: tuple) -> Any:
    """The mean of each window, of its part inside the input where it reaches out."""
    points: Any = count(window)
    if any(map(any, pads)):  # the counts are the same along axes that are not pooled
        ones = jnp.ones([d if w > 1 else 1 for d, w in zip(inputs.shape, window)], "float32")
        points = lax.reduce_window(ones, np.float32(0), lax.add, window, step, pads)  # which XLA makes a constant
    total = windows(inputs.astype(dtypes.wide(inputs.dtype)), window, step, pads, lax.add)
    return (total / points).astype(dtypes.floating(inputs.dtype))


def _on_cpu(x: Any, join: Any, sizes: tuple, steps: tuple, pads: tuple) -> Any:
    """The same. The gradient of a maximum goes to the first of equal values, as that of `lax.reduce_window` does."""
    if sizes == steps:
        return _tiles(x, join, sizes, pads)
    axes = [axis for axis in reversed(range(x.ndim)) if max(sizes[axis], steps[axis]) > 1]
    if max(sizes) > _MOST_SLICES or not all(isinstance(x.shape[axis], int) for axis in axes):  # symbols for sizes
        return lax.reduce_window(x, _neutral(join, x.dtype), join, sizes, steps, pads)
    for axis in axes:  # the first of equal ones in each row, then of these
        window = axis, sizes[axis], steps[axis], pads[axis]
        x = _largest(x, *window) if join is lax.max else functools.reduce(lax.add, _points(x, 0, *window))
        x = lax.optimization_barrier(x)
    return x


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def _tiles(x: Any, join: Any, sizes: tuple, pads: tuple) -> Any:
    """Windows side by side: XLA joins `reduce_window` with the layers before and behind it."""
    return lax.reduce_window(x, _neutral(join, x.dtype), join, sizes, sizes, pads)


@_tiles.defjvp
def _tiles_jvp(join: Any, sizes: tuple, pads: tuple, primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    (x,), (dx,), out = primals, tangents, _tiles(*primals, join, sizes, pads)
    number = np.min_scalar_type(points := math.prod(sizes))
    shape = [d for pair in zip(out.shape, sizes) for d in pair]  # each window is some axes of its own
    inner = tuple(range(1, len(shape), 2))

    def cut(a: Any, fill: Any) -> Any:
        edges = [(low, m * size - n - low, 0) for (low, _), m, size, n in zip(pads, out.shape, sizes, a.shape)]
        return lax.pad(a, np.asarray(fill, a.dtype), edges).reshape(shape)

    if join is lax.add:
        return out, cut(dx, 0).sum(inner)
    order = jnp.arange(points, dtype=number).reshape([d if i in inner else 1 for i, d in enumerate(shape)])
    hits = cut(x, _neutral(lax.max, x.dtype)) == jnp.expand_dims(out, inner)
    first = jnp.where(hits, order, number.type(points)).min(inner, keepdims=True)
    return out, jnp.where(order == first, cut(dx, 0), 0).sum(inner)


def _points(x: Any, fill: Any, axis: int, size: int, step: int, pads: tuple[Any, Any]) -> list[Any]:
    """What each point of a window along one axis sees."""
    x = lax.pad(x, np.asarray(fill, x.dtype), [(*pads, 0) if i == axis else (0, 0, 0) for i in range(x.ndim)])
    reach = (x.shape[axis] - size) // step * step + 1
    return [lax.slice_in_dim(x, i, i + reach, step, axis) for i in range(size)]


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3, 4))
def _largest(x: Any, *window: Any) -> Any:
    return functools.reduce(lax.max, _points(x, _neutral(lax.max, x.dtype), *window))


@_largest.defjvp
def _largest_jvp(axis: int, size: int, step: int, pads: tuple, primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    (x,), (dx,), number = primals, tangents, np.min_scalar_type(size)
    points = _points(x, _neutral(lax.max, x.dtype), axis, size, step, pads)
    changes = _points(dx, 0, axis, size, step, pads)
    out = functools.reduce(lax.max, points)
    hits = (jnp.where(point == out, number.type(i), number.type(size)) for i, point in enumerate(points))
    first = functools.reduce(jnp.minimum, hits)
    return out, functools.reduce(operator.add, (jnp.where(first == i, d, 0) for i, d in enumerate(changes)))


def _neutral(join: Any, dtype: Any) -> Any:
    """What changes nothing that it is added to, or compared with."""
    if join in (lax.add, jnp.add) or dtype == np.bool_:
        return np.zeros((), dtype)
    return np.asarray(-np.inf if jnp.issubdtype(dtype, jnp.inexact) else jnp.iinfo(dtype).min, dtype)


def adaptive(inputs: Any, output_size: Any, data_format: str | None, join: Any) -> Any:
    """Pool axis by axis: output i of n gets the inputs from floor(i d / n) to below ceil((i + 1) d / n), of which sums
    become means."""
    first = 1 if standardize_data_format(data_format) == "channels_last" else 2
    for axis, n in enumerate(each(output_size, inputs.ndim - 2, "output_size"), first):
        counts = _adaptive_windows(inputs.shape[axis], n)[1].reshape(n, *[1] * (inputs.ndim - axis - 1))
        inputs = _pooled(inputs, axis, n, join)
        inputs = inputs / counts if join is jnp.add else inputs
    return inputs


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def _pooled(x: Any, axis: int, n: int, join: Any) -> Any:
    """The first points of all windows, joined with the second ones, and so on: in one pass, but slow to transpose."""
    starts, counts = _adaptive_windows(x.shape[axis], n)
    if n == 1 or counts.max() > _MOST_POINTS:
        return _by_windows(x, axis, n, join)
    points = (jnp.take(x, np.minimum(starts + i, x.shape[axis] - 1), axis=axis) for i in range(counts.max()))
    along = counts.reshape(n, *[1] * (x.ndim - axis - 1))
    return functools.reduce(join, (jnp.where(i < along, p, _neutral(join, x.dtype)) for i, p in enumerate(points)))


@_pooled.defjvp
def _(axis: int, n: int, join: Any, primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    return jax.jvp(lambda x: _by_windows(x, axis, n, join), primals, tangents)


def _by_windows(x: Any, axis: int, n: int, join: Any) -> Any:
    starts, counts = _adaptive_windows(x.shape[axis], n)
    if n <= _FEW_WINDOWS:  # each by itself: to copy large windows out, or mask them, costs more
        parts = (lax.slice_in_dim(x, a, a + k, axis=axis) for a, k in zip(starts.tolist(), counts.tolist()))
        return jnp.stack([join.reduce(part, axis) for part in parts], axis)
    index = starts[:, None] + np.arange(counts.max())
    inside = np.arange(counts.max()) < counts[:, None]  # (outputs, window)
    seen = jnp.take(x, np.minimum(index, x.shape[axis] - 1), axis=axis)
    mask = inside.reshape(*inside.shape, *[1] * (x.ndim - axis - 1))
    return join.reduce(jnp.where(mask, seen, _neutral(join, x.dtype)), axis + 1)


def _adaptive_windows(size: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each window begins, and how many points it has."""
    starts = np.arange(n) * size // n
    return starts, -(np.arange(1, n + 1) * size // -n) - starts
