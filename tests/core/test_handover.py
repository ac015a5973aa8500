"""The lock under which launches exchange arrays."""

import threading
import time
from contextlib import contextmanager

import pytest

from lamina.core.handover import _Turns


@pytest.fixture
def still():
    return _Turns()


@contextmanager
def held_while_another_waits(still, order):
    """Inside, the lock is held, and another thread waits for it, to put down that it did."""

    def wait():
        with still:
            order.append("waited")

    waiting = threading.Thread(target=wait)
    with still:
        waiting.start()
        while not still._next.locked():
            time.sleep(0.001)
        yield waiting


def test_who_waits_gets_the_next_turn(still):
    order = []
    with held_while_another_waits(still, order) as waiting:
        pass
    for _ in range(3):  # at once, as launch follows launch
        with still:
            order.append("again")
    waiting.join()
    assert order == ["waited", "again", "again", "again"]


def test_a_thread_may_take_it_several_times_while_others_wait(still):
    order = []
    with held_while_another_waits(still, order) as waiting:
        with still:
            order.append("inside")
        order.append("outside")
    waiting.join()
    assert order == ["inside", "outside", "waited"]
