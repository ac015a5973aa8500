"""A step of training as a pure function, and many of them in one launch.

A model's `train_step(data)` reads and assigns variables. Under a `StateScope` it becomes
`step(given, seen, batch) -> new values, logs`, and a compiled loop runs it over batches: `count` is traced, so
one executable serves any number of steps. What the step assigns is given (donated) and comes back as the variables' own
right away; what it only reads stays where it is.
"""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax, tree_util

from lamina.core import effects, handover, placement, scope
from lamina.core.arrays import copied, value_of
from lamina.core.effects import TRACES, ClosedScope, FoundVariables, made_anew
from lamina.core.runtime import in_background, keep_freed_memory, settings, without_collections
from lamina.core.state import StateScope
from lamina.core.variable import Variable
from lamina.data.windows import Filled
from lamina.layer.parts import one_look
from lamina.training.forms import stateful

MANY_ARRAYS = 200  # that a program gives; see `_options`
MOST_EPOCHS = 256  # of a launch
KEPT_STATES = 4  # sets of variables for which a launcher keeps programs: freezing and unfreezing compiles once


class Feed(NamedTuple):
    """A range of batches: `count` of them, from batch `first` on.

    The arrays of `data` are (batches, rows, ...), or (rows, ...) where `order`, (batches, rows of a batch), says which
    rows make a batch. `waits` is false where the next range follows at once, so that nobody need look at what came out.
    The range may be of several whole `epochs`.
    """

    data: Any
    order: Any
    first: int
    count: int
    waits: bool = True
    epochs: int = 1

    @classmethod
    def of(cls, batch: Any) -> Feed:
        """One batch."""
        return cls(tree_util.tree_map(lambda a: a[None], batch), None, 0, 1)


class ManySteps(NamedTuple):
    """What a launch of any number of steps gives: values after the last, logs of the last few."""

    values: tuple
    logs: dict[str, Any]


class OneStep(ManySteps):
    """What a launch gives that runs a single step, however many there are."""


def pure_step(
    method: Callable, given: Sequence[Variable], seen: Sequence[Variable], groups: Callable[[], list[list[Variable]]]
) -> Callable:
    """`method` as `step(given values, seen values, batch) -> new given values, logs`.

    Args:
        method: `f(data) -> logs`, stateful, or Keras's JAX form `f(state, data) -> logs, state`.
        given: the variables that the step may assign.
        seen: those that it only reads.
        groups: the lists of variables that `state` in Keras's form is made of.
    """
    method = stateful(method, groups)

    def step(values: Sequence[Any], constants: Sequence[Any], batch: Any) -> tuple[tuple, dict[str, Any]]:
        with ClosedScope(given, values, seen, constants) as state:
            logs = {name: jnp.asarray(value_of(value)) for name, value in (on_batch(method, batch) or {}).items()}
        return tuple(placement.pinned(given, state.values(given))), placement.whole(logs)

    return step


def on_batch(method: Callable, batch: Any) -> Any:
    """`method(batch)`, where rows may fill the batch up."""
    if not isinstance(batch, Filled):
        return method(batch)
    with scope.rows(batch.counted):
        return method(batch.data)


def batch_of(data: Any, order: Any, number: Any) -> Any:
    """One batch of a feed's data."""
    if order is None:
        batch = tree_util.tree_map(lambda a: lax.dynamic_index_in_dim(a, number, keepdims=False), data)
    else:
        rows = placement.rows(lax.dynamic_index_in_dim(order, number, keepdims=False))
        batch = tree_util.tree_map(lambda a: a.at[rows].get(mode="promise_in_bounds"), data)
    return placement.rows(batch)


