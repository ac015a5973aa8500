"""Windows: memory for a fixed number of batches, which a launch reads by their number.

Their size depends on the batch alone, so a compiled program serves data of every length. They are aligned, so a CPU
reads them in place, and what is not filled is never touched.
"""

import contextlib
import math
import threading
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import tree_util

from lamina.core import placement
from lamina.data.arrays import distinct
from lamina.data.lazy import LazyRows, host
from lamina.data.sources import ArraySource
from lamina.data.streams import close, prefetch

WINDOW_BYTES = 1 << 25
WINDOW_BATCHES = 1 << 14
KEPT_SIZES, KEPT_WINDOWS = 4, 2  # of windows that are gone: so many sizes, so many of each
_WORTH_KEEPING = 1 << 20
_ALIGNMENT = 64


class Window(NamedTuple):
    """`count` batches, at the beginning of every array in `data`, (batches, rows, ...).

    Where other processes have other rows of the batches, `size` is the number of all.
    """

    data: Any
    count: int
    size: int | None = None


class Filled(NamedTuple):
    """Batches of which the first `counted` rows count; the others fill them up."""

    data: Any
    counted: Any


class _Lent:
    """Bytes for a window. When the last array that looks at them is gone, another window may have them: the system may
    take longer to find so much memory anew than a launch takes."""

    spare: dict[int, deque[np.ndarray]] = {}

    def __init__(self, size: int):
        if size not in self.spare and len(self.spare) >= KEPT_SIZES:
            self.spare.clear()
        self.others: deque[np.ndarray] = deque(maxlen=0)
        if size >= _WORTH_KEEPING:
            self.others = self.spare.setdefault(size, deque(maxlen=KEPT_WINDOWS))
        try:
            self.memory = self.others.pop()
        except IndexError:
            self.memory = np.empty(size, np.uint8)
        self.__array_interface__ = self.memory.__array_interface__  # so that arrays keep this alive

    def __del__(self) -> None:
        self.others.append(self.memory)


