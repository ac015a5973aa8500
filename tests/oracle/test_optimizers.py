"""Optimizers and schedules against Keras: values over several steps, order of variables, configurations."""

import inspect

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from lamina import optimizers
from lamina.core import scope
from lamina.core.variable import Variable

# Keras warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

STEPS = 7

PLAIN = [
    "SGD", "RMSprop", "Adam", "AdamW", "Adagrad", "Adadelta", "Adamax", "Nadam", "Ftrl", "Lion", "Lamb",
    "Adafactor", "ScheduleFreeAdamW", "Muon",
]  # fmt: skip
VARIANTS = {
    "momentum": ("SGD", {"momentum": 0.9}),
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "centered": ("RMSprop", {"momentum": 0.5, "centered": True}),
    "amsgrad": ("Adam", {"amsgrad": True}),
    "ftrl": (
        "Ftrl",
        {
            "learning_rate_power": -0.7,
            "l1_regularization_strength": 0.02,
            "l2_regularization_strength": 0.1,
            "l2_shrinkage_regularization_strength": 0.03,
            "beta": 0.2,
        },
    ),
    "warmup": ("ScheduleFreeAdamW", {"warmup_steps": 4}),
    "muon": ("Muon", {"nesterov": False, "rms_rate": None, "adam_lr_ratio": 0.5}),
    "muon_excluded": ("Muon", {"exclude_layers": ["kernel"]}),
    "undecayed": ("AdamW", {"weight_decay": 0.5}),
    "function": ("SGD", {"learning_rate": lambda: 0.25}),
}

# what all optimizers can do; "schedule" stands for a schedule as the learning rate
SETTINGS = {
    "plain": {},
    "clipnorm": {"clipnorm": 0.5},
    "clipvalue": {"clipvalue": 0.1},
    "global_clipnorm": {"global_clipnorm": 0.5},
    "weight_decay": {"weight_decay": 0.1},
    "ema": {"use_ema": True, "ema_momentum": 0.8, "ema_overwrite_frequency": 3},
    "ema_kept": {"use_ema": True, "ema_momentum": 0.8},
    "accumulation": {"gradient_accumulation_steps": 3},
    "accumulated_clip": {"gradient_accumulation_steps": 2, "global_clipnorm": 0.5, "weight_decay": 0.1},
    "loss_scale": {"loss_scale_factor": 8.0},
    "schedule": {"learning_rate": "schedule"},
}
SHAPES = {"kernel": (3, 4), "bias": (4,), "filters": (2, 2, 3, 2), "scale": ()}


def _values():
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype("float32") for name, shape in SHAPES.items()}


def _gradients(step):
    rng = np.random.default_rng(step + 1)
    return [jnp.asarray(rng.normal(size=shape), "float32") for shape in SHAPES.values()]


def _make(library, name, arguments):
    arguments = dict(arguments)
    if arguments.get("learning_rate") == "schedule":
        schedule = library.schedules.PolynomialDecay(0.05, 5, cycle=True)
        arguments["learning_rate"] = schedule
    return getattr(library, name)(**arguments)


def _run(optimizer, weights, gradients, compiled):
    """(weights, optimizer's variables) after a step for each list of gradients."""
    optimizer.build(weights)
    if not compiled:
        for step in gradients:
            optimizer.apply(step)
        return weights, optimizer.variables
    apply = jax.jit(optimizer.stateless_apply)
    state = [v.value for v in weights], [v.value for v in optimizer.variables]
    for step in gradients:
        state = apply(state[1], step, state[0])
    for kept, values in zip((weights, optimizer.variables), state):
        for cell, value in zip(kept, values):
            cell.assign(value)
    return weights, optimizer.variables


def _after(library, variable, name, arguments):
    weights = [variable(value, name=key) for key, value in _values().items()]
    optimizer = _make(library, name, arguments)
    accumulates = "gradient_accumulation_steps" in arguments  # in which Keras is slow unless compiled
    return _run(optimizer, weights, [_gradients(step) for step in range(STEPS)], accumulates)


def _assert_same(ours, theirs, rtol=2e-6, atol=2e-7):
    assert [(v.shape, v.dtype) for v in ours] == [(tuple(v.shape), v.dtype) for v in theirs]
    for mine, other in zip(ours, theirs):
        np.testing.assert_allclose(mine.numpy(), np.asarray(other), rtol, atol, err_msg=mine.path)


