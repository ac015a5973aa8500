"""Normalization: statistics of batches and samples."""

import numpy as np
import pytest

from lamina import layers
from tests.programs.both import same_in_both

X = np.random.default_rng(0).normal(3.0, 2.0, (8, 6, 4)).astype("float32")


def normalized(x, axes, epsilon=1e-3):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


def test_training_normalizes_by_the_batch_and_remembers_it():
    layer = layers.BatchNormalization(momentum=0.75)
    np.testing.assert_allclose(layer(X, training=True), normalized(X, (0, 1)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(layer.moving_mean.numpy(), 0.25 * X.mean((0, 1)), rtol=1e-4)
    np.testing.assert_allclose(layer.moving_variance.numpy(), 0.75 + 0.25 * X.var((0, 1)), rtol=1e-4)


def test_inference_normalizes_by_what_is_remembered():
    layer = layers.BatchNormalization(moving_mean_initializer="ones")
    np.testing.assert_allclose(layer(X), (X - 1) / np.sqrt(1 + 1e-3), rtol=1e-5)
    np.testing.assert_array_equal(layer.moving_mean.numpy(), np.ones(4))


def test_a_frozen_layer_does_not_learn_from_batches():
    layer = layers.BatchNormalization()
    layer.trainable = False
    np.testing.assert_array_equal(layer(X, training=True), layer(X))
    np.testing.assert_array_equal(layer.moving_mean.numpy(), np.zeros(4))


def test_masked_places_do_not_count():
    layer, plain = layers.BatchNormalization(momentum=0.0), layers.BatchNormalization(momentum=0.0)
    mask = np.arange(6)[None] < np.full((8, 1), 4)
    layer(X, training=True, mask=mask), plain(X[:, :4], training=True)
    for ours, theirs in zip(layer.get_weights(), plain.get_weights()):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_a_mask_is_broadcast():
    def program(keras):
        layer = keras.layers.BatchNormalization(momentum=0.0)
        x, mask = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("float32"), np.ones((1, 3, 1), "float32")
        mask[:, 1] = 0
        return layer(x, training=True, mask=mask), layer.get_weights()

    same_in_both(program)


@pytest.mark.parametrize("axis", [{"axis": -1}, "last", 1.5])
@pytest.mark.parametrize("layer", [layers.LayerNormalization, layers.UnitNormalization])
def test_an_axis_of_another_kind_is_refused(layer, axis):
    with pytest.raises(TypeError, match=f"{layer.__name__}: axis must be an integer or a sequence of integers, got "):
        layer(axis=axis, name="it")


@pytest.mark.parametrize("bounds", [{"rmax": 0.5, "rmin": 2}, {"most": 1}, {"dmax": -1}])
def test_bounds_that_cannot_be_kept_are_refused(bounds):
    with pytest.raises(ValueError, match="renorm_clipping must have keys of rmax, rmin, dmax, rmin not above rmax and"):
        layers.BatchNormalization(renorm=True, renorm_clipping=bounds)


@pytest.mark.parametrize("axis", [1, -2])
def test_the_kept_axis_may_be_any(axis):
    layer = layers.BatchNormalization(axis=axis)
    np.testing.assert_allclose(layer(X, training=True), normalized(X, (0, 2)), rtol=1e-3, atol=1e-4)
    assert layer.gamma.shape == (6,)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_bfloat16"])
@pytest.mark.parametrize("layer, axes", [(layers.BatchNormalization, (0, 1)), (layers.LayerNormalization, (2,))])
def test_statistics_are_those_of_what_comes_in_before_it_is_rounded(layer, axes, dtype):
    y = np.asarray(layer(dtype=dtype)(X + 1000, training=True), "float32")
    np.testing.assert_allclose(y, normalized(X + 1000, axes), rtol=1e-2, atol=1e-2)


def test_integers_are_normalized_to_fractions():
    x = np.arange(96).reshape(8, 3, 4) % 7
    for layer, axes in ((layers.BatchNormalization(), (0, 1)), (layers.LayerNormalization(), (2,))):
        np.testing.assert_allclose(layer(x, training=True), normalized(x, axes), rtol=1e-3, atol=1e-3)


def test_other_ranks_and_sizes_than_built_for_are_refused():
    layer = layers.BatchNormalization(name="norm")
    layer(X)
    for shape, rule in (((8, 4), "must have 3 axes"), ((8, 6, 5), "must have size 4 on axis -1")):
        with pytest.raises(ValueError, match=f'BatchNormalization "norm": the input {rule}, got shape .*built for'):
            layer(np.ones(shape, "float32"))


@pytest.mark.parametrize("layer", [layers.BatchNormalization, layers.LayerNormalization])
def test_an_axis_that_is_not_there_is_refused(layer):
    with pytest.raises(ValueError, match=f'{layer.__name__} "norm": axis 3 must be'):
        layer(axis=3, name="norm")(X)


@pytest.mark.parametrize(("axis", "axes"), [(-1, (2,)), ((1, 2), (1, 2)), ([-1, -2], (1, 2)), (1, (1,))], ids=str)
def test_each_sample_is_normalized_over_the_axes(axis, axes):
    np.testing.assert_allclose(layers.LayerNormalization(axis)(X), normalized(X, axes), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("layer", [layers.BatchNormalization, layers.LayerNormalization])
def test_scale_and_shift_are_there_if_asked(layer):
    for scale, center in ((True, True), (True, False), (False, True), (False, False)):
        made = layer(scale=scale, center=center)
        made.build((None, 4))
        assert [v.name for v in made.trainable_weights] == ["gamma"] * scale + ["beta"] * center


def test_groups_are_normalized_by_themselves():
    x = np.random.default_rng(0).normal(3.0, 2.0, (2, 4, 5, 6)).astype("float32")
    y = np.asarray(layers.GroupNormalization(3, epsilon=0.0)(x)).reshape(2, 4, 5, 3, 2)
    np.testing.assert_allclose(y.mean((1, 2, 4)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std((1, 2, 4)), 1, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "arguments", "rule"),
    [
        ("GroupNormalization", {"groups": 4}, "axis -1 must be one of channels that groups=4 divides"),
        ("GroupNormalization", {"groups": 2, "axis": 0}, "axis 0 must be one of channels"),
        ("GroupNormalization", {"groups": 0}, "groups must be a positive integer or -1, got 0"),
        ("RMSNormalization", {"axis": 3}, "axis 3 must be an axis of known size"),
        ("RMSNormalization", {"epsilon": -1}, "epsilon must be a number of at least 0, got -1"),
        ("UnitNormalization", {"axis": 3}, "axis must be an axis of the input, got 3"),
    ],
    ids=str,
)
def test_what_cannot_be_normalized_is_refused(name, arguments, rule):
    with pytest.raises(ValueError, match=f'{name} "it": {rule}'):
        getattr(layers, name)(**arguments, name="it")(np.ones((2, 6), "float32"))


def test_the_root_of_the_mean_square_is_of_its_axes():
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    layer = layers.RMSNormalization(axis=1, epsilon=0.0)
    layer.build(x.shape)
    layer.set_weights([np.array([1.0, 2.0, 3.0], "float32")])
    expected = x / np.sqrt((x**2).mean(1, keepdims=True)) * np.array([[[1.0], [2.0], [3.0]]])
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5)


def test_a_spectrally_normalized_kernel_has_norm_1():
    layer = layers.SpectralNormalization(layers.Dense(4), power_iterations=50)
    x = np.random.default_rng(0).normal(size=(2, 3)).astype("float32")
    layer(x)
    layer.kernel.assign(5 * layer.kernel.value)
    layer(x)
    assert np.linalg.norm(layer.kernel.numpy(), 2) > 2  # only training divides
    layer(x, training=True)
    np.testing.assert_allclose(np.linalg.norm(layer.kernel.numpy(), 2), 1, rtol=1e-3)


def test_a_kernel_of_zeros_stays():
    layer = layers.SpectralNormalization(layers.Dense(4, kernel_initializer="zeros"))
    layer.build((2, 3))
    before = layer.vector_u.numpy()
    layer(np.ones((2, 3), "float32"), training=True)
    np.testing.assert_array_equal(layer.kernel.numpy(), 0)
    np.testing.assert_array_equal(layer.vector_u.numpy(), before)


def test_spectral_normalization_of_a_layer_without_a_kernel_is_refused():
    with pytest.raises(ValueError, match="layer must have a kernel or embeddings"):
        layers.SpectralNormalization(layers.ReLU())(np.ones((2, 3), "float32"))


def test_spectral_normalization_of_embeddings_gives_vectors():
    layer = layers.SpectralNormalization(layers.Embedding(5, 3))
    assert layer(np.array([[1, 2]]), training=True).dtype == "float32"
