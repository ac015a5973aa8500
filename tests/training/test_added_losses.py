"""`add_loss`: in call, and as symbolic scalars of a functional model."""

import numpy as np
import pytest

import lamina
from lamina import layers, ops
from tests.training.conftest import X, Y


def autoencoder():
    inputs = layers.Input((X.shape[1],))
    code = layers.Dense(2, name="code")(inputs)
    return lamina.Model(inputs, layers.Dense(X.shape[1], name="decoder")(code)), code


def test_a_symbolic_loss_is_added_at_every_call():
    model, code = autoencoder()
    model.add_loss(ops.mean(ops.square(code)))
    model.compile(loss="mse")
    expected = np.mean((model.predict(X, verbose=0) - X) ** 2)
    expected += np.mean(np.square(X @ model.get_layer("code").kernel.numpy()))
    np.testing.assert_allclose(model.evaluate(X, X, verbose=0, batch_size=len(X)), expected, rtol=1e-5)


def test_a_symbolic_loss_alone_trains():
    model, code = autoencoder()
    model.add_loss([ops.mean(ops.square(code)), ops.mean(ops.square(model.outputs[0] - model.inputs[0]))])
    model.compile("adam")
    losses = model.fit(X, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_layers_that_only_a_loss_needs_train_too():
    model, code = autoencoder()
    model.add_loss(ops.mean(ops.square(layers.Dense(1, name="critic")(code) - 3.0)))
    model.compile("adam")
    critic = model.get_layer("critic").get_weights()[1]
    model.fit(X, epochs=2, verbose=0)
    assert np.any(model.get_layer("critic").get_weights()[1] != critic)


def test_a_random_layer_draws_once_for_output_and_loss():
    inputs = layers.Input((4,))
    noisy = layers.GaussianNoise(1.0, seed=1)(inputs)
    model = lamina.Model(inputs, noisy)
    model.add_loss(ops.sum(noisy))
    outputs = model(np.zeros((2, 4), "float32"), training=True)
    np.testing.assert_allclose(np.sum(outputs), model.losses[0], rtol=1e-5)


def test_the_configuration_says_what_it_leaves_out():
    model, code = autoencoder()
    model.add_loss(ops.mean(code))
    with pytest.warns(UserWarning, match="losses that were added to the graph"):
        model.get_config()


@pytest.mark.parametrize("make", [lambda: autoencoder()[0], lambda: layers.Dense(1), lambda: lamina.Sequential()])
def test_a_number_that_the_next_call_would_drop_is_refused(make):
    with pytest.raises(ValueError, match="add_loss must be called inside call"):
        make().add_loss(3.0)


def test_symbolic_losses_are_scalars_of_a_graph():
    model, code = autoencoder()
    with pytest.raises(ValueError, match="symbolic scalars of a functional model"):
        model.add_loss(code)
    with pytest.raises(ValueError, match="symbolic scalars of a functional model"):
        lamina.Sequential().add_loss(ops.mean(code))


def test_more_steps_than_the_data_hold_warn():
    model = lamina.Sequential([layers.Dense(Y.shape[1])])
    model.compile(loss="mse")
    with pytest.warns(UserWarning, match="the data hold 2 batches"):
        model.fit(X[:8], Y[:8], batch_size=4, steps_per_epoch=5, epochs=2, verbose=0)


def test_predict_step_gets_one_form_of_data():
    class Notes(lamina.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.forms = layers.Dense(1), set()

        def call(self, x):
            return self.dense(x)

        def predict_step(self, data):
            self.forms.add(type(data).__name__ if isinstance(data, (tuple, list, dict)) else "array")
            return super().predict_step(data)

    model = Notes()
    for options in ({}, {"verbose": 0}, {"verbose": 0, "batch_size": 2}):
        model.predict(X, **options)
    model.predict(X[:1], verbose=0)
    model.predict_on_batch(X[:3])
    assert model.forms == {"array"}
