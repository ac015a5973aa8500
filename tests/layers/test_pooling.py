"""Pooling: beside NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lamina
from lamina import layers, ops

X = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype("float32")
WINDOWS = X.reshape(2, 2, 2, 3, 2, 3)
FIRST = {"data_format": "channels_first"}
REDUCE = {"Max": np.max, "Average": np.mean}


@pytest.mark.parametrize("kind", REDUCE)
def test_windows_side_by_side(kind):
    pool = getattr(layers, f"{kind}Pooling2D")
    expected = REDUCE[kind](WINDOWS, axis=(2, 4))
    np.testing.assert_allclose(pool(2)(X), expected, rtol=1e-5)
    np.testing.assert_allclose(pool(2, **FIRST)(X.transpose(0, 3, 1, 2)), expected.transpose(0, 3, 1, 2), rtol=1e-5)


@pytest.mark.parametrize("kind", REDUCE)
def test_padding_does_not_count(kind):
    ones = np.ones((1, 5, 1), "float32")
    y = getattr(layers, f"{kind}Pooling1D")(3, strides=1, padding="same")(ones if kind == "Average" else -ones)
    np.testing.assert_array_equal(np.abs(y), ones)


@pytest.mark.parametrize("kind", REDUCE)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_global_pooling_reduces_all_of_space(kind, rank):
    x = np.random.default_rng(0).normal(size=(2, *(4, 5, 3)[:rank], 2)).astype("float32")
    pool, axes = getattr(layers, f"Global{kind}Pooling{rank}D"), tuple(range(1, rank + 1))
    np.testing.assert_allclose(pool()(x), REDUCE[kind](x, axis=axes), rtol=1e-5, atol=1e-6)
    kept = pool(keepdims=True, **FIRST)(np.moveaxis(x, -1, 1))
    expected = np.moveaxis(REDUCE[kind](x, axis=axes, keepdims=True), -1, 1)
    np.testing.assert_allclose(kept, expected, rtol=1e-5, atol=1e-6)


def test_a_masked_mean_counts_what_is_there():
    x = np.array([[[1.0], [3.0], [100.0]]], "float32")
    y = layers.GlobalAveragePooling1D()(x, mask=np.array([[True, True, False]]))
    np.testing.assert_allclose(y, [[2.0]])


@pytest.mark.parametrize("short", ["MaxPool", "AvgPool", "GlobalMaxPool", "GlobalAvgPool"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_short_names_are_the_same_classes(short, rank):
    long = short.replace("Avg", "Average").replace("Pool", "Pooling")
    assert getattr(layers, f"{short}{rank}D") is getattr(layers, f"{long}{rank}D")


def test_adaptive_windows_cover_the_input_and_overlap_where_they_must():
    x = np.arange(5, dtype="float32").reshape(1, 5, 1)
    assert layers.AdaptiveAveragePooling1D(3)(x).ravel().tolist() == [0.5, 2.0, 3.5]  # 0 and 1, 1 to 3, 3 and 4
    assert layers.AdaptiveMaxPooling1D(2)(x).ravel().tolist() == [2.0, 4.0]


@pytest.mark.parametrize("kind", ["average", "max"])
@pytest.mark.parametrize("size, n", [(13, 1), (13, 4), (13, 7), (13, 13), (5, 9), (150, 2)])
def test_adaptive_pools_and_their_gradients_are_those_of_each_window(kind, size, n):
    """Forms differ by the number of windows, by their size, and where there are gradients."""
    x = np.random.default_rng(0).normal(size=(2, size, 3)).astype("float32")
    windows = [slice(i * size // n, -((i + 1) * size // -n)) for i in range(n)]
    reduce = {"average": jnp.mean, "max": jnp.max}[kind]

    def plain(x):
        return jnp.stack([reduce(x[:, window], axis=1) for window in windows], axis=1)

    pool = functools.partial(getattr(ops, f"adaptive_{kind}_pool"), output_size=n)
    np.testing.assert_allclose(pool(x), plain(x), rtol=1e-6, atol=1e-6)
    weights = jnp.cos(jnp.arange(plain(x).size)).reshape(plain(x).shape)
    gradients = [jax.grad(lambda x, f=f: (f(x) * weights).sum())(x) for f in (pool, plain)]
    np.testing.assert_allclose(*gradients, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [0, (2, 2, 2), None, 1.5])
def test_an_adaptive_output_size_outside_its_domain_is_refused(size):
    with pytest.raises(ValueError, match='"it": output_size must be 1 or 2 positive integers, got'):
        layers.AdaptiveMaxPooling2D(size, name="it")


@pytest.mark.parametrize("kind", REDUCE)
def test_a_window_must_fit_into_the_input(kind):
    pool = getattr(layers, f"{kind}Pooling2D")
    for call in (pool(5), lambda x: pool(5)(lamina.Input(x.shape[1:]))):
        with pytest.raises(ValueError, match="_pool: pool_size must be at most the input's size 4, got 5"):
            call(X)
    assert pool(2)(X[:0]).shape == (0, 2, 3, 3)  # no rows are no small input
    assert pool(5)(lamina.Input((None, None, 3))).shape == (None, None, None, 3)
