"""Arrays as integers of 8 and 4 bits with scales: how they are found, packed, and read again."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import jax.numpy as jnp
import numpy as np

from lamina.core import checks
from lamina.core.arrays import value_of
from lamina.core.configurable import Configurable


def abs_max_quantize(
    inputs: Any,
    axis: int | Sequence[int],
    value_range: Sequence[float] = (-127, 127),
    dtype: str = "int8",
    epsilon: float = 1e-7,
    to_numpy: bool = False,
) -> tuple[Any, Any]:
    """Integers `q = round(x * scale)` and the scale, the largest integer / max |x|: `x` is about `q / scale`.

    Args:
        inputs: `x`.
        axis: the axes over which the maximum goes; they stay, of size 1, in the scale.
        value_range: the least and the largest integer.
        dtype: of the integers.
        epsilon: added to the maximum.
        to_numpy: whether to compute on the host.

    >>> q, scale = lamina.quantizers.abs_max_quantize(np.array([[1.0, -2.0]], "float32"), axis=-1)
    >>> q.tolist(), scale.tolist()
    ([[64, -127]], [[63.5]])
    """
    xp: Any = np if to_numpy else jnp
    x = xp.asarray(value_of(inputs))
    axes = axis if isinstance(axis, int) else tuple(axis)
    scale = (value_range[1] / (xp.max(xp.abs(x), axis=axes, keepdims=True) + epsilon)).astype(x.dtype)
    codes = xp.clip(xp.round(x * scale), *value_range).astype(dtype)
    return jnp.asarray(codes), jnp.asarray(scale)


class Affine(NamedTuple):
    """What integers mean: `x = (q - zero) * scale`, with `first <= q <= first + levels`."""

    scale: np.ndarray
    zero: np.ndarray
    first: int
    levels: int

    @classmethod
    def of(cls, least: Any, most: Any, bits: int, signed: bool = False, epsilon: float = 0.0) -> Self:
        """That which spreads the numbers from `least` to `most` over all integers of so many bits."""
        levels, first = 2**bits - 1, -(2 ** (bits - 1)) if signed else 0
        if not signed:
            least = np.minimum(least, 0)  # the zero is one of the integers, or lies above them
        one = least == most
        least, most = np.where(one, least - 1, least), np.where(one, most + 1, most)
        scale = ((most - least + epsilon) / levels).astype(least.dtype)
        zero = np.round(-least / scale) + first
        return cls(scale, np.clip(zero, first, first + levels if signed else 255), first, levels)

    def encode(self, x: Any) -> Any:
        """The nearest integers."""
        return np.clip(np.round(x / self.scale) + self.zero, self.first, self.first + self.levels)

    def decode(self, codes: Any) -> Any:
        """What integers mean."""
        return (codes - self.zero) * self.scale


def abs_max_quantize_grouped_with_zero_point(
    inputs: Any,
    block_size: int,
    value_range: Sequence[float] = (-8, 7),
    dtype: str = "int8",
    epsilon: float = 1e-7,
    to_numpy: bool = False,
) -> tuple[Any, Any, Any]:
    """Integers `q`, scales and zeros of a matrix, a scale and a zero for each block of a column: `(q - zero) * scale`.

    Args:
        inputs: the matrix.
        block_size: the rows in a block; the last may have fewer.
        value_range: the least and the largest integer, such as (-8, 7): signed ones of some number of bits.
        dtype: of the integers.
        epsilon: added to the range of the numbers in a block.
        to_numpy: kept for Keras programs: it is always computed on the host.

    Returns:
        The integers, the scales and the zeros, the last two (blocks, columns).
    """
    del to_numpy
    who = "abs_max_quantize_grouped_with_zero_point"
    checks.integer(who, "block_size", block_size)
    bits = checks.one_of(who, "value_range", tuple(value_range), [(-(2**n) // 2, 2**n // 2 - 1) for n in (2, 3, 4, 8)])
    x = np.asarray(value_of(inputs))
    checks.require(x.ndim == 2, who, "inputs must be a matrix", got=f"shape {x.shape}")
    rows, columns = x.shape
    blocks = -(-rows // block_size)
    grouped = np.pad(x, ((0, blocks * block_size - rows), (0, 0))).reshape(blocks, block_size, columns)
    affine = Affine.of(grouped.min(1), grouped.max(1), int(np.log2(bits[1] + 1)) + 1, signed=True, epsilon=epsilon)
    wide = affine._replace(scale=affine.scale[:, None], zero=affine.zero[:, None])
    codes = wide.encode(grouped).reshape(-1, columns)[:rows].astype(dtype)
    return jnp.asarray(codes), jnp.asarray(affine.scale), jnp.asarray(affine.zero.astype("int8"))


def decoded(codes: Any, scale: Any, zero: Any, groups: Any, axis: int = -1) -> Any:
    """`(codes - zero) * scale`, where `groups` says for each place of `axis` which scale and zero are its own."""
    groups = groups.astype("int32")
    own_zero, own_scale = (jnp.take(x, groups, axis=axis) for x in (zero, scale))
    return (codes.astype(scale.dtype) - own_zero.astype(scale.dtype)) * own_scale


def pack_int4(arr: Any, axis: int = 0, dtype: str = "int8") -> tuple[Any, tuple[int, ...], int]:
    """Two integers of 4 bits in each byte, the first in the low half.

    Args:
        arr: integers from -8 to 7, or from 0 to 15.
        axis: along which neighbours share a byte; the last of an odd number has one of its own.
        dtype: of the bytes, "int8" or "uint8", and of the integers.

    Returns:
        The bytes, their shape, and the size of the axis before.

    >>> lamina.quantizers.pack_int4(np.array([-3, 2, 1], "int8"))[0].tolist()
    [45, 1]
    """
    checks.one_of("pack_int4", "dtype", dtype, ("int8", "uint8"))
    x = np.asarray(value_of(arr))
    if x.dtype.name != dtype:
        raise TypeError(f"pack_int4: arr must be of dtype {dtype!r}, got {x.dtype.name}.")
    x = np.moveaxis(x, axis, 0)
    size = x.shape[0]
    pairs = np.pad(x, ((0, size % 2), *((0, 0),) * (x.ndim - 1))).view("uint8").reshape(-1, 2, *x.shape[1:])
    packed = np.moveaxis(((pairs[:, 1] << 4) | (pairs[:, 0] & 15)).view(dtype), 0, axis)
    return jnp.asarray(packed), packed.shape, size


def unpack_int4(packed: Any, orig_len: int, axis: int = 0, dtype: str = "int8") -> Any:
    """The integers of 4 bits in the bytes that `pack_int4` made.

    Args:
        packed: the bytes.
        orig_len: the size of the axis before.
        axis: the axis.
        dtype: "int8" for integers from -8 to 7, "uint8" for 0 to 15.
    """
    checks.one_of("unpack_int4", "dtype", dtype, ("int8", "uint8"))
    x = jnp.asarray(value_of(packed))
    if x.dtype.name not in ("int8", "uint8"):
        raise TypeError(f"unpack_int4: packed must be of dtype 'int8' or 'uint8', got {x.dtype.name}.")
    x = jnp.moveaxis(x.astype(dtype), axis, 0)  # stacked in front: behind, XLA's CPU backend takes longer
    halves = jnp.stack([(x << 4) >> 4, x >> 4], 1)  # the shift to the right keeps the sign, where there is one
    return jnp.moveaxis(halves.reshape(-1, *x.shape[1:])[:orig_len], 0, axis)


class Quantizer(Configurable):
    """What makes integers, and their scales, of arrays; this one leaves them as they are.

    Args:
        output_dtype: of the integers.
    """

    def __init__(self, output_dtype: Any = "int8"):
        self.output_dtype = output_dtype

    def __call__(self, x: Any) -> Any:
        """`x`; a subclass returns integers and scales."""
        return x


class AbsMaxQuantizer(Quantizer):
    """`abs_max_quantize` with these arguments.

    Args:
        axis: the axes over which the maximum goes, if the call does not say; the last if neither does.
        value_range: the least and the largest integer.
        epsilon: added to the maximum.

    Raises: ValueError if the range is none, or has no place in int8.
    """

    _omit_none = frozenset({"axis"})

    def __init__(
        self,
        axis: int | Sequence[int] | None = None,
        value_range: Sequence[float] = (-127, 127),
        epsilon: float = 1e-7,
        output_dtype: Any = "int8",
    ):
        super().__init__(output_dtype)
        self.axis = (axis,) if isinstance(axis, int) else None if axis is None else tuple(axis)
        self.value_range = low, high = tuple(value_range)
        self.epsilon = checks.number("AbsMaxQuantizer", "epsilon", epsilon, 0)
        if not low < high or (output_dtype == "int8" and not -128 <= low < high <= 127):
            rule = " within (-128, 127)" if output_dtype == "int8" else ""
            raise ValueError(f"AbsMaxQuantizer: value_range must be two ascending integers{rule}, got {value_range}.")

    def __call__(self, x: Any, axis: int | Sequence[int] | None = None, to_numpy: bool = False) -> tuple[Any, Any]:
        """The integers and the scales."""
        axes = next((a for a in (axis, self.axis) if a is not None), -1)
        return abs_max_quantize(x, axes, self.value_range, self.output_dtype, self.epsilon, to_numpy)
