"""Random numbers: `SeedGenerator`, and samples with the numbers of `jax.random`, and of Keras, for each seed.

`jax.random` compiles each shape anew, 30 to 160 ms a time. Its generator counts: element i is a hash of the
key and i. So what initial weights need (uniform and normal samples, float32, outside a trace) is hashed here
by NumPy, at about 100 million elements a second and with nothing to compile.
"""

from __future__ import annotations

import math
import random as python_random
import sys
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from lamina.core import dtypes, scope
from lamina.core.configurable import Configurable, unknown_arguments
from lamina.core.variable import Variable

__all__ = [
    "SeedGenerator", "beta", "binomial", "categorical", "dropout", "gamma", "normal", "randint", "shuffle",
    "truncated_normal", "uniform",
]  # fmt: skip

_global: dict[str, Any] = {"seed": None, "generator": None}


class SeedGenerator(Configurable):
    """A source of random keys: each `next()` gives another one.

    The key is the `state`, a variable `[seed, draws so far]`; a layer that holds a generator carries it among
    the variables that it does not train.

    Args:
        seed: an integer from 0 to 2**32 - 1; without one, drawn from Python's `random`.
        name: unique if not given.
        kwargs: `backend` is accepted and has no effect.
    """

    def __init__(self, seed: int | None = None, name: str | None = None, **kwargs: Any):
        kwargs.pop("backend", None)
        if kwargs:
            raise unknown_arguments(SeedGenerator, kwargs)
        pair = _seed_pair("SeedGenerator", make_default_seed() if seed is None else seed)
        self.name = scope.unique_name("seed_generator") if name is None else name
        with scope.name_scope(self.name):
            self.state = Variable(
                lambda shape, dtype: jax.device_put(pair),
                shape=(2,),
                dtype="uint32",
                trainable=False,
                aggregation="none",
                name="seed_generator_state",
            )

    def next(self, ordered: bool = True) -> jax.Array:
        """The current state, as a key; the state moves on.

        Args:
            ordered: count the draws; otherwise scramble the state, as the global generator does.
        """
        key = self.state.value
        old = key if isinstance(key, Tracer) else np.asarray(key)  # NumPy compiles nothing
        one = np.array([0, 1], np.uint32)
        new = old + one if ordered else (old + np.uint32(1)) * np.uint32(5387) % np.uint32(933199)
        self.state.assign(jax.device_put(new))
        for lane in scope.lanes.get():  # the parts of a vmap share the state, and draw apart
            key = jax.random.fold_in(key, jax.lax.axis_index(lane))
        return key


def make_default_seed() -> int:
    """A seed from Python's `random`, so that `set_random_seed` governs it."""
    return python_random.randint(1, 10**9)


def set_global_seed(seed: int) -> None:
    """Seed Python's `random`, NumPy, the global generator, and TensorFlow where a program has loaded it."""
    seed = int(_seed_pair("set_random_seed", seed)[0])
    python_random.seed(seed)
    np.random.seed(seed)
    _global.update(seed=seed, generator=None)
    if "tensorflow" in sys.modules:  # its data pipelines shuffle
        sys.modules["tensorflow"].random.set_seed(seed)


def global_seed() -> int | None:
    """The seed that `set_global_seed` was last given, or `None`."""
    return _global["seed"]


def global_seed_generator() -> SeedGenerator:
    """The generator that draws without a seed use; made when first needed."""
    if _global["generator"] is None:
        with scope.names(()):
            _global["generator"] = SeedGenerator(name="global_seed_generator")
    return _global["generator"]


def reset_global_generator() -> None:
    """Let the next draw without a seed make a new global generator."""
    _global["generator"] = None


