"""Optimizers that follow the gradient or a running mean of it."""

from typing import Any

import jax.numpy as jnp

from lamina.core import checks
from lamina.optimizers.base import optimizer
from lamina.optimizers.optimizer import Optimizer, Slots


@optimizer(learning_rate=0.01)
class SGD(Optimizer):
    """value += v, where v = momentum * v - learning_rate * gradient.

    Args:
        momentum: the share of the last update that is kept, in [0, 1].
        nesterov: whether to look ahead: value += momentum * v - learning_rate * gradient.
    """

    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        self.slot_groups = [{"momentum": 0.0}] if self.momentum else []

    @property
    def rests(self) -> bool:
        return not self.slot_groups

    def rule(self, gradient: Any, value: Any, slots: Slots, shared: Any) -> tuple[Any, Slots]:
        update = -shared * gradient
        if not slots:
            return value + update, {}
        velocity = self.momentum * slots["momentum"] + update
        moved = self.momentum * velocity + update if self.nesterov else velocity
        return value + moved, {"momentum": velocity}


@optimizer()
class Lion(Optimizer):
    """value -= learning_rate * sign(beta_1 * m + (1 - beta_1) * gradient), m a running mean of gradients.

    Chen et al., 2023, https://arxiv.org/abs/2302.06675.

    Args:
        learning_rate: the rate; a tenth to a third of Adam's.
        beta_1: the share of the mean in the update, in (0, 1].
        beta_2: the decay of the mean.
    """

    beta_1: float = 0.9
    beta_2: float = 0.99

    slot_groups = ({"momentum": 0.0},)

    def __post_init__(self) -> None:
        checks.require(self.beta_1 != 0, self._who, "beta_1 must be a number in (0, 1]", self.beta_1)

    def rule(self, gradient: Any, value: Any, slots: Slots, shared: Any) -> tuple[Any, Slots]:
        mean = slots["momentum"]
        direction = jnp.sign(self.beta_1 * mean + (1 - self.beta_1) * gradient)
        return value - shared * direction, {"momentum": self.beta_2 * mean + (1 - self.beta_2) * gradient}
