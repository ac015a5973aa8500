"""The loop around the steps, to be read from top to bottom: epochs, launches, callbacks.

One launch runs as many steps as make about `TARGET_SECONDS` of work, so that a progress bar lives and Ctrl-C answers,
and no more than the callbacks allow. After every launch the model holds the new values.
"""

from __future__ import annotations

import inspect
import math
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import tree_util

from lamina.core.variable import Variable
from lamina.data import streams
from lamina.data.sources import ArraySource, StreamSource
from lamina.training.step import Launcher, pure_step

TARGET_SECONDS = 0.08
LOGGED_STEPS = 256  # steps of a launch whose logs are kept for callbacks that look at each
CHUNK_BYTES = 1 << 26  # of batches of a stream that are stacked for one launch
CHUNK_BATCHES = 32
SMALL_ORDER = 1 << 16  # bytes


class Feed(NamedTuple):
    """A range of batches on the device: `count` batches of `size` rows from row `first` on.

    `waits` is false where the next range follows at once, so that nobody need look at what came out.
    """

    data: Any
    order: Any
    first: int
    count: int
    size: int
    waits: bool = True


class Pace:
    """How many steps the next launch should run."""

    def __init__(self, launcher: Launcher, callbacks: Any, phase: str, minimum: int = 1):
        self._launcher, self._callbacks, self._phase, self._minimum = launcher, callbacks, phase, minimum
        self._last = 1
        self._capacity = LOGGED_STEPS if callbacks.wants_step_logs else 1

    @property
    def capacity(self) -> int:
        """For how many steps a launch keeps logs."""
        return self._capacity

    def steps(self) -> int:
        """Steps for about `TARGET_SECONDS`, growing from one as the step proves short."""
        seconds = self._launcher.seconds_a_step
        wanted = 1 if seconds is None else int(TARGET_SECONDS / max(seconds, 1e-9))
        wanted = max(1, self._minimum, min(wanted, 1_000_000))
        limits = [self._callbacks.launch_limit(self._phase), self._capacity if self._capacity > 1 else None]
        return min([wanted, *(limit for limit in limits if limit is not None)])

    @property
    def free(self) -> bool:
        """Whether no callback looks at single steps."""
        return self._capacity == 1 and self._callbacks.launch_limit(self._phase) is None

    def measured(self, seconds: float, steps: int, compiled: bool) -> None:
        """Learn from a launch, unless it had to compile first."""
        if not compiled:
            self._launcher.seconds_a_step = seconds / steps


class Resident:
    """Arrays that stay on the device, read by row number inside the launch."""

    def __init__(self, source: ArraySource):
        self.source = source
        sent: dict[int, Any] = {}  # an array that is input and target too is sent once
        self.data = tree_util.tree_map(lambda a: sent.setdefault(id(a), jax.device_put(a)), source.arrays)

    def compile_ahead(self, pace: Pace, launcher: Launcher, sizes: int) -> None:
        """Start to compile in the background for the short last batch, and for full ones if `sizes` is 2."""
        full, rest = divmod(self.source.rows(0), self.source.batch_size)
        order = self.source.order(0)
        order = order if order is None else jax.ShapeDtypeStruct(order.shape, order.dtype)
        wanted = [size for size, there in ((rest, rest), (self.source.batch_size, full)) if there]
        for size in wanted[:sizes] if full else []:
            launcher.compile_ahead(self.data, order, size=size, capacity=pace.capacity)

    def feeds(self, epoch: int, pace: Pace, launcher: Launcher) -> Generator[Feed, None, None]:
        rows, size = self.source.rows(epoch), self.source.batch_size
        order = self.source.order(epoch)
        if order is not None and order.nbytes > SMALL_ORDER:  # else it is quicker sent with each launch
            order = jax.device_put(order)
        full, rest = divmod(rows, size)
        done = 0
        while done < full:
            count = min(pace.steps(), full - done)
            last = done + count == full
            yield Feed(self.data, order, done * size, count, size, waits=not (last and rest and pace.free))
            done += count
        if rest:
            yield Feed(self.data, order, full * size, 1, rest)


