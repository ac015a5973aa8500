"""Learning rates as functions of the step; each traces, and is a configuration."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from lamina.core import checks, configurable, dtypes
from lamina.core.arrays import value_of
from lamina.core.configurable import Configurable
from lamina.core.fields import fields

__all__ = [
    "CosineDecay", "CosineDecayRestarts", "ExponentialDecay", "InverseTimeDecay", "LearningRateSchedule",
    "PiecewiseConstantDecay", "PolynomialDecay", "deserialize", "serialize",
]  # fmt: skip


class LearningRateSchedule(Configurable):
    """Base of all schedules. One of your own overrides `__call__(self, step)`, `step` an integer scalar."""

    def __call__(self, step: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__}: must override __call__(step), has none.")


def _float(step: Any) -> Any:
    return jnp.asarray(value_of(step)).astype(dtypes.floatx())


@fields
class _Decay(LearningRateSchedule):
    """What falls in `decay_steps` steps.

    Args:
        initial_learning_rate: the rate at step 0.
        decay_steps: how long the rate falls.
        name: a name.
    """

    initial_learning_rate: float
    decay_steps: float

    def __post_init__(self) -> None:
        checks.positive(type(self).__name__, "decay_steps", self.decay_steps)


@fields
class _PeriodicDecay(_Decay):
    """What falls by the same rule every `decay_steps` steps.

    Args:
        decay_steps: the steps of a period.
        decay_rate: how the rate falls in a period, see the formula.
        staircase: whether `step / decay_steps` is rounded down to an integer.
    """

    decay_rate: float
    staircase: bool = False
    name: str = ""

    def _periods(self, step: Any) -> Any:
        periods = _float(step) / self.decay_steps
        return jnp.floor(periods) if self.staircase else periods


class ExponentialDecay(_PeriodicDecay, name="ExponentialDecay"):
    """initial_learning_rate * decay_rate ** (step / decay_steps)."""

    def __call__(self, step: Any) -> Any:
        return self.initial_learning_rate * jnp.power(self.decay_rate, self._periods(step))


class InverseTimeDecay(_PeriodicDecay, name="InverseTimeDecay"):
    """initial_learning_rate / (1 + decay_rate * step / decay_steps)."""

    def __call__(self, step: Any) -> Any:
        return self.initial_learning_rate / (1 + self.decay_rate * self._periods(step))


@fields
class PiecewiseConstantDecay(LearningRateSchedule):
    """`values[i]`, where i is the number of boundaries that the step has passed.

    Args:
        boundaries: steps, increasing; a boundary is the last step of its value.
        values: rates, one more than boundaries.
        name: a name.
    """

    boundaries: Sequence[float]
    values: Sequence[float]
    name: str = "PiecewiseConstant"

    def __post_init__(self) -> None:
        given = f"got {len(self.values)} values and {len(self.boundaries)} boundaries"
        if len(self.boundaries) != len(self.values) - 1:
            raise ValueError(f"{type(self).__name__}: values must be one more than boundaries, {given}.")

    def __call__(self, step: Any) -> Any:
        step = jnp.asarray(value_of(step))
        passed = jnp.sum(step > jnp.asarray(self.boundaries, step.dtype), dtype="int32")
        return jnp.asarray(self.values, dtypes.floatx())[passed]


@fields
class PolynomialDecay(_Decay):
    """(initial_learning_rate - end_learning_rate) * (1 - step / decay_steps) ** power + end_learning_rate.

    Args:
        decay_steps: the step from which on the rate is `end_learning_rate`.
        end_learning_rate: the last rate.
        power: the exponent; 1 is a straight line.
        cycle: whether to go on behind `decay_steps`, from a higher rate, down to the next multiple of it.
    """

    end_learning_rate: float = 0.0001
    power: float = 1.0
    cycle: bool = False
    name: str = "PolynomialDecay"

    def __call__(self, step: Any) -> Any:
        step = _float(step)
        cycles = jnp.maximum(jnp.ceil(step / self.decay_steps), 1.0) if self.cycle else 1.0
        end = self.decay_steps * cycles
        left = 1 - jnp.minimum(step, end) / end
        span = self.initial_learning_rate - self.end_learning_rate
        return span * jnp.power(left, self.power) + self.end_learning_rate


@fields
class CosineDecay(_Decay):
    """initial_learning_rate * ((1 - alpha) * (1 + cos(pi * step / decay_steps)) / 2 + alpha), or warming up.

    Loshchilov and Hutter, 2016, https://arxiv.org/abs/1608.03983.

    Args:
        alpha: the last rate, as a fraction of the highest.
        warmup_target: the rate at the end of the warm-up; without it there is none.
        warmup_steps: how long the warm-up takes.
    """

    alpha: float = 0.0
    name: str = "CosineDecay"
    warmup_target: float | None = None
    warmup_steps: float = 0

    def __call__(self, step: Any) -> Any:
        step, start = _float(step), self.initial_learning_rate
        top, warm = self.warmup_target, self.warmup_steps
        if top is None:
            return start * self._fraction(step)
        rising = start + (top - start) * step / (warm or 1)
        return jnp.where(step < warm, rising, top * self._fraction(step - warm))

    def _fraction(self, step: Any) -> Any:
        done = jnp.minimum(step, self.decay_steps) / self.decay_steps
        return (1 - self.alpha) * 0.5 * (1 + jnp.cos(math.pi * done)) + self.alpha


@fields
class CosineDecayRestarts(LearningRateSchedule):
    """Cosine decay that starts again from a high rate, period after period.

    Loshchilov and Hutter, 2016, https://arxiv.org/abs/1608.03983.

    Args:
        initial_learning_rate: the rate at step 0.
        first_decay_steps: the length of the first period.
        t_mul: how much longer each period is than the one before.
        m_mul: the starting rate of each period, as a fraction of that of the one before.
        alpha: the last rate of a period, as a fraction of `initial_learning_rate`.
        name: a name.
    """

    initial_learning_rate: float
    first_decay_steps: float
    t_mul: float = 2.0
    m_mul: float = 1.0
    alpha: float = 0.0
    name: str = "SGDRDecay"

    def __post_init__(self) -> None:
        checks.positive(type(self).__name__, "first_decay_steps", self.first_decay_steps)

    def __call__(self, step: Any) -> Any:
        periods = _float(step) / self.first_decay_steps  # how many of the first one's length
        if self.t_mul == 1:
            restarts = jnp.floor(periods)
            done = periods - restarts  # of the present period
        else:
            growth = jnp.asarray(self.t_mul, periods.dtype)
            restarts = jnp.floor(jnp.log(1 - periods * (1 - growth)) / jnp.log(growth))
            length = jnp.power(growth, restarts)
            done = (periods - (1 - length) / (1 - growth)) / length
        height = 0.5 * jnp.power(self.m_mul, restarts) * (1 + jnp.cos(math.pi * done))
        return self.initial_learning_rate * ((1 - self.alpha) * height + self.alpha)


_, serialize, deserialize = configurable.namespace_functions(
    "optimizers.schedules", "schedule", LearningRateSchedule, functions=False, serialized="learning_rate_schedule"
)
