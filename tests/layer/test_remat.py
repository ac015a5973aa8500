"""`RematScope`: what is computed again in the backward pass, and that nothing else changes."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lamina
from lamina import layers

X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), "float32")


def made(scope, **arguments):
    with scope:
        layer = layers.Dense(5, activation="tanh", **{"name": "deep", "kernel_initializer": "ones", **arguments})
    layer.build(X.shape)
    return layer


def counted(layer):
    """How many products and hyperbolic tangents are in the program of the layer's gradient."""
    fn, state = lamina.functional(layer)

    def loss(trainable):
        return jnp.sum(fn(state._replace(trainable=trainable), X)[0] ** 2)

    text = str(jax.make_jaxpr(jax.grad(loss))(state.trainable))
    return text.count("dot_general["), text.count(" tanh ")


PLAIN = (2, 1)  # forward, and by the kernel


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (lamina.RematScope(None), PLAIN),
        (lamina.RematScope(), (3, 2)),
        (lamina.RematScope("activations"), (2, 2)),
        (lamina.RematScope("larger_than", output_size_threshold=19), (3, 2)),
        (lamina.RematScope("larger_than", output_size_threshold=20), PLAIN),
        (lamina.RematScope("list_of_layers", layer_names=["deep"]), (3, 2)),
        (lamina.RematScope("list_of_layers", layer_names=["other"]), PLAIN),
    ],
    ids=lambda value: f"{value.mode}" if hasattr(value, "mode") else "",
)
def test_what_a_mode_computes_again(scope, expected):
    assert counted(made(scope)) == expected


def test_activations_alone_keep_convolutions():
    def gradient(scope):
        with scope:
            layer = layers.Conv2D(8, 5, activation="tanh")  # too large to be computed value by value
        layer.build((1, 7, 7, 4))
        fn, state = lamina.functional(layer)
        loss = lambda state: jnp.sum(fn(state, jnp.ones((1, 7, 7, 4)))[0] ** 2)  # noqa: E731
        return str(jax.make_jaxpr(jax.grad(loss))(state))

    plain, kept, again = map(gradient, map(lamina.RematScope, (None, "activations", "full")))
    forward = "conv_general_dilated["
    assert plain.count(forward) == kept.count(forward) < again.count(forward)


@pytest.mark.parametrize("mode", ["full", "activations", "larger_than"])
def test_values_gradients_and_draws_stay(mode):
    def run(scope):
        lamina.utils.set_random_seed(0)
        with scope:
            model = lamina.Sequential([layers.Dense(400, "gelu"), layers.Dropout(0.5), layers.BatchNormalization()])
        value = lambda: jnp.sum(model(X, training=True) ** 3)  # noqa: E731
        value()
        return jax.tree.leaves((lamina.value_and_grad(value, model)(), model.get_weights()))

    for ours, plain in zip(run(lamina.RematScope(mode)), run(lamina.RematScope(None)), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-5)


def test_the_inner_scope_counts_and_ends():
    outer = lamina.RematScope()
    with outer:
        assert counted(made(lamina.RematScope(None))) == PLAIN
        with outer:
            pass
        inside = layers.Dense(2, "tanh")
    inside.build(X.shape)
    assert counted(inside) == (3, 2)
    after = layers.Dense(2, "tanh")
    after.build(X.shape)
    assert counted(after) == PLAIN


def test_a_copy_keeps_the_mode():
    with lamina.RematScope():
        layer = layers.Dense(5, activation="tanh")
        layer.build(X.shape)
        twin = pickle.loads(pickle.dumps(layer))
    assert counted(twin) == (3, 2)


def test_layers_train_under_a_scope():
    with lamina.RematScope():
        model = lamina.Sequential([lamina.Input((3,)), layers.Dense(8, "relu"), layers.Dropout(0.1), layers.Dense(1)])
    model.compile("adam", "mse")
    history = model.fit(np.tile(X, (8, 1)), np.tile(X[:, :1], (8, 1)), epochs=30, verbose=0).history["loss"]
    assert history[-1] < history[0]


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"mode": "all"}, "mode must be one of 'full', 'activations'.*got 'all'"),
        ({"output_size_threshold": -1}, "output_size_threshold must be an integer of at least 0, got -1"),
    ],
    ids=str,
)
def test_arguments_outside_their_domains_are_refused(arguments, rule):
    with pytest.raises(ValueError, match=f"RematScope: {rule}"):
        lamina.RematScope(**arguments)
