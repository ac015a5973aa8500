"""Images seen through a map of places: the one way in which pixels are moved.

A map is a matrix (3, 3) that takes the place (x, y, 1) of a pixel that is drawn to the place that it shows, up to a
factor. Places are pixels' middles: the first is 0, and the last is the size less 1.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

INTERPOLATIONS = ("nearest", "bilinear")
FILLS = ("constant", "nearest", "wrap", "mirror", "reflect")


def _back_and_forth(index: Any, size: Any, twice: int) -> Any:
    """The index on a way to the end and back; the pixels at both ends come twice, or once."""
    last = 2 * size - 2 + twice
    around = jnp.mod(index, jnp.maximum(last + twice, 1))
    return jnp.where(around < size, around, last - around)


# The pixel in the image that stands for one at any index.
_INSIDE: dict[str, Callable[[Any, Any], Any]] = {
    "constant": lambda index, size: jnp.clip(index, 0, size - 1),  # and what was outside gets the constant
    "nearest": lambda index, size: jnp.clip(index, 0, size - 1),
    "wrap": jnp.mod,
    "mirror": functools.partial(_back_and_forth, twice=0),  # a b c d -> d c b | a b c d | c b a
    "reflect": functools.partial(_back_and_forth, twice=1),  # a b c d -> d c b a | a b c d | d c b a
}


def grid(height: int, width: int) -> tuple[Any, Any]:
    """The row and column of each pixel: two arrays (height, width)."""
    rows, columns = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    return rows, columns


def _at(image: Any, index: Any) -> Any:
    return image.at[index].get(mode="promise_in_bounds")


@jax.custom_jvp
def _take(pixels: Any, index: Any) -> Any:
    """Pixels (batch, places, channels) at indices (batch, ...): all channels of one are read at once."""
    return jax.vmap(_at)(pixels, index)


@_take.defjvp
def _take_change(primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    # One channel at a time: the transpose adds to single values, which takes half of the time of pixels.
    by_channel = jax.vmap(_at, in_axes=(-1, None), out_axes=-1)
    return _take(*primals), jax.vmap(by_channel)(tangents[0], primals[1])


def sample(
    batch: Any, rows: Any, columns: Any, interpolation: str, fill_mode: str = "constant", fill_value: Any = 0
) -> Any:
    """The values of each image at places between its pixels.

    Args:
        batch: images (batch, height, width, channels).
        rows, columns: places (batch, ...), or (1, ...) for all images.
        interpolation: `"nearest"` or `"bilinear"`.
        fill_mode: what lies outside: `"constant"`, `"nearest"`, `"wrap"`, `"mirror"` or `"reflect"`.
        fill_value: the constant.

    Shapes: (batch, height, width, channels) -> (batch, ..., channels), integers rounded.
    """
    count, height, width, channels = batch.shape
    rows, columns = (jnp.broadcast_to(places, (count, *places.shape[1:])) for places in (rows, columns))
    pixels = batch.reshape(count, height * width, channels)

    def at(row: Any, column: Any) -> Any:
        inside = _INSIDE[fill_mode]
        values = _take(pixels, inside(row, height) * width + inside(column, width))
        if fill_mode != "constant":
            return values
        valid = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        return jnp.where(valid[..., None], values, jnp.asarray(fill_value, batch.dtype))

    if interpolation == "nearest":
        return at(*(jnp.trunc(places + 0.5 * jnp.sign(places)).astype(jnp.int32) for places in (rows, columns)))
    top, left = jnp.floor(rows), jnp.floor(columns)
    down, right = ((places - start)[..., None] for places, start in ((rows, top), (columns, left)))
    top, left = top.astype(jnp.int32), left.astype(jnp.int32)
    upper = at(top, left) * (1 - right) + at(top, left + 1) * right
    lower = at(top + 1, left) * (1 - right) + at(top + 1, left + 1) * right
    values = upper * (1 - down) + lower * down
    return (jnp.round(values) if jnp.issubdtype(batch.dtype, jnp.integer) else values).astype(batch.dtype)


def warp(batch: Any, maps: Any, interpolation: str, fill_mode: str = "constant", fill_value: Any = 0) -> Any:
    """Images (batch, height, width, channels) seen through maps (batch, 3, 3), or (1, 3, 3) for all."""
    y, x = (places.astype(maps.dtype) for places in grid(*batch.shape[1:3]))
    column, row, scale = (line[:, None, None, 0] * x + line[:, None, None, 1] * y + line[:, None, None, 2]
                          for line in jnp.moveaxis(maps, 1, 0))  # fmt: skip
    return sample(batch, row / scale, column / scale, interpolation, fill_mode, fill_value)


def affine(a: Sequence[Any], b: Sequence[Any]) -> Any:
    """Maps (batch, 3, 3) to x = a[0] x + a[1] y + a[2] and y = b[0] x + b[1] y + b[2], of numbers (batch,) or one."""
    entries = jnp.broadcast_arrays(*(jnp.asarray(n, "float32") for n in (*a, *b, 0, 0, 1)))
    return jnp.stack(entries, axis=-1).reshape(-1, 3, 3)


def affine_map(transform: Any) -> Any:
    """The maps of coefficients (..., 8): a0 x + a1 y + a2, b0 x + b1 y + b2, both over c0 x + c1 y + 1."""
    transform = jnp.asarray(transform)
    ones = jnp.ones_like(transform[..., :1])
    return jnp.concatenate([transform, ones], axis=-1).reshape(*transform.shape[:-1], 3, 3)


def homography(start: Any, end: Any) -> Any:
    """The maps (batch, 3, 3) that take four points `end` (batch, 4, 2) to the points `start`."""
    # Eight equations: x (g u + h v + 1) = a u + b v + c, and likewise for y.
    ones = jnp.concatenate([end, jnp.ones_like(end[..., :1])], axis=-1)
    zeros = jnp.zeros_like(ones)
    rows = [
        jnp.concatenate([*order, -start[..., i : i + 1] * end], axis=-1)
        for i, order in enumerate([(ones, zeros), (zeros, ones)])
    ]
    target = jnp.concatenate([start[..., 0], start[..., 1]], axis=-1)[..., None]
    return affine_map(jnp.linalg.solve(jnp.concatenate(rows, axis=1), target)[..., 0])