def many_steps(step: Callable, fresh: Callable, given: Sequence[Variable]) -> Any:
    """`step`, which gives new values for `given`, over a range of batches, to be compiled.

    `run(given, seen, data, order, first, count, reset, epochs, capacity=)` runs `count` steps from batch `first` on,
    each of the epochs that they make from the values that `fresh` makes if `reset`. It keeps the logs of the last
    `capacity` steps; if that is 1, those of the last step of each epoch, as long as they are numbers. Where loops slow
    a step down it runs one, whatever `count` is: what comes out tells.
    """

    def loop(
        values: tuple, seen: tuple, data: Any, order: Any, first: Any, count: Any, reset: Any, epochs: Any, *,
        capacity: int,
    ) -> ManySteps:  # fmt: skip
        def begun(values: tuple, anew: Any) -> tuple:
            return tuple(v if f is v else jnp.where(anew, f, v) for f, v in zip(fresh(values), values))

        batch, size = batch_of(data, order, first), lax.div(count, epochs)
        one = jax.jit(step, inline=True)  # traced here, and found again by the calls below
        traced = one.trace(values, seen, batch)
        if jax.default_backend() == "cpu" and "conv_general_dilated" in effects.primitives(traced.jaxpr.jaxpr):
            # XLA slows gradients of convolutions down inside loops on CPUs, up to 100 times.
            values, logs = one(begun(values, reset), seen, batch)
            return OneStep(values, {name: value[None] for name, value in logs.items()})

        def body(i: Any, carry: tuple) -> tuple:
            values, history = carry
            values = begun(values, reset & (lax.rem(i, size) == 0))
            values, logs = one(values, seen, batch_of(data, order, first + i))
            row = i if capacity > 1 else lax.div(i, size)
            return values, {k: history[k].at[row % len(history[k])].set(logs[k]) for k in logs}

        rows = {k: MOST_EPOCHS if capacity == 1 and not s.shape else capacity for k, s in traced.out_info[1].items()}
        history = {k: jnp.zeros((rows[k], *s.shape), s.dtype) for k, s in traced.out_info[1].items()}
        values, history = lax.fori_loop(0, count, body, (values, history))
        return ManySteps(tuple(placement.pinned(given, values)), history)

    return jax.jit(loop, donate_argnums=0, static_argnames="capacity")


class Interrupts:
    """Ctrl-C waits until a launch is over: in it, variables' arrays are given away and their successors not there yet.

    `with interrupts:` takes the place of the program's own handlers; in `held()` a signal waits for the end
    of the outermost, but a second one does not.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Callable] = {}
        self._held = False
        self._waiting: list[tuple[int, Any]] = []

    def __enter__(self) -> None:
        if _in_main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if callable(handler) and handler != self._take:  # an interrupt may have come while it was taken off
                    self._handlers[number] = handler
                    signal.signal(number, self._take)

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._handlers.items():
            if _in_main_thread() and signal.getsignal(number) == self._take:
                signal.signal(number, handler)

    def _take(self, number: int, frame: Any) -> None:
        if self._held and not self._waiting:
            self._waiting.append((number, frame))
        else:
            self._handlers[number](number, frame)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside, a signal waits for the end of the block."""
        if not _in_main_thread():
            yield
            return
        inside, self._held = self._held, True
        try:
            yield
        finally:
            self._held = inside
            if self._waiting and not inside:
                number, frame = self._waiting.pop()
                self._handlers[number](number, frame)


def _in_main_thread() -> bool:
    """Whether this is where handlers of signals run."""
    return threading.current_thread() is threading.main_thread()


class Program:
    """A loop compiled for one state, one kind of batches and one set of JAX's settings."""

    def __init__(self, traced: Any, background: bool, checked: Callable, given: list[Variable], seen: list[Variable]):
        self.given, self.seen = given, seen  # what it was made for: the launcher may look at the model anew meanwhile
        compile_ = partial(traced.lower().compile, _options(traced, len(given)))
        self._compiling: Callable[[], Any] = in_background(compile_).result if background else compile_
        self._lock = threading.Lock()
        self._compiled: Any = None
        self._checked = checked  # the same, where JAX looks at values and repeats a program to find the operation
        # Code of the program's own may fail in the middle of a launch; of ours, only memory may run out, at the first.
        self.calls_host = effects.calls_host(traced.jaxpr.jaxpr)
        logs = traced.out_info.logs.values()
        self.epochs = 1 if self.calls_host else min((each.shape[0] for each in logs), default=1)  # a launch may run
        self.proven = False  # whether a launch has gone well

    def __call__(self, *arguments: Any) -> ManySteps:
        return (self._checked if checks_values() else self._compiled)(*arguments)

    @property
    def compiled(self) -> Any:
        """JAX's form of it."""
        self.compile()
        return self._compiled

    def compile(self) -> None:
        """Be compiled when this returns."""
        if self._compiled is None:
            with self._lock:
                if self._compiled is None:
                    self._compiled = self._compiling()
                    del self._compiling


