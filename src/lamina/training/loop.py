"""The loop around the steps, to be read from top to bottom: epochs, launches, callbacks.

One launch runs as many steps as make about `TARGET_SECONDS` of work, so that a progress bar lives and Ctrl-C answers,
and no more than the callbacks allow. After every launch the model holds the new values.
"""

import contextlib
import itertools
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import tree_util

from lamina.callbacks.listeners import plain_logs
from lamina.callbacks.progress import say
from lamina.core import placement
from lamina.core.arrays import value_of
from lamina.core.effects import FoundVariables
from lamina.core.variable import Variable
from lamina.data import windows
from lamina.data.sources import ArraySource, RowSource, Source, StreamSource
from lamina.saving.resume import Position
from lamina.training.forms import stateful
from lamina.training.step import Feed, Launcher, Program, Run, pure_step

TARGET_SECONDS = 0.08
LOGGED_STEPS = 256  # steps of a launch whose logs are kept for callbacks that look at each


@dataclass
class Phase:
    """What the loop needs of a model to train or to evaluate it.

    Args:
        name: `"train"` or `"test"`.
        method: the step, `f(data) -> logs`, or `f(state, data) -> logs, state`.
        groups: finds the lists of variables that `state` is made of.
        reset: sets the metrics to where an epoch starts.
        stopped: whether the run shall end.
        launcher: runs the step, having looked at the model; `None` to run it through Python.
        minimum: the least number of steps in a launch.
        fills: tells whether rows that do not count may fill a short batch up, given what part of an epoch they are;
            see `rows.stay_apart`.
        guard: stands around launches, `guard(variables, feed, epoch, step)`.
        function: the program's own, `f(state, iterator of batches) -> logs, state`, if it has one.
        settle: `f(logs, arrays of the run's metrics)`, the logs of an epoch, where the program's own code makes them.
    """

    name: str
    method: Callable
    groups: Callable[[], list[list[Variable]]]
    reset: Callable[[], Any]
    stopped: Callable[[], bool]
    launcher: Launcher | None = None
    minimum: int = 1
    fills: Callable[[float], bool] = lambda _: False
    guard: Callable[[list[Variable], Feed, int, int], AbstractContextManager] = lambda *_: nullcontext()
    function: Callable | None = None
    settle: Callable[[dict[str, Any], dict[int, Any]], dict[str, Any]] | None = None


