"""The lock under which launches exchange arrays."""

import threading
import time

from lamina.core.handover import _Turns


def test_who_waits_gets_the_next_turn():
    still, order = _Turns(), []

    def wait():
        with still:
            order.append("waited")

    waiting = threading.Thread(target=wait)
    with still:
        waiting.start()
        while not still._next.locked():
            time.sleep(0.001)
    for _ in range(3):  # at once, as launch follows launch
        with still:
            order.append("again")
    waiting.join()
    assert order == ["waited", "again", "again", "again"]


def test_a_thread_may_take_it_several_times_while_others_wait():
    still, order = _Turns(), []

    def wait():
        with still:
            order.append("waited")

    waiting = threading.Thread(target=wait)
    with still:
        waiting.start()
        while not still._next.locked():
            time.sleep(0.001)
        with still:
            order.append("inside")
        order.append("outside")
    waiting.join()
    assert order == ["inside", "outside", "waited"]