class Streamed:
    """Batches that arrive, stacked by a background thread and sent ahead."""

    def __init__(self, source: Any):
        self.source = source

    def batches(self, epoch: int) -> Iterator[Any]:
        if isinstance(self.source, StreamSource):
            return self.source.epoch(epoch)
        return _array_batches(self.source, epoch)

    def feeds(self, epoch: int, pace: Pace, launcher: Launcher) -> Generator[Feed, None, None]:
        capacity = 1

        def room() -> int:
            return capacity

        def chunks() -> Iterator[tuple[Any, int, int]]:
            nonlocal capacity
            for chunk, count in streams.stacked(self.batches(epoch), room, TARGET_SECONDS):
                first = tree_util.tree_leaves(chunk)[0]
                batch_bytes = sum(leaf.nbytes for leaf in tree_util.tree_leaves(chunk)) // count
                yield _padded(chunk, count, capacity), count, first.shape[1]
                seconds = launcher.seconds_a_step
                wanted = CHUNK_BATCHES if seconds is None else max(1, int(TARGET_SECONDS / max(seconds, 1e-9)))
                fits = max(1, CHUNK_BYTES // max(1, batch_bytes))
                limit = pace.steps() if pace.steps() > 1 or seconds is not None else CHUNK_BATCHES
                capacity = 1 << int(math.log2(max(1, min(CHUNK_BATCHES, wanted, fits, limit))))

        for chunk, count, size in streams.prefetch(chunks(), 2):
            data = jax.device_put(chunk)
            done = 0
            while done < count:
                steps = min(max(1, pace.steps()), count - done)
                yield Feed(data, None, done * size, steps, size)
                done += steps


def _padded(chunk: Any, count: int, capacity: int) -> Any:
    """Stacked batches as rows, filled up to `capacity` batches so that one executable serves them all."""

    def rows(leaf: np.ndarray) -> np.ndarray:
        flat = leaf.reshape(-1, *leaf.shape[2:])
        missing = (capacity - count) * leaf.shape[1]
        return flat if missing <= 0 else np.concatenate([flat, np.zeros((missing, *flat.shape[1:]), flat.dtype)])

    return tree_util.tree_map(rows, chunk)


def _array_batches(source: ArraySource, epoch: int) -> Iterator[Any]:
    """The batches of arrays that are too large for the device."""
    order, rows = source.order(epoch), source.rows(epoch)
    for start in range(0, rows, source.batch_size):
        stop = min(start + source.batch_size, rows)
        index = slice(start, stop) if order is None else order[start:stop]
        yield tree_util.tree_map(lambda leaf, i=index: np.asarray(leaf[i]), source.arrays)


def reader(source: Any) -> Resident | Streamed:
    """The way to read a source: from the device if all of it fits."""
    if isinstance(source, ArraySource) and source.nbytes <= _room_on_device():
        return Resident(source)
    return Streamed(source)


def _room_on_device() -> int:
    """Bytes that data may take: half of what the device says it has, or of a modest machine's memory."""
    stats = jax.devices()[0].memory_stats() or {}
    return stats.get("bytes_limit", 1 << 33) // 2


def run_epoch(
    launcher: Launcher, data: Resident | Streamed, callbacks: Any, phase: str, epoch: int, pace: Pace
) -> tuple[int, dict]:
    """One pass of steps over the data: their number, and the logs after the last one."""
    step, logs, model = 0, {}, callbacks.model
    feeds = data.feeds(epoch, pace, launcher)
    begin = getattr(callbacks, f"on_{phase}_batch_begin")
    compiled, start, seen = False, time.perf_counter(), 0  # since the last look at what came out
    try:
        for feed in feeds:
            begin(step)
            compiled |= launcher.will_compile(feed)
            out = launcher.launch(
                feed.data, feed.order, feed.first, feed.count, size=feed.size, capacity=pace.capacity, reset=step == 0
            )
            step += feed.count
            if not feed.waits:
                continue
            values = {name: np.asarray(value) for name, value in out.items()}
            pace.measured(time.perf_counter() - start, step - seen, compiled)
            kept = min(feed.count, pace.capacity)
            callbacks.replay(phase, step - kept, {k: v[:kept] for k, v in values.items()}, kept)
            logs = {name: value[(feed.count - 1) % pace.capacity] for name, value in values.items()}
            if stopped(model, phase):
                break
            compiled, start, seen = False, time.perf_counter(), step
    finally:
        feeds.close()
    return step, logs


def warn_of_end(phase: str, source: Any, steps: int) -> None:
    """Warn where a stream ended before the steps that were asked for."""
    wanted = source.steps if isinstance(source, StreamSource) else None
    if steps == 0 or (wanted is not None and steps < wanted):
        where = f"after {steps} of {wanted} steps" if steps else "with an earlier epoch"
        warnings.warn(
            f"{phase}: the data ended {where}; make the generator endless, or ask for fewer steps.", stacklevel=5
        )


def stopped(model: Any, phase: str) -> bool:
    return bool(getattr(model, {"train": "stop_training", "test": "stop_evaluating"}[phase], False))


def plain_logs(logs: dict[str, Any]) -> dict[str, Any]:
    """Logs as floats, by sorted name."""
    return {name: float(value) if np.ndim(value) == 0 else np.asarray(value) for name, value in sorted(logs.items())}


class Runner:
    """A phase over a source, ready to run epochs."""

    def __init__(self, model: Any, phase: str, source: Any, callbacks: Any):
        self.model, self.phase, self.source, self.callbacks = model, phase, source, callbacks
        self.launcher = model._launcher(phase)
        self.pace = Pace(self.launcher, callbacks, phase, model.steps_per_execution)
        self.data = None if model.run_eagerly else reader(source)
        self._begun = False
        if isinstance(self.data, Resident):
            # Training compiles for full batches itself, right away; evaluation comes later and leaves both to others.
            self.data.compile_ahead(self.pace, self.launcher, sizes=1 if phase == "train" else 2)

    def epoch(self, epoch: int) -> dict[str, Any] | None:
        """The logs after one pass over the data, `None` where an earlier one has used them up."""
        if self.data is None:
            steps, logs = eager_epoch(self.model, self.phase, self.source, self.callbacks, epoch)
        else:
            with self.launcher.interrupts:
                steps, logs = run_epoch(self.launcher, self.data, self.callbacks, self.phase, epoch, self.pace)
        if steps == 0 and not self._begun:
            raise ValueError(f"{self.phase}: the data must give at least one batch, got none.")
        self._begun = True
        if not stopped(self.model, self.phase):
            warn_of_end(self.phase, self.source, steps)
        return plain_logs(logs) if steps else None


def eager_epoch(model: Any, phase: str, source: Any, callbacks: Any, epoch: int) -> tuple[int, dict[str, Any]]:
    """An epoch through Python, where a debugger can stop."""
    model.reset_metrics()
    steps, logs = 0, {}
    for step, batch in enumerate(Streamed(source).batches(epoch)):
        getattr(callbacks, f"on_{phase}_batch_begin")(step)
        logs = eager_step(model, phase, batch)
        callbacks.replay(phase, step, {name: np.asarray(value)[None] for name, value in logs.items()}, 1)
        steps += 1
        if stopped(model, phase):
            break
    return steps, logs


def eager_step(model: Any, phase: str, batch: Any) -> dict[str, Any]:
    """One step through Python."""
    batch = jax.device_put(batch)
    method, groups = model._step_of(phase)
    if len(inspect.signature(method).parameters) == 1:
        logs = method(batch) or {}
        return {k: np.asarray(v.value if isinstance(v, Variable) else v) for k, v in logs.items()}
    variables = [v for group in groups() for v in group]
    values, logs = pure_step(method, variables, groups)(tuple(v.value for v in variables), batch)
    for variable, value in zip(variables, values):
        variable.assign(value)
    return jax.device_get(logs)


def collect_outputs(model: Any, predict: Callable, source: Any, callbacks: Any) -> Any:
    """The outputs of every batch, each in one array of all rows."""
    total = source.rows(0) if isinstance(source, ArraySource) else None
    whole: list[np.ndarray] | None = None
    pieces: list[list[np.ndarray]] = []
    treedef, row, step = None, 0, -1
    for step, batch in enumerate(Streamed(source).batches(0)):
        callbacks.on_predict_batch_begin(step)
        outputs = predict(batch)
        leaves, treedef = tree_util.tree_flatten(outputs)
        arrays, rows = [np.asarray(leaf) for leaf in leaves], rows_in(batch)
        if step == 0 and total is not None and all(a.shape[:1] == (rows,) for a in arrays):
            whole = [np.empty((total, *a.shape[1:]), a.dtype) for a in arrays]
        if whole is not None:
            for target, array in zip(whole, arrays):
                target[row : row + rows] = array
            row += rows
        else:
            pieces.append(arrays)
        callbacks.on_predict_batch_end(step, {"outputs": outputs})
        if model.stop_predicting:
            break
    if treedef is None:
        raise ValueError("predict: the data must give at least one batch, got none.")
    if not model.stop_predicting:
        warn_of_end("predict", source, step + 1)
    if whole is not None:
        return treedef.unflatten([target[:row] for target in whole])
    return treedef.unflatten([np.concatenate(parts) for parts in zip(*pieces)])


def rows_in(batch: Any) -> int:
    """The number of rows of a batch."""
    leaf = next((leaf for leaf in tree_util.tree_leaves(batch) if np.ndim(leaf)), None)
    return max(1, np.shape(leaf)[0]) if leaf is not None else 1
