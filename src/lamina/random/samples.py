"""Samples with the numbers of `jax.random`, and of Keras, for each seed.

Small ones come from NumPy (`threefry.py`), which has nothing to compile.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lamina.core import checks, dtypes
from lamina.random import threefry
from lamina.random.seeds import draw_seed

__all__ = [
    "beta", "binomial", "categorical", "dropout", "gamma", "normal", "randint", "shuffle", "truncated_normal",
    "uniform",
]  # fmt: skip


def _key(seed: Any) -> Any:
    return threefry.generator(draw_seed(seed))


def _float(who: str, dtype: Any) -> Any:
    checks.require(dtypes.is_float(dtype), who, "dtype must be a float one", dtype)
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
    if threefry.can_draw(seed, key, shape, dtype, minval, maxval):
        return threefry.draw(key, shape, lambda unit: threefry.stretch(unit, minval, maxval))
    return jax.random.uniform(threefry.generator(key), shape, dtype, minval, maxval)


def normal(shape: Sequence[int], mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None) -> jax.Array:
    """Samples of N(mean, stddev²); other arguments as in `uniform`."""
    dtype, shape, key = _float("normal", dtype), tuple(shape), draw_seed(seed)
    if threefry.can_draw(seed, key, shape, dtype, mean, stddev):
        return threefry.draw(key, shape, lambda unit: threefry.normal(unit, *threefry.WHOLE, mean, stddev))
    return jax.random.normal(threefry.generator(key), shape, dtype) * stddev + mean


def truncated_normal(
    shape: Sequence[int], mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None
) -> jax.Array:
    """Samples of N(mean, stddev²), given that they lie within 2 stddev of the mean; other arguments as in `uniform`."""
    dtype, shape, key = _float("truncated_normal", dtype), tuple(shape), draw_seed(seed)
    if threefry.can_draw(seed, key, shape, dtype, mean, stddev):
        return threefry.draw(key, shape, lambda unit: threefry.normal(unit, *threefry.TRUNCATED, mean, stddev))
    return jax.random.truncated_normal(threefry.generator(key), -2.0, 2.0, shape, dtype) * stddev + mean


def randint(shape: Sequence[int], minval: Any, maxval: Any, dtype: Any = "int32", seed: Any = None) -> jax.Array:
    """Integers, each of minval, ..., maxval - 1 as likely; other arguments as in `uniform`, `dtype` an integer one."""
    checks.require(dtypes.is_int(dtype), "randint", "dtype must be an integer one", dtype)
    dtype = jax.dtypes.canonicalize_dtype(dtypes.standardize_dtype(dtype))
    return jax.random.randint(_key(seed), tuple(shape), minval, maxval, dtype)


def categorical(logits: Any, num_samples: int, dtype: Any = "int32", seed: Any = None) -> jax.Array:
    """Class numbers, drawn with probabilities softmax(logits).

    Args:
        logits: (batch, classes), log-probabilities up to a constant a row.
        num_samples: draws a row.
        dtype, seed: as in `uniform`, `dtype` any.

    Returns:
        An array (batch, num_samples).
    """
    logits = jnp.asarray(logits)
    checks.require(logits.ndim == 2, "categorical", "logits must have shape (batch, classes)", logits.shape)
    shape = (logits.shape[0], num_samples)
    samples = jax.random.categorical(_key(seed), logits[..., None], axis=1, shape=shape)
    return samples.astype(jax.dtypes.canonicalize_dtype(dtypes.standardize_dtype(dtype)))


def gamma(shape: Sequence[int], alpha: Any, dtype: Any = None, seed: Any = None) -> jax.Array:
    """Samples of Gamma(alpha, 1), alpha broadcastable to `shape`; other arguments as in `uniform`."""
    return jax.random.gamma(_key(seed), alpha, tuple(shape), _float("gamma", dtype))


def beta(shape: Sequence[int], alpha: Any, beta: Any, dtype: Any = None, seed: Any = None) -> jax.Array:
    """Samples of Beta(alpha, beta), both broadcastable to `shape`; other arguments as in `uniform`."""
    a, b = jnp.asarray(alpha), jnp.asarray(beta)
    return jax.random.beta(_key(seed), a, b, tuple(shape), _float("beta", dtype))


def binomial(shape: Sequence[int], counts: Any, probabilities: Any, dtype: Any = None, seed: Any = None) -> jax.Array:
    """How many of `counts` trials succeed, each with the given probability.

    Args:
        counts: numbers of trials, broadcastable to `shape`.
        probabilities: of one success, broadcastable to `shape`.
        shape, dtype, seed: see `uniform`.
    """
    n, p = jnp.asarray(counts), jnp.asarray(probabilities)
    return jax.random.binomial(_key(seed), n, p, tuple(shape), _float("binomial", dtype))


def shuffle(x: Any, axis: int = 0, seed: Any = None) -> jax.Array:
    """The elements of `x` in random order along `axis`, another at each place on other axes; seed: see `uniform`."""
    return jax.random.permutation(_key(seed), jnp.asarray(x), axis, independent=True)


def dropout(inputs: Any, rate: float, noise_shape: Sequence[int | None] | None = None, seed: Any = None) -> jax.Array:
    """`inputs / (1 - rate)`, where each element is 0 with probability `rate`.

    Args:
        inputs: an array.
        rate: the fraction to drop, from 0 to 1.
        noise_shape: of the mask, broadcastable to that of `inputs`; `None` in it means the size of that axis.
        seed: see `uniform`.
    """
    checks.require(0 <= rate <= 1, "dropout", "rate must be from 0 to 1", rate)
    inputs = jnp.asarray(inputs)
    if rate == 1:
        return jnp.zeros_like(inputs)
    if rate == 0:
        return inputs
    shape = inputs.shape if noise_shape is None else noise_shape
    shape = tuple(inputs.shape[axis] if size is None else size for axis, size in enumerate(shape))
    keep = 1.0 - rate
    mask = jax.random.bernoulli(_key(seed), keep, shape)
    return jnp.where(mask, inputs / keep, jnp.zeros_like(inputs))
