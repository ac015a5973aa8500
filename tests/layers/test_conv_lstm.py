"""Convolutional LSTMs: what they are in terms of a dense one, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lamina
from lamina import layers

draw = np.random.default_rng(0)


def test_on_images_of_one_place_it_is_an_lstm():
    x = draw.normal(size=(2, 4, 1, 1, 3)).astype("float32")
    film, dense = layers.ConvLSTM2D(5, 1, return_sequences=True), layers.LSTM(5, return_sequences=True)
    y = film(x)
    dense(x[:, :, 0, 0])
    dense.set_weights([w.reshape(w.shape[-2:]) if w.ndim == 4 else w for w in film.get_weights()])
    np.testing.assert_allclose(y[:, :, 0, 0], dense(x[:, :, 0, 0]), rtol=1e-4, atol=1e-5)


def test_the_gradient_is_that_of_a_loop_over_its_cell():
    x = jnp.asarray(draw.normal(size=(2, 3, 4, 4, 2)), "float32")
    layer = layers.ConvLSTM2D(3, 3, padding="same")
    layer(x)

    def loop(x):
        states = layer.get_initial_state(2)
        for time in range(3):
            h, states = layer.cell(x[:, time], states)
        return h

    def gradients(run):
        return lamina.value_and_grad(lambda x: jnp.sum(jnp.sin(run(x))), layer)(x)[1]

    for ours, expected in zip(gradients(layer), gradients(loop), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
    tangent = jnp.ones_like(x)
    np.testing.assert_allclose(
        jax.jvp(layer, (x,), (tangent,))[1], jax.jvp(loop, (x,), (tangent,))[1], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_masked_times_are_as_if_they_were_not_there(data_format):
    x = draw.normal(size=(1, 5, 4, 4, 4)).astype("float32")
    layer = layers.ConvLSTM2D(4, 3, padding="same", return_state=True, data_format=data_format)
    masked = layer(x, mask=np.array([[1, 0, 1, 1, 0]], bool))
    for ours, expected in zip(masked, layer(x[:, [0, 2, 3]]), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"filters": 0}, "filters must be a positive integer, got 0"),
        ({"kernel_size": (3, 3, 3)}, "kernel_size must be 1 or 2 positive integers"),
        ({"padding": "causal"}, "padding must be 'valid' or 'same', got 'causal'"),
        ({"strides": 2, "dilation_rate": 2}, "strides and dilation_rate must not both be above 1"),
        ({"dropout": 2}, "dropout must be from 0 to 1, got 2"),
    ],
    ids=str,
)
def test_arguments_outside_their_domains_are_refused(arguments, rule):
    with pytest.raises(ValueError, match=rule):
        layers.ConvLSTM2D(**{"filters": 2, "kernel_size": 3, **arguments})


@pytest.mark.parametrize(
    ("shape", "rule"),
    [
        ((2, 3, None, 6, 1), "axis 1 must be an axis of known size"),
        ((2, 3, 6, 2, 1), "must be at least as large as the kernel"),
    ],
)
def test_films_that_do_not_fit_are_refused_before_weights_are_made(shape, rule):
    layer = layers.ConvLSTM2D(2, 3, name="film")
    with pytest.raises(ValueError, match=rule):
        layer(lamina.KerasTensor(shape))
    assert layer.weights == []


def test_other_images_than_built_for_are_refused():
    layer = layers.ConvLSTM2D(2, 3, name="film")
    layer.build((None, None, 6, 6, 1))
    with pytest.raises(ValueError, match=r'ConvLSTM2D "film": .*got shape \(1, 2, 5, 6, 1\)'):
        layer(np.ones((1, 2, 5, 6, 1), "float32"))
