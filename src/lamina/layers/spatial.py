"""What all layers over 1, 2 or 3 spatial axes have in common: the rank is data."""

from collections.abc import Sequence
from typing import Any

from lamina.core import checks, dtypes
from lamina.layer import InputSpec, Layer


class Spatial(Layer):
    """A layer over `rank` spatial axes, with channels behind or before them: `class Conv2D(Convolution, rank=2)`.

    Args:
        data_format: where the channels are.
    """

    rank = 0

    def __init_subclass__(cls, rank: int | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.rank = cls.rank if rank is None else rank

    def __init__(self, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
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


class Windowed(Spatial):
    """A layer whose kernel is a window that moves over the spatial axes."""

    _paddings: tuple[str, ...] = ("valid", "same")

    def _set_window(self, kernel_size: Any, strides: Any, padding: Any, dilation_rate: Any) -> None:
        self.kernel_size = self._sizes("kernel_size", kernel_size)
        self.strides = self._sizes("strides", strides)
        self.dilation_rate = self._sizes("dilation_rate", dilation_rate)
        self.padding = checks.one_of(self._who, "padding", str(padding).lower(), self._paddings)

    def _check_strides(self) -> None:
        one = max(self.strides) == 1 or max(self.dilation_rate) == 1
        given = f"{self.strides} and {self.dilation_rate}"
        checks.require(one, self._who, "strides and dilation_rate must not both be above 1", got=given)

    def _check_channels(self, input_shape: tuple[int | None, ...]) -> int:
        """The number of channels, which every further input must have."""
        channels = checks.known_size(self._who, input_shape, self._channel_axis)
        self.input_spec = InputSpec(min_ndim=self.rank + 2, axes={self._channel_axis: channels})
        return channels

    def _check_size(self, input_shape: tuple[int | None, ...]) -> None:
        sizes = (input_shape[axis] for axis in self._axes)
        for size, kernel, dilation in zip(sizes, self.kernel_size, self.dilation_rate):
            fits = self.padding != "valid" or size is None or size >= (kernel - 1) * dilation + 1
            rule = f"the input must be at least as large as the kernel {self.kernel_size}"
            checks.require(fits, self._who, rule, got=f"shape {input_shape}")
