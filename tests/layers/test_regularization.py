"""Noise in training: what is drawn, and what is left alone."""

import numpy as np
import pytest

from lamina import layers

ONES = np.ones((64, 50, 8), "float32")


def test_dropout_drops_its_share_and_scales_the_rest():
    y = np.asarray(layers.Dropout(0.25, seed=1)(ONES, training=True))
    assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
    assert abs((y == 0).mean() - 0.25) < 0.01


@pytest.mark.parametrize("rate", [0, 0.0])
def test_dropout_of_nothing_draws_nothing(rate):
    layer = layers.Dropout(rate)
    np.testing.assert_array_equal(layer(ONES, training=True), ONES)
    assert layer.variables == []


def test_dropout_of_everything_leaves_zeros():
    assert not np.asarray(layers.Dropout(1.0)(ONES, training=True)).any()


def test_only_training_advances_the_seed():
    layer = layers.Dropout(0.5, seed=1)
    before = layer.variables[0].numpy()
    layer(ONES), layer(ONES, training=False)
    np.testing.assert_array_equal(layer.variables[0].numpy(), before)
    layer(ONES, training=True)
    assert (layer.variables[0].numpy() != before).any()


def test_a_noise_shape_is_a_tuple():
    assert layers.Dropout(0.5, noise_shape=[None, np.int64(1), 3]).noise_shape == (None, 1, 3)


@pytest.mark.parametrize("shape", ["wide", (20, 1.5), (20, -1), (0, 3)])
def test_a_noise_shape_of_other_things_is_refused(shape):
    with pytest.raises(ValueError, match='Dropout "it": noise_shape must have positive integers and None'):
        layers.Dropout(0.5, noise_shape=shape, name="it")


def test_draws_are_broadcast_from_the_noise_shape():
    y = np.asarray(layers.Dropout(0.5, noise_shape=(None, 1, None), seed=1)(ONES, training=True))
    assert (y == y[:, :1]).all()
    assert 0 < y[:, 0].mean() < 2


@pytest.mark.parametrize(
    ("layer", "shape", "axes"),
    [
        (layers.SpatialDropout1D(0.5, seed=1), (9, 5, 8), (1,)),
        (layers.SpatialDropout2D(0.5, seed=1), (9, 5, 4, 8), (1, 2)),
        (layers.SpatialDropout2D(0.5, "channels_first", seed=1), (9, 8, 5, 4), (2, 3)),
        (layers.SpatialDropout3D(0.5, seed=1), (9, 5, 4, 3, 8), (1, 2, 3)),
        (layers.SpatialDropout3D(0.5, "channels_first", seed=1), (9, 8, 5, 4, 3), (2, 3, 4)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_whole_channels_are_dropped(layer, shape, axes):
    y = np.asarray(layer(np.ones(shape, "float32"), training=True))
    np.testing.assert_array_equal(y.min(axes), y.max(axes))
    assert 0.2 < (y == 0).mean() < 0.8


def test_gaussian_noise_has_its_deviation():
    y = np.asarray(layers.GaussianNoise(0.5, seed=1)(ONES, training=True)) - 1
    assert abs(y.mean()) < 0.02
    assert abs(y.std() - 0.5) < 0.02


def test_gaussian_dropout_is_as_strong_as_dropout():
    y = np.asarray(layers.GaussianDropout(0.2, seed=1)(ONES, training=True))
    assert abs(y.mean() - 1) < 0.02
    assert abs(y.std() - 0.5) < 0.02


def test_alpha_dropout_keeps_mean_and_variance():
    x = np.random.default_rng(0).normal(size=ONES.shape).astype("float32")
    y = np.asarray(layers.AlphaDropout(0.3, seed=1)(x, training=True))
    assert abs(y.mean()) < 0.02
    assert abs(y.std() - 1) < 0.02


def test_activity_regularization_adds_to_the_loss():
    layer = layers.ActivityRegularization(l1=0.5, l2=0.25)
    x = np.array([[1.0, -2.0]], "float32")
    np.testing.assert_array_equal(layer(x), x)
    assert float(sum(layer.losses)) == pytest.approx(0.5 * 3 + 0.25 * 5)
