"""Penalties on weights, added to the loss."""

import math
from typing import Any

import jax.numpy as jnp

from lamina.core import checks, configurable
from lamina.core.arrays import value_of
from lamina.core.configurable import Configurable


class Regularizer(Configurable):
    """Base of regularizers: a subclass defines `__call__(x)`, a scalar."""

    def __call__(self, x: Any) -> Any:
        return 0.0

    def _factor(self, name: str, value: Any) -> float:
        finite = isinstance(value, (int, float)) and 0 <= value < math.inf
        checks.require(finite, self, f"{name} must be a finite number of at least 0", value)
        return float(value)


class L1L2(Regularizer):
    """l1 · Σ|x| + l2 · Σx².

    Args:
        l1: factor of the absolute values.
        l2: factor of the squares.
    """

    def __init__(self, l1: float | None = 0.0, l2: float | None = 0.0):
        self.l1 = self._factor("l1", 0.0 if l1 is None else l1)
        self.l2 = self._factor("l2", 0.0 if l2 is None else l2)

    def __call__(self, x: Any) -> Any:
        x = jnp.asarray(value_of(x))
        penalty = jnp.zeros((), x.dtype)
        if self.l1:
            penalty += jnp.asarray(self.l1, x.dtype) * jnp.sum(jnp.abs(x))
        if self.l2:
            penalty += jnp.asarray(self.l2, x.dtype) * jnp.sum(jnp.square(x))
        return penalty


class L1(L1L2):
    """l1 · Σ|x|."""

    def __init__(self, l1: float | None = 0.01):
        super().__init__(l1=0.01 if l1 is None else l1)


class L2(L1L2):
    """l2 · Σx²."""

    def __init__(self, l2: float | None = 0.01):
        super().__init__(l2=0.01 if l2 is None else l2)


class OrthogonalRegularizer(Regularizer):
    """factor · the mean of |cos| of the angles between each two rows (or columns) of a matrix.

    Args:
        factor: the factor.
        mode: `"rows"` or `"columns"`.

    Raises:
        ValueError: for a negative factor, another mode, and when called with what is no matrix.
    """

    def __init__(self, factor: float = 0.01, mode: str = "rows"):
        self.factor = self._factor("factor", factor)
        self.mode = checks.one_of("OrthogonalRegularizer", "mode", mode, ("rows", "columns"))

    def __call__(self, inputs: Any) -> Any:
        x = jnp.asarray(value_of(inputs))
        checks.require(x.ndim == 2, self, "inputs must have 2 axes", got=f"shape {x.shape}")
        x = x if self.mode == "rows" else x.T
        size = x.shape[0]
        squares = jnp.sum(jnp.square(x), axis=1, keepdims=True)
        x = x / jnp.sqrt(jnp.where(squares == 0, 1, squares))  # the root has no gradient at 0
        cosines = (x @ x.T) * (1 - jnp.eye(size, dtype=x.dtype))
        pairs = size * (size - 1) / 2
        return self.factor * 0.5 * jnp.sum(jnp.abs(cosines)) / pairs


l1, l2, l1_l2, orthogonal_regularizer = L1, L2, L1L2, OrthogonalRegularizer


get, serialize, deserialize = configurable.namespace_functions("regularizers", "regularizer", Regularizer)

__all__ = [
    "L1", "L1L2", "L2", "OrthogonalRegularizer", "Regularizer", "deserialize", "get", "l1", "l1_l2", "l2",
    "orthogonal_regularizer", "serialize",
]  # fmt: skip
