"""State scopes: values that stand in for the arrays of variables.

That is the one mechanism that turns stateful code into pure functions: while a scope is open, reads and writes of
variables go to the scope, so the values may be tracers, and the cells stay as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp

from lamina.core.scope import Opens, Scope


class Cell:
    """What a scope can stand in for: a place that holds one array."""

    value: Any
    path: str
    shape: tuple[int, ...]
    own_dtype: str
    hand_out: Callable[[], Any]  # the place's own array
    stand_in: Callable[[], Any]  # an array of its kind, for a trace that only looks for what is read


class Meter:
    """What measures batch after batch: the base of metrics, by which layers know theirs."""


class StateScope(Opens):
    """Values for variables, for as long as the scope is open; other variables are read from outside.

    Args:
        pairs: (variable, value) to start with.
        on_missing: called with each variable that is read or written and is not among the pairs. What is traced then is
            traced anew with it, and meets no array meanwhile: JAX keeps those that a trace met for ever.

    `losses` collects what layers add to the loss meanwhile, as (layer, loss).
    """

    def __init__(self, pairs: Iterable[tuple[Cell, Any]] = (), on_missing: Callable[[Any], Any] | None = None):
        self._values = {id(v): value for v, value in pairs}
        self._written: dict[int, Cell] = {}
        self._on_missing = on_missing
        self._outer: StateScope | None = None
        self.losses: list[tuple[Any, Any]] = []

    def read(self, variable: Cell) -> Any:
        key = id(variable)
        if key in self._values:
            return self._values[key]
        if self._on_missing is not None:
            self._on_missing(variable)
            return variable.stand_in()
        return self._outer.read(variable) if self._outer is not None else variable.hand_out()

    def looked_up(self, variable: Cell, indices: Any, rows: Any) -> Any:
        """The `rows` of a table that were just read."""
        return rows

    def write(self, variable: Cell, value: Any) -> None:
        key = id(variable)
        if key not in self._values and self._on_missing is not None:
            self._on_missing(variable)
        self._values[key] = value
        self._written[key] = variable

    @property
    def written(self) -> list[Any]:
        """The variables that were assigned, in order of their first assignment."""
        return list(self._written.values())

    def values(self, variables: Iterable[Cell]) -> list[Any]:
        """The values that the variables have in this scope."""
        return [self.read(v) for v in variables]

    def _scope(self) -> Any:
        self._outer = current.get()
        return current(self)


def _fitting(variable: Any, value: Any) -> Any:
    """A value from a program as what stands in for the variable: an array of its shape and dtype."""
    if not isinstance(variable, Cell):
        raise ValueError(f"StatelessScope: state_mapping must be pairs of a variable and its value, got {variable!r}.")
    array = jnp.asarray(value.value if isinstance(value, Cell) else value, variable.own_dtype)
    if array.shape != variable.shape:
        raise ValueError(f'Variable "{variable.path}": value must have shape {variable.shape}, got {array.shape}.')
    return array


class StatelessScope(StateScope):
    """Keras's spelling of `StateScope`: a `(variable, value)` list, and `get_current_value`."""

    def __init__(
        self,
        state_mapping: Iterable[tuple[Cell, Any]] | None = None,
        collect_losses: bool = False,
        initialize_variables: bool = True,
    ):
        del collect_losses, initialize_variables  # losses are always collected, and initial values are real
        super().__init__((variable, _fitting(variable, value)) for variable, value in state_mapping or ())

    def add_update(self, update: tuple[Cell, Any]) -> None:
        self.write(*update)

    def get_current_value(self, variable: Cell) -> Any:
        return self._values.get(id(variable))


current: Scope[StateScope | None] = Scope("state", None)  # stands in for the variables' own cells
