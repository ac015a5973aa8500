"""Reading ahead, stacking, and the workers of a PyDataset."""

import gc
import itertools
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextvars import ContextVar

import jax
import numpy as np
import pytest

from lamina.data.sources import make_source
from lamina.data.streams import PyDataset, prefetch
from lamina.utils import Sequence


def prefetch_threads():
    return [t for t in threading.enumerate() if t.name == "lamina-prefetch"]


def test_prefetch_keeps_the_items_and_their_order():
    assert list(prefetch(iter(range(50)), 3)) == list(range(50))


def test_prefetch_reads_in_another_thread():
    def where():
        yield threading.current_thread()

    assert next(prefetch(where(), 1)) is not threading.current_thread()


def test_prefetch_of_size_0_reads_in_the_same_thread():
    assert list(prefetch((threading.current_thread() for _ in range(2)), 0)) == [threading.current_thread()] * 2


def test_prefetch_is_never_more_than_size_ahead():
    taken = []
    allowed = threading.Semaphore(0)

    def items():
        for i in itertools.count():
            taken.append(i)
            allowed.release()
            yield i

    ahead = prefetch(items(), 2)
    assert next(ahead) == 0
    for _ in range(3):  # the one that was given, and two ahead
        assert allowed.acquire(timeout=30)
    assert not allowed.acquire(timeout=0.1)
    assert taken == [0, 1, 2]
    ahead.close()


def test_prefetch_passes_an_error_on_behind_the_items_before_it():
    def items():
        yield 1
        raise KeyError("broken")

    ahead = prefetch(items(), 4)
    assert next(ahead) == 1
    with pytest.raises(KeyError, match="broken"):
        next(ahead)
    assert not prefetch_threads()


@pytest.mark.parametrize("how", ["exhausted", "closed", "dropped", "raised"])
def test_prefetch_leaves_no_thread_and_closes_the_iterator(how):
    closed = []

    def items():
        try:
            yield from range(3) if how == "exhausted" else itertools.count()
        finally:
            closed.append(threading.current_thread())

    def consume(ahead):
        for _ in ahead:
            if how == "raised":
                raise RuntimeError
            if how != "exhausted":
                break

    ahead = prefetch(items(), 2)
    if how == "raised":
        with pytest.raises(RuntimeError):
            consume(ahead)
    else:
        consume(ahead)
    if how != "dropped":
        ahead.close()
    del ahead
    gc.collect()
    assert not prefetch_threads()
    assert closed and closed[0] is not threading.current_thread()


def test_prefetch_sees_the_context_of_its_consumer():
    setting = ContextVar("setting", default=0)
    setting.set(7)
    assert list(prefetch((setting.get() for _ in range(2)), 1)) == [7, 7]


class Numbers(PyDataset):
    """Batch i holds i, a counter that hooks change, and the process that made it."""

    def __init__(self, size=6, fail_at=None, **kwargs):
        super().__init__(**kwargs)
        self.size = size
        self.fail_at = fail_at
        self.epochs = 0
        self.log = []

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if index == self.fail_at:
            raise KeyError(f"batch {index}")
        return np.full((2, 1), index), np.full(2, self.epochs), np.full(2, os.getpid())

    def on_epoch_begin(self):
        self.log.append("begin")

    def on_epoch_end(self):
        self.log.append("end")
        self.epochs += 1


WORKERS = [
    pytest.param({}, id="none"),
    pytest.param(dict(workers=3), id="threads"),
    pytest.param(dict(workers=2, use_multiprocessing=True), id="processes"),
    pytest.param(dict(workers=3, max_queue_size=1), id="a short queue"),
]


def test_sequence_is_the_same_class():
    assert Sequence is PyDataset


@pytest.mark.parametrize("name", ["workers", "max_queue_size"])
def test_wrong_arguments_of_a_dataset(name):
    with pytest.raises(ValueError, match=f"Numbers: {name} must be an integer of at least 0, got -1"):
        Numbers(**{name: -1})


def test_a_dataset_needs_no_super_init():
    class Plain(PyDataset):
        def __init__(self):
            pass

    plain = Plain()
    assert (plain.workers, plain.use_multiprocessing, plain.max_queue_size) == (1, False, 10)


def test_a_dataset_without_its_methods_says_which():
    with pytest.raises(NotImplementedError, match="__getitem__"):
        PyDataset()[0]
    with pytest.raises(NotImplementedError, match="__len__ or the property num_batches"):
        make_source(PyDataset()).num_batches  # noqa: B018


def test_iterating_a_dataset_by_hand():
    assert [int(x[0, 0]) for x, _, _ in Numbers(3)] == [0, 1, 2]


@pytest.mark.parametrize("options", WORKERS)
def test_workers_keep_the_order_and_see_what_the_hooks_changed(options):
    source = make_source(Numbers(**options))
    try:
        for epoch in range(2):
            seen = [(int(x[0, 0]), int(y[0])) for x, y, _ in source.epoch(epoch)]
            assert seen == [(i, epoch) for i in range(6)]
    finally:
        source.close()
    assert source.data.log == ["begin", "end"] * 2


def test_processes_are_others_and_are_kept_between_epochs():
    source = make_source(Numbers(workers=1, use_multiprocessing=True))
    try:
        first, second = ({int(w[0]) for _, _, w in source.epoch(e)} for e in range(2))
    finally:
        source.close()
    assert first == second and os.getpid() not in first


