"""Sampling and filters beside the plain forms that they are faster than."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy import ndimage
from scipy import signal

from lamina.ops import filters, sampling


@pytest.mark.parametrize("fill_mode", sampling.FILLS)
@pytest.mark.parametrize("interpolation", sampling.INTERPOLATIONS)
def test_a_sample_is_that_of_each_channel_alone(interpolation, fill_mode):
    draw = np.random.default_rng(0)
    batch = draw.normal(size=(2, 5, 4, 3)).astype("float32")
    rows, columns = (draw.uniform(-9, 12, (2, 30)).astype("float32") for _ in range(2))
    ours = sampling.sample(jnp.asarray(batch), jnp.asarray(rows), jnp.asarray(columns), interpolation, fill_mode, 7.0)
    order = sampling.INTERPOLATIONS.index(interpolation)
    for i in range(2):
        for channel in range(3):
            plain = ndimage.map_coordinates(batch[i, :, :, channel], [rows[i], columns[i]], order, fill_mode, 7.0)
            np.testing.assert_allclose(ours[i, :, channel], plain, rtol=1e-4, atol=1e-5)


def test_integers_are_rounded():
    batch = jnp.asarray([[[[0], [1], [3]]]])
    middle = sampling.sample(batch, jnp.zeros((1, 2)), jnp.array([[0.25, 1.75]]), "bilinear")
    assert middle.ravel().tolist() == [0, 2]
    assert middle.dtype == batch.dtype


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("sizes", [(3, 5), (4, 1), (17, 19)])
def test_a_filter_is_one_window(sizes, padding):
    draw = np.random.default_rng(0)
    image = draw.normal(size=(1, 24, 23, 2)).astype("float32")
    down, across = (draw.normal(size=n).astype("float32") for n in sizes)
    ours = filters.separable(jnp.asarray(image), down, across, padding)
    window = np.outer(down, across)[::-1, ::-1]
    for channel in range(2):
        full = signal.convolve2d(image[0, :, :, channel], window, "full" if padding == "same" else "valid")
        if padding == "same":
            before = [n - 1 - (n - 1) // 2 for n in sizes]
            full = full[before[0] : before[0] + 24, before[1] : before[1] + 23]
        np.testing.assert_allclose(ours[0, :, :, channel], full, rtol=1e-4, atol=1e-4)


def test_weights_outside_a_window_are_zero_and_the_rest_those_of_a_smaller_one():
    wide = filters.gaussian(9, 1.5, "float32", within=5)
    np.testing.assert_allclose(wide[2:7], filters.gaussian(5, 1.5, "float32"), rtol=1e-6)
    assert wide[:2].tolist() == wide[7:].tolist() == [0, 0]


@pytest.mark.parametrize("fill_mode", sampling.FILLS)
@pytest.mark.parametrize("interpolation", sampling.INTERPOLATIONS)
def test_gradients_of_a_sample_are_those_of_jax(interpolation, fill_mode):
    draw = np.random.default_rng(1)
    batch, cotangent = draw.random((2, 6, 5, 3), "float32"), draw.random((2, 7, 3), "float32")
    places = 9 * draw.random((2, 2, 7), "float32") - 2
    order = sampling.INTERPOLATIONS.index(interpolation)

    def ours(batch, places):
        return sampling.sample(batch, *places, interpolation, fill_mode)

    def plain(batch, places):
        def one(plane, places):
            return ndimage.map_coordinates(plane, list(places), order, fill_mode)

        return jax.vmap(jax.vmap(one, (-1, None), -1), (0, 1))(batch, places)

    def second(fn):
        return jax.grad(lambda places: (jax.grad(lambda b: (fn(b, places) ** 3).sum())(batch) ** 2).sum())(places)

    @functools.partial(jax.jit, static_argnums=0)
    def changes(fn):
        change = jax.jvp(fn, (batch, places), (batch[::-1], places[::-1]))
        return change, jax.vjp(fn, batch, places)[1](cotangent), second(fn)

    for wanted, found in zip(*(jax.tree.leaves(changes(fn)) for fn in (plain, ours)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
