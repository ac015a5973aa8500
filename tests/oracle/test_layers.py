"""The rows of the laws, beside the same layers of Keras: configurations, weights, outputs, gradients, masks."""

import functools
import json

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import lamina
from lamina.core.config import serialize
from tests.laws.descriptors import ROWS

# Keras warns of itself.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Layer .* does not support masking:UserWarning"),
]


def over(rows):
    return pytest.mark.parametrize("row", rows, ids=repr)


every = over(ROWS)
SEED = 11


@functools.cache
def pair(row):
    """Our layer and theirs, built by a call, ours with the initial weights of theirs."""
    ours, theirs = row.make(name="it"), row.make(keras.layers, name="it")
    for layer in (ours, theirs):
        layer(*arrays(row), **row.call)
    ours.set_weights(theirs.get_weights())
    return ours, theirs


def arrays(row):
    return jax.tree.map(jnp.asarray, row.data())


def assert_close(ours, theirs, tolerance=1e-5):
    for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        other = np.asarray(other)
        assert str(mine.dtype) == str(other.dtype)
        np.testing.assert_allclose(mine, other, rtol=tolerance, atol=tolerance * max(1.0, np.abs(other).max()))


def described(layer):
    return [(v.path, v.shape, str(v.dtype), v.trainable) for v in layer.weights]


@over([row for row in ROWS if row.layer != "Lambda"])
def test_configuration(row):
    ours = serialize(row.make(name="it"))
    theirs = keras.saving.serialize_keras_object(row.make(keras.layers, name="it"))
    assert json.loads(json.dumps(ours)) == json.loads(json.dumps(theirs))


@every
def test_names_and_order_of_weights(row):
    ours, theirs = pair(row)
    assert described(ours) == described(theirs)


@every
def test_outputs_and_gradients(row):
    ours, theirs = pair(row)
    fn, state = lamina.functional(ours)
    fixed = [v.value for v in theirs.non_trainable_variables]

    def our_call(trainable, args):
        return fn(state._replace(trainable=dict(zip(state.trainable, trainable))), *args, **row.call)[0]

    def their_call(trainable, args):
        return theirs.stateless_call(trainable, fixed, *args, **row.call)[0]

    def run(call):
        def loss(trainable, args):
            outputs = jax.tree.leaves(call(trainable, args))
            return sum((x**2).sum() for x in outputs), outputs

        wanted = (0,) if row.below else (0, 1)
        return jax.jit(jax.grad(loss, wanted, has_aux=True))([v.value for v in ours.trainable_variables], arrays(row))

    (our_gradients, our_outputs), (gradients, outputs) = run(our_call), run(their_call)
    assert_close(our_outputs, outputs)
    assert_close(our_gradients, gradients, 1e-4)


@every
def test_symbolic_shapes(row):
    tensors = row.symbolic(row.free)
    theirs = jax.tree.map(lambda t: keras.KerasTensor(t.shape, t.dtype), tensors)
    ours = row.make()(*tensors, **row.call)
    outputs = row.make(keras.layers)(*theirs, **row.call)
    assert [(t.shape, t.dtype) for t in jax.tree.leaves(ours)] == [(t.shape, t.dtype) for t in jax.tree.leaves(outputs)]


@every
def test_initial_weights_follow_the_global_seed(row):
    keras.utils.set_random_seed(SEED)
    theirs = row.make(keras.layers)
    theirs(*arrays(row), **row.call)
    lamina.utils.set_random_seed(SEED)
    ours = row.make()
    ours(*arrays(row), **row.call)
    assert_close(ours.get_weights(), theirs.get_weights(), 1e-6)


@over([row for row in ROWS if row.noisy or row.layer == "BatchNormalization"])
def test_training(row):
    ours, theirs = (row.make(library, name="it") for library in (lamina.layers, keras.layers))
    for layer in (ours, theirs):
        layer(*arrays(row), **row.call)
    ours.set_weights(theirs.get_weights())
    for _ in range(2):
        assert_close(*(layer(*arrays(row), **row.call, training=True) for layer in (ours, theirs)))
    assert_close(ours.get_weights(), theirs.get_weights())


MASKED = [row for row in ROWS if row.mask == "passes" or "Pooling1D" in row.layer or row.layer in ("LSTM", "GRU")]
