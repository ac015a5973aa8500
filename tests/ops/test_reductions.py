"""Reductions in forms for the CPU against the plain ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import ops
from lamina.ops import reductions
from tests.ops.test_cpu import array, assert_same


@pytest.mark.parametrize("name", ["argmax", "argmin"])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "uint8", "bool"])
def test_places_of_extremes(name, keepdims, axis, dtype):
    x = np.random.default_rng(0).integers(0, 5, (40, 3, 50)).astype("float32")  # with many that are equal
    if dtype in ("float32", "bfloat16"):
        x[::7, 1, ::9], x[3, :, 2:], x[:, 0, 8] = np.nan, np.inf, -np.inf
    x = jnp.asarray(x).astype(dtype)
    expected = getattr(jnp, name)(x, axis, keepdims=keepdims)
    out = getattr(ops, name)(x, axis, keepdims)
    assert out.dtype == expected.dtype
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("reduce", [jnp.min, jnp.max])
def test_extremes_of_images(reduce, channels, ties):
    x = array(2, 5, 4, channels)
    x = jnp.round(x) if ties else x

    def plain(x):
        return (x - reduce(x, (1, 2), keepdims=True)) ** 2

    def fast(x):
        return (x - reductions.to_places(reductions.extreme(reduce, x), x)) ** 2

    assert_same(plain, fast, (x,))
    assert_same(*(jax.grad(lambda x, f=f: (f(x) ** 2).sum()) for f in (plain, fast)), (x,), 1e-4)
    np.testing.assert_array_equal(jax.vmap(fast)(x[None]), fast(x)[None])