def draw_seed(seed: Any) -> jax.Array:
    """The key, two 32-bit integers, that a `seed` argument means.

    Args:
        seed: `None` (the global generator), an integer, a `SeedGenerator`, or a key as an array.
    """
    if seed is None:
        return global_seed_generator().next(ordered=False)
    if isinstance(seed, SeedGenerator):
        return seed.next()
    if isinstance(seed, (jax.Array, Variable)):
        return jnp.asarray(seed)
    return jax.device_put(seed if isinstance(seed, np.ndarray) else _seed_pair("draw_seed", seed))


def _seed_pair(who: str, seed: Any) -> np.ndarray:
    if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
        raise ValueError(f"{who}: seed must be an integer from 0 to 2**32 - 1, got {seed!r}.")
    return np.array([seed, 0], np.uint32)


def _float(who: str, dtype: Any) -> Any:
    if not dtypes.is_float(dtype):
        raise ValueError(f"{who}: dtype must be a float one, got {dtype!r}.")
    return jax.dtypes.canonicalize_dtype(dtypes.standardize_dtype(dtype))


def uniform(
    shape: Sequence[int], minval: Any = 0.0, maxval: Any = 1.0, dtype: Any = None, seed: Any = None
) -> jax.Array:
    """Samples of the uniform distribution on [minval, maxval).

    Args:
        shape: of the result.
        minval: the smallest value.
        maxval: the end of the range.
        dtype: a float one; `floatx()` if not given.
        seed: `None` (the global generator), an integer, or a `SeedGenerator`.
    """
    dtype, shape, key = _float("uniform", dtype), tuple(shape), draw_seed(seed)
    if _drawn_by_numpy(key, shape, dtype, minval, maxval):
        return _draw(key, shape, lambda unit: _stretch(unit, minval, maxval))
    return jax.random.uniform(key, shape, dtype, minval, maxval)


def normal(shape: Sequence[int], mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None) -> jax.Array:
    """Samples of N(mean, stddev²).

    Args:
        shape: of the result.
        mean: of the distribution.
        stddev: its standard deviation.
        dtype: a float one; `floatx()` if not given.
        seed: `None` (the global generator), an integer, or a `SeedGenerator`.
    """
    dtype, shape, key = _float("normal", dtype), tuple(shape), draw_seed(seed)
    if _drawn_by_numpy(key, shape, dtype, mean, stddev):
        return _draw(key, shape, lambda unit: _normal(unit, *_WHOLE, mean, stddev))
    return jax.random.normal(key, shape, dtype) * stddev + mean


def truncated_normal(
    shape: Sequence[int], mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None
) -> jax.Array:
    """Samples of N(mean, stddev²), given that they lie within two standard deviations of the mean.

    Args:
        shape: of the result.
        mean: of the normal distribution.
        stddev: standard deviation of the normal distribution, before it is truncated.
        dtype: a float one; `floatx()` if not given.
        seed: `None` (the global generator), an integer, or a `SeedGenerator`.
    """
    dtype, shape, key = _float("truncated_normal", dtype), tuple(shape), draw_seed(seed)
    if _drawn_by_numpy(key, shape, dtype, mean, stddev):
        return _draw(key, shape, lambda unit: _normal(unit, *_TRUNCATED, mean, stddev))
    return jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype) * stddev + mean


def randint(shape: Sequence[int], minval: Any, maxval: Any, dtype: Any = "int32", seed: Any = None) -> jax.Array:
    """Integers, each of minval, ..., maxval - 1 as likely.

    Args:
        shape: of the result.
        minval: the smallest value.
        maxval: one more than the largest value.
        dtype: an integer one.
        seed: `None` (the global generator), an integer, or a `SeedGenerator`.
    """
    if not dtypes.is_int(dtype):
        raise ValueError(f"randint: dtype must be an integer one, got {dtype!r}.")
    dtype = jax.dtypes.canonicalize_dtype(dtypes.standardize_dtype(dtype))
    return jax.random.randint(draw_seed(seed), tuple(shape), minval, maxval, dtype)


