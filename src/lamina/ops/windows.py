"""Windows that move over the spatial axes of a batch: their arguments, checked, and the axes of their operands."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax import lax

from lamina.core import checks


class Window(NamedTuple):
    """How the window of a convolution moves, axis by axis."""

    strides: tuple[int, ...]
    pads: Any  # (before, after) of each axis
    spread: tuple[int, ...]  # the distance of the inputs, above 1 in transposed convolutions
    dilation: tuple[int, ...]  # the distance of the kernel's points

    def outputs(self, x: Any, sizes: Sequence[int]) -> list[Any]:
        """The number of places of the window along each axis."""
        axes = zip(x.shape[1:-1], sizes, *self)
        return [((n - 1) * xd + lo + hi - (k - 1) * kd) // s + 1 for n, k, s, (lo, hi), xd, kd in axes]


def layout(rank: int, inputs: str, kernel: str, outputs: str) -> tuple[str, str, str]:
    """`layout(2, "N*C", "*IO", "N*C")` is `("NabC", "abIO", "NabC")`: the axes of a convolution's operands."""
    places = "abcdefgh"[:rank]
    return inputs.replace("*", places), kernel.replace("*", places), outputs.replace("*", places)


def each(value: Any, rank: int, who: str) -> tuple[int, ...]:
    """One integer for each spatial axis."""
    values: Any = (value,) * rank if isinstance(value, (int, np.integer)) else tuple(value)
    if len(values) != rank:
        raise ValueError(f"{who} must be 1 or {rank} integers, got {value!r}.")
    return values


def count(sizes: Sequence[int]) -> int:
    return int(np.prod(sizes))


def padding_name(padding: str, who: str) -> str:
    return checks.one_of(who, "padding", str(padding).lower(), ("valid", "same")).upper()


def window_of(
    who: str, inputs: Any, kernel: Any, strides: Any, padding: str, data_format: str, dilation_rate: Any
) -> Window:
    """The arguments of a convolution as numbers for each axis."""
    rank = inputs.ndim - 2
    strides, dilation = each(strides, rank, f"{who}: strides"), each(dilation_rate, rank, f"{who}: dilation_rate")
    places = inputs.shape[1:-1] if data_format == "channels_last" else inputs.shape[2:]
    sizes = [(size - 1) * d + 1 for size, d in zip(kernel.shape, dilation)]
    padding = padding_name(padding, who)
    if not all(isinstance(n, int) for n in places):  # symbols for sizes: only XLA's own form takes them
        return Window(strides, padding, (1,) * rank, dilation)
    pads = lax.padtype_to_pads(places, sizes, strides, padding)
    if any(n + sum(pad) < size for n, pad, size in zip(places, pads, sizes)):
        raise ValueError(f"{who}: inputs must be at least as large as the window {sizes}, got shape {inputs.shape}.")
    return Window(strides, tuple(pads), (1,) * rank, dilation)