class Run:
    """The metrics of one pass over data, which no other run of the model touches, in a callback or another thread."""

    def __init__(self) -> None:
        self.arrays: dict[int, Any] = {}  # id of a metric's variable -> its array after the last launch

    def __enter__(self) -> Run:
        with handover.still:
            handover.runs += 1
        return self

    def __exit__(self, *error: Any) -> None:
        with handover.still:
            handover.runs -= 1
            for key in self.arrays:  # which keep the last values
                _running[key].discard(self)
                if not _running[key]:
                    del _running[key]
        self.arrays = {}


_running: dict[int, set[Run]] = {}  # id of a metric's variable -> the runs in the middle of which it is


class Launcher:
    """Runs a model's step over ranges of batches, many steps a launch.

    Weights are valid after whatever exception: until a program has proved itself in a launch, and for ever if it calls
    back into Python or JAX checks values, it gets copies; the variables keep their arrays until it is through. After
    that a launch takes the arrays themselves, and only a device that fails can lose them.

    Args:
        method: the step, see `pure_step`.
        groups: finds the variables of the state, in the lists that Keras's JAX form of a step gets; the metrics' last.
        reset: sets the metrics to where an epoch starts.
        trains: whether the step may assign all of the state; otherwise only the metrics are expected to change.
    """

    def __init__(
        self, method: Callable, groups: Callable[[], list[list[Variable]]], reset: Callable[[], Any], trains: bool
    ):
        keep_freed_memory()
        self._method, self._groups, self._reset, self._trains = method, groups, reset, trains
        self._lock = threading.RLock()
        self._key: Any = None
        self._given: list[Variable] = []
        self._seen: list[Variable] = []
        self._metrics: frozenset[int] = frozenset()
        self._extra: list[Variable] = []  # that the step uses and the groups do not hold
        self._assigned: set[int] = set()
        self._loops: dict[Any, Any] = {}
        self._programs: dict[Any, Program] = {}
        self.interrupts = Interrupts()
        self.proven = False  # whether a launch has gone well
        self.seconds_a_step: float | None = None  # what the loop measured

    def refresh(self) -> None:
        """Look at the model anew: variables may have come, gone or changed sides since the last launch."""
        with self._lock, one_look():
            groups = self._groups()
            ids = (tuple([id(v) for v in group]) for group in groups)
            key = (placement.current(), *ids, len(self._extra), len(self._assigned))
            if key == self._key:
                return
            placement.meet(itertools.chain(*groups, self._extra))
            self._key, self._metrics = key, frozenset(id(v) for v in groups[-1])
            found = {id(v): v for v in itertools.chain(*groups, self._extra)}
            changing = itertools.chain(*groups, self._extra) if self._trains else [*groups[-1], *self._extra]
            given = {id(v) for v in changing} | self._assigned
            self._given = [v for key, v in found.items() if key in given]
            self._seen = [v for key, v in found.items() if key not in given]
            if key not in self._loops:
                step = pure_step(self._method, self._given, self._seen, self._groups)
                self._loops[key] = many_steps(step, partial(self._fresh, self._given), self._given)
                for old in list(self._loops)[:-KEPT_STATES]:
                    del self._loops[old]
                    self._programs = {k: program for k, program in self._programs.items() if k[0] != old}

    def _fresh(self, variables: list[Variable], values: tuple) -> list[Any]:
        """The values after `reset`."""
        with StateScope(zip(variables, values)) as state:
            self._reset()
        return state.values(variables)

    def launch(
        self, program: Program, feed: Feed, run: Run, *, capacity: int = 1, reset: bool = False
    ) -> dict[str, Any]:
        """Run the steps of `feed` and return the logs of the last `capacity` of them, by name."""
        program.compile()
        feed = _laid_out(feed)
        kept: list[dict[str, Any]] = []
        done = 0
        while done < feed.count:
            where = (feed.first + done, feed.count - done, reset and done == 0, feed.epochs)
            with self.interrupts.held():
                out = self._exchange(program, (feed.data, feed.order, *where), run)
            kept = [*kept, out.logs][-capacity:]
            done = done + 1 if isinstance(out, OneStep) else feed.count
        return kept[0] if len(kept) == 1 else {k: jnp.concatenate([logs[k] for logs in kept]) for k in kept[0]}

    def program(self, feed: Feed, capacity: int, background: bool = False) -> Program:
        """The compiled program for such a feed; traced here and now, and compiled, if asked, while others go on."""
        with self._lock, without_collections():
            found, feed = None, _laid_out(feed, shapes=True)
            for _ in range(TRACES):
                if self._key is None or self._key[0] is not placement.current():
                    self.refresh()
                loop = self._loops[self._key]
                key = (self._key, settings(), capacity, shapes((feed.data, feed.order)))
                if key in self._programs:
                    return self._programs[key]
                try:
                    traced = loop.trace(
                        placement.structs(self._given), placement.structs(self._seen), feed.data, feed.order,
                        0, 1, False, 1, capacity=capacity,
                    )  # fmt: skip
                except FoundVariables as error:
                    found = error.missing or error.assigned
                    self._extra.extend(error.missing)
                    self._assigned.update(id(v) for v in error.assigned)
                    self.refresh()
                    continue
                self._programs[key] = Program(
                    traced, background, partial(loop, capacity=capacity), self._given, self._seen
                )
                return self._programs[key]
            self._extra.clear()
            raise made_anew(getattr(self._method, "__qualname__", "step"), found or [])

    def _exchange(self, program: Program, arguments: tuple, run: Run) -> ManySteps:
        """Give the arrays, call, and take the new ones in."""
        if not program.proven or program.calls_host or checks_values():
            # Nothing is held meanwhile: Python that the program calls may read variables, or wait for another thread.
            def run_copies(seen: tuple) -> ManySteps:
                with handover.still:
                    values = copied(tuple([self._value(v, run) for v in program.given]))
                return program(values, seen, *arguments)

            out = handover.call(run_copies, program.seen)
            jax.block_until_ready(out)
            with handover.exchange():
                self._take(program, out.values, run)
        else:
            with handover.exchange():
                metrics = self._metrics
                values = tuple([self._value(v, run, True) if id(v) in metrics else v.give() for v in program.given])
                out = program(values, tuple([v.stored for v in program.seen]), *arguments)
                self._take(program, out.values, run)
        self.proven = program.proven = True
        return out

    def _value(self, variable: Variable, run: Run, give: bool = False) -> Any:
        """The array of a variable for a launch, which may take it away if it is to `give` it."""
        key = id(variable)
        if key in run.arrays and run.arrays[key] is not variable.stored:  # another run came between
            array = run.arrays[key]
        elif give and not _running.get(key, set()) - {run}:
            return variable.give()
        else:
            array = variable.stored
        return copied(array) if give else array

    def _take(self, program: Program, values: tuple, run: Run) -> None:
        for variable, value in zip(program.given, values):
            variable.take(value)
            if id(variable) in self._metrics:
                run.arrays[id(variable)] = value
                _running.setdefault(id(variable), set()).add(run)


