"""Gradients of tables of which a function looks up few rows: those of the rows, and none of the whole table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from lamina.core import placement, sparse
from lamina.core.later import Later
from lamina.core.state import StateScope
from lamina.core.variable import Variable

_jax: Any = Later("jax.extend.core")
FEW = 8  # measured: from so many rows in the table for each that is looked up, their gradients cost less than its own


class Lookups(StateScope):
    """The state of a function to be differentiated, in which the gradients of rows of `tables` are caught.

    A lookup is followed by the identity, whose transpose keeps what comes back and passes nothing on to the table. That
    holds where nothing but the gradient is traced; a lookup inside a loop, a branch or another transform is as ever.
    """

    def __init__(self, pairs: Iterable[tuple[Any, Any]], tables: Iterable[Variable]):
        super().__init__(pairs)
        self._caught: dict[int, list[tuple[Any, Any]]] = {id(v): [] for v in tables if placement.current() is None}
        self._otherwise: Counter[int] = Counter()  # reads that are no such lookups
        self._level = None

    def __enter__(self) -> Lookups:
        if self._caught:
            self._level = _jax.extend.core.get_opaque_trace_state()
        super().__enter__()
        return self

    def read(self, variable: Any) -> Any:
        self._otherwise[id(variable)] += 1
        return super().read(variable)

    def looked_up(self, variable: Any, indices: Any, rows: Any) -> Any:
        few = math.prod(indices.shape) * FEW <= variable.shape[0]
        if id(variable) not in self._caught or not few or _jax.extend.core.get_opaque_trace_state() != self._level:
            return rows
        self._otherwise[id(variable)] -= 1

        @jax.custom_vjp
        def same(rows: Any, indices: Any) -> Any:
            return rows

        def catch(indices: Any, gradient: Any) -> tuple[None, None]:
            self._caught[id(variable)].append((indices, gradient))
            return None, None

        same.defvjp(lambda rows, indices: (rows, indices), catch)
        return same(rows, indices)

    def gradient(self, variable: Variable, whole: Any) -> Any:
        """The gradient of a variable, sparse if rows are all that it has; `whole` is that of other reads."""
        caught = self._caught.get(id(variable))
        if not caught:
            return whole
        indices = jnp.concatenate([indices.reshape(-1) for indices, _ in caught])
        indices = jnp.where(indices < 0, indices + variable.shape[0], indices)
        data = jnp.concatenate([gradient.reshape(-1, *variable.shape[1:]) for _, gradient in caught])
        rows = sparse.bcoo(data.astype(variable.own_dtype), indices[:, None], variable.shape)
        return whole + sparse.dense(rows) if self._otherwise[id(variable)] else rows
