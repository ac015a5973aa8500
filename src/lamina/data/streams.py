"""Batches on their way: a dataset read by workers, a thread that reads ahead."""

import contextlib
import contextvars
import faulthandler
import hashlib
import itertools
import mmap
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent import futures
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

import jax

from lamina.core import checks

T = TypeVar("T")
_LARGE = 1 << 18  # bytes of a batch from which on it travels through a file
_ALIGNMENT = 64  # where its arrays begin there: the device may read them in place
HUNG_SECONDS = 20.0  # a worker that has a batch to make and does nothing at all for so long is taken to hang
_HUNG = "hung"  # the file in which it says where


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
        self.workers = checks.integer(who, "workers", workers, 0)
        self.use_multiprocessing = use_multiprocessing
        self.max_queue_size = checks.integer(who, "max_queue_size", max_queue_size, 0)

    def __getitem__(self, index: int) -> Any:
        """Batch `index`: `x`, `(x, y)` or `(x, y, sample_weight)`."""
        raise NotImplementedError(f"{type(self).__name__}: __getitem__(index) must be written; it returns a batch.")

    @property
    def num_batches(self) -> int | None:
        """The number of batches, `None` if there is no end."""
        length = getattr(self, "__len__", None)
        if length is None:
            raise NotImplementedError(f"{type(self).__name__}: __len__ or the property num_batches must be written.")
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


def cardinality_of(data: Any) -> int:
    """The number of batches that the data declare; as in tf.data, -1 if there is no end, -2 if it is not known."""
    if hasattr(data, "cardinality"):
        return int(data.cardinality())
    length = getattr(data, "num_batches", None)
    if length is None and isinstance(data, PyDataset):
        return -1
    if not isinstance(length, int):
        try:
            length = len(data)
        except TypeError:  # so says a torch DataLoader of an iterable dataset, too
            return -2
    return length if length < sys.maxsize else -1  # so long are Grain's endless datasets


def fetched(
    fetch: Callable[[Any], futures.Future],
    indices: Iterable[Any],
    ahead: int,
    drop: Callable[[futures.Future], None] = lambda future: None,
) -> Iterator[Any]:
    """The results of `fetch(index)` in the order of `indices`, with `ahead` of them under way.

    What comes after this generator is closed goes to `drop`.
    """
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
            if not future.cancel():
                future.add_done_callback(drop)


def side_by_side(call: Callable[[Any], Any], items: Iterable[Any], workers: int, ahead: int = 0) -> Iterator[Any]:
    """`call(item)` for each item in order, by threads; `ahead` under way, twice as many as workers if not given."""
    if workers < 2:
        yield from (call(item) for item in items)
        return
    context = contextvars.copy_context()
    with futures.ThreadPoolExecutor(workers, "lamina-data") as pool:
        yield from fetched(lambda item: pool.submit(context.copy().run, call, item), items, ahead or 2 * workers)


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
        self._folder = tempfile.TemporaryDirectory(prefix="lamina-data-", ignore_cleanup_errors=True)
        self._file = Path(self._folder.name, "none")
        arguments = (self._folder.name, HUNG_SECONDS)
        self._pool = futures.ProcessPoolExecutor(max(1, data.workers), context, _start_worker, arguments)
        self.close = weakref.finalize(self, _close_pool, self._pool, self._folder)

    def read(self, indices: Iterable[int], ahead: int) -> Iterator[Any]:
        """`data[i]` for each index in order, `ahead` of them under way."""
        who = type(self._data).__name__
        self._send(who)
        name = str(self._file)
        try:
            for parcel in fetched(lambda index: self._pool.submit(_worker_batch, name, index), indices, ahead, _drop):
                yield parcel.open()
        except futures.BrokenExecutor as error:
            hung = Path(self._folder.name, _HUNG)
            if hung.exists():
                rule, _, stack = hung.read_text().partition("\n")
                late = TimeoutError(f"{who}: {rule}")
                late.add_note(stack)
                raise late from None
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
        file = Path(self._folder.name, hashlib.blake2b(content, digest_size=16).hexdigest())
        if file != self._file:
            file.write_bytes(content)
            self._file.unlink(missing_ok=True)
            self._file = file


def _close_pool(pool: futures.Executor, folder: tempfile.TemporaryDirectory) -> None:
    pool.shutdown(wait=False, cancel_futures=True)
    folder.cleanup()


