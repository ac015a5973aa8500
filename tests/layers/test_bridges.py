"""Functions of JAX and modules of Flax and Equinox as layers: trained, saved, opened, copied, with what they draw."""

import copy
import pickle

import equinox
import jax
import keras
import numpy as np
import pytest
from flax import linen, nnx

import lamina
from lamina import layers

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's
X = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")
Y = 2 * X[:, :1]


@lamina.saving.register_keras_serializable("bridges")
def start(rng, inputs, training):
    kernel = jax.random.normal(rng, (inputs.shape[-1], 8))
    return {"w": kernel, "in": {"b": np.zeros(8, "float32")}}, {"calls": np.zeros((), "int32")}


@lamina.saving.register_keras_serializable("bridges")
def compute(params, state, rng, inputs, training):
    out = inputs @ params["w"] + params["in"]["b"]
    out = out * jax.random.bernoulli(rng, 0.9, out.shape) if training else out
    return out, {"calls": state["calls"] + 1}


def plain_start(key, x):
    return {"w": jax.random.normal(key, (x.shape[-1], 8))}


def plain(weights, x):
    return x @ weights["w"]


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x, training=False):
        x = linen.BatchNorm(use_running_average=not training)(linen.Dense(8)(x))
        return linen.Dropout(0.1, deterministic=not training)(x)


def halved(module, x, training=False):
    return module(x, training=training) / 2


class Nnx(nnx.Module):
    def __init__(self, seed):
        rngs = nnx.Rngs(seed)
        self.dense, self.norm = nnx.Linear(3, 8, rngs=rngs), nnx.BatchNorm(8, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.norm(self.dense(x)))


class Normed(equinox.Module):
    dense: equinox.nn.Linear
    norm: equinox.nn.BatchNorm
    dropout: equinox.nn.Dropout

    def __init__(self, key):
        self.dense, self.dropout = equinox.nn.Linear(3, 8, key=key), equinox.nn.Dropout(0.1)
        self.norm = equinox.nn.BatchNorm(8, "batch", mode="batch")

    def __call__(self, x, state, key=None):
        x, state = self.norm(self.dense(x), state)
        return self.dropout(x, key=key), state


def normed(seed):
    return equinox.nn.make_with_state(Normed)(jax.random.key(seed))


def mlp(seed):
    return equinox.nn.MLP(3, 8, 16, 1, key=jax.random.key(seed))


# (makes the layer, what a program passes to open a file of it, the number of its trained and other weights)
ROWS = {
    "functions": (lambda: layers.JaxLayer(compute, start, name="it"), {}, (2, 1)),
    "plain functions": (lambda: layers.JaxLayer(plain, plain_start),
                        {"plain": plain, "plain_start": plain_start}, (1, 0)),
    "given params": (lambda: layers.JaxLayer(plain, params={"w": np.ones((3, 8), "float32")}),
                     {"plain": plain}, (1, 0)),
    "linen": (lambda: layers.FlaxLayer(Linen(), name="it"), {"it": Linen()}, (4, 2)),
    "linen, a function of the program": (lambda: layers.FlaxLayer(Linen(), method=halved, name="it"),
                                         {"it": Linen(), "halved": halved}, (4, 2)),
    "nnx": (lambda: layers.FlaxLayer(Nnx(0), name="it"), {"it": Nnx(1)}, (4, 4)),
    "equinox": (lambda: layers.JaxLayer(mlp(0), name="it"), {"it": mlp(1)}, (4, 0)),
    "equinox with state": (lambda: layers.JaxLayer(normed(0), name="it"), {"it": normed(1)}, (4, 3)),
}  # fmt: skip