def categorical(logits: Any, num_samples: int, dtype: Any = "int32", seed: Any = None) -> jax.Array:
    """Class numbers, drawn with probabilities softmax(logits).

    Args:
        logits: (batch, classes), log-probabilities up to a constant a row.
        num_samples: draws a row.
        dtype: of the result.
        seed: `None` (the global generator), an integer, or a `SeedGenerator`.

    Returns:
        An array (batch, num_samples).
    """
    logits = jnp.asarray(logits)
    if logits.ndim != 2:
        raise ValueError(f"categorical: logits must have shape (batch, classes), got {logits.shape}.")
    shape = (logits.shape[0], num_samples)
    samples = jax.random.categorical(draw_seed(seed), logits[..., None], axis=1, shape=shape)
    return samples.astype(jax.dtypes.canonicalize_dtype(dtypes.standardize_dtype(dtype)))


def gamma(shape: Sequence[int], alpha: Any, dtype: Any = None, seed: Any = None) -> jax.Array:
    """Samples of Gamma(alpha, 1).

    Args:
        shape: of the result.
        alpha: the shape parameter, broadcastable to `shape`.
        dtype: a float one; `floatx()` if not given.
        seed: `None` (the global generator), an integer, or a `SeedGenerator`.
    """
    return jax.random.gamma(draw_seed(seed), alpha, tuple(shape), _float("gamma", dtype))


def beta(shape: Sequence[int], alpha: Any, beta: Any, dtype: Any = None, seed: Any = None) -> jax.Array:
    """Samples of Beta(alpha, beta).

    Args:
        shape: of the result.
        alpha, beta: the two parameters, broadcastable to `shape`.
        dtype: a float one; `floatx()` if not given.
        seed: `None` (the global generator), an integer, or a `SeedGenerator`.
    """
    a, b = jnp.asarray(alpha), jnp.asarray(beta)
    return jax.random.beta(draw_seed(seed), a, b, tuple(shape), _float("beta", dtype))


def binomial(shape: Sequence[int], counts: Any, probabilities: Any, dtype: Any = None, seed: Any = None) -> jax.Array:
    """How many of `counts` trials succeed, each with the given probability.

    Args:
        shape: of the result.
        counts: numbers of trials, broadcastable to `shape`.
        probabilities: of one success, broadcastable to `shape`.
        dtype: a float one; `floatx()` if not given.
        seed: `None` (the global generator), an integer, or a `SeedGenerator`.
    """
    n, p = jnp.asarray(counts), jnp.asarray(probabilities)
    return jax.random.binomial(draw_seed(seed), n, p, tuple(shape), _float("binomial", dtype))


def shuffle(x: Any, axis: int = 0, seed: Any = None) -> jax.Array:
    """The elements of `x` in random order along `axis`, in another order for each place on the other axes.

    Args:
        x: an array.
        axis: along which elements move.
        seed: `None` (the global generator), an integer, or a `SeedGenerator`.
    """
    return jax.random.permutation(draw_seed(seed), jnp.asarray(x), axis, independent=True)


