"""Streams of processes that train together: threads stand for the processes here, and take the same steps."""

import threading
import time
from contextvars import ContextVar

import numpy as np
import pytest

from lamina.core import placement
from lamina.data import windows

PROCESSES = 2
number: ContextVar[int] = ContextVar("number")


@pytest.fixture(autouse=True)
def processes(monkeypatch):
    told, all_here = {}, threading.Barrier(PROCESSES, timeout=30)  # a deadlock would be an error

    def least(numbers):
        told[number.get()] = numbers
        all_here.wait()
        found = np.min(list(told.values()), axis=0).tolist()
        all_here.wait()
        return found

    def own_part(size):
        part = size // PROCESSES
        return slice(number.get() * part, (number.get() + 1) * part), size

    monkeypatch.setattr(placement, "processes", lambda: PROCESSES)
    monkeypatch.setattr(placement, "least", least)
    monkeypatch.setattr(placement, "own_part", own_part)


def numbered(count, size=8, pause=0.0, first=0, fails_at=None):
    for i in range(first, first + count):
        time.sleep(pause)
        if i == fails_at:
            raise OSError("the disk is gone")
        yield np.full((size, 2), i, "float32") + np.arange(size, dtype="float32")[:, None] / 128, np.full(size, i)


class Process(threading.Thread):
    def __init__(self, i, stream, between):
        super().__init__(daemon=True)
        self.number, self.stream, self.between = i, stream, between
        self.batches, self.counts, self.error = [], [], None

    def run(self):
        number.set(self.number)
        try:
            for window in windows.of_stream(self.stream):
                self.counts.append(window.count)
                self.batches.extend(zip(*(part[: window.count] for part in window.data)))
                self.between()
        except Exception as error:
            self.error = error


def run(*streams, between=lambda: None):
    """What each process has got; which is the same number of batches in each window."""
    found = [Process(i, stream, between) for i, stream in enumerate(streams)]
    for each in found:
        each.start()
    for each in found:
        each.join(60)
        assert not each.is_alive()
        assert each.counts == found[0].counts
    return found


def assert_rows(found, expected):
    """Side by side the parts of the processes are the batches."""
    expected = list(expected)
    assert [len(each.batches) for each in found] == [len(expected)] * PROCESSES
    for *parts, whole in zip(*(each.batches for each in found), expected):
        for pieces in zip(*parts, whole):
            np.testing.assert_array_equal(np.concatenate(pieces[:-1]), pieces[-1])


def test_what_has_come_to_all_goes_at_once():
    ended = [threading.Event(), threading.Event()]

    def stream(i):
        yield from numbered(20)
        ended[i].set()

    found = run(stream(0), stream(1), between=lambda: [each.wait(30) for each in ended])
    assert_rows(found, numbered(20))
    # What all had at first, what else was in the windows that were begun until then, and after that all others.
    assert len(found[0].counts) <= 4


@pytest.mark.parametrize("room", [1, 3, 1000])
@pytest.mark.parametrize("pauses", [(0, 0), (0, 0.002), (0.002, 0.001)])
def test_one_that_is_slow_loses_nothing(pauses, room, monkeypatch):
    monkeypatch.setattr(windows, "capacity_for", lambda size: room)
    found = run(*(numbered(30, pause=pause) for pause in pauses))
    assert_rows(found, numbered(30))
    assert max(found[0].counts) <= room


@pytest.mark.parametrize("counts", [(7, 20), (20, 7), (0, 5), (5, 5)])
def test_the_first_that_ends_ends_all(counts):
    found = run(*map(numbered, counts))
    assert_rows(found, numbered(min(counts)))
    assert [each.error for each in found] == [None, None]


def test_a_short_batch_has_a_window_of_its_own():
    def stream(pause):
        yield from numbered(5, pause=pause)
        yield from numbered(1, 4, first=5)
        yield from numbered(3, first=6)

    found = run(stream(0.001), stream(0))
    assert_rows(found, stream(0))


@pytest.mark.parametrize("failing", [0, 1])
@pytest.mark.parametrize("at", [0, 4])
def test_an_error_in_one_is_an_error_in_all(failing, at):
    found = run(*(numbered(9, fails_at=at if i == failing else None) for i in range(PROCESSES)))
    assert_rows(found, numbered(at))
    assert isinstance(found[failing].error, OSError)
    assert isinstance(found[1 - failing].error, RuntimeError) and "in another one" in str(found[1 - failing].error)


@pytest.mark.parametrize("other", [numbered(2, 4, first=3), ((x, y.astype("int32")) for x, y in numbered(2, first=3))])
def test_batches_that_do_not_fit_together_are_refused(other):
    def stream(i):
        yield from numbered(3)
        yield from numbered(2, first=3) if i else other

    found = run(stream(0), stream(1))
    assert_rows(found, numbered(3))
    for each in found:
        assert isinstance(each.error, ValueError) and "the same dtypes and shapes" in str(each.error)
