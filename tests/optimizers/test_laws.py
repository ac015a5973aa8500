"""What holds for every optimizer: one table of optimizers, one test a property."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from lamina import optimizers
from lamina.core.jit import jit
from lamina.core.state import StateScope
from lamina.core.variable import Variable

SCHEDULE = optimizers.schedules.CosineDecay(0.1, 400, alpha=0.1)
AVERAGING = {"learning_rate": 0.05, "use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 3}

# name -> (class, arguments with which it finds the minimum of a quadratic, steps that it takes)
ROWS = {
    "sgd": ("SGD", {"learning_rate": 0.1}, 60),
    "momentum": ("SGD", {"learning_rate": 0.05, "momentum": 0.8, "nesterov": True}, 100),
    "schedule": ("SGD", {"learning_rate": SCHEDULE}, 100),
    "rmsprop": ("RMSprop", {"learning_rate": 0.02}, 300),
    "centered": ("RMSprop", {"learning_rate": 0.01, "momentum": 0.3, "centered": True}, 400),
    "adam": ("Adam", {"learning_rate": 0.05}, 300),
    "amsgrad": ("Adam", {"learning_rate": 0.05, "amsgrad": True}, 300),
    "adamw": ("AdamW", {"learning_rate": 0.05, "weight_decay": 0.001}, 300),
    "adagrad": ("Adagrad", {"learning_rate": 0.5}, 300),
    "adadelta": ("Adadelta", {"learning_rate": 30.0}, 400),
    "adamax": ("Adamax", {"learning_rate": 0.05}, 300),
    "nadam": ("Nadam", {"learning_rate": 0.05}, 300),
    "ftrl": ("Ftrl", {"learning_rate": 1.0}, 300),
    "lion": ("Lion", {"learning_rate": SCHEDULE}, 400),
    "lamb": ("Lamb", {"learning_rate": 0.02}, 400),
    "adafactor": ("Adafactor", {"learning_rate": 0.1}, 400),
    "schedule_free": ("ScheduleFreeAdamW", {"learning_rate": 0.1, "warmup_steps": 10}, 400),
    "muon": ("Muon", {"learning_rate": 0.05, "weight_decay": None, "adam_weight_decay": None}, 300),
    "clipped": ("SGD", {"learning_rate": 0.2, "clipnorm": 1.0}, 100),
    "accumulating": ("Adam", {"learning_rate": 0.05, "gradient_accumulation_steps": 2}, 600),
    "averaging": ("Adam", AVERAGING, 300),
}
TARGETS = {
    "kernel": np.array([[1.0, -0.5, 2.0], [0.5, 1.5, -1.0]], "float32"),
    "bias": np.array([0.5, -2.0], "float32"),
}

every = pytest.mark.parametrize("row", ROWS)


def make(row):
    name, arguments, _ = ROWS[row]
    return getattr(optimizers, name)(**arguments)


def weights(dtype="float32"):
    return [Variable(np.full(t.shape, 0.1), dtype=dtype, name=name) for name, t in TARGETS.items()]


def gradients(variables):
    return [2 * (v.value - jnp.asarray(t, v.dtype)) for v, t in zip(variables, TARGETS.values())]


def distance(variables):
    return max(np.abs(v.numpy().astype("float32") - t).max() for v, t in zip(variables, TARGETS.values()))


def run(optimizer, variables, steps):
    """Many steps in one loop on the device, as in training."""
    optimizer.build(variables)
    cells = [*variables, *optimizer.variables]

    def step(_, values):
        with StateScope(zip(cells, values)) as state:
            optimizer.apply(gradients(variables))
        return state.values(cells)

    after = jax.jit(lambda values: lax.fori_loop(0, steps, step, values))([c.value for c in cells])
    for cell, value in zip(cells, after):
        cell.assign(value)


def steps(optimizer, variables, count):
    for _ in range(count):
        optimizer.apply(gradients(variables), variables)


def values(cells):
    return [np.asarray(c.value) for c in cells]


def assert_equal(ours, theirs):
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(mine, other)


@every
def test_a_quadratic_is_minimised(row):
    optimizer, variables = make(row), weights()
    run(optimizer, variables, ROWS[row][2])
    optimizer.finalize_variable_values(variables)
    assert distance(variables) < 0.05


@every
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_variables_come_near_the_minimum(row, dtype):
    optimizer, variables = make(row), weights(dtype)
    run(optimizer, variables, ROWS[row][2])
    assert distance(variables) < 0.5
    slots = [v for v in optimizer.variables if v.name.endswith(("momentum", "velocity", "accumulator"))]
    assert {v.dtype for v in slots} <= {dtype}


@every
def test_configuration_round_trip_loses_nothing(row):
    optimizer = make(row)
    again = optimizers.deserialize(optimizers.serialize(optimizer))
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()


@every
def test_configuration_holds_every_argument(row):
    arguments, config = dict(ROWS[row][1]), make(row).get_config()
    rate, rate_kept = arguments.pop("learning_rate"), config["learning_rate"]
    if rate is SCHEDULE:
        assert optimizers.schedules.deserialize(rate_kept).get_config() == SCHEDULE.get_config()
    else:
        assert rate_kept == np.float32(rate)
    assert {key: config[key] for key in arguments} == arguments


@every
def test_compiled_steps_are_the_eager_ones(row):
    (eager, one), (compiled, two) = (make(row), weights()), (make(row), weights())
    step = jit(lambda: compiled.apply(gradients(two), two))
    for _ in range(5):
        eager.apply(gradients(one), one)
        step()
    pairs = zip([*one, *eager.variables], [*two, *compiled.variables], strict=True)
    for mine, other in pairs:
        np.testing.assert_allclose(other.numpy(), mine.numpy(), 1e-5, 1e-6)


@every
def test_saved_variables_continue_bitwise(row):
    optimizer, variables = make(row), weights()
    steps(optimizer, variables, 3)
    store, kept = {}, values(variables)
    optimizer.save_own_variables(store)
    steps(optimizer, variables, 3)

    again, others = make(row), weights()
    for variable, value in zip(others, kept):
        variable.assign(value)
    again.build(others)
    again.load_own_variables(store)
    steps(again, others, 3)
    assert_equal(values([*others, *again.variables]), values([*variables, *optimizer.variables]))


def pickled(thing):
    return pickle.loads(pickle.dumps(thing))


@every
@pytest.mark.parametrize("clone", [copy.deepcopy, pickled])
def test_a_copy_continues_alone(row, clone):
    optimizer, variables = make(row), weights()
    steps(optimizer, variables, 2)
    twin, others = clone((optimizer, variables))
    before = values([*variables, *optimizer.variables])
    steps(twin, others, 2)
    assert_equal(values([*variables, *optimizer.variables]), before)
    steps(optimizer, variables, 2)
    assert_equal(values([*others, *twin.variables]), values([*variables, *optimizer.variables]))


@every
def test_stateless_apply_leaves_the_variables_alone(row):
    optimizer, variables = make(row), weights()
    optimizer.build(variables)
    before = values([*variables, *optimizer.variables])
    state = values(optimizer.variables)
    new, state = optimizer.stateless_apply(state, gradients(variables), values(variables))
    assert_equal(values([*variables, *optimizer.variables]), before)
    steps(optimizer, variables, 1)
    assert_equal([*map(np.asarray, new), *map(np.asarray, state)], values([*variables, *optimizer.variables]))


@every
def test_building_compiles_nothing(row, caplog):
    variables = [Variable(np.zeros(shape, "float32")) for shape in ((5, 7), (11,), (3, 3, 2, 13))]
    optimizer = make(row)
    with jax.log_compiles():
        optimizer.build(variables)
    assert [r.getMessage() for r in caplog.records if "ompil" in r.getMessage()] == []


@every
def test_variables_are_named_after_the_optimizer_and_the_weight(row):
    optimizer = make(row)
    optimizer.build(weights())
    paths = [v.path for v in optimizer.variables]
    assert paths[0] == f"{optimizer.name}/iteration"
    assert all(path.startswith(f"{optimizer.name}/") for path in paths)
