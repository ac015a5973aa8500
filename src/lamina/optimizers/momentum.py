"""Optimizers that follow the gradient or a running mean of it."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from lamina.optimizers.base import CommonDecay, LearningRate, with_common
from lamina.optimizers.optimizer import Optimizer, Slots


@with_common
class SGD(Optimizer):
    """value += v, where v = momentum * v - learning_rate * gradient.

    Args:
        momentum: the share of the last update that is kept, in [0, 1].
        nesterov: whether to look ahead: value += momentum * v - learning_rate * gradient.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **kwargs: Unpack[CommonDecay],
    ):
        self.momentum = momentum
        self.nesterov = nesterov
        self.slot_groups = [{"momentum": 0.0}] if momentum else []
        super().__init__(learning_rate, **kwargs)

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


@with_common
class Lion(Optimizer):
    """value -= learning_rate * sign(beta_1 * m + (1 - beta_1) * gradient), m a running mean of gradients.

    Chen et al., 2023, https://arxiv.org/abs/2302.06675.

    Args:
        learning_rate: the rate; a tenth to a third of Adam's.
        beta_1: the share of the mean in the update, in (0, 1].
        beta_2: the decay of the mean.
    """

    slot_groups = ({"momentum": 0.0},)

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        **kwargs: Unpack[CommonDecay],
    ):
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        super().__init__(learning_rate, **kwargs)
        if beta_1 == 0:
            raise ValueError(f"{self._who}: beta_1 must be a number in (0, 1], got {beta_1}.")

    def rule(self, gradient: Any, value: Any, slots: Slots, shared: Any) -> tuple[Any, Slots]:
        mean = slots["momentum"]
        direction = jnp.sign(self.beta_1 * mean + (1 - self.beta_1) * gradient)
        return value - shared * direction, {"momentum": self.beta_2 * mean + (1 - self.beta_2) * gradient}