@pytest.mark.parametrize("options", WORKERS)
def test_an_error_in_a_batch_reaches_the_consumer_behind_the_batches_before_it(options):
    source = make_source(Numbers(fail_at=2, **options))
    seen = []
    try:
        with pytest.raises(KeyError, match="batch 2"):
            seen.extend(int(x[0, 0]) for x, _, _ in source.epoch(0))
            for x, _, _ in source.epoch(0):
                seen.append(int(x[0, 0]))
    finally:
        source.close()
    assert source.data.log == ["begin"]


@pytest.mark.parametrize("options", WORKERS)
def test_an_epoch_that_is_left_early_can_be_followed_by_another(options):
    source = make_source(Numbers(**options))
    try:
        first = source.epoch(0)
        next(first)
        first.close()
        assert [int(x[0, 0]) for x, _, _ in source.epoch(1)] == list(range(6))
    finally:
        source.close()
    assert source.data.log == ["begin", "begin", "end"]


class Large(Numbers):
    """Batches of several arrays that travel through files; one is in Fortran order, one is empty."""

    def __getitem__(self, index):
        x = {"a": np.full((3, 100_001), index, "uint8"), "b": np.asfortranarray(np.full((3, 50_000), index, "float32"))}
        return x, np.full((3, 0), index)


def files_of(source):
    return [file for file in os.listdir(source._processes._folder.name) if file.startswith("tmp")]


def test_large_batches_come_whole_and_leave_no_files():
    source = make_source(Large(4, workers=2, use_multiprocessing=True))
    try:
        for i, batch in enumerate(source.epoch(0)):
            want = source.data[i]
            assert jax.tree.structure(batch) == jax.tree.structure(want)
            for a, b in zip(jax.tree.leaves(batch), jax.tree.leaves(want)):
                assert a.dtype == b.dtype and a.ctypes.data % 64 == 0
                np.testing.assert_array_equal(a, b)
        assert i == 3 and not files_of(source)
        folder = source._processes._folder.name
    finally:
        source.close()
    assert not os.path.exists(folder)


def test_large_batches_that_nobody_takes_are_thrown_away():
    source = make_source(Large(8, workers=2, use_multiprocessing=True))
    try:
        epoch = source.epoch(0)
        next(epoch)
        epoch.close()
        assert len(list(source.epoch(1))) == 8
        source._processes._pool.shutdown()  # waits for what one worker may still have under way
        assert not files_of(source)
    finally:
        source.close()


def test_a_consumer_that_counts_the_batches_ends_the_epoch():
    source = make_source(Numbers(3))
    epoch = source.epoch(0)
    for _ in range(3):
        next(epoch)
    epoch.close()
    assert source.data.log == ["begin", "end"]


def test_a_dataset_that_cannot_be_sent_to_processes_says_so():
    data = Numbers(workers=1, use_multiprocessing=True)
    data.file = threading.Lock()
    with pytest.raises(ValueError, match="Numbers: must be picklable with use_multiprocessing=True"):
        list(make_source(data).epoch(0))


class EndsItself(Numbers):
    def __getitem__(self, index):
        os._exit(3)


def test_a_worker_that_dies_is_an_error_with_the_remedy():
    source = make_source(EndsItself(workers=1, use_multiprocessing=True))
    with pytest.raises(RuntimeError, match="EndsItself: worker processes must be able to start"):
        list(source.epoch(0))
    source.close()


class Hangs(Numbers):
    def __getitem__(self, index):
        if index == 1:
            threading.Event().wait()
        return np.full((1, 1), os.getpid())


def test_a_worker_that_hangs_ends_with_its_traceback(monkeypatch):
    monkeypatch.setattr("lamina.data.streams.HUNG_SECONDS", 1.0)
    source = make_source(Hangs(workers=1, use_multiprocessing=True))
    with pytest.raises(TimeoutError, match=r"Hangs: a worker .* batch 1, .* for 1 s; .*threads\.") as caught:
        list(source.epoch(0))
    assert "in __getitem__" in caught.value.__notes__[0]
    source.close()


def test_a_reader_that_is_closed_ends_workers_that_are_stuck():
    source = make_source(Hangs(workers=1, use_multiprocessing=True, max_queue_size=1))
    epoch = source.epoch(0)
    pid = int(next(epoch).item())
    epoch.close()
    source.close()
    patience = itertools.count()
    while _state(pid) != "Z":
        assert next(patience) < 300
        time.sleep(0.1)


def test_workers_end_when_the_program_is_killed(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import os, time
            import numpy as np
            from lamina.data.sources import make_source
            from lamina.data.streams import PyDataset

            class Data(PyDataset):
                def __len__(self):
                    return 4
                def __getitem__(self, index):
                    return (np.full((1, 1), os.getpid()),)

            if __name__ == "__main__":
                source = make_source(Data(workers=2, use_multiprocessing=True))
                workers = {int(x[0, 0]) for x, in source.epoch(0)}
                print(source._processes._folder.name, *workers, flush=True)
                time.sleep(600)
            """
        )
    )
    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder, *pids = process.stdout.readline().split()
        process.send_signal(signal.SIGKILL)
    workers = [int(pid) for pid in pids]
    assert workers
    patience = itertools.count()
    while os.path.exists(folder) or any(_state(pid) != "Z" for pid in workers):
        assert next(patience) < 300
        time.sleep(0.1)


def _state(pid):
    """The state of a process as Linux tells it, "Z" for one that has ended."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"


def test_a_dataset_survives_pickling():
    data = pickle.loads(pickle.dumps(Numbers(workers=2)))
    assert (data.workers, len(data)) == (2, 6)
