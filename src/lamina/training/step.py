"""A step of training as a pure function, and many of them in one launch.

A model's `train_step(data)` reads and assigns variables. Under a `StateScope` it becomes
`step(values, batch) -> new values, logs`, and a compiled loop runs it over a range of rows: `count` is traced, so one
executable serves any number of steps. The values are donated: they come back as the variables' own right away.
"""

from __future__ import annotations

import inspect
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax, tree_util

from lamina.core.runtime import keep_freed_memory
from lamina.core.state import StateScope
from lamina.core.variable import Variable


class FoundVariables(Exception):
    """Tracing met variables that the state does not hold yet."""

    def __init__(self, variables: list[Variable]):
        super().__init__("the state does not hold every variable yet")
        self.variables = variables


def pure_step(method: Callable, variables: Sequence[Variable], groups: Callable[[], list[list[Variable]]]) -> Callable:
    """`method` as `step(values, batch) -> new values, logs`.

    Args:
        method: `f(data) -> logs`, stateful, or Keras's JAX form `f(state, data) -> logs, state`.
        variables: what the values stand for.
        groups: the lists of variables that `state` in Keras's form is made of.
    """
    explicit = len(inspect.signature(method).parameters) == 2

    def step(values: Sequence[Any], batch: Any) -> tuple[tuple, dict[str, Any]]:
        found: dict[int, Variable] = {}
        with StateScope(zip(variables, values), on_missing=lambda v: found.setdefault(id(v), v)) as state:
            if explicit:
                lists = groups()
                logs, after = method(tuple(state.values(group) for group in lists), batch)
                for group, new in zip(lists, after):
                    for variable, value in zip(group, new):
                        variable.assign(value)
            else:
                logs = method(batch)
            logs = {name: _as_array(value) for name, value in (logs or {}).items()}
            if found:
                raise FoundVariables(list(found.values()))
            return tuple(state.values(variables)), logs

    return step


def _as_array(value: Any) -> Any:
    return jnp.asarray(value.value if isinstance(value, Variable) else value)


def rows_of(data: Any, order: Any, first: Any, size: int) -> Any:
    """`size` rows of every array from row `first` on, in the given order of rows."""
    if order is None:
        return tree_util.tree_map(lambda a: lax.dynamic_slice_in_dim(a, first, size), data)
    rows = lax.dynamic_slice_in_dim(order, first, size)
    return tree_util.tree_map(lambda a: a.at[rows].get(mode="promise_in_bounds"), data)


def many_steps(step: Callable, fresh: Callable) -> Callable:
    """`step` over a range of batches, compiled.

    `run(values, data, order, first, count, reset, size=, capacity=) -> values, logs` runs `count` steps on batches of
    `size` rows from row `first` on, from the values that `fresh` makes if `reset`, and keeps the logs of the last
    `capacity` steps. `run.one_at_a_time` is set by the first trace: then each call runs one step, whatever `count` is.
    """

    def loop(values: tuple, data: Any, order: Any, first: Any, count: Any, reset: Any, *, size: int, capacity: int):
        values = tuple(v if f is v else jnp.where(reset, f, v) for f, v in zip(fresh(values), values))
        batch = rows_of(data, order, first, size)
        one = jax.jit(step, inline=True)  # traced here, and found again by the calls below
        traced = one.trace(values, batch)
        if _suffers_in_loops(traced.jaxpr.jaxpr):
            run.one_at_a_time = True
            values, logs = one(values, batch)
            return values, {name: value[None] for name, value in logs.items()}

        def body(i: Any, carry: tuple) -> tuple:
            values, history = carry
            values, logs = one(values, rows_of(data, order, first + i * size, size))
            return values, {k: history[k].at[i % capacity].set(logs[k]) for k in logs}

        history = {k: jnp.zeros((capacity, *s.shape), s.dtype) for k, s in traced.out_info[1].items()}
        return lax.fori_loop(0, count, body, (values, history))

    run: Any = jax.jit(loop, donate_argnums=0, static_argnames=("size", "capacity"))
    run.one_at_a_time = False
    return run


def _suffers_in_loops(jaxpr: Any) -> bool:
    """Whether XLA would slow the step down inside a loop: on CPUs, gradients of convolutions do, up to 100 times."""
    if jax.default_backend() != "cpu":
        return False
    names = {equation.primitive.name for equation in jaxpr.eqns}
    parameters = tree_util.tree_leaves([list(equation.params.values()) for equation in jaxpr.eqns])
    inner = (getattr(p, "jaxpr", p) for p in parameters if hasattr(p, "jaxpr") or hasattr(p, "eqns"))
    return "conv_general_dilated" in names or any(map(_suffers_in_loops, inner))