class Pace:
    """How many steps the next launch should run."""

    def __init__(self, phase: Phase, launcher: Launcher, callbacks: Any):
        self._phase, self._launcher, self._callbacks = phase, launcher, callbacks
        self.capacity = LOGGED_STEPS if callbacks.wants_step_logs else 1  # steps of a launch whose logs are kept
        self._epochs = 0  # that a launch may run, once that is known

    def steps(self) -> int:
        """Steps for about `TARGET_SECONDS`, growing from one as the step proves short."""
        seconds = self._launcher.seconds_a_step
        wanted = 1 if seconds is None or self._phase.stopped() else int(TARGET_SECONDS / max(seconds, 1e-9))
        wanted = max(1, self._phase.minimum, min(wanted, 1_000_000))
        limits = [self._callbacks.launch_limit(self._phase.name), self.capacity if self.capacity > 1 else None]
        return placement.least(min([wanted, *(limit for limit in limits if limit is not None)]))

    @property
    def free(self) -> bool:
        """Whether no callback looks at single steps."""
        return self.capacity == 1 and self._callbacks.launch_limit(self._phase.name) is None

    def epochs(self, size: int, most: int) -> int:
        """How many epochs of `size` steps the next launch should run, `most` at the most."""
        most = min(most, self._epochs)
        return 1 if most < 2 else max(1, min(most, self.steps() // size))

    def measured(self, seconds: float, steps: int, program: Program) -> None:
        """Learn from launches."""
        self._launcher.seconds_a_step = seconds / steps
        self._epochs = self._epochs or placement.least(1 if self._callbacks.looks_at_epochs else program.epochs)


class Resident:
    """Arrays that stay on an accelerator, read by row number inside the launch."""

    def __init__(self, source: ArraySource):
        self.source = source
        self._size = source.batch_size
        # Rounded, so that a program serves data of nearly every length.
        self._rows, self._batches = _rounded(source.size), _rounded(source.num_batches)
        sent: dict[int, Any] = {}  # an array that is input and target too is sent once
        self.data = tree_util.tree_map(
            lambda a: sent.setdefault(id(a), placement.sent(_filled(a, self._rows))), source.arrays
        )

    def ahead(self) -> list[Feed]:
        """A feed of each kind of an epoch, full batches first."""
        full, rest = divmod(self.source.rows(0), self._size)
        shapes = [(self._batches, self._size)] * bool(full) + [(1, rest)] * bool(rest)
        return [Feed(self.data, jax.ShapeDtypeStruct(shape, np.int32), 0, 1) for shape in shapes]

    def feeds(self, epoch: int, pace: Pace, start: int = 0, most: int = 1) -> Iterator[Feed]:
        order = self.source.order(epoch)
        rows = np.arange(self.source.size, dtype=np.int32) if order is None else order
        full, rest = divmod(self.source.rows(epoch), self._size)
        batches = rows[: full * self._size].reshape(full, self._size)
        order, done = placement.sent(_filled(batches, self._batches), before=1), start
        while done < full:
            count = min(pace.steps(), full - done)
            done += count
            waits = not (done == full and rest and pace.free)
            yield Feed(self.data, order, done - count, count, waits)
        if rest and start <= full:
            yield Feed(self.data, rows[None, full * self._size : full * self._size + rest], 0, 1)


def _filled(array: Any, length: int) -> np.ndarray:
    """The array with zeros behind it."""
    host = np.asarray(array)
    return np.concatenate([host, np.zeros((length - len(host), *host.shape[1:]), host.dtype)])


def _rounded(size: int) -> int:
    """The next number of at most four binary digits and zeros: an eighth more at the most."""
    step = 1 << max(0, size.bit_length() - 4)
    return -(-size // step) * step


class Windowed:
    """Batches in windows: of arrays in the host's memory, or of a stream."""

    def __init__(self, source: Source, fills: Callable[[float], bool] = Phase.fills):
        self.source = source
        self.fills, self._epochs = False, 1  # those that a window has room for
        if isinstance(source, ArraySource):
            lacking = -source.size % source.batch_size
            self.fills = source.rows(0) >= source.batch_size and fills(lacking / source.size)
            alike = self.fills or not lacking
            if alike and source.rows(0) == source.size and not source.is_lazy:  # which may take long to read
                self._epochs = windows.array_capacity(source) // source.num_batches

    def ahead(self) -> list[Feed]:
        """A feed of each kind of an epoch, full batches first, as far as is known; of a stream that of its first."""
        if not isinstance(self.source, ArraySource):
            structure = self.source.structure
            capacity = windows.capacity_for(sum(s.size * s.dtype.itemsize for s in tree_util.tree_leaves(structure)))
            all_ = placement.own_part(1)[1]  # rows in all processes for one here
            like = tree_util.tree_map(
                lambda s: jax.ShapeDtypeStruct((capacity, *(n * all_ for n in s.shape[:1]), *s.shape[1:]), s.dtype),
                structure,
            )
            return [Feed(like, None, 0, 1)]
        arrays, size = self.source.arrays, self.source.batch_size
        full, rest = divmod(self.source.rows(0), size)
        capacity = windows.array_capacity(self.source)
        if self.fills:
            counted = jax.ShapeDtypeStruct((capacity,), np.int32)
            return [Feed(windows.Filled(_structs(arrays, capacity, size), counted), None, 0, 1)]
        kinds = [(size, capacity)] if full else []
        kinds += [(rest, 1)] if rest else []
        return [Feed(_structs(arrays, capacity, size), None, 0, 1) for size, capacity in kinds]

    def feeds(self, epoch: int, pace: Pace, start: int = 0, most: int = 1) -> Iterator[Feed]:
        epochs = 1
        if isinstance(self.source, ArraySource):
            epochs = pace.epochs(self.source.num_batches, min(most, self._epochs) if start == 0 else 1)
            found = windows.of_arrays(self.source, epoch, self.fills, start, epochs)
            full, rest = (0, 0) if self.fills else divmod(self.source.rows(epoch), self.source.batch_size)
        else:
            source: Any = self.source
            batches = source.ordered(epoch, start) if isinstance(source, RowSource) else source.epoch(epoch, start)
            windowed: Any = windows.of_arrays if isinstance(batches, ArraySource) else windows.of_stream
            found, full, rest = windowed(batches), 0, 0
        # One CPU reads the windows where they are.
        total, in_place = start, jax.default_backend() == "cpu" and placement.current() is None
        for window in found:
            data, done = window.data if in_place else placement.sent(window.data, 1, window.size), 0
            while done < window.count:
                count = window.count if epochs > 1 else min(pace.steps(), window.count - done)
                done, total = done + count, total + count
                waits = not (total == full and rest and pace.free)
                yield Feed(data, None, done - count, count, waits, epochs)


def _structs(arrays: Any, batches: int, size: int) -> Any:
    """What tells a compiler of batches of arrays like these."""
    return tree_util.tree_map(
        lambda a: jax.ShapeDtypeStruct((batches, size, *a.shape[1:]), jax.dtypes.canonicalize_dtype(a.dtype)), arrays
    )


def reader(source: Source, fills: Callable[[float], bool] = Phase.fills) -> Resident | Windowed:
    """The way to read a source: from the device, if that has memory of its own and all of it fits."""
    stats = jax.devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
    if (
        stats
        and isinstance(source, ArraySource)
        and not source.is_lazy
        and source.row_bytes * source.size <= stats.get("bytes_limit", 0) // 2
    ):
        return Resident(source)
    return Windowed(source, fills)


def run_epoch(
    phase: Phase, launcher: Launcher, data: Resident | Windowed, callbacks: Any, at: Position, pace: Pace, most: int
) -> tuple[int, dict]:
    """One pass of steps over the data, or the rest of one: their number, and the logs after the last one.

    Where nobody looks between epochs, one launch may run several, `most` at the most. Then all have ended but the last.
    """
    step, logs = at.batch, at.logs
    callbacks.done = step
    feeds: Any = data.feeds(at.epoch, pace, step, 1 if phase.settle else most)
    begin = getattr(callbacks, f"on_{phase.name}_batch_begin")
    compiled, start, seen = False, time.perf_counter(), step  # since the last look at what came out
    if callbacks.may_change_model:
        launcher.refresh()
    try:
        with Run() as run:
            for feed in feeds:
                begin(step)
                program = launcher.program(feed, pace.capacity)
                compiled |= not program.proven
                with launcher.interrupts.held() if feed.epochs > 1 else nullcontext():
                    with phase.guard(program.given, feed, at.epoch, step):
                        out = launcher.launch(program, feed, run, capacity=pace.capacity, reset=step == 0)
                    columns = {} if feed.epochs == 1 else {k: np.asarray(v).tolist() for k, v in out.items()}
                    for i in range(feed.epochs - 1):  # before a signal that waits: the weights have been through them
                        callbacks.on_epoch_end(at.epoch, {name: column[i] for name, column in columns.items()})
                        at.move(at.epoch + 1)
                step += feed.count
                if not feed.waits:
                    continue
                values = {name: np.asarray(value) for name, value in out.items()}
                if not compiled:
                    pace.measured(time.perf_counter() - start, step - seen, program)
                kept = min(feed.count, pace.capacity)
                callbacks.replay(phase.name, step - kept, {k: v[:kept] for k, v in values.items()}, kept)
                logs = {name: value[max(kept, feed.epochs) - 1] for name, value in values.items()}
                if placement.any_of(phase.stopped()):
                    break
                if callbacks.may_change_model and not pace.free:  # else its hooks come with the next epoch
                    launcher.refresh()
                compiled, start, seen = False, time.perf_counter(), step
            logs = phase.settle(logs, run.arrays) if phase.settle else logs
    finally:
        feeds.close()
    return step, logs


def seek(
    position: Position, first: int, source: Source, held_out: Source | None, validates: Callable[[int], bool]
) -> bool:
    """Whether a run goes on with an earlier one, of which `first` was the first epoch; then bring the data there."""
    if (position.epoch, position.batch) == (first, 0):
        return False
    source.seed = position.seed
    if not (source.can_seek and (held_out is None or held_out.can_seek)):
        say("fit: the data cannot be sought; what an earlier run has read is gone through and dropped.")
    for epoch in range(first, position.epoch):
        source.pass_over(epoch)
        if held_out is not None and validates(epoch):
            held_out.pass_over(0)
    return True


def warn_of_end(phase: str, source: Any, steps: int) -> None:
    """Warn where a stream ended before the steps that were asked for."""
    wanted = source.steps if isinstance(source, StreamSource) else None
    if steps == 0 or (wanted is not None and steps < wanted):
        where = f"after {steps} of {wanted} steps" if steps else "with an earlier epoch"
        warnings.warn(
            f"{phase}: the data ended {where}; make the generator endless, or ask for fewer steps.", stacklevel=5
        )


class Runner:
    """A phase over a source, ready to run epochs."""

    def __init__(self, phase: Phase, source: Source, callbacks: Any):
        self.phase, self.source, self.callbacks = phase, source, callbacks
        self._begun = False
        if phase.launcher is not None:
            if callbacks.may_change_model:
                phase.launcher.refresh()
            self._data = reader(source, phase.fills)
            self._pace = Pace(phase, phase.launcher, callbacks)
            # Training compiles for full batches itself, right away; evaluation comes later and leaves both to others.
            kinds = self._data.ahead() if isinstance(source, ArraySource) else []
            for feed in kinds[1:] if phase.name == "train" else kinds:
                phase.launcher.program(feed, self._pace.capacity, background=True)

    def meet_variables(self) -> None:
        """Let the step make the variables that it makes for its first batch: metrics may wait for shapes."""
        phase = self.phase
        if phase.launcher is not None:
            phase.launcher.program(self._data.ahead()[0], self._pace.capacity, background=True)
        else:
            variables = [v for group in phase.groups() for v in group]
            with contextlib.suppress(FoundVariables):
                values = [v.value for v in variables]
                pure_step(phase.method, variables, [], phase.groups)(values, [], jax.device_put(self.source.peek()))

    def epoch(self, at: Position, most: int = 1) -> dict[str, Any] | None:
        """The logs after one pass over the data, `None` where an earlier one has used them up; see `run_epoch`."""
        phase = self.phase
        if phase.launcher is None:
            steps, logs = eager_epoch(phase, self.source, self.callbacks, at)
        else:
            with phase.launcher.interrupts:
                steps, logs = run_epoch(phase, phase.launcher, self._data, self.callbacks, at, self._pace, most)
        if steps == 0 and not self._begun:
            raise ValueError(f"{phase.name}: the data must give at least one batch, got none.")
        self._begun = True
        if not phase.stopped():
            warn_of_end(phase.name, self.source, steps)
        return plain_logs(logs) if steps else None


def eager_epoch(phase: Phase, source: Source, callbacks: Any, at: Position) -> tuple[int, dict[str, Any]]:
    """An epoch through Python, where a debugger can stop, or the program has a function of its own for a step."""
    if not at.batch:
        phase.reset()
    batches = enumerate(source.epoch(at.epoch, at.batch), at.batch)
    step, logs = at.batch - 1, at.logs
    for step, first in batches:
        getattr(callbacks, f"on_{phase.name}_batch_begin")(step)
        taken = [step]
        feed = Feed.of(tree_util.tree_map(np.asarray, first))
        with phase.guard([v for group in phase.groups() for v in group], feed, at.epoch, step):
            logs = eager_step(phase, itertools.chain([first], _noted(batches, taken)))
        step = taken[-1]
        callbacks.replay(phase.name, step, {name: np.asarray(value)[None] for name, value in logs.items()}, 1)
        if phase.stopped():
            break
    return step + 1, phase.settle(logs, {}) if phase.settle else logs


def _noted(batches: Iterator[tuple[int, Any]], taken: list[int]) -> Iterator[Any]:
    """The batches, their numbers being noted as they are taken."""
    for step, batch in batches:
        taken.append(step)
        yield batch


def eager_step(phase: Phase, batches: Iterator[Any]) -> dict[str, Any]:
    """One step through Python, on the next batch; a function of the program's own may take several."""
    sent = map(jax.device_put, batches)
    if phase.function is not None:
        logs = stateful(phase.function, phase.groups, keep=True)(sent)
    else:
        logs = stateful(phase.method, phase.groups)(next(sent))
    return {name: np.asarray(value_of(value)) for name, value in (logs or {}).items()}


def collect_outputs(predict: Callable, source: Any, callbacks: Any, stopped: Callable[[], bool]) -> Any:
    """The outputs of every batch, each in one array of all rows."""
    total = source.rows(0) if isinstance(source, ArraySource) else None
    whole: list[np.ndarray] | None = None
    pieces: list[list[np.ndarray]] = []
    treedef, row, step = None, 0, -1
    for step, batch in enumerate(source.epoch(0)):
        callbacks.on_predict_batch_begin(step)
        outputs = predict(batch)
        leaves, treedef = tree_util.tree_flatten(outputs)
        arrays, rows = [placement.to_host(leaf) for leaf in leaves], rows_in(batch)
        if step == 0 and total is not None and all(a.shape[:1] == (rows,) for a in arrays):
            whole = [np.empty((total, *a.shape[1:]), a.dtype) for a in arrays]
        if whole is not None:
            for target, array in zip(whole, arrays):
                target[row : row + rows] = array
            row += rows
        else:
            pieces.append(arrays)
        callbacks.on_predict_batch_end(step, {"outputs": outputs})
        if stopped():
            break
    if treedef is None:
        raise ValueError("predict: the data must give at least one batch, got none.")
    if not stopped():
        warn_of_end("predict", source, step + 1)
    if whole is not None:
        return treedef.unflatten([target[:row] for target in whole])
    return treedef.unflatten([np.concatenate(parts) for parts in zip(*pieces)])


def rows_in(batch: Any) -> int:
    """The number of rows of a batch."""
    leaves = tree_util.tree_leaves(batch, is_leaf=lambda x: hasattr(x, "shape"))
    leaf = next((leaf for leaf in leaves if np.ndim(leaf)), None)
    return max(1, np.shape(leaf)[0]) if leaf is not None else 1