def checks_values() -> bool:
    """Whether JAX looks for NaN or infinity in what comes out, and raises."""
    config: Any = jax.config
    return bool(config.jax_debug_nans or config.jax_debug_infs)


def _options(traced: Any, arrays: int) -> dict[str, Any]:
    """Options of the compiler.

    On CPUs LLVM's lowest level makes programs that are as fast, in 0.8 to 0.9 of the time. An optimization barrier is
    to hold, which XLA would take away before it joins operations; but of a small loop it makes one operation, and knows
    no barrier there. XLA looks a dozen times for what the loop over steps carries in vain, in time that grows with the
    square of the number of arrays (a fifth of the compilation of 300 layers), and finds nothing. Loops of layers are
    worth a look.
    """
    options: dict[str, Any] = {}
    left_out, jaxpr = [], traced.jaxpr.jaxpr
    if jax.default_backend() == "cpu":
        options["xla_backend_optimization_level"] = 1
        if "optimization_barrier" not in effects.primitives_in_loops(jaxpr):
            left_out.append("cse_barrier_expander")
    if arrays > MANY_ARRAYS and "scan" not in effects.primitives(jaxpr):
        left_out.append("simplify-while-loops")
    if left_out:
        options["xla_disable_hlo_passes"] = ",".join(left_out)
    return options


def _laid_out(feed: Feed, shapes: bool = False) -> Feed:
    """The feed with each row on the device that it belongs to, or the shapes of that."""
    if placement.current() is None:
        return feed
    data, order = feed.data, feed.order
    if shapes:
        data, order = tree_util.tree_map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (data, order))
    if order is None:
        return feed._replace(data=placement.rows(data, before=1))
    return feed._replace(data=placement.whole(data), order=placement.rows(order, before=1))


def shapes(data: Any) -> tuple:
    """What tells whether two structures of arrays are of the same kind."""
    leaves, treedef = tree_util.tree_flatten(data)
    return treedef, tuple([(leaf.shape, leaf.dtype) for leaf in leaves])
