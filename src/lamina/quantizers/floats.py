"""Floats that are as coarse as quantized ones: those of 8 bits, and those on the grid of integers."""

from typing import Any

import jax.numpy as jnp
from jax import lax

from lamina.core import checks, dtypes
from lamina.core.arrays import value_of
from lamina.core.symbolic import op


def compute_float8_scale(amax: Any, scale: Any, dtype_max: Any, margin: int = 0) -> Any:
    """The scale by which numbers up to `amax` fill the range of a dtype: `amax 2^margin / dtype_max`.

    Args:
        amax: the largest absolute value; where it is 0 or not finite, the scale stays.
        scale: the scale so far.
        dtype_max: the largest number of the dtype.
        margin: how many times the range is doubled.
    """
    amax, scale = jnp.asarray(value_of(amax)), jnp.asarray(value_of(scale))
    usable = (amax > 0) & jnp.isfinite(amax)
    return jnp.where(usable, jnp.where(usable, amax, 1) * (2**margin / dtype_max), scale)


def compute_float8_amax_history(x: Any, amax_history: Any) -> Any:
    """The history of largest absolute values, with that of `x` in the place of the oldest."""
    history = jnp.asarray(value_of(amax_history))
    largest = jnp.max(jnp.abs(jnp.asarray(value_of(x)))).astype(history.dtype)
    return jnp.roll(history, -1).at[0].set(largest)


def quantize_and_dequantize(inputs: Any, scale: Any, quantized_dtype: Any, compute_dtype: Any) -> Any:
    """`inputs`, rounded to what `inputs / scale` is in a dtype of 8 bits.

    Args:
        inputs: the numbers.
        scale: a number.
        quantized_dtype: "float8_e4m3fn" or "float8_e5m2".
        compute_dtype: of the result.
    """
    largest = float(jnp.finfo(quantized_dtype).max)
    scale = jnp.asarray(value_of(scale)).astype(compute_dtype)
    x = jnp.clip(jnp.asarray(value_of(inputs)) / scale, -largest, largest).astype(quantized_dtype)
    return x.astype(compute_dtype) * scale


@op(elementwise=True)
def fake_quant_with_min_max_vars(
    inputs: Any, min_vals: Any, max_vals: Any, num_bits: int = 8, narrow_range: bool = False, axis: int | None = None
) -> Any:
    """`inputs` on a grid of `2^num_bits` numbers from about `min_vals` to `max_vals`, of which 0 is one.

    Gradients pass where an input lies in the range; those of the others are those of the nearer end.

    Args:
        inputs: the numbers.
        min_vals, max_vals: the range, one for all or one for each place of `axis`.
        num_bits: the size of the grid.
        narrow_range: whether the grid has one number less.
        axis: the axis with ranges of its own.
    """
    checks.integer("fake_quant_with_min_max_vars", "num_bits", num_bits)
    x, low, high = (jnp.asarray(value_of(v)) for v in (inputs, min_vals, max_vals))
    steps, wide = 2**num_bits - 1 - bool(narrow_range), dtypes.wide(x.dtype)

    def spread(end: Any) -> Any:
        """One of the ends so that it broadcasts to the inputs."""
        if axis is None or end.ndim == 0:
            return end.reshape(())
        return end.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])

    low, high = (spread(end).astype(wide) for end in (low, high))
    step = (high - low) / steps
    zero = jnp.round(jnp.clip(-low / step, 0, steps))
    first, last = -zero * step, (steps - zero) * step
    inside = jnp.clip(x.astype(wide), first, last) - first
    rounded = (jnp.floor(inside / step - jnp.floor(-first / step + 0.5) + 0.5) * step).astype(x.dtype)
    # What gradients see, where the steps of the grid have none: the input, or the ends that it does not lie between.
    parts = ((first <= x) & (x <= last), x), (x <= first, low), (x >= last, high)
    seen = sum(jnp.where(where, value, 0).astype(x.dtype) for where, value in parts)
    return lax.stop_gradient(rounded) + (seen - lax.stop_gradient(seen))
