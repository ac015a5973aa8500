"""Activations as layers: their formulas, and softmax under masks."""

import jax.numpy as jnp
import numpy as np
import pytest

from lamina import layers
from lamina.core import masking
from tests.programs.both import same_in_both

X = np.linspace(-3, 3, 13).astype("float32").reshape(1, 13)

FORMULAS = [
    (layers.ReLU(), np.maximum(X, 0)),
    (layers.ReLU(max_value=2.0), np.clip(X, 0, 2)),
    (layers.ReLU(negative_slope=0.5), np.where(X > 0, X, 0.5 * X)),
    (layers.ReLU(threshold=1.0, negative_slope=0.5), np.where(X > 1, X, 0.5 * (X - 1))),
    (layers.LeakyReLU(), np.where(X > 0, X, 0.3 * X)),
    (layers.LeakyReLU(alpha=0.1), np.where(X > 0, X, 0.1 * X)),
    (layers.ELU(alpha=2.0), np.where(X > 0, X, 2 * np.expm1(X))),
    (layers.PReLU("ones"), np.where(X > 0, X, X)),
    (layers.PReLU(lambda shape, dtype: jnp.full(shape, 0.25, dtype)), np.where(X > 0, X, 0.25 * X)),
    (layers.Activation("softplus"), np.log1p(np.exp(X))),
]


@pytest.mark.parametrize(("layer", "expected"), FORMULAS, ids=lambda value: getattr(value, "name", ""))
def test_formula(layer, expected):
    np.testing.assert_allclose(layer(X), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("shared", "shape"), [(None, (3, 4, 5)), ([1, 2], (1, 1, 5)), (3, (3, 4, 1))])
def test_slopes_are_shared_along_axes(shared, shape):
    layer = layers.PReLU(shared_axes=shared)
    layer.build((None, 3, 4, 5))
    assert layer.alpha.shape == shape


def test_softmax_gives_masked_places_nothing():
    mask = np.arange(13)[None] < 4
    y = np.asarray(layers.Softmax()(X, mask=mask))
    assert not y[~mask].any()
    np.testing.assert_allclose(y.sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(y[mask], np.exp(X[mask]) / np.exp(X[mask]).sum(), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_softmax_of_nothing_is_finite(dtype):
    assert np.isfinite(layers.Softmax(dtype=dtype)(X, mask=np.zeros((1, 13), bool))).all()


@pytest.mark.parametrize("axis", [-1, 0, (0, 1)])
def test_softmax_of_masked_places_is_that_of_keras(axis):
    def program(keras):
        x, some = np.array([[1.0, 2, 3], [1, 2, 3]], "float32"), np.array([[0.3, 0, 0.6], [0, 0, 0]])
        return [keras.layers.Softmax(axis)(x, mask=mask) for mask in (some, some > 0)]

    same_in_both(program)


def test_a_mask_of_softmax_has_no_more_axes_than_its_inputs():
    with pytest.raises(ValueError, match=r"at most the 2 axes of the inputs, got \(2, 1, 13\)"):
        layers.Softmax()(X, mask=np.ones((2, 1, 13), bool))


def test_softmax_over_several_axes_sums_to_one():
    y = layers.Softmax(axis=(-2, -1))(np.ones((2, 3, 4), "float32"))
    np.testing.assert_allclose(y, np.full((2, 3, 4), 1 / 12), rtol=1e-6)


def test_a_mask_over_time_leaves_the_other_times_as_they_are():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4)), "float32")
    plain = layers.Softmax()(x)
    mask = jnp.array([[True, True, False], [True, False, False]])
    masking.set_mask(x, mask)
    np.testing.assert_allclose(layers.Softmax()(x)[mask], plain[mask], rtol=1e-6)