def dropout(inputs: Any, rate: float, noise_shape: Sequence[int | None] | None = None, seed: Any = None) -> jax.Array:
    """`inputs / (1 - rate)`, where each element is 0 with probability `rate`.

    Args:
        inputs: an array.
        rate: the fraction to drop, from 0 to 1.
        noise_shape: of the mask, broadcastable to that of `inputs`; `None` in it means the size of that axis.
        seed: `None` (the global generator), an integer, or a `SeedGenerator`.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"dropout: rate must be from 0 to 1, got {rate!r}.")
    inputs = jnp.asarray(inputs)
    if rate == 1:
        return jnp.zeros_like(inputs)
    if rate == 0:
        return inputs
    shape = inputs.shape if noise_shape is None else noise_shape
    shape = tuple(inputs.shape[axis] if size is None else size for axis, size in enumerate(shape))
    keep = 1.0 - rate
    mask = jax.random.bernoulli(draw_seed(seed), keep, shape)
    return jnp.where(mask, inputs / keep, jnp.zeros_like(inputs))


# NumPy's draws. A sample is made chunk by chunk, so that what is worked on stays in the caches. An array
# beyond the limit takes longer than compiling `jax.random` for it, which has all cores or the accelerator.
_CHUNK = 1 << 16
_LIMIT = 1 << 24

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_32_BITS = 0xFFFFFFFF

# Where erf⁻¹ is evaluated for a normal sample, and what the sample is clipped to: (low, high, bound).
_ZERO, _ONE, _TWO = np.float32(0), np.float32(1), np.float32(2)
_WHOLE = (np.nextafter(-_ONE, _ZERO), _ONE, np.float32(np.inf))
_TRUNCATED = (-math.erf(math.sqrt(2)), math.erf(math.sqrt(2)), np.nextafter(_TWO, _ZERO))


def _drawn_by_numpy(key: Any, shape: tuple[int, ...], dtype: Any, *parameters: Any) -> bool:
    """Whether NumPy may make the sample: it gives the numbers of JAX's default generator, as values."""
    settings: Any = jax.config
    return (
        dtype == np.float32
        and not isinstance(jax.device_put(key), Tracer)  # which it becomes inside a trace, if it was none
        and (key.shape, key.dtype) == ((2,), np.uint32)
        and settings.jax_default_prng_impl == "threefry2x32"
        and settings.jax_threefry_partitionable
        and all(isinstance(p, Real) for p in parameters)
        and math.prod(shape) <= _LIMIT
    )


def _draw(key: Any, shape: tuple[int, ...], transform: Callable[[np.ndarray], np.ndarray]) -> jax.Array:
    """`transform` of uniform samples on [0, 1), the same as those of `jax.random.uniform(key, shape)`."""
    first, second = (int(word) for word in np.asarray(key))
    size = math.prod(shape)
    out = np.empty(size, np.float32)
    for start in range(0, size, _CHUNK):
        stop = min(start + _CHUNK, size)
        out[start:stop] = transform(_unit(_threefry(first, second, start, stop)))
    return jax.device_put(out.reshape(shape))  # unlike jnp.asarray, it compiles nothing


def _threefry(first: int, second: int, start: int, stop: int) -> np.ndarray:
    """The hashes of the numbers from `start` to `stop`: 20 rounds of Threefry-2x32, its two words XORed.

    Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3, https://doi.org/10.1145/2063384.2063405
    """
    keys = (first, second, first ^ second ^ 0x1BD11BDA)
    x = np.full(stop - start, first, np.uint32)  # the high word of the counter is 0 below the limit
    y = np.arange(start, stop, dtype=np.uint32)
    y += np.uint32(second)
    high_bits = np.empty_like(y)
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x += y
            np.right_shift(y, 32 - rotation, out=high_bits)
            y <<= rotation
            y |= high_bits
            y ^= x
        x += np.uint32(keys[(group + 1) % 3])
        y += np.uint32((keys[(group + 2) % 3] + group + 1) & _32_BITS)
    x ^= y
    return x


def _unit(bits: np.ndarray) -> np.ndarray:
    """Floats on [0, 1): 23 bits as the mantissa of a number from 1 to 2, less 1."""
    bits >>= 9
    bits |= 0x3F800000
    floats = bits.view(np.float32)
    floats -= 1
    return floats


def _stretch(unit: np.ndarray, low: Any, high: Any) -> np.ndarray:
    """low + unit · (high - low), rounded once, as XLA's fused multiply-add does it."""
    low = np.float32(low)
    wide = unit.astype(np.float64)
    wide *= np.float32(high) - low
    wide += low
    floats = wide.astype(np.float32)
    return np.maximum(floats, low, out=floats)


def _normal(unit: np.ndarray, low: Any, high: Any, bound: np.float32, mean: Any, stddev: Any) -> np.ndarray:
    """√2 · erf⁻¹(low + unit · (high - low)), clipped, times `stddev`, plus `mean`."""
    sample = _erf_inv(_stretch(unit, low, high))
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
