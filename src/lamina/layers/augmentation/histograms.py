"""Layers that look at the values of a whole channel before they change any."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from lamina.core import checks, dtypes
from lamina.core.configurable import variant
from lamina.layers.preprocessing.base import BYTES, Ranged, scaled
from lamina.ops import reductions


@variant(arguments=("value_range",))
class AutoContrast(Ranged):
    """Each channel of each image stretched over the whole range of values; one without any contrast stays."""

    always = ordered = True

    def pixels(self, images: Any, transformation: Any) -> Any:
        wide = images.astype(dtypes.wide(images.dtype))
        low, high = reductions.extreme(jnp.min, wide), reductions.extreme(jnp.max, wide)
        flat = high == low
        start, range_ = (reductions.to_places(values, wide) for values in (low, jnp.where(flat, 1, high - low)))
        stretched = scaled((wide - start) / range_, (0, 1), self.value_range)
        return jnp.where(flat, wide, jnp.clip(stretched, *self.value_range))


@variant(arguments=("value_range", "bins", "data_format"))
class Equalization(Ranged):
    """Values replaced so that all of them are about as frequent; the counts are those of the whole batch.

    Args:
        bins: how many values are told apart, above 1.
    """

    ordered = True

    def __init__(self, value_range: Sequence[float] = BYTES, bins: int = 256, **kwargs: Any):
        super().__init__(value_range, **kwargs)
        self.bins = checks.integer(self._who, "bins", bins, 2)

    def pixels(self, images: Any, transformation: Any) -> Any:
        wide = scaled(images.astype(dtypes.wide(images.dtype)), self.value_range, BYTES)
        bins = jnp.clip(wide * (self.bins - 1) / 255, 0, self.bins - 1).astype("int32")
        planes = bins + self.bins * jnp.arange(images.shape[-1])
        counts = histogram(planes, self.bins * images.shape[-1]).reshape(-1, self.bins)  # (channels, bins)
        below = jnp.cumsum(counts, axis=1)
        first = jnp.take_along_axis(below, jnp.argmax(below > 0, axis=1)[:, None], axis=1)
        rest = jnp.maximum(below[:, -1:] - first, 1)
        table = jnp.clip(jnp.round((below - first).astype(wide.dtype) * 255 / rest), *BYTES)
        several = jnp.sum(counts > 0, axis=1) > 1
        return scaled(jnp.where(several, table.ravel()[planes], wide), BYTES, self.value_range)


def histogram(numbers: Any, bins: int) -> Any:
    """How often each of 0, ..., bins - 1 occurs."""
    return jnp.zeros(bins, "int32").at[numbers.ravel()].add(1, mode="promise_in_bounds")


@variant(arguments=("value_range", "clip_limit", "tile_grid_size", "data_format"))
class ContrastLimitedAdaptiveHistogramEqualization(Ranged):
    """Values replaced by their ranks in the tiles around them; integers stay integers.

    Pizer et al., 1987, Adaptive histogram equalization and its variations.

    Args:
        clip_limit: a value counts at most so many times as often as the average one; 0 for no limit.
        tile_grid_size: how many tiles there are, down and across.
    """

    always = integers = True

    def __init__(
        self,
        value_range: Sequence[float] = BYTES,
        clip_limit: float = 4.0,
        tile_grid_size: Sequence[int] = (8, 8),
        **kwargs: Any,
    ):
        super().__init__(value_range, **kwargs)
        self.clip_limit = checks.number(self._who, "clip_limit", clip_limit, 0)
        sizes = checks.integers(tile_grid_size) if isinstance(tile_grid_size, (list, tuple)) else ()
        if len(sizes) != 2 or not all(map(checks.is_integer, sizes)):
            raise ValueError(f"{self._who()}: tile_grid_size must be 2 positive integers, got {tile_grid_size!r}.")
        self.tile_grid_size = tile_grid_size

    def pixels(self, images: Any, transformation: Any) -> Any:
        count, height, width, channels = images.shape
        rows, columns = self.tile_grid_size
        tall, wide = -(-height // rows), -(-width // columns)  # of a tile
        edges = ((0, 0), (0, tall * rows - height), (0, wide * columns - width), (0, 0))
        values = scaled(images.astype(dtypes.wide(dtypes.floating(images.dtype))), self.value_range, BYTES)
        values = jnp.clip(jnp.pad(values, edges, mode="symmetric"), *BYTES).astype("int32")
        ranks = self._ranks(values.reshape(count, rows, tall, columns, wide, channels))
        # Tiles beyond the edges are like those at the edges; then each pixel lies between the middles of four.
        ranks = jnp.pad(ranks, ((0, 0), (1, 1), (1, 1), (0, 0), (0, 0)), mode="edge")
        down, across = _between(tall, rows), _between(wide, columns)
        image, channel = jnp.arange(count)[:, None, None, None], jnp.arange(channels)
        out = 0
        for row, row_part in down:
            for column, part in across:
                seen = ranks[image, row[:, None, None], column[:, None], channel, values]
                out = out + seen * (row_part[:, None, None] * part[:, None])
        return scaled(jnp.asarray(out)[:, :height, :width], BYTES, self.value_range)

    def _ranks(self, tiles: Any) -> Any:
        """(batch, rows, columns, channels, 256): what each value becomes in each tile."""
        count, rows, tall, columns, wide, channels = tiles.shape
        size = tall * wide
        number = jnp.arange(count * rows * columns * channels).reshape(count, rows, 1, columns, 1, channels)
        counts = histogram(number * 256 + tiles, number.size * 256).reshape(count, rows, columns, channels, 256)
        counts = counts.astype("float32")
        if self.clip_limit > 0:
            clipped = jnp.minimum(counts, self.clip_limit * size / 256)
            counts = clipped + (counts - clipped).sum(-1, keepdims=True) / 256
        below = jnp.cumsum(counts, axis=-1)
        least = below[..., :1]
        rest = size - least
        return jnp.clip((below - least) * 255 / jnp.where(rest == 0, 1, rest), *BYTES)


def _between(size: int, tiles: int) -> list[tuple[Any, Any]]:
    """For each place along an axis of tiles the two tiles around it, counted from 1, and their parts."""
    place = (jnp.arange(size * tiles) - size / 2) / size + 1
    first = jnp.floor(place).astype("int32")
    part = place - first
    return [(jnp.clip(first, 0, tiles + 1), 1 - part), (jnp.clip(first + 1, 0, tiles + 1), part)]
