"""Batches on their way: a dataset read by workers, a thread that reads ahead, batches stacked."""

from __future__ import annotations

import contextvars
import hashlib
import itertools
import math
import multiprocessing
import os
import pickle
import signal
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import jax
import numpy as np
from jax import tree_util

T = TypeVar("T")
_END = object()


class PyDataset:
    """A dataset written in Python: `dataset[i]` is batch `i`, `len(dataset)` the number of batches.

    A dataset without a length overrides the property `num_batches`; `None` means that there is no end.

    Args:
        workers: how many threads or processes compute batches at the same time.
        use_multiprocessing: processes instead of threads; the dataset must be picklable, and the program that
            trains must stand below `if __name__ == "__main__":`.
        max_queue_size: how many batches may be computed ahead.
    """

    # Defaults for a subclass whose constructor does not call this one.
    workers: int = 1
    use_multiprocessing: bool = False
    max_queue_size: int = 10

    def __init__(self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10):
        who = type(self).__name__
        for name, value in (("workers", workers), ("max_queue_size", max_queue_size)):
            if not isinstance(value, (int, np.integer)) or value < 0:
                raise ValueError(f"{who}: {name} must be an integer of at least 0, got {value!r}.")
        self.workers = workers
        self.use_multiprocessing = use_multiprocessing
        self.max_queue_size = max_queue_size

    def __getitem__(self, index: int) -> Any:
        """Batch `index`: `x`, `(x, y)` or `(x, y, sample_weight)`."""
        raise NotImplementedError(
            f"{type(self).__name__}: __getitem__(index) must be written; it returns a batch."
        )

    @property
    def num_batches(self) -> int | None:
        """The number of batches, `None` if there is no end."""
        length = getattr(self, "__len__", None)
        if length is None:
            raise NotImplementedError(
                f"{type(self).__name__}: __len__ or the property num_batches must be written."
            )
        return length()

    def on_epoch_begin(self) -> None:
        """Called before the first batch of each epoch."""

    def on_epoch_end(self) -> None:
        """Called after the last batch of each epoch."""

    def __iter__(self) -> Iterator[Any]:
        try:
            count = self.num_batches
        except NotImplementedError:
            count = None
        return (self[i] for i in (itertools.count() if count is None else range(count)))


Sequence = PyDataset


def fetched(fetch: Callable[[int], futures.Future], indices: Iterable[int], ahead: int) -> Iterator[Any]:
    """The results of `fetch(index)` in the order of `indices`, with `ahead` of them under way."""
    pending: deque[futures.Future] = deque()
    try:
        for index in indices:
            pending.append(fetch(index))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def read_by_threads(data: PyDataset, indices: Iterable[int]) -> Iterator[Any]:
    """`data[i]` for each index in order, computed by `data.workers` threads."""
    with futures.ThreadPoolExecutor(data.workers, "lamina-data") as pool:
        yield from fetched(lambda i: pool.submit(data.__getitem__, i), indices, _ahead(data))


def _ahead(data: PyDataset) -> int:
    return max(data.workers, data.max_queue_size)


