"""What all layers over 1, 2 or 3 spatial axes have in common: the rank is data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lamina.core import checks, dtypes
from lamina.layer import InputSpec, Layer


class Spatial(Layer):
    """A layer over `rank` spatial axes, with channels behind or before them."""

    rank = 0
    data_format: str

    def _set_layout(self, data_format: str | None) -> None:
        self.data_format = dtypes.standardize_data_format(data_format, self._who())
        self.input_spec = InputSpec(ndim=self.rank + 2)

    @property
    def _channel_axis(self) -> int:
        return -1 if self.data_format == "channels_last" else 1

    @property
    def _axes(self) -> tuple[int, ...]:
        """The spatial axes of a batch."""
        start = 1 if self.data_format == "channels_last" else 2
        return tuple(range(start, start + self.rank))

    def _sizes(self, name: str, value: int | Sequence[int], least: int = 1) -> tuple[int, ...]:
        """`value` as an integer of at least `least` for each spatial axis."""
        plain = checks.integers(value)
        sizes = plain if isinstance(plain, tuple) else (plain,)
        sizes = sizes * self.rank if len(sizes) == 1 else sizes
        if len(sizes) != self.rank or not all(checks.is_integer(size, least) for size in sizes):
            one, many = ("a positive integer", "positive integers") if least == 1 else ("an integer", "integers")
            rule = (one if self.rank == 1 else f"1 or {self.rank} {many}") + (least != 1) * f" of at least {least}"
            raise ValueError(f"{self._who()}: {name} must be {rule}, got {value!r}.")
        return sizes

    def _pairs(self, name: str, value: Any) -> tuple[tuple[int, int], ...]:
        """`value` as (before, after) for each spatial axis: from a number, one for each axis, or pairs."""
        plain = checks.integers(value)
        axes = plain if isinstance(plain, tuple) else (plain,) * self.rank
        if self.rank == 1 and len(axes) == 2:
            axes = (axes,)
        pairs: Any = tuple(axis if isinstance(axis, tuple) else (axis, axis) for axis in axes)
        whole = all(len(pair) == 2 and all(isinstance(n, int) and n >= 0 for n in pair) for pair in pairs)
        if len(pairs) != self.rank or not whole:
            what = "an integer or two" if self.rank == 1 else f"an integer, {self.rank} of them or {self.rank} pairs"
            raise ValueError(f"{self._who()}: {name} must be {what}, all at least 0, got {value!r}.")
        return pairs
