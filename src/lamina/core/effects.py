"""What functions do beside what they return, and how that comes out of a JAX transform."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util

from lamina.core import scope, state
from lamina.core.arrays import value_of
from lamina.core.state import StateScope
from lamina.core.variable import Variable

TRACES = 5  # after so many a function has met all of its variables, or makes new ones each time


def made_anew(who: str, variables: Sequence[Variable]) -> ValueError:
    """The error for a function of which no trace is the last."""
    made = ", ".join(v.path for v in variables[-1:])
    return ValueError(
        f"{who}: must not make variables anew each time it is traced, made {made}; make them outside, or once."
    )


class FoundVariables(Exception):
    """Tracing met variables that a program does not hold yet, or assigned some that it does not give back."""

    def __init__(self, missing: list[Variable], assigned: list[Variable]):
        super().__init__("the program does not hold every variable yet")
        self.missing, self.assigned = missing, assigned


class ClosedScope(StateScope):
    """All that a program holds: `changing` variables, which it gives back, and those that it is only `reading`.

    If it has met others, or has assigned others than it gives back, its end is `FoundVariables`.
    """

    def __init__(self, changing: Iterable[Variable], values: Any, reading: Iterable[Variable], constants: Any):
        self._missing: dict[int, Variable] = {}
        pairs = [*zip(changing, values), *zip(reading, constants)]
        super().__init__(pairs, on_missing=lambda v: self._missing.setdefault(id(v), v))
        self._given = {id(v) for v in changing}

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        assigned = [v for v in self.written if id(v) not in self._given]
        if error[:1] == (None,) and (self._missing or assigned):
            raise FoundVariables(list(self._missing.values()), assigned)


class Effects:
    """What functions do beside what they return: they assign variables, and their layers add to the loss.

    Inside a transform effects are values, which leave it as outputs do; outside, `apply` makes effects of the values.
    """

    def __init__(self) -> None:
        self.touched = False  # whether any variable was read or assigned
        self._variables: dict[int, Variable] = {}
        self._adders: dict[int, Any] = {}  # the layers that add losses
        self._zeros: dict[int, np.ndarray] = {}

    @property
    def variables(self) -> list[Variable]:
        """What is assigned, in order of the first assignment."""
        return list(self._variables.values())

    @property
    def any(self) -> bool:
        """Whether there are any."""
        return bool(self._variables or self._adders)

    def find(self, fn: Callable, *args: Any) -> Any:
        """Note the effects of `fn(*args)`, by abstract evaluation, and return the shapes and dtypes of its outputs."""

        def touch(_: Variable) -> None:
            self.touched = True

        def probe(*args: Any) -> Any:
            return self.collect(StateScope(on_missing=touch), fn, *args)[0]

        shapes = jax.eval_shape(probe, *args)
        self.touched = self.touched or self.any
        return shapes

    # As values: those of the variables, and for each layer the sum of what it added.

    def before(self) -> tuple[list, list]:
        """The values at the start."""
        return [v.current for v in self.variables], list(self._zeros.values())

    def run(self, values: tuple[list, list], fn: Callable, *args: Any) -> tuple[Any, tuple[list, list]]:
        """`fn(*args)` from these values on: what it returns, and the values after it."""
        current, sums = values
        out, (after, added) = self.collect(StateScope(zip(self.variables, current)), fn, *args)
        strays = [v.path for v in self.variables[len(current) :]]
        if strays:
            raise ValueError(f"a function that is traced twice must assign the same both times, got {strays[0]} later.")
        return out, (after, [(s + a).astype(s.dtype) for s, a in zip(sums, added)])

    def collect(self, inside: StateScope, fn: Callable, /, *args: Any, **kwargs: Any) -> tuple[Any, tuple[list, list]]:
        """Note the effects of `fn(*args, **kwargs)` in a new scope: what it returns, and the values after it."""
        with inside:
            out = tree_util.tree_map(value_of, fn(*args, **kwargs))
        for variable in inside.written:
            self._variables.setdefault(id(variable), variable)
        for layer, loss in inside.losses:
            self._adders.setdefault(id(layer), layer)
            zero = self._zeros.get(id(layer), loss)
            self._zeros[id(layer)] = np.zeros((), jnp.result_type(zero, loss))
        added = {key: [loss for layer, loss in inside.losses if id(layer) == key] for key in self._adders}
        sums = [sum(losses, start=self._zeros[key]) for key, losses in added.items()]
        return out, (inside.values(self.variables), sums)

    def apply(self, values: tuple[Iterable, Iterable]) -> None:
        """Assign the variables, and let the layers add what they added."""
        for variable, value in zip(self.variables, values[0]):
            variable.assign(value)
        add_losses(zip(self._adders.values(), values[1]))


def add_losses(losses: Iterable[tuple[Any, Any]]) -> None:
    """Let layers add losses to the scope around, or in the layer call around; without either nobody collects them."""
    outer = state.current.get()
    for layer, loss in losses:
        if outer is not None:
            outer.losses.append((layer, loss))
        elif scope.call.get() is not None:
            layer.record_losses([loss])


def programs_in(equations: Iterable[Any]) -> Iterator[Any]:
    """The programs inside of operations."""
    parameters = tree_util.tree_leaves([list(equation.params.values()) for equation in equations])
    return (getattr(p, "jaxpr", p) for p in parameters if hasattr(p, "jaxpr") or hasattr(p, "eqns"))


def primitives(jaxpr: Any) -> set[str]:
    """The names of all primitives in a program and in those inside it."""
    return {equation.primitive.name for equation in jaxpr.eqns}.union(*map(primitives, programs_in(jaxpr.eqns)))


def primitives_in_loops(jaxpr: Any) -> set[str]:
    """The names of those in loops."""
    loops = [equation for equation in jaxpr.eqns if equation.primitive.name in ("scan", "while")]
    others = [equation for equation in jaxpr.eqns if equation.primitive.name not in ("scan", "while")]
    return set().union(*map(primitives, programs_in(loops)), *map(primitives_in_loops, programs_in(others)))


def calls_host(jaxpr: Any) -> bool:
    """Whether a program calls back into Python."""
    return any("callback" in name for name in primitives(jaxpr))
