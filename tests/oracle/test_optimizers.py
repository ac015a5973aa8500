"""Optimizers and schedules against Keras: values over several steps, order of variables, configurations."""


import jax.numpy as jnp
import keras
import numpy as np
import pytest

from lamina import optimizers
from lamina.core.variable import Variable

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
    "muon": ("Muon", {"nesterov": False, "rms_rate": None, "adam_lr_ratio": 0.5, "exclude_layers": ["kernel"]}),
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
    "accumulated_ema": {"gradient_accumulation_steps": 2, "use_ema": True, "ema_overwrite_frequency": 2},
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
    return [rng.normal(size=shape).astype("float32") for shape in SHAPES.values()]


def _make(library, name, arguments):
    arguments = dict(arguments)
    if arguments.get("learning_rate") == "schedule":
        schedule = library.schedules.PolynomialDecay(0.05, 5, cycle=True)
        arguments["learning_rate"] = schedule
    return getattr(library, name)(**arguments)


def _after(library, variable, name, arguments, steps=STEPS):
    """(weights, optimizer's variables, optimizer) after some steps."""
    weights = [variable(value, name=key) for key, value in _values().items()]
    optimizer = _make(library, name, arguments)
    optimizer.build(weights)
    for step in range(steps):
        optimizer.apply([jnp.asarray(g) for g in _gradients(step)])
    return weights, optimizer.variables, optimizer


def _assert_same(ours, theirs, rtol=2e-6, atol=2e-7):
    assert [(v.shape, v.dtype) for v in ours] == [(tuple(v.shape), v.dtype) for v in theirs]
    for mine, other in zip(ours, theirs):
        np.testing.assert_allclose(mine.numpy(), np.asarray(other), rtol, atol, err_msg=mine.path)


def _assert_same_steps(name, arguments):
    weights, variables, _ = _after(optimizers, Variable, name, arguments)
    expected, expected_variables, _ = _after(keras.optimizers, keras.Variable, name, arguments)
    _assert_same(weights, expected)
    _assert_same(variables, expected_variables)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", PLAIN)
def test_steps_give_the_numbers_of_keras(name, setting):
    _assert_same_steps(name, SETTINGS[setting])


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_give_the_numbers_of_keras(variant):
    _assert_same_steps(*VARIANTS[variant])