def _assert_same_steps(name, arguments):
    weights, variables = _after(optimizers, Variable, name, arguments)
    expected, expected_variables = _after(keras.optimizers, keras.Variable, name, arguments)
    rtol = 3e-6 if name == "Ftrl" else 2e-6  # its linear term is what is left of larger ones
    _assert_same(weights, expected, rtol)
    _assert_same(variables, expected_variables, rtol)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", PLAIN)
def test_steps_give_the_numbers_of_keras(name, setting):
    _assert_same_steps(name, SETTINGS[setting])


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_give_the_numbers_of_keras(variant):
    _assert_same_steps(*VARIANTS[variant])


def _same_config(ours, theirs):
    mine, other = optimizers.serialize(ours), keras.optimizers.serialize(theirs)
    for config in (mine, other):
        config["config"].pop("name")
    return mine == other


@pytest.mark.parametrize("name", PLAIN)
def test_configurations_are_those_of_keras(name):
    arguments = {"learning_rate": "schedule", "clipnorm": 1.0, "use_ema": True, "ema_overwrite_frequency": 5}
    assert _same_config(_make(optimizers, name, arguments), _make(keras.optimizers, name, arguments))
    assert _same_config(getattr(optimizers, name)(), getattr(keras.optimizers, name)())


@pytest.mark.parametrize("name", PLAIN)
def test_keras_reads_our_configuration_and_we_read_its(name):
    ours, theirs = getattr(optimizers, name)(), getattr(keras.optimizers, name)()
    theirs_again = keras.saving.deserialize_keras_object(optimizers.serialize(ours))
    assert theirs_again.get_config() == ours.get_config()
    assert optimizers.deserialize(keras.optimizers.serialize(theirs)).get_config() == theirs.get_config()


@pytest.mark.parametrize("name", [*PLAIN, "LossScaleOptimizer", "MultiOptimizer", "OptimizerMap", "Optimizer"])
def test_signatures_are_those_of_keras(name):
    ours, theirs = (inspect.signature(getattr(m, name)) for m in (optimizers, keras.optimizers))
    assert [(p.name, p.default, p.kind) for p in ours.parameters.values()] == [
        (p.name, p.default, p.kind) for p in theirs.parameters.values()
    ]


@pytest.mark.parametrize("name", PLAIN)
def test_automatic_names_are_those_of_keras(name):
    keras.backend.clear_session()
    scope.reset_names()
    assert getattr(optimizers, name)().name == getattr(keras.optimizers, name)().name


def _scaled_steps(library, variable):
    """Weights and state after steps of which the third and the sixth overflow."""
    weights = [variable(value, name=key) for key, value in _values().items()]
    optimizer = library.LossScaleOptimizer(library.Adam(0.01), initial_scale=64.0, dynamic_growth_steps=2)
    gradients = [[64 * g for g in _gradients(step)] for step in range(8)]
    for step in (2, 5):
        gradients[step][1] = gradients[step][1].at[0].set(jnp.inf)
    return _run(optimizer, weights, gradients, compiled=True)


def test_loss_scaling_gives_the_numbers_of_keras():
    ours, theirs = _scaled_steps(optimizers, Variable), _scaled_steps(keras.optimizers, keras.Variable)
    _assert_same(ours[0], theirs[0])
    _assert_same(ours[1], theirs[1])


def _divided_steps(library, variable):
    weights = [variable(value, name=key) for key, value in _values().items()]
    owners = library.OptimizerMap(library.Adam(0.01), {"k.*": library.SGD(0.1, momentum=0.9)})
    optimizer = library.MultiOptimizer(owners, loss_scale_factor=2.0)
    return _run(optimizer, weights, [_gradients(step) for step in range(3)], compiled=False)


def test_several_optimizers_give_the_numbers_of_keras():
    ours, theirs = _divided_steps(optimizers, Variable), _divided_steps(keras.optimizers, keras.Variable)
    _assert_same(ours[0], theirs[0])
    _assert_same(ours[1], theirs[1])


def test_composite_configurations_are_those_of_keras():
    def make(m):
        owners = m.OptimizerMap(m.Adam(0.01, name="a"), {"k.*": m.SGD(0.1, name="b")})
        return m.LossScaleOptimizer(m.Nadam(name="c"), dynamic_growth_steps=9), m.MultiOptimizer(owners)

    for mine, other in zip(make(optimizers), make(keras.optimizers)):
        assert _same_config(mine, other)
        again = optimizers.deserialize(keras.optimizers.serialize(other))
        assert optimizers.serialize(again) == keras.optimizers.serialize(other)


