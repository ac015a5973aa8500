"""Constraints on weights, applied after each update."""

from __future__ import annotations

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


class _Norm(Constraint):
    """w · d / ‖w‖, with d = `wanted(‖w‖)`; a subclass sets `axis`, the axes that the norm is taken over."""

    axis: int | tuple[int, ...]

    def wanted(self, norms: Any) -> Any:
        """The norms that the weight shall have."""
        raise NotImplementedError(f"{type(self).__name__}: a subclass must define wanted.")

    def __call__(self, w: Any) -> Any:
        w = jnp.asarray(value_of(w))
        norms = jnp.sqrt(jnp.sum(jnp.square(w), axis=self.axis, keepdims=True))
        return w * (self.wanted(norms) / (dtypes.epsilon() + norms))

    def _checked_axis(self, axis: Any) -> Any:
        axes = axis if isinstance(axis, (list, tuple)) else (axis,)
        if not axes or not all(isinstance(a, int) for a in axes):
            raise ValueError(f"{type(self).__name__}: axis must be an integer or several, got {axis!r}.")
        return axis

    def _check_bounds(self, low: Any, high: Any) -> None:
        if not (all(isinstance(bound, Real) for bound in (low, high)) and 0 <= low <= high):
            given = f"{low!r} and {high!r}"
            raise ValueError(f"{type(self).__name__}: norms must have bounds 0 <= low <= high, got {given}.")


class UnitNorm(_Norm):
    """w / ‖w‖.

    Args:
        axis: the axis or axes that the norm is taken over: those of the inputs of a unit.

    Raises: ValueError if an argument is outside its domain.
    """

    def __init__(self, axis: int | Sequence[int] = 0):
        self.axis = self._checked_axis(axis)

    def wanted(self, norms: Any) -> Any:
        return 1


class MaxNorm(_Norm):
    """w · min(‖w‖, max_value) / ‖w‖.

    Args:
        max_value: the largest norm.
        axis: the axis or axes that the norm is taken over: those of the inputs of a unit.

    Raises: ValueError if an argument is outside its domain.
    """

    def __init__(self, max_value: float = 2, axis: int | Sequence[int] = 0):
        self._check_bounds(0, max_value)
        self.max_value = max_value
        self.axis = self._checked_axis(axis)

    def wanted(self, norms: Any) -> Any:
        return jnp.clip(norms, 0, self.max_value)


class MinMaxNorm(_Norm):
    """w · d / ‖w‖, with d = rate · clip(‖w‖, min_value, max_value) + (1 - rate) · ‖w‖.

    Args:
        min_value: the smallest norm.
        max_value: the largest norm.
        rate: how much of the way to the bounds one step goes, from 0 to 1.
        axis: the axis or axes that the norm is taken over: those of the inputs of a unit.

    Raises:
        ValueError: unless `0 <= min_value <= max_value` and `0 <= rate <= 1`.
    """

    def __init__(
        self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: int | Sequence[int] = 0
    ):
        self._check_bounds(min_value, max_value)
        self.min_value = min_value
        self.max_value = max_value
        self.rate = checks.number("MinMaxNorm", "rate", rate, 0, 1)
        self.axis = self._checked_axis(axis)

    def wanted(self, norms: Any) -> Any:
        return self.rate * jnp.clip(norms, self.min_value, self.max_value) + (1 - self.rate) * norms


max_norm, min_max_norm, non_neg, unit_norm = MaxNorm, MinMaxNorm, NonNeg, UnitNorm


get, serialize, deserialize = configurable.namespace_functions("constraints", "constraint", Constraint)

__all__ = [
    "Constraint", "MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm", "deserialize", "get", "max_norm",
    "min_max_norm", "non_neg", "serialize", "unit_norm",
]  # fmt: skip
