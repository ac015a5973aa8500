"""Constraints on weights, applied after each update."""

from collections.abc import Sequence
from numbers import Real
from typing import Any

import jax.numpy as jnp

from lamina.core import checks, configurable, dtypes
from lamina.core.arrays import value_of
from lamina.core.configurable import Configurable


class Constraint(Configurable):
    """Base of constraints: a subclass defines `__call__(w)`, the nearest weight that it allows."""

    def __call__(self, w: Any) -> Any:
        return w


class NonNeg(Constraint):
    """max(w, 0)."""

    def __init__(self) -> None:
        super().__init__()

    def __call__(self, w: Any) -> Any:
        return jnp.maximum(jnp.asarray(value_of(w)), 0)


class MinMaxNorm(Constraint):
    """w · d / ‖w‖, with d = rate · clip(‖w‖, min_value, max_value) + (1 - rate) · ‖w‖.

    Args:
        min_value: the smallest norm, from 0 to `max_value`.
        max_value: the largest norm.
        rate: how much of the way to the bounds one step goes, from 0 to 1.
        axis: the axis or axes that the norm is taken over: those of the inputs of a unit.
    """

    def __init__(
        self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: int | Sequence[int] = 0
    ):
        who, axes = type(self).__name__, axis if isinstance(axis, (list, tuple)) else (axis,)
        if not (all(isinstance(bound, Real) for bound in (min_value, max_value)) and 0 <= min_value <= max_value):
            raise ValueError(f"{who}: norms must have bounds 0 <= low <= high, got {min_value!r} and {max_value!r}.")
        checks.require(axes and all(isinstance(a, int) for a in axes), who, "axis must be an integer or several", axis)
        self.min_value = min_value
        self.max_value = max_value
        self.rate = checks.number(who, "rate", rate, 0, 1)
        self.axis = axis

    def __call__(self, w: Any) -> Any:
        w = jnp.asarray(value_of(w))
        norms = jnp.sqrt(jnp.sum(jnp.square(w), axis=self.axis, keepdims=True))
        wanted = jnp.clip(norms, self.min_value, self.max_value)
        if self.rate != 1:
            wanted = self.rate * wanted + (1 - self.rate) * norms
        return w * (wanted / (dtypes.epsilon() + norms))


@configurable.variant(defaults={"min_value": 0, "max_value": 2}, without=["min_value", "rate"])
class MaxNorm(MinMaxNorm):
    """w · min(‖w‖, max_value) / ‖w‖."""


@configurable.variant(defaults={"min_value": 1, "max_value": 1}, without=["min_value", "max_value", "rate"])
class UnitNorm(MinMaxNorm):
    """w / ‖w‖."""


max_norm, min_max_norm, non_neg, unit_norm = MaxNorm, MinMaxNorm, NonNeg, UnitNorm


get, serialize, deserialize = configurable.namespace_functions("constraints", "constraint", Constraint)

__all__ = [
    "Constraint", "MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm", "deserialize", "get", "max_norm",
    "min_max_norm", "non_neg", "serialize", "unit_norm",
]  # fmt: skip