class Parcel(NamedTuple):
    """A batch on its way from a worker: large arrays lie in a file that the reader maps into memory."""

    content: bytes
    buffers: list[bytes]
    sizes: list[int]
    file: str

    def open(self) -> Any:
        """The batch; the file is gone then."""
        if not self.file:
            return pickle.loads(self.content, buffers=self.buffers)
        with open(self.file, "rb") as file:
            memory = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        with contextlib.suppress(OSError):  # where a mapped file cannot be deleted, it goes with the folder
            os.unlink(self.file)
        ends = list(itertools.accumulate(size + -size % _ALIGNMENT for size in self.sizes))
        starts = [0, *ends[:-1]]
        return pickle.loads(self.content, buffers=[memory[i : i + n] for i, n in zip(starts, self.sizes)])


def _packed(batch: Any, folder: str) -> Parcel:
    buffers: list[pickle.PickleBuffer] = []
    content = pickle.dumps(batch, 5, buffer_callback=buffers.append)
    raw = [buffer.raw() for buffer in buffers]
    sizes = [part.nbytes for part in raw]
    if sum(sizes) < _LARGE:
        return Parcel(content, [bytes(part) for part in raw], [], "")
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        for part in raw:
            file.write(part)
            file.write(bytes(-part.nbytes % _ALIGNMENT))
    return Parcel(content, [], sizes, file.name)


def _drop(future: futures.Future) -> None:
    if not future.cancelled() and future.exception() is None and future.result().file:
        with contextlib.suppress(OSError):
            os.unlink(future.result().file)


_worker_data: dict[str, PyDataset] = {}  # in a worker process: the one dataset that it has read
_at_work: list[tuple[int, float]] = []  # in a worker process: the batch that it makes, and the time when it began


def _start_worker(folder: str, hung_seconds: float) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process hears Ctrl-C, and ends the workers
    jax.config.update("jax_platforms", "cpu")  # the accelerator belongs to the main process
    threading.Thread(target=_watch, args=(folder, hung_seconds), daemon=True).start()


def _watch(folder: str, seconds: float) -> None:
    """End the worker when nobody reads from it any more, or when it hangs; it says then where."""
    parent: Any = multiprocessing.parent_process()

    def work_done() -> float:
        return time.process_time() - time.thread_time()  # of all but who watches

    idle_since, spent = time.monotonic(), work_done()
    while True:
        parent.join(min(1.0, seconds / 10))  # returns at once when the parent has ended, by kill -9 too
        now, work = time.monotonic(), _at_work[-1:]
        if not parent.is_alive() or not os.path.exists(folder):
            shutil.rmtree(folder, ignore_errors=True)
            os._exit(1)
        if not work or work[0][1] > idle_since or work_done() - spent > seconds / 1000:
            idle_since, spent = now, work_done()
        elif now - idle_since > seconds:
            rule = f"a worker must make batches, and hung in batch {work[0][0]}, where it did nothing for {seconds:g} s"
            with open(os.path.join(folder, _HUNG), "w") as file:
                print(f"{rule}; look at what it waits for, or use threads.", file=file, flush=True)
                faulthandler.dump_traceback(file)
            os._exit(1)


def _worker_batch(name: str, index: int) -> Parcel:
    _at_work.append((index, time.monotonic()))
    try:
        if name not in _worker_data:
            _worker_data.clear()
            _worker_data[name] = pickle.loads(Path(name).read_bytes())
        return _packed(_worker_data[name][index], os.path.dirname(name))
    finally:
        _at_work.clear()


def prefetch(iterator: Iterable[T], size: int) -> Generator[T, None, None]:
    """The items of `iterator`, taken by a background thread that is at most `size` items ahead.

    What `iterator` raises is raised here. Closing this generator closes `iterator` and ends the thread.
    """
    if size < 1:
        yield from iterator
        return
    ready: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
    slots = threading.Semaphore(size)
    closed = threading.Event()
    run = contextvars.copy_context().run
    arguments = (_produce, iter(iterator), ready, slots, closed)
    thread = threading.Thread(target=run, args=arguments, name="lamina-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            slots.release()
            yield item
    finally:
        closed.set()
        slots.release()
        # The garbage collector may close this in any thread, and at the end of the program, when modules are gone.
        if threading is not None and thread is not threading.current_thread():
            thread.join(1.0)  # a source that is stuck does not hold up the consumer


def _produce(source: Iterator[Any], ready: SimpleQueue, slots: threading.Semaphore, closed: threading.Event) -> None:
    try:
        while slots.acquire() and not closed.is_set():
            ready.put((next(source), None))
    except BaseException as error:  # the end, too
        ready.put((None, error))
    finally:
        close(source)


def close(iterator: Iterator[Any]) -> None:
    """End a generator; other iterators need no end."""
    close = getattr(iterator, "close", None)
    if close is not None:
        close()