class Interrupts:
    """Ctrl-C waits until a launch is over: in it, variables' arrays are given away and their successors not there yet.

    `with interrupts:` takes the place of the program's own handlers; between `hold` and `release` a signal waits, but
    a second one does not.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Callable] = {}
        self._held = False
        self._waiting: list[tuple[int, Any]] = []

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():  # where handlers run
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if callable(handler) and handler != self._take:  # an interrupt may have come while it was taken off
                    self._handlers[number] = handler
                    signal.signal(number, self._take)

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._handlers.items():
            if signal.getsignal(number) == self._take:
                signal.signal(number, handler)

    def _take(self, number: int, frame: Any) -> None:
        if self._held and not self._waiting:
            self._waiting.append((number, frame))
        else:
            self._handlers[number](number, frame)

    def hold(self) -> None:
        self._held = True

    def release(self) -> None:
        self._held = False
        if self._waiting:
            number, frame = self._waiting.pop()
            self._handlers[number](number, frame)


class Launcher:
    """Runs a model's step over ranges of batches, many steps a launch.

    Args:
        method: the step, see `pure_step`.
        groups: finds the variables of the state, in the lists that Keras's JAX form of a step gets.
        reset: sets the metrics to where an epoch starts.
    """

    def __init__(self, method: Callable, groups: Callable[[], list[list[Variable]]], reset: Callable[[], Any]):
        keep_freed_memory()
        self._method, self._groups, self._reset = method, groups, reset
        self._key: list[list[int]] | None = None
        self._variables: list[Variable] = []
        self._extra: list[Variable] = []
        self._run: Any = None
        self._ahead: dict[Any, Future] = {}
        self._seen: set[Any] = set()
        self.interrupts = Interrupts()
        self.proven = False  # whether a launch has gone well
        self.seconds_a_step: float | None = None  # what the loop measured

    def refresh(self) -> None:
        """Look at the model anew: variables may have come, gone or changed sides since the last run."""
        groups = self._groups()
        key = [[id(v) for v in group] for group in groups]
        if key != self._key or self._run is None:
            found = [v for group in groups for v in group] + self._extra
            self._key, self._variables = key, list({id(v): v for v in found}.values())
            self._ahead.clear()
            step = pure_step(self._method, self._variables, self._groups)
            self._run = many_steps(step, partial(self._fresh, self._variables))

    def _fresh(self, variables: list[Variable], values: tuple) -> list[Any]:
        """The values after `reset`."""
        with StateScope(zip(variables, values)) as state:
            self._reset()
        return state.values(variables)

    def launch(
        self, data: Any, order: Any, first: int, count: int, *, size: int, capacity: int = 1, reset: bool = False
    ) -> dict[str, Any]:
        """Run `count` steps from row `first` on and return the logs of the last `capacity` steps, by name."""
        key = _shape_key(data, order, size, capacity)
        kept: list[dict[str, Any]] = []
        done = 0
        while done < count:
            values = tuple(v._raw() for v in self._variables)
            arguments = (values, data, order, first + done * size, count - done, reset and done == 0)
            self.interrupts.hold()
            try:
                after, logs = self._call(key, arguments, size, capacity)
                for variable, value in zip(self._variables, after):
                    variable._value = value
            except FoundVariables as error:
                self._extra.extend(error.variables)
                self._run = None
                self.refresh()
                continue
            finally:
                self.interrupts.release()
            self.proven = True
            kept = [*kept, logs][-capacity:]
            done = done + 1 if self._run.one_at_a_time else count
        return kept[0] if len(kept) == 1 else {k: jnp.concatenate([logs[k] for logs in kept]) for k in kept[0]}

    def _call(self, key: Any, arguments: tuple, size: int, capacity: int) -> tuple:
        ahead = self._ahead.get(key)
        if ahead is not None and ahead.exception() is None:
            return ahead.result()(*arguments)
        return self._run(*arguments, size=size, capacity=capacity)

    def will_compile(self, feed: Any) -> bool:
        """Whether a launch of this shape is the first of its kind."""
        key = (id(self._run), _shape_key(feed.data, feed.order, feed.size, 0))
        first = key not in self._seen
        self._seen.add(key)
        return first

    def compile_ahead(self, data: Any, order: Any, *, size: int, capacity: int = 1) -> None:
        """Start to compile for batches of `size` rows in the background; `launch` waits for it."""
        key, run = _shape_key(data, order, size, capacity), self._run
        shapes = tuple(jax.ShapeDtypeStruct(v.shape, v.dtype) for v in self._variables)

        def compiled() -> Callable:
            return run.lower(shapes, data, order, 0, 1, False, size=size, capacity=capacity).compile()

        if key not in self._ahead:
            self._ahead[key] = _background.submit(compiled)


def _shape_key(data: Any, order: Any, size: int, capacity: int) -> tuple:
    return size, capacity, order is None, tuple((a.shape, a.dtype) for a in tree_util.tree_leaves(data))


_background = ThreadPoolExecutor(2, thread_name_prefix="lamina-compile")
