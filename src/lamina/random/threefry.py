"""The numbers of `jax.random` for each key, by NumPy with nothing to compile, and in programs.

`jax.random` compiles each shape anew, 30 to 160 ms a time. Its generator counts: element i is a hash of the
key and i. So what initial weights need (uniform and normal samples, float32, outside a trace) is hashed here
by NumPy, at about 100 million elements a second.

Programs draw with the same generator; on CPUs in a form that takes a third of the time of JAX's, and compiles faster.
"""

import functools
import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from lamina.core.arrays import send
from lamina.core.later import Later
from lamina.core.runtime import by_platform

_jax: Any = Later("jax.extend.random")

# A sample is made chunk by chunk, so that what is worked on stays in the caches. An array
# beyond the limit takes longer than compiling `jax.random` for it, which has all cores or the accelerator.
CHUNK = 1 << 16
LIMIT = 1 << 24

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))

# Where erf⁻¹ is evaluated for a normal sample, and what the sample is clipped to: (low, high, bound).
_ZERO, _ONE, _TWO = np.float32(0), np.float32(1), np.float32(2)
WHOLE = (np.nextafter(-_ONE, _ZERO), _ONE, np.float32(np.inf))
TRUNCATED = (-math.erf(math.sqrt(2)), math.erf(math.sqrt(2)), np.nextafter(_TWO, _ZERO))


def can_draw(seed: Any, key: Any, shape: tuple[int, ...], dtype: Any, *parameters: Any) -> bool:
    """Whether NumPy may make the sample of a key: it gives the numbers of JAX's default generator, as values."""
    settings: Any = jax.config
    return (
        dtype == np.float32
        # An array becomes a tracer inside a trace; the key of a number has just been made there, or not.
        and not isinstance(key if isinstance(seed, (int, np.integer)) else jax.device_put(key), Tracer)
        and (key.shape, key.dtype) == ((2,), np.uint32)
        and settings.jax_default_prng_impl == "threefry2x32"
        and settings.jax_threefry_partitionable
        and all(isinstance(p, Real) for p in parameters)
        and math.prod(shape) <= LIMIT
    )


def draw(key: Any, shape: tuple[int, ...], transform: Callable[[np.ndarray], np.ndarray]) -> jax.Array:
    """`transform` of uniform samples on [0, 1), the same as those of `jax.random.uniform(key, shape)`."""
    first, second = np.asarray(key)
    size = math.prod(shape)
    out = np.empty(size, np.float32)
    for start in range(0, size, CHUNK):
        numbers = np.arange(start, min(start + CHUNK, size), dtype=np.uint32)
        with np.errstate(over="ignore"):
            hashes = _hashes(first, second, np.zeros_like(numbers), numbers)
        out[start : start + CHUNK] = transform(_unit(hashes))
    return send(out.reshape(shape))


def _hashes(first: Any, second: Any, x: Any, y: Any) -> Any:
    """20 rounds of Threefry-2x32 of words x and y, which NumPy changes in place, and the two results XORed.

    Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3, https://doi.org/10.1145/2063384.2063405
    """
    keys = (first, second, first ^ second ^ np.uint32(0x1BD11BDA))
    x += keys[0]
    y += keys[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x += y
            high_bits = y >> (32 - rotation)
            y <<= rotation
            y |= high_bits
            y ^= x
        x += keys[(group + 1) % 3]
        y += keys[(group + 2) % 3] + np.uint32(group + 1)
    x ^= y
    return x


def _unit(bits: np.ndarray) -> np.ndarray:
    """Floats on [0, 1): 23 bits as the mantissa of a number from 1 to 2, less 1."""
    bits >>= 9
    bits |= 0x3F800000
    floats = bits.view(np.float32)
    floats -= 1
    return floats


def stretch(unit: np.ndarray, low: Any, high: Any) -> np.ndarray:
    """low + unit · (high - low), rounded once, as XLA's fused multiply-add does it."""
    low = np.float32(low)
    wide = unit.astype(np.float64)
    wide *= np.float32(high) - low
    wide += low
    floats = wide.astype(np.float32)
    return np.maximum(floats, low, out=floats)


def normal(unit: np.ndarray, low: Any, high: Any, bound: np.float32, mean: Any, stddev: Any) -> np.ndarray:
    """√2 · erf⁻¹(low + unit · (high - low)), clipped, times `stddev`, plus `mean`."""
    sample = _erf_inv(stretch(unit, low, high))
    sample *= np.float32(math.sqrt(2))
    np.clip(sample, -bound, bound, out=sample)
    sample *= np.float32(stddev)
    sample += np.float32(mean)
    return sample


# M. Giles 2010, Approximating the erfinv function: single precision, highest power first. XLA uses it too.
_CENTRE = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503,
    -0.00417768164, 0.246640727, 1.50140941,
)  # fmt: skip
_TAIL = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613,
    0.00943887047, 1.00167406, 2.83297682,
)  # fmt: skip


def _erf_inv(x: np.ndarray) -> np.ndarray:
    """erf⁻¹(x), where |x| < 1."""
    w = -np.log1p(-x * x)
    tail = np.flatnonzero(w >= 5)
    value = _polynomial(_CENTRE, w - np.float32(2.5))
    value[tail] = _polynomial(_TAIL, np.sqrt(w[tail]) - np.float32(3))
    value *= x
    return value


def _polynomial(coefficients: Sequence[float], x: np.ndarray) -> np.ndarray:
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value *= x
        value += np.float32(coefficient)
    return value


# In programs.


def _plain(key: Any) -> Any:
    return jax.random.wrap_key_data(key, impl="threefry2x32")


@functools.partial(jax.jit, static_argnums=(1, 2), inline=True)
def _bits(key: Any, width: int, shape: tuple[int, ...]) -> Any:
    """As many random bits for each element. JAX's own form for CPUs is a loop of rounds, each through memory."""
    dtype, size = np.dtype(f"uint{width}"), math.prod(shape)

    def own(key: Any) -> Any:
        def hashed(_: tuple) -> tuple[Any, Any]:
            numbers = lax.iota(np.uint32, size).reshape(shape)
            return np.True_, _hashes(key[0], key[1], jnp.zeros_like(numbers), numbers).astype(dtype)

        # What a loop gives is kept; anything else XLA hashes again for each of its uses. This loop has one turn, which
        # XLA does not see: no word is the one after itself.
        begun = key[0] + 1 == key[0]
        return lax.while_loop(lambda state: ~state[0], hashed, (begun, jnp.zeros(shape, dtype)))[1]

    def plain(key: Any) -> Any:
        return jax.random.bits(_plain(key), shape, dtype)

    settings: Any = jax.config
    if width > 32 or size > 1 << 32 or not settings.jax_threefry_partitionable:
        return plain(key)
    return by_platform(key, cpu=own, default=plain)


@functools.cache
def _implementation() -> Any:
    return _jax.extend.random.define_prng_impl(
        key_shape=(2,),
        seed=lambda seed: jax.random.key_data(jax.random.key(seed, impl="threefry2x32")),
        split=lambda key, shape: jax.random.key_data(jax.random.split(_plain(key), shape)),
        random_bits=_bits,
        fold_in=lambda key, number: jax.random.key_data(jax.random.fold_in(_plain(key), number)),
        name="threefry2x32_of_lamina",
    )


def generator(key: Any) -> Any:
    """The key for `jax.random` of what `draw_seed` gives. The keys of other generators stay what they are."""
    settings: Any = jax.config
    if key.dtype != np.uint32 or settings.jax_default_prng_impl != "threefry2x32":
        return key
    return jax.random.wrap_key_data(key, impl=_implementation())
