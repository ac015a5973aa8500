"""Muon: updates of matrices made orthogonal."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY
from typing import Any

import jax.numpy as jnp

from lamina.core.variable import Variable
from lamina.optimizers.adam import toward
from lamina.optimizers.base import optimizer
from lamina.optimizers.optimizer import Optimizer, Slots


@optimizer(behind="epsilon")
class Muon(Optimizer):
    """value -= learning_rate * scale * orthogonal(momentum) for matrices, and Adam for all else.

    orthogonal(M) = U V^T of M's singular vectors, by a few Newton-Schulz steps. Jordan et al., 2024,
    https://kellerjordan.github.io/posts/muon; the scale: Liu et al., 2025, https://arxiv.org/abs/2502.16982.

    Args:
        adam_beta_1, adam_beta_2, epsilon: see `Adam`.
        adam_weight_decay: the weight decay of the variables that Adam changes.
        weight_decay: that of matrices.
        exclude_layers: patterns; Adam changes the variables in whose path one is found.
        exclude_embeddings: whether Adam changes embeddings.
        muon_a, muon_b, muon_c: x -> a x + b x^3 + c x^5 is what a Newton-Schulz step does to singular values.
        adam_lr_ratio: Adam's rate is this times `learning_rate`.
        momentum: the decay of the sum of gradients.
        ns_steps: the number of Newton-Schulz steps.
        nesterov: whether to look ahead.
        rms_rate: scale = rms_rate * sqrt(longer side), the size of an update; `None`: 1.
    """

    adam_beta_1: float = 0.9
    adam_beta_2: float = 0.999
    adam_weight_decay: float | None = 0.004
    epsilon: float = 1e-7
    _: KW_ONLY
    weight_decay: float | None = 0.004
    exclude_layers: Sequence[str] | None = None
    exclude_embeddings: bool = True
    muon_a: float = 3.4445
    muon_b: float = -4.7750
    muon_c: float = 2.0315
    adam_lr_ratio: float = 1
    momentum: float = 0.95
    ns_steps: int = 5
    nesterov: bool = True
    rms_rate: float | None = 0.2

    slot_groups = ({"momentum": 0.0, "velocity": 0.0},)

    def __post_init__(self) -> None:
        self.exclude_layers = list(self.exclude_layers or [])

    def _is_adams(self, variable: Variable) -> bool:
        embedding = self.exclude_embeddings and "embedding" in variable.path.lower()
        excluded = any(re.search(pattern, variable.path) for pattern in self.exclude_layers or ())
        return variable.ndim != 2 or embedding or excluded

    def _make_slots(self, variable: Variable, group: Mapping[str, Any]) -> dict[str, Variable]:
        return super()._make_slots(variable, group if self._is_adams(variable) else {"momentum": 0.0})

    def _decay_of(self, variable: Variable) -> float | None:
        return self.adam_weight_decay if self._is_adams(variable) else self.weight_decay

    def shared(self, learning_rate: Any, step: Any) -> Any:
        correction = jnp.sqrt(1 - self.adam_beta_2**step) / (1 - self.adam_beta_1**step)
        return learning_rate, learning_rate * self.adam_lr_ratio * correction

    def rule(self, gradient: Any, value: Any, slots: Slots, shared: Any) -> tuple[Any, Slots]:
        rate, adams_rate = shared
        if "velocity" in slots:
            m = toward(slots["momentum"], gradient, self.adam_beta_1)
            v = toward(slots["velocity"], jnp.square(gradient), self.adam_beta_2)
            return value - m * adams_rate / (jnp.sqrt(v) + self.epsilon), {"momentum": m, "velocity": v}
        m = self.momentum * slots["momentum"] + gradient
        update = self._orthogonal(gradient + self.momentum * m if self.nesterov else m)
        scale = 1.0 if self.rms_rate is None else self.rms_rate * max(value.shape) ** 0.5
        return value - rate * scale * update, {"momentum": m}

    def _orthogonal(self, x: Any) -> Any:
        """A matrix with the singular vectors of `x` and singular values near 1."""
        if x.shape[0] > x.shape[1]:
            return self._orthogonal(x.T).T
        x = x / (jnp.linalg.norm(x) + 1e-7)
        for _ in range(self.ns_steps):
            square = x @ x.T
            x = self.muon_a * x + (self.muon_b * square + self.muon_c * square @ square) @ x
        return x