def _overwritten(library, variable, steps):
    weights = [variable(value, name=key) for key, value in _values().items()]
    weights[1].overwrite_with_gradient = True
    optimizer = library.Adam(0.01, use_ema=steps is None, gradient_accumulation_steps=steps)
    return _run(optimizer, weights, [_gradients(step) for step in range(5)], compiled=True)


@pytest.mark.parametrize("steps", [None, 2])
def test_variables_that_their_gradient_overwrites(steps):
    ours = _overwritten(optimizers, Variable, steps)
    theirs = _overwritten(keras.optimizers, keras.Variable, steps)
    _assert_same(ours[0], theirs[0])
    _assert_same(ours[1], theirs[1])


SCHEDULES = {
    "ExponentialDecay": [
        {"decay_steps": 7, "decay_rate": 0.8},
        {"decay_steps": 7, "decay_rate": 0.8, "staircase": True},
    ],
    "InverseTimeDecay": [
        {"decay_steps": 7, "decay_rate": 0.5},
        {"decay_steps": 7, "decay_rate": 0.5, "staircase": True},
    ],
    "PolynomialDecay": [
        {"decay_steps": 10},
        {"decay_steps": 10, "power": 2.0, "end_learning_rate": 0.05},
        {"decay_steps": 10, "cycle": True},
    ],
    "CosineDecay": [
        {"decay_steps": 10},
        {"decay_steps": 10, "alpha": 0.1},
        {"decay_steps": 10, "warmup_target": 0.5, "warmup_steps": 5},
        {"decay_steps": 10, "warmup_target": 0.5},
    ],
    "CosineDecayRestarts": [
        {"first_decay_steps": 10},
        {"first_decay_steps": 6, "t_mul": 1.5, "m_mul": 0.9, "alpha": 0.1},
        {"first_decay_steps": 10, "t_mul": 1.0, "m_mul": 0.5},
    ],
}
ROWS = [(name, {"initial_learning_rate": 0.25, **row}) for name, rows in SCHEDULES.items() for row in rows]
ROWS += [
    ("PiecewiseConstantDecay", {"boundaries": [3, 7, 20], "values": [1.0, 0.5, 0.25, 0.125]}),
    ("PiecewiseConstantDecay", {"boundaries": [4], "values": [0.3, 0.1]}),
]


@pytest.mark.parametrize("name, arguments", ROWS)
def test_schedules_give_the_numbers_of_keras(name, arguments):
    ours = getattr(optimizers.schedules, name)(**arguments)
    theirs = getattr(keras.optimizers.schedules, name)(**arguments)
    steps = jnp.asarray([*range(24), 30, 41, 69, 70, 71, 150, 1000])
    mine, other = (jax.jit(jax.vmap(schedule))(steps) for schedule in (ours, theirs))
    np.testing.assert_allclose(mine, other, 2e-6, 1e-7)


@pytest.mark.parametrize("name", [*SCHEDULES, "PiecewiseConstantDecay"])
def test_schedules_take_integers_and_variables(name):
    ours = getattr(optimizers.schedules, name)(**dict(ROWS)[name])
    theirs = getattr(keras.optimizers.schedules, name)(**dict(ROWS)[name])
    for step in (0, 4, 12):
        expected = float(theirs(step))
        assert float(ours(step)) == pytest.approx(expected, rel=2e-6)
        assert float(ours(Variable(step, dtype="int32"))) == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize("name, arguments", ROWS)
def test_configurations_of_schedules_are_those_of_keras(name, arguments):
    ours = getattr(optimizers.schedules, name)(**arguments)
    theirs = getattr(keras.optimizers.schedules, name)(**arguments)
    assert optimizers.schedules.serialize(ours) == keras.optimizers.schedules.serialize(theirs)


@pytest.mark.parametrize("name", [*SCHEDULES, "PiecewiseConstantDecay"])
def test_signatures_of_schedules_are_those_of_keras(name):
    ours, theirs = (inspect.signature(getattr(m.schedules, name)) for m in (optimizers, keras.optimizers))
    assert [(p.name, p.default) for p in ours.parameters.values()] == [
        (p.name, p.default) for p in theirs.parameters.values()
    ]