def _room(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Memory of a shape, not touched yet, that begins where a device may read it in place."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    raw = np.asarray(_Lent(size + _ALIGNMENT))
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def capacity_for(batch_bytes: int) -> int:
    """How many batches a window holds."""
    return max(1, min(WINDOW_BATCHES, WINDOW_BYTES // max(1, batch_bytes)))


def array_capacity(source: ArraySource) -> int:
    """How many batches the windows over arrays hold."""
    return capacity_for(source.row_bytes * source.batch_size)


def of_arrays(
    source: ArraySource, epoch: int = 0, fills: bool = False, start: int = 0, epochs: int = 1
) -> Iterator[Window]:
    """The windows of an epoch over arrays, from batch `start` on; one window of several whole `epochs`.

    A short last batch has a window of its own behind the others, or, if `fills`, its first row again in place of those
    that it lacks; then windows are `Filled`.
    """
    arrays, numbers = distinct(source.arrays)
    hosts = [host(leaf) for leaf in arrays]
    dtypes = [jax.dtypes.canonicalize_dtype(leaf.dtype) for leaf in hosts]
    orders = [source.order(epoch + i) for i in range(epochs)]
    size, capacity, total = source.batch_size, array_capacity(source), source.rows(epoch)
    full, rest = divmod(total, size)
    batches = full + (1 if fills and rest else 0)

    def window(first: int, count: int, size: int, capacity: int) -> Window:
        rows: Any = slice(first, first + count * size)
        own, part = placement.own_rows(size), size
        if rows.stop > total or own is not None:
            rows = np.arange(rows.start, rows.stop)
            rows[rows >= total] = total - rest
        if own is not None:
            rows, part = rows.reshape(count, size)[:, own].ravel(), own.stop - own.start
        rooms = [_room((capacity, part, *leaf.shape[1:]), dtype) for leaf, dtype in zip(hosts, dtypes)]
        for i, order in enumerate(orders):
            taken = rows if order is None else order[rows]
            for room, leaf in zip(rooms, hosts):
                filled = room[i * count : (i + 1) * count].reshape(count * part, *leaf.shape[1:])  # the same memory
                if order is None or room.dtype != leaf.dtype or isinstance(leaf, LazyRows):
                    filled[:] = leaf[taken]
                else:
                    leaf.take(taken, axis=0, out=filled, mode="clip")
        data = tree_util.tree_map(rooms.__getitem__, numbers)
        if not fills:
            return Window(data, count * epochs, size)
        counted = _room((capacity,), np.int32)
        counted[: count * epochs] = size
        counted[count - 1 : count * epochs : count] = min(size, total - first - (count - 1) * size)
        return Window(Filled(data, counted), count * epochs, size)

    def windows() -> Iterator[Window]:
        for done in range(start, batches, capacity):
            yield window(done * size, min(capacity, batches - done), size, capacity)
        if batches == full and rest and start <= full:
            yield window(full * size, 1, rest, 1)

    return prefetch(windows(), 1) if full > capacity else windows()


class _Filling:
    """A window that a stream writes into until it is full or something was taken: this process's rows of each batch."""

    def __init__(self, batch: Any):
        leaves, self._treedef = tree_util.tree_flatten(batch)
        self._kinds = [(leaf.shape, leaf.dtype) for leaf in leaves]
        alone = placement.processes() == 1
        self._own, self._size = (..., None) if alone else placement.own_part(len(leaves[0]))
        self._count, self._taken = 0, 0
        self._most = self._capacity = capacity_for(sum(leaf.nbytes for leaf in leaves))
        self._rooms = self._empty(np.asarray(leaf)[self._own] for leaf in leaves)
        self._alone = threading.Lock()
        self.add(batch)

    def _empty(self, like: Iterable[Any]) -> list[np.ndarray]:
        return [_room((self._most, *a.shape), jax.dtypes.canonicalize_dtype(a.dtype)) for a in like]

    def __len__(self) -> int:
        return self._count - self._taken

    @property
    def kind(self) -> str:
        """The dtypes and shapes of a batch."""
        return ", ".join(f"{dtype}{list(shape)}" for shape, dtype in self._kinds)

    def add(self, batch: Any) -> bool:
        """Write a batch behind the others, and tell whether it is of their kind and there was room."""
        leaves, treedef = tree_util.tree_flatten(batch)
        alike = treedef == self._treedef and self._kinds == [(leaf.shape, leaf.dtype) for leaf in leaves]
        with self._alone:
            if not alike or self._count == self._capacity:
                return False
            for room, leaf in zip(self._rooms, leaves):
                room[self._count] = np.asarray(leaf)[self._own]
            self._count += 1
            return True

    def taken(self, count: int | None = None) -> Window:
        """The next `count` batches, or all that there are."""
        with self._alone:
            first, last = self._taken, self._count if count is None else self._taken + count
            self._capacity, self._taken = self._count, last  # nothing more goes in
            rooms = self._rooms
            if (first, last) != (0, self._count):  # those of other processes lie at the beginning
                rooms = self._empty(room[0] for room in rooms)
                for room, own in zip(rooms, self._rooms):
                    room[: last - first] = own[first:last]
            return Window(self._treedef.unflatten(rooms), last - first, self._size)


def of_stream(batches: Iterable[Any]) -> Iterator[Window]:
    """The windows of a stream of batches: a thread fills the next one while the last is worked on.

    Who asks for a window gets what has come, one batch at least, so that no batch waits for the next. Processes that
    train together get as many as have come to all of them, and all end with the first whose stream does.
    """
    batches, closed = iter(batches), threading.Event()

    def filling() -> Iterator[_Filling]:
        window = None
        try:
            for batch in batches:
                if closed.is_set():
                    return
                if window is None or not window.add(batch):
                    window = _Filling(batch)
                    yield window
        finally:
            close(batches)

    with contextlib.closing(prefetch(filling(), 2)) as begun:  # one to fill; behind a full one, a batch in another
        try:
            yield from (window.taken() for window in begun) if placement.processes() == 1 else _in_step(begun)
        finally:
            closed.set()


def _in_step(begun: Iterator[_Filling]) -> Iterator[Window]:
    """Every process looks at its next batches, tells the others, and takes what all have."""
    window = None
    while True:
        try:
            window = window or next(begun, None)
        except Exception:
            placement.least([-1, 0, 0])  # the others wait for word
            raise
        kind = zlib.crc32(window.kind.encode()) >> 1 if window else 0
        count, lowest, highest = placement.least([len(window or ()), kind, -kind])
        if count < 0:
            raise RuntimeError("A stream must be readable in all processes, and in another one it raised an error.")
        if count == 0 or window is None:
            return
        if lowest != -highest:
            raise ValueError(
                "Streams of processes that train together must give batches of the same dtypes and shapes at a time, "
                f"got others than {window.kind} in some."
            )
        yield window.taken(count)