def trained(make):
    lamina.utils.set_random_seed(0)
    model = lamina.Sequential([lamina.Input((3,)), make(), layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(X, Y, epochs=3, batch_size=8, verbose=0)
    return model


@pytest.mark.parametrize("row", ROWS)
def test_it_trains(row):
    make, _, (trained_count, others) = ROWS[row]
    layer = make()
    lamina.utils.set_random_seed(0)
    model = lamina.Sequential([lamina.Input((3,)), layer, layers.Dense(1)])
    model.compile(lamina.optimizers.Adam(0.05), "mse")
    losses = model.fit(X, Y, epochs=20, batch_size=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 2
    assert (len(layer.trainable_weights), len(layer.non_trainable_weights)) == (trained_count, others)


@pytest.mark.parametrize("row", ROWS)
def test_a_file_holds_weights_state_and_what_is_drawn_next(row, tmp_path):
    make, objects, _ = ROWS[row]
    model = trained(make)
    model.save(tmp_path / "m.keras")
    again = lamina.models.load_model(tmp_path / "m.keras", custom_objects=objects)
    given = {"epochs": 2, "batch_size": 8, "shuffle": False, "verbose": 0}
    assert again.fit(X, Y, **given).history == model.fit(X, Y, **given).history
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))


@pytest.mark.parametrize("row", ROWS)
def test_a_copy_is_another_one(row):
    model = trained(ROWS[row][0])
    copies = [copy.deepcopy(model)]
    if "equinox" not in row:  # whose modules hold lambdas, and marks that are told by identity
        copies.append(pickle.loads(pickle.dumps(model)))
    before = model.predict(X, verbose=0)
    model.fit(X, Y, verbose=0)
    for each in copies:
        np.testing.assert_array_equal(each.predict(X, verbose=0), before)
    assert lamina.models.clone_model(model).predict(X, verbose=0).shape == before.shape


@pytest.mark.parametrize("row", ROWS)
def test_jit_is_eager(row):
    model = trained(ROWS[row][0])
    np.testing.assert_allclose(lamina.jit(lambda x: model(x))(X), model(X), rtol=1e-5, atol=1e-6)


def test_values_and_weights_are_those_of_keras():
    ours, theirs = (library.layers.JaxLayer(compute, start, name="it") for library in (lamina, keras))
    for layer in (ours, theirs):
        layer(X)
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(ours(X), theirs(X), rtol=1e-6)
    assert [(v.shape, v.trainable) for v in ours.weights] == [(v.shape, v.trainable) for v in theirs.weights]
    assert ours.params["in"]["b"].shape == (8,) and int(ours.state["calls"].value) == int(theirs.state["calls"].value)


def test_flax_as_in_keras():
    ours, theirs = (library.layers.FlaxLayer(Linen(), name="it") for library in (lamina, keras))
    for layer in (ours, theirs):
        layer(X)
    assert [v.shape for v in ours.weights] == [v.shape for v in theirs.weights]
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(ours(X), theirs(X), rtol=1e-5, atol=1e-6)
    parts = [jax.tree.map(np.asarray, {**layer.params, **layer.state}) for layer in (ours, theirs)]
    assert jax.tree.structure(parts[0]) == jax.tree.structure(parts[1])
    again = layers.FlaxLayer(Linen(), variables=parts[0])
    np.testing.assert_array_equal(again(X), ours(X))


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: layers.JaxLayer(3), "must be given a function or a module of Flax or Equinox, got 3"),
        (lambda: layers.JaxLayer(lambda params, inputs: inputs), "params, state or init_fn must be given"),
        (lambda: layers.JaxLayer(lambda params: params, params=1.0), "call_fn must take inputs"),
        (lambda: layers.JaxLayer(lambda a, b, c: a, params=1.0), "must take some of params, state, rng, inputs"),
    ],
)
def test_errors(make, rule):
    with pytest.raises((TypeError, ValueError), match=rule):
        make()


@pytest.mark.parametrize("state", [None, [0.0], {"calls": {"in": 0.0}}, {"calls": [0.0, 0.0]}])
def test_state_keeps_its_form(state):
    with pytest.raises(ValueError, match=r'JaxLayer "jax_layer.*": .*state'):
        layers.JaxLayer(lambda params, state, inputs: (inputs, {"calls": [1.0]}), params={}, state=state)(X)
