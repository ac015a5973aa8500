"""What a `Dataset` reads: elements of a pass, from any of them on, as plain arrays.

Where a flow is `indexed`, each element can be had by itself. Then a shuffle moves numbers and no elements, and what
comes behind it is computed by threads.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from jax import tree_util

from lamina.data import caches, elements, orders, streams
from lamina.data.arrays import row_count

AHEAD = 2  # batches that are ready before they are asked for
ORDERS = 8  # of passes that are kept, where a shuffle of several is shuffled again


def cores() -> int:
    """How many threads compute at the same time."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Flow:
    """Elements that can be read again and again.

    Attributes:
        size: how many, `math.inf` if there is no end, `None` if only the end will tell.
        indexed: whether `get` can be called.
        workers: threads that call `get` at the same time.
        whole: whether `rows` costs less than its elements one by one.
        count: elements in a batch, `None` for what is no flow of batches.
        like: a flow that has the same elements, in whatever order.
    """

    indexed = whole = False
    count: int | None = None

    def __init__(self, size: float | None, workers: int = 1, like: Flow | None = None):
        self.size, self.workers, self.like = size, workers, like
        if like is not None:
            self.workers, self.indexed, self.whole, self.count = like.workers, like.indexed, like.whole, like.count

    def get(self, number: int, epoch: int) -> Any:
        """An element of a pass."""
        raise NotImplementedError(f"{type(self).__name__}: get(number, epoch) must be written where indexed is true.")

    def rows(self, numbers: np.ndarray, epoch: int) -> Any:
        """A batch of elements of a pass."""
        return elements.stacked([self.get(int(number), epoch) for number in numbers])

    def read(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """The elements of a pass, from one on."""
        numbers = itertools.count(start) if self.size == math.inf else range(start, int(self.size or 0))
        return streams.side_by_side(lambda number: self.get(number, epoch), numbers, self.workers)

    def spec(self) -> Any:
        """The `TensorSpec` of each array of an element, found out by reading the first."""
        if self.like is not None:
            return self.like.spec()
        for element in self.read(0):
            return tree_util.tree_map(lambda leaf: elements.TensorSpec(leaf.shape, leaf.dtype), element)
        raise ValueError("Dataset: element_spec needs an element to look at, got an empty dataset.")


class Table(Flow):
    """Elements by number: `get(number)`, and perhaps `rows(numbers)`, a batch of several."""

    indexed = True

    def __init__(self, size: float, get: Callable[[int], Any], rows: Callable | None = None, workers: int = 1):
        super().__init__(size, workers)
        self.whole, self._get, self._rows = rows is not None, get, rows

    def get(self, number: int, epoch: int) -> Any:
        return self._get(number)

    def rows(self, numbers: np.ndarray, epoch: int) -> Any:
        return super().rows(numbers, epoch) if self._rows is None else self._rows(numbers)


class Stream(Flow):
    """What `open(epoch)` gives; only the end will tell how many."""

    def __init__(self, open: Callable[[int], Iterable[Any]], like: Flow | None = None):
        super().__init__(None, like=like)
        self.indexed, self.whole, self._open = False, False, open

    def read(self, epoch: int, start: int = 0) -> Iterator[Any]:
        return itertools.islice(self._open(epoch), start, None)


def kept(child: Flow, keep: Callable[[Any], bool], ended: Callable[[list[Any]], None] | None = None) -> Flow:
    """The elements for which `keep(element)` is true; `ended` gets the others, if any, at the end of a pass."""

    def read(epoch: int) -> Iterator[Any]:
        dropped = []
        for element in child.read(epoch):
            if keep(element):
                yield element
            elif ended is not None:
                dropped.append(element)
        if ended is not None and dropped:
            ended(dropped)

    return Stream(read, child)


def unbatched(child: Flow) -> Flow:
    """The rows of each element."""
    batches = child.child if isinstance(child, Prefetched) else child
    inside = batches.elements() if isinstance(batches, Batched) else None
    if inside is not None:
        return inside

    def row(batch: Any, i: int) -> Any:
        return tree_util.tree_map(lambda leaf: leaf[i, ...], batch)

    def rows(epoch: int) -> Iterator[Any]:
        return (row(batch, i) for batch in child.read(epoch) for i in range(row_count([batch], "unbatch")))

    return Stream(rows)


class Mapped(Flow):
    """`fn(element)` of each, by several threads, or by one after the other."""

    def __init__(self, child: Flow, fn: Callable, workers: int):
        super().__init__(child.size, max(workers, child.workers))
        self.indexed = child.indexed
        self._child, self._fn, self._own, self._alone, self._begun = child, fn, workers, threading.Lock(), False

    def get(self, number: int, epoch: int) -> Any:
        return self._call(self._child.get(number, epoch))

    def read(self, epoch: int, start: int = 0) -> Iterator[Any]:
        return streams.side_by_side(self._call, self._child.read(epoch, start), self._own)

    def _call(self, element: Any) -> Any:
        with self._alone:
            if self._own == 1 or not self._begun:  # several workers wait for the first call: layers build in it
                out = elements.tidy(elements.called(self._fn, element), "map")
                self._begun = True
                return out
        return elements.tidy(elements.called(self._fn, element), "map")


class Batched(Flow):
    """Batches of `count` elements, which `join` makes of a list of them."""

    count: int

    def __init__(self, child: Flow, count: int, drop: bool, join: Callable[[list[Any]], Any] = elements.stacked):
        size = child.size
        if size not in (None, math.inf):
            size = int(size) // count if drop else math.ceil(size / count)
        super().__init__(size, child.workers)
        self.count, self.indexed = count, child.indexed
        self._child, self._drop, self._join = child, drop, join
        self._gathers = child.whole and join is elements.stacked

    def spec(self) -> Any:
        def batched(part: Any) -> Any:
            shape = (None,) * len(part.shape) if self._join is elements.padded else part.shape
            return elements.TensorSpec((self.count if self._drop else None, *shape), part.dtype)

        return tree_util.tree_map(batched, self._child.spec())

    def get(self, number: int, epoch: int) -> Any:
        numbers = np.arange(number * self.count, min((number + 1) * self.count, self._child.size or 0), dtype=np.int64)
        if self._gathers:
            return self._child.rows(numbers, epoch)
        return self._join([self._child.get(int(i), epoch) for i in numbers])

    def read(self, epoch: int, start: int = 0) -> Iterator[Any]:
        if self._gathers:
            return super().read(epoch, start)
        rows = self._child.read(epoch, start * self.count)
        batches = iter(lambda: list(itertools.islice(rows, self.count)), [])
        return (self._join(batch) for batch in batches if len(batch) == self.count or not self._drop)

    def elements(self) -> Flow | None:
        """The elements that are in batches, `None` if these hold something else."""
        if self.size is None or self._join is not elements.stacked:
            return None
        return Part(self._child, 0, self.size * self.count) if self._drop else self._child


class Picked(Flow):
    """Elements of another flow, `pick(number, epoch)` their number there, also for an array of numbers."""

    def __init__(self, child: Flow, size: float | None, pick: Callable[[Any, int], Any]):
        super().__init__(size, like=child)
        self._child, self._pick = child, pick

    def get(self, number: int, epoch: int) -> Any:
        return self._child.get(int(self._pick(number, epoch)), epoch)

    def rows(self, numbers: np.ndarray, epoch: int) -> Any:
        return self._child.rows(self._pick(numbers, epoch), epoch)


class Part(Picked):
    """`count` elements, from `first` on."""

    def __init__(self, child: Flow, first: int, count: float):
        left = None if child.size is None else max(0, child.size - first)
        super().__init__(child, None if left is None else min(left, count), lambda number, epoch: first + number)
        self._first, self._count = first, count

    def read(self, epoch: int, start: int = 0) -> Iterator[Any]:
        if start >= self._count:
            return iter(())
        left = None if self._count == math.inf else int(self._count) - start
        return itertools.islice(self._child.read(epoch, self._first + start), left)


class Shuffled(Picked):
    """The elements in an order of `orders.shuffled`, another one for each pass if `anew`."""

    def __init__(self, child: Flow, buffer: int, seed: int, anew: bool = True):
        super().__init__(child, child.size, lambda number, epoch: self._order(epoch)[number])
        self.indexed = child.indexed and child.size != math.inf
        self.whole = child.whole and self.indexed
        self._buffer, self._seeds, self._anew = buffer, orders.seeds_of(seed), anew
        self._known: dict[int, np.ndarray] = {}
        self._alone = threading.Lock()

    def _shuffled(self, items: Iterable[Any], epoch: int) -> Iterator[Any]:
        return orders.shuffled(items, self._buffer, orders.draws(self._seeds, epoch if self._anew else None))

    def _order(self, epoch: int) -> np.ndarray:
        with self._alone:  # workers ask for it, all at the same time
            if epoch not in self._known:
                if len(self._known) == ORDERS:
                    self._known.clear()
                size = int(self.size or 0)
                self._known[epoch] = np.fromiter(self._shuffled(range(size), epoch), np.int64, size)
            return self._known[epoch]

    def read(self, epoch: int, start: int = 0) -> Iterator[Any]:
        if self.indexed:
            return super().read(epoch, start)
        return itertools.islice(self._shuffled(self._child.read(epoch), epoch), start, None)


class Repeated(Flow):
    """The elements `count` times; each time is a pass of its own."""

    def __init__(self, child: Flow, count: float):
        size = 0 if 0 in (child.size, count) else None if child.size is None else child.size * count
        super().__init__(size, like=child)
        self.indexed, self.whole = child.indexed and child.size not in (0, math.inf), False
        self._child, self._count = child, count

    def _passes(self, epoch: int, first: int = 0) -> Iterator[int]:
        if self._count == math.inf:
            return itertools.count(epoch + first)
        return iter(range(epoch * int(self._count) + first, (epoch + 1) * int(self._count)))

    def get(self, number: int, epoch: int) -> Any:
        times, number = divmod(number, int(self._child.size or 0))
        return self._child.get(number, next(self._passes(epoch, times)))

    def read(self, epoch: int, start: int = 0) -> Iterator[Any]:
        if not self.indexed:
            return itertools.islice(self._again(epoch), start, None)
        times, start = divmod(start, int(self._child.size or 0))
        parts = (self._child.read(p, 0 if i else start) for i, p in enumerate(self._passes(epoch, times)))
        return itertools.chain.from_iterable(parts)

    def _again(self, epoch: int) -> Iterator[Any]:
        for number in self._passes(epoch):
            last = None
            for last in self._child.read(number):
                yield last
            if last is None:  # or it would be looked for without end
                return


class Chain(Flow):
    """The elements of one flow, and then those of another."""

    def __init__(self, first: Flow, second: Flow):
        sizes = first.size, second.size
        super().__init__(None if None in sizes else sum(sizes), like=first)  # type: ignore[arg-type]
        self.indexed, self.whole = first.indexed and second.indexed and first.size != math.inf, False
        self.workers, self._first, self._second = max(first.workers, second.workers), first, second

    def get(self, number: int, epoch: int) -> Any:
        behind = number - int(self._first.size or 0)
        return self._first.get(number, epoch) if behind < 0 else self._second.get(behind, epoch)

    def read(self, epoch: int, start: int = 0) -> Iterator[Any]:
        if not self.indexed:
            return itertools.islice(itertools.chain(self._first.read(epoch), self._second.read(epoch)), start, None)
        size = int(self._first.size or 0)
        parts = [(self._first, start), (self._second, 0)] if start < size else [(self._second, start - size)]
        return itertools.chain.from_iterable(flow.read(epoch, at) for flow, at in parts)


class Zipped(Flow):
    """A structure of an element of each flow, up to the end of the shortest."""

    def __init__(self, flows: list[Flow], structure: Any):
        sizes: list[Any] = [flow.size for flow in flows]
        super().__init__(None if None in sizes else min(sizes), max(flow.workers for flow in flows))
        self.indexed = all(flow.indexed for flow in flows)
        self._flows, self._structure = flows, structure

    def get(self, number: int, epoch: int) -> Any:
        return self._structure.unflatten([flow.get(number, epoch) for flow in self._flows])

    def read(self, epoch: int, start: int = 0) -> Iterator[Any]:
        return map(self._structure.unflatten, zip(*(flow.read(epoch, start) for flow in self._flows)))


class Prefetched(Flow):
    """The same elements, read by a thread that is `ahead` of them."""

    def __init__(self, child: Flow, ahead: int = AHEAD):
        super().__init__(child.size, like=child)
        self.child, self._ahead, self.get, self.rows = child, ahead, child.get, child.rows

    def read(self, epoch: int, start: int = 0) -> Iterator[Any]:
        return streams.prefetch(self.child.read(epoch, start), self._ahead)


class Cached(Flow):
    """The elements of the first pass, each of them read once."""

    def __init__(self, child: Flow, path: str):
        super().__init__(child.size, like=child)
        self.whole, self._child = False, child
        self._kept = caches.File(path) if path else caches.Memory()
        self._end(self._kept.done)

    def _end(self, done: bool) -> None:
        if done:
            self._kept.finish()
            self.size, self.indexed, self.workers = len(self._kept), True, 1

    def _keep(self, number: int, element: Any) -> Any:
        self._kept[number] = element
        self._end(self.indexed and len(self._kept) == self._child.size)
        return element

    def get(self, number: int, epoch: int) -> Any:
        return self._kept[number] if number in self._kept else self._keep(number, self._child.get(number, 0))

    def read(self, epoch: int, start: int = 0) -> Iterator[Any]:
        if self._kept.done or (self.indexed and len(self._kept)):
            return super().read(epoch, start)
        return self._first_pass(start) if self.indexed else itertools.islice(self._first_pass(0), start, None)

    def _first_pass(self, start: int) -> Iterator[Any]:
        for number, element in enumerate(self._child.read(0, start), start):
            yield self._keep(number, element)
        self._end(not self.indexed)
