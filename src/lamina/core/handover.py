"""Launches give arrays away and take new ones in; who reads variables in another thread waits, or reads again.

A launch gives, calls and takes under one lock, between two counts. Who reads or writes a variable looks at the count
before and after, which costs little, and takes the lock only where a launch came between: so a reader gets the arrays
of one finished launch, and what it keeps, or what a program assigns, is not given away. While a run goes on, launch
after launch, calls of programs wait for their turn at once: most would find their arrays given away.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
runs = 0  # that go on, in whatever thread
_count = 0  # odd while arrays are under way


class _Turns:
    """A lock that a thread may take several times, and that who waits for gets next: launches follow close upon each
    other, and Python's own locks go to whoever is awake."""

    def __init__(self) -> None:
        self._lock, self._next = threading.Lock(), threading.Lock()
        self._owner, self._depth = 0, 0

    def __enter__(self) -> None:
        if self._owner != threading.get_ident():
            with self._next:
                self._lock.acquire()
            self._owner = threading.get_ident()
        self._depth += 1

    def __exit__(self, *error: Any) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = 0
            self._lock.release()


still = _Turns()  # while it is held, nobody gives arrays away


@contextmanager
def exchange() -> Iterator[None]:
    """Inside, arrays are given away and new ones taken in."""
    global _count
    with still:
        _count += 1
        try:
            yield
        finally:
            _count += 1


def settled(act: Callable[..., T], *args: Any) -> T:
    """`act(*args)`, which looks at variables or changes them; once more, and alone, if a launch came between."""
    before = _count
    out = act(*args)
    if before % 2 == 0 and before == _count:
        return out
    with still:
        return act(*args)


def call(fn: Callable[[tuple], T], variables: Sequence[Any]) -> T:
    """`fn` of the variables' own arrays; once more if another thread's launch has given them away before it began."""
    if not runs:
        arrays = settled(lambda: tuple([v.stored for v in variables]))
        try:
            return fn(arrays)
        except (RuntimeError, ValueError):  # which of them a deleted array raises is up to JAX
            if not any(array.is_deleted() for array in arrays):
                raise
    with still:
        return fn(tuple([v.stored for v in variables]))
