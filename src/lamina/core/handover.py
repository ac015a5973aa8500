"""Launches give arrays away and take new ones in; who reads variables in another thread waits, or reads again.

A launch gives, calls and takes under one lock, between two counts. A reader looks at the count before and after, which
costs nothing, and takes the lock only where a launch came between: so it gets the arrays of one finished launch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from lamina.core.variable import Variable

T = TypeVar("T")
still = threading.RLock()  # while it is held, nobody gives arrays away
_count = 0  # odd while arrays are under way


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


def stored(variables: Sequence[Variable]) -> tuple[Any, ...]:
    """The variables' own arrays, all of one moment."""
    before = _count
    arrays = tuple([v.stored for v in variables])
    if before % 2 == 0 and before == _count:
        return arrays
    with still:
        return tuple([v.stored for v in variables])


def call(fn: Callable[[tuple], T], variables: Sequence[Variable]) -> T:
    """`fn` of the variables' own arrays; once more if another thread's launch has given them away before it began."""
    arrays = stored(variables)
    try:
        return fn(arrays)
    except (RuntimeError, ValueError):  # which of them a deleted array raises is up to JAX
        if not any(array.is_deleted() for array in arrays):
            raise
    with still:
        return fn(tuple([v.stored for v in variables]))
