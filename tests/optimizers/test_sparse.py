"""Sparse gradients: the steps are those of dense ones, and where nothing moves at zero no other place is touched."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.sparse import BCOO, BCSR

import lamina
from lamina import layers, optimizers
from lamina.core import lookups
from lamina.core.effects import programs_in
from lamina.core.state import StateScope
from lamina.core.variable import Variable
from tests.optimizers.test_laws import ROWS, make

ROW_COUNT = 40
SETTINGS = {
    "plain": {},
    "clipnorm": {"clipnorm": 0.5},
    "clipvalue": {"clipvalue": 0.1},
    "global_clipnorm": {"global_clipnorm": 0.5},
    "weight_decay": {"weight_decay": 0.1},
    "ema": {"use_ema": True, "ema_momentum": 0.5},
    "loss_scale": {"loss_scale_factor": 8.0},
    "accumulation": {"gradient_accumulation_steps": 2},
}


def table(dtype="float32"):
    return Variable(np.random.default_rng(0).normal(size=(ROW_COUNT, 3)), dtype=dtype, name="table")


def rows(indices, dtype="float32"):
    data = np.random.default_rng(len(indices)).normal(size=(len(indices), 3))
    return BCOO((jnp.asarray(data, dtype), jnp.asarray(indices)[:, None]), shape=(ROW_COUNT, 3))


def entries():
    places = jnp.array([[3, 1], [0, 0], [3, 1], [7, 2]])
    return BCOO((jnp.array([1.0, -2.0, 0.5, 3.0]), places), shape=(ROW_COUNT, 3))


GRADIENTS = {
    "rows": lambda: rows([4, 1, 9]),
    "a row twice": lambda: rows([4, 1, 4, 4]),
    "outside": lambda: rows([4, ROW_COUNT, 1, ROW_COUNT + 3]),
    "entries": entries,
    "compressed": lambda: BCSR.from_bcoo(entries().sum_duplicates()),
    "batches": lambda: entries().update_layout(n_batch=1, on_inefficient=None),
}


def stepped(optimizer, variable, gradients):
    for gradient in gradients:
        optimizer.apply([gradient], [variable])
    return [variable.numpy(), *(v.numpy() for v in optimizer.variables)]


def check_equal(make_optimizer, gradients, dtype="float32"):
    sparse = stepped(make_optimizer(), table(dtype), gradients)
    dense = stepped(make_optimizer(), table(dtype), [g.todense() for g in gradients])
    for a, b in zip(sparse, dense, strict=True):
        np.testing.assert_allclose(a.astype("float64"), b.astype("float64"), rtol=2e-6, atol=2e-7)


@pytest.mark.parametrize("row", ROWS)
def test_a_step_by_a_sparse_gradient_is_that_by_the_dense_one(row):
    check_equal(lambda: make(row), [rows([4, 1, 4]), rows([0, 39])])


@pytest.mark.parametrize("kind", GRADIENTS)
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", ["SGD", "Adagrad"])
def test_whatever_the_setting_and_the_form(name, setting, kind):
    gradients = [GRADIENTS[kind](), rows([2, 4]), GRADIENTS[kind]()]
    check_equal(lambda: getattr(optimizers, name)(0.1, **SETTINGS[setting]), gradients)


def test_half_precision_is_computed_in_float32():
    check_equal(lambda: optimizers.Adagrad(0.1), [rows([4, 1, 4], "bfloat16")], "bfloat16")


def of_whole_tables(program, shape):
    """The operations in a program that make an array of this shape."""
    found = {e.primitive.name for e in program.eqns if any(getattr(v.aval, "shape", None) == shape for v in e.outvars)}
    return found.union(*(of_whole_tables(inner, shape) for inner in programs_in(program.eqns))) - {"jit"}


@pytest.mark.parametrize("name, takes", [("SGD", True), ("Adagrad", True), ("Adam", False)])
def test_only_the_rows_used_are_read_and_written(name, takes):
    optimizer, variable = getattr(optimizers, name)(0.1, clipnorm=1.0), table()
    optimizer.build([variable])
    cells = [variable, *optimizer.variables]

    def step(values, gradient):
        with StateScope(zip(cells, values)) as state:
            optimizer.apply([gradient], [variable])
        return state.values(cells)

    program = jax.make_jaxpr(step)([c.value for c in cells], rows([4, 1, 4]))
    assert (of_whole_tables(program.jaxpr, variable.shape) == {"scatter"}) is takes


class Centralized(optimizers.SGD):
    def apply(self, grads, trainable_variables=None):
        super().apply([g - jnp.mean(g, axis=0) for g in grads], trainable_variables)


class Decaying(optimizers.SGD):
    def rule(self, gradient, value, slots, shared):
        return 0.5 * value - shared * gradient, {}


@pytest.mark.parametrize("cls", [Centralized, Decaying])
def test_a_class_that_changes_the_steps_must_say_that_it_rests(cls):
    assert optimizers.SGD().takes_sparse and not cls().takes_sparse


# Gradients of tables ------------------------------------------------------------------------------------------------


def gradient_of(fn, weights):
    return lamina.value_and_grad(fn, weights, sparse=weights)()[1]


def test_the_gradient_of_few_rows_is_sparse():
    weights = table()
    (gradient,) = gradient_of(lambda: (weights.rows(jnp.array([[1, 4], [-1, 1]])) ** 2).sum(), [weights])
    (dense,) = lamina.grad(lambda: (weights.rows(jnp.array([[1, 4], [-1, 1]])) ** 2).sum(), [weights])()
    assert isinstance(gradient, BCOO) and gradient.nse == 4
    np.testing.assert_array_equal(gradient.todense(), dense)


def looked_up_in_a_loop(weights):
    return lamina.scan(lambda total, i: (total + (weights.rows(i) ** 2).sum(), None), 0.0, jnp.array([1, 4, 1]))[0]


OTHERWISE = {
    "many rows": lambda w: (w.rows(jnp.arange(20)) ** 2).sum(),
    "another read": lambda w: (w.rows(jnp.array([1, 1])) * w.value[1] + w.value.sum()).sum(),
    "a loop": looked_up_in_a_loop,
    "checkpoint": lambda w: jax.checkpoint(lambda i: (w.rows(i) ** 2).sum())(jnp.array([3, 3])),
    "a gradient inside": lambda w: (jax.grad(lambda x: (x * w.rows(jnp.array([2, 2]))).sum() ** 2)(1.0)) ** 2,
    "forward mode": lambda w: jax.jvp(lambda x: (x * w.rows(jnp.array([2, 5]))).sum() ** 2, (1.0,), (1.0,))[1],
    "not at all": lambda w: w.rows(jnp.array([1])).sum() * 0 + w.value[0, 0],
}


@pytest.mark.parametrize("kind", OTHERWISE)
def test_the_gradient_of_other_reads_is_dense(kind):
    weights = table()
    (gradient,) = gradient_of(lambda: OTHERWISE[kind](weights), [weights])
    (expected,) = lamina.grad(lambda: OTHERWISE[kind](weights), [weights])()
    assert isinstance(gradient, jax.Array)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)


# Training -----------------------------------------------------------------------------------------------------------


def two_towers(table):
    a, b = lamina.Input((3,), dtype="int32"), lamina.Input((3,), dtype="int32")
    x = layers.GlobalAveragePooling1D()(table(a)) + layers.GlobalAveragePooling1D()(table(b))
    return lamina.Model([a, b], layers.Dense(1)(x))


def masked(table):
    a, b = lamina.Input((3,), dtype="int32"), lamina.Input((3,), dtype="int32")
    other = layers.GlobalAveragePooling1D()(table(b))
    return lamina.Model([a, b], layers.Dense(1)(layers.LSTM(2)(table(a))) + layers.Dense(1)(other))


class Tied(lamina.Model):
    def __init__(self, table):
        super().__init__()
        self.table, self.dense = table, layers.Dense(4)

    def call(self, inputs):
        hidden = self.dense(self.table(inputs[0]).sum(1)) + self.table(inputs[1]).sum(1)
        return (hidden @ self.table.embeddings.value.T).sum(-1, keepdims=True)


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "rmsprop"])
@pytest.mark.parametrize("build", [two_towers, masked, Tied])
@pytest.mark.parametrize("options", [{}, {"regularizer": "l2"}, {"constraint": "max_norm"}], ids=str)
def test_fit_by_rows_is_fit_by_tables(build, optimizer, options, monkeypatch):
    generator = np.random.default_rng(0)
    x = [generator.integers(0, 200, (20, 3)) for _ in range(2)]
    y = generator.normal(size=(20, 1)).astype("float32")

    def trained(few):
        monkeypatch.setattr(lookups, "FEW", few)
        lamina.utils.set_random_seed(0)
        options_of = {f"embeddings_{name}": value for name, value in options.items()}
        model = build(layers.Embedding(200, 4, mask_zero=True, **options_of))
        model.compile(optimizer, "mse")
        losses = model.fit(x, y, batch_size=4, epochs=2, verbose=0).history["loss"]
        return losses, model.get_weights()

    losses, weights = trained(8)
    expected_losses, expected = trained(10**9)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-6)
    for a, b in zip(weights, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
