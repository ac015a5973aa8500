"""A variable owns its array: whatever a program read or assigned before a fit is as it was after it."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lamina
from lamina import layers
from lamina.callbacks import Callback
from tests.training.conftest import X, Y


def net(**options):
    model = lamina.Sequential(
        [layers.Input((X.shape[1],)), layers.Dense(3), layers.BatchNormalization(), layers.Dense(Y.shape[1])]
    )
    model.compile(optimizer="adam", loss="mse", metrics=["mae"], **options)
    return model


def train(model):
    model.fit(X, Y, batch_size=4, epochs=2, verbose=0)


# Every public way to get at arrays: what it gives is held while the model trains on.
READS = {
    "value": lambda m: [v.value for v in m.variables],
    "numpy": lambda m: [v.numpy() for v in m.variables],
    "np.asarray": lambda m: [np.asarray(v) for v in m.variables],
    "jnp.asarray": lambda m: [jnp.asarray(v.value) for v in m.variables],
    "device_put": lambda m: [jax.device_put(v.value) for v in m.variables],
    "assign": lambda m: [v.assign(v.value) for v in m.variables],
    "get_weights": lambda m: m.get_weights(),
    "functional": lambda m: jax.tree.leaves(lamina.functional(m)[1]),
    "jit": lambda m: lamina.jit(lambda: [v.value for v in m.variables])(),
    "value_and_grad": lambda m: lamina.value_and_grad(
        lambda: (jnp.sum(m.layers[0].kernel.value), [v.value for v in m.variables]), m, has_aux=True
    )()[0][1],
    "grad": lambda m: lamina.grad(
        lambda: (jnp.sum(m.layers[0].kernel.value), [v.value for v in m.variables]), m, has_aux=True
    )()[1],
    "optimizer": lambda m: [v.value for v in m.optimizer.variables],
    "metrics": lambda m: [v.value for v in m.metrics_variables],
    "copy": lambda m: [v.value for v in copy.deepcopy(m).variables],
    "dlpack": lambda m: [jax.dlpack.from_dlpack(v.value) for v in m.weights],
    "StatelessScope": lambda m: _in_scope(m),
    "state": lambda m: list(m.stateless_call([v for v in m.trainable_variables], m.non_trainable_variables, X)[1]),
}


def _in_scope(model):
    with lamina.StatelessScope():
        return [v.value for v in model.variables]


@pytest.mark.parametrize("first", ["new", "trained"])
@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_what_was_read_stays_readable_and_unchanged(read, first):
    model = net()
    train(model)
    if first == "trained":  # arrays that came out of a launch, not initial ones
        train(model)
    held = read(model)
    before = [np.array(array) for array in held]
    train(model)
    for array, was in zip(held, before, strict=True):
        np.testing.assert_array_equal(np.asarray(array), was)


def test_what_was_assigned_stays():
    model = net()
    train(model)
    given = [jnp.asarray(np.random.default_rng(0).normal(size=v.shape), v.dtype) for v in model.weights]
    before = [np.array(array) for array in given]
    model.set_weights(given)
    train(model)
    for array, was in zip(given, before):
        np.testing.assert_array_equal(np.asarray(array), was)


def test_a_target_network_keeps_the_weights_it_was_given():
    online, target = net(), net()
    train(online)
    for a, b in zip(target.variables, online.variables):
        a.assign(b)
    held = target.get_weights()
    train(online)
    np.testing.assert_array_equal(target.predict(X, verbose=0), target.predict(X, verbose=0))
    for now, was in zip(target.get_weights(), held):
        np.testing.assert_array_equal(now, was)
    train(target)  # the other way round
    online.predict(X, verbose=0)


@pytest.mark.parametrize("how", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"])
def test_a_copy_and_the_original_train_apart(how):
    model = net()
    train(model)
    twin = how(model)
    before = twin.get_weights()
    train(model)
    for now, was in zip(twin.get_weights(), before):
        np.testing.assert_array_equal(now, was)
    train(twin)


def test_two_variables_may_hold_one_array():
    model = net()
    array = jnp.ones((X.shape[1], 3))
    twin = net()
    for each in (model, twin):
        each.layers[0].kernel.assign(array)
    model.layers[0].bias.assign(jnp.zeros(3))
    train(model)
    train(twin)
    np.testing.assert_array_equal(np.asarray(array), 1)


def test_moving_averages_survive_two_fits():
    model = net()
    model.compile(optimizer=lamina.optimizers.Adam(use_ema=True), loss="mse")
    train(model)
    train(model)
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_a_callback_may_keep_weights():
    class Keeps(Callback):
        def __init__(self):
            super().__init__()
            self.kept = []

        def on_train_batch_end(self, batch, logs=None):
            self.kept.append([v.value for v in (*self.model.variables, *self.model.optimizer.variables)])

        on_epoch_end = on_train_batch_end

    keeps = Keeps()
    net().fit(X, Y, batch_size=4, epochs=2, verbose=0, callbacks=[keeps])
    assert len(keeps.kept) > 4
    assert all(np.isfinite(np.asarray(a)).all() for arrays in keeps.kept for a in arrays)


def test_a_launch_that_nobody_watches_copies_nothing(monkeypatch):
    model = net()
    model.predict(X, verbose=0)
    train(model)
    train(model)
    copies = []
    monkeypatch.setattr("lamina.core.variable.copied", lambda array: copies.append(array) or array)
    train(model)
    model.evaluate(X, Y, verbose=0)
    model.predict(X, verbose=0)
    train(model)
    assert copies == []