class ProcessReader:
    """Processes that read batches of a dataset; they live until the reader is closed or dropped.

    The workers take the dataset from a file, written anew when the dataset has changed between two epochs.
    They start from a clean process ("forkserver", or "spawn" where there is none): a fork of one that runs
    JAX's threads may lock up.
    """

    def __init__(self, data: PyDataset):
        methods = multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        self._data = data
        self._folder = tempfile.TemporaryDirectory(prefix="lamina-data-")
        self._file = Path(self._folder.name)
        self._digest = b""
        self._pool = futures.ProcessPoolExecutor(max(1, data.workers), context, _start_worker)
        self.close = weakref.finalize(self, _close_pool, self._pool, self._folder)

    def read(self, indices: Iterable[int]) -> Iterator[Any]:
        """`data[i]` for each index in order."""
        who = type(self._data).__name__
        self._send(who)
        name = str(self._file)
        try:
            yield from fetched(
                lambda i: self._pool.submit(_worker_batch, name, i), indices, _ahead(self._data)
            )
        except futures.BrokenExecutor as error:
            raise RuntimeError(
                f"{who}: worker processes must be able to start and to import its class, one ended early; "
                'put the training below `if __name__ == "__main__":` and the class into a module file, or '
                "use threads (use_multiprocessing=False)."
            ) from error

    def _send(self, who: str) -> None:
        try:
            content = pickle.dumps(self._data, pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            raise ValueError(
                f"{who}: must be picklable with use_multiprocessing=True, got {error}; open files and the "
                "like in __getitem__, or use threads (use_multiprocessing=False)."
            ) from error
        digest = hashlib.blake2b(content, digest_size=16).digest()
        if digest != self._digest:
            old, self._file = self._file, Path(self._folder.name, digest.hex())
            self._file.write_bytes(content)
            self._digest = digest
            if old.is_file():
                old.unlink()


def _close_pool(pool: futures.Executor, folder: tempfile.TemporaryDirectory) -> None:
    pool.shutdown(wait=False, cancel_futures=True)
    folder.cleanup()


_worker_data: dict[str, PyDataset] = {}  # in a worker process: the one dataset that it has read


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process hears Ctrl-C, and ends the workers
    jax.config.update("jax_platforms", "cpu")  # the accelerator belongs to the main process
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()  # returns when the parent has ended, by kill -9 too
        os._exit(1)


def _worker_batch(name: str, index: int) -> Any:
    if name not in _worker_data:
        _worker_data.clear()
        _worker_data[name] = pickle.loads(Path(name).read_bytes())
    return _worker_data[name][index]


def prefetch(iterator: Iterable[T], size: int) -> Iterator[T]:
    """The items of `iterator`, taken by a background thread that is at most `size` items ahead.

    What `iterator` raises is raised here. Closing this generator closes `iterator` and ends the thread.
    """
    if size < 1:
        yield from iterator
        return
    ready: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
    slots = threading.Semaphore(size)
    closed = threading.Event()

    def produce() -> None:
        source = iter(iterator)
        try:
            while slots.acquire() and not closed.is_set():
                item = next(source, _END)
                ready.put((item, None))
                if item is _END:
                    return
        except BaseException as error:
            ready.put((None, error))
        finally:
            _close(source)

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(produce,), name="lamina-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is _END:
                return
            slots.release()
            yield item
    finally:
        closed.set()
        slots.release()
        if thread is not threading.current_thread():  # the garbage collector may close this in any thread
            thread.join(1.0)  # a source that is stuck does not hold up the consumer


def stacked(
    iterator: Iterable[Any], capacity: Callable[[], int], patience: float = math.inf
) -> Iterator[tuple[Any, int]]:
    """`(chunk, count)`: runs of `count` like batches of NumPy arrays, stacked along a new first axis.

    A chunk ends when it holds `capacity()` batches, when `patience` seconds have passed since its first batch
    came, or before a batch of another structure, shape or dtype. The batches before an error come before it.
    """
    group: list[list[np.ndarray]] = []
    kind: Any = None
    begun = 0.0
    source = iter(iterator)
    try:
        while True:
            try:
                batch = next(source, _END)
            except Exception:
                if group:
                    yield _stack(kind, group)
                raise
            leaves, structure = tree_util.tree_flatten(batch)
            new_kind = None if batch is _END else (structure, [(leaf.shape, leaf.dtype) for leaf in leaves])
            if group and new_kind != kind:
                yield _stack(kind, group)
                group = []
            if batch is _END:
                return
            if not group:
                kind, begun = new_kind, time.monotonic()
            group.append(leaves)
            if len(group) >= capacity() or time.monotonic() - begun >= patience:
                yield _stack(kind, group)
                group = []
    finally:
        _close(source)


def _stack(kind: Any, group: list[list[np.ndarray]]) -> tuple[Any, int]:
    columns = zip(*group)
    single = len(group) == 1  # a view instead of a copy
    return kind[0].unflatten([leaves[0][None] if single else np.stack(leaves) for leaves in columns]), len(
        group
    )


def _close(iterator: Iterator[Any]) -> None:
    close = getattr(iterator, "close", None)
    if close is not None:
        close()
