"""Schedules: values at their corners, users' own, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import optimizers
from lamina.core import registry
from lamina.optimizers import schedules


class Halving(schedules.LearningRateSchedule):
    def __init__(self, initial, every=2):
        self.initial = initial
        self.every = every

    def __call__(self, step):
        return self.initial * 0.5 ** (step // self.every)


# schedule, (step, rate) at corners
CORNERS = [
    (schedules.ExponentialDecay(1.0, 10, 0.5), {0: 1.0, 10: 0.5, 20: 0.25}),
    (schedules.ExponentialDecay(1.0, 10, 0.5, staircase=True), {9: 1.0, 10: 0.5, 19: 0.5}),
    (schedules.InverseTimeDecay(1.0, 10, 1.0), {0: 1.0, 10: 0.5, 30: 0.25}),
    (schedules.PiecewiseConstantDecay([2, 4], [1.0, 0.5, 0.25]), {0: 1.0, 2: 1.0, 3: 0.5, 4: 0.5, 5: 0.25}),
    (schedules.PolynomialDecay(1.0, 10, 0.5), {0: 1.0, 5: 0.75, 10: 0.5, 99: 0.5}),
    (schedules.PolynomialDecay(1.0, 10, 0.0, cycle=True), {10: 0.0, 15: 0.25, 20: 0.0}),
    (schedules.CosineDecay(1.0, 10, alpha=0.5), {0: 1.0, 5: 0.75, 10: 0.5, 99: 0.5}),
    (schedules.CosineDecay(0.0, 10, warmup_target=1.0, warmup_steps=4), {0: 0.0, 2: 0.5, 4: 1.0, 9: 0.5, 14: 0.0}),
    (schedules.CosineDecayRestarts(1.0, 10, m_mul=0.5), {0: 1.0, 5: 0.5, 10: 0.5, 20: 0.25, 30: 0.25}),
]


@pytest.mark.parametrize("schedule, corners", CORNERS)
def test_rates_at_the_corners(schedule, corners):
    for step, rate in corners.items():
        assert float(schedule(step)) == pytest.approx(rate, abs=1e-6)


@pytest.mark.parametrize("schedule, corners", CORNERS)
def test_compiled_rates_are_the_eager_ones(schedule, corners):
    steps = jnp.arange(40)
    compiled = jax.jit(jax.vmap(schedule))(steps)
    np.testing.assert_allclose(compiled, [schedule(step) for step in steps], 1e-5, 1e-6)
    assert compiled.dtype == "float32"


@pytest.mark.parametrize("schedule, corners", CORNERS)
def test_configuration_round_trips(schedule, corners):
    again = schedules.deserialize(schedules.serialize(schedule))
    assert type(again) is type(schedule)
    assert again.get_config() == schedule.get_config()


def test_a_schedule_of_ones_own_goes_with_its_optimizer():
    optimizer = optimizers.SGD(Halving(0.5, every=3))
    with registry.CustomObjectScope({"Halving": Halving}):
        again = optimizers.deserialize(optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()
    assert float(again.learning_rate) == 0.5
    custom = schedules.deserialize(schedules.serialize(Halving(0.5)), custom_objects={"Halving": Halving})
    assert custom.get_config() == {"initial": 0.5, "every": 2}


def test_an_old_configuration_needs_no_module():
    config = {"class_name": "CosineDecay", "config": {"initial_learning_rate": 1.0, "decay_steps": 5}}
    assert isinstance(schedules.deserialize(config), schedules.CosineDecay)


def test_a_schedule_is_not_an_optimizer():
    with pytest.raises(ValueError, match="optimizer: must be a name, an object or a configuration, got that"):
        optimizers.get(schedules.serialize(schedules.CosineDecay(1.0, 5)))


WRONG = [
    (lambda: schedules.CosineDecay(1.0, 0), "CosineDecay: decay_steps must be a number above 0, got 0"),
    (lambda: schedules.CosineDecayRestarts(1.0, -1), "first_decay_steps must be a number above 0, got -1"),
    (lambda: schedules.ExponentialDecay(1.0, 0, 0.5), "ExponentialDecay: decay_steps must be a number above 0"),
    (lambda: schedules.InverseTimeDecay(1.0, 0, 0.5), "InverseTimeDecay: decay_steps must be a number above 0"),
    (lambda: schedules.PolynomialDecay(1.0, 0), "PolynomialDecay: decay_steps must be a number above 0"),
    (lambda: schedules.PiecewiseConstantDecay([1], [1.0]), "must be one more than boundaries, got 1 values and 1"),
]


@pytest.mark.parametrize("wrong, message", WRONG)
def test_wrong_arguments_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


def test_a_schedule_without_a_call_says_so():
    with pytest.raises(NotImplementedError, match=r"LearningRateSchedule: must override __call__\(step\)"):
        schedules.LearningRateSchedule()(0)
