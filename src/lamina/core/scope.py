"""Context that code runs in: one small class, and the contexts the library has.

A scope is a `ContextVar` with a `with` statement, so threads and async tasks never see each other's.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Container, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")


class Scope(Generic[T]):
    """A value that holds inside a `with scope(value):` block and below it on the call stack."""

    __slots__ = ("_variable", "get")

    def __init__(self, name: str, default: T):
        self._variable: ContextVar[T] = ContextVar(name, default=default)
        self.get = self._variable.get

    @contextmanager
    def __call__(self, value: T) -> Iterator[T]:
        token = self._variable.set(value)
        try:
            yield value
        finally:
            self._variable.reset(token)


class Opens:
    """Base of what has a scope that `with` opens, as often as it is entered."""

    _scope: Callable[[], AbstractContextManager[Any]]

    def __enter__(self) -> Self:
        opened = self._scope()
        opened.__enter__()
        vars(self).setdefault("_opened", []).append(opened)
        return self

    def __exit__(self, *error: Any) -> None:
        vars(self)["_opened"].pop().__exit__(*error)


names: Scope[tuple[str, ...]] = Scope("names", ())  # the path of layers that is being built or called
autocast: Scope[str | None] = Scope("autocast", None)  # dtype that float variables are read in
call: Scope[Any] = Scope("call", None)  # the outermost layer call: its training flag
remat: Scope[Any] = Scope("remat", None)  # the RematScope of the layers that are made now
lanes: Scope[tuple[Any, ...]] = Scope("lanes", ())  # the names of the axes that vmap runs over
watch: Scope[Any] = Scope("watch", None)  # sees the calls of layers and what optimizers get, see `core/watch.py`
learning_rate: Scope[Any] = Scope("learning_rate", None)  # what optimizers take in place of their own
rows: Scope[Any] = Scope("rows", None)  # how many rows of a batch count; the others fill it up
symbolic: Scope[bool] = Scope("symbolic", False)  # whether code runs for its shapes only
loading: Scope[Any] = Scope("loading", None)  # a file being read: admits variables, their initial values wait

in_symbolic_scope = symbolic.get  # as Keras calls it

_uids: Counter[str] = Counter()


def current_path() -> str:
    """The open names as one path, such as `"model/block"`."""
    return "/".join(names.get())


def unique_name(prefix: str) -> str:
    """`prefix`, `prefix_1`, `prefix_2`, ...: a name nobody else has got since the last `reset_names`."""
    count = get_uid(prefix) - 1
    return f"{prefix}_{count}" if count else prefix


def unused_name(name: str, taken: Container[str]) -> str:
    """`name`, `name_1`, `name_2`, ...: the first that is not taken."""
    numbered = (f"{name}_{count}" for count in itertools.count(1))
    return next(each for each in itertools.chain([name], numbered) if each not in taken)


def get_uid(prefix: str = "") -> int:
    """The next number for `prefix`, starting from 1."""
    _uids[prefix] += 1
    return _uids[prefix]


def reset_names() -> None:
    """Start numbering automatic names anew."""
    _uids.clear()


def snake_case(name: str) -> str:
    """`"MultiHeadAttention"` -> `"multi_head_attention"`, `"Conv2D"` -> `"conv2d"`."""
    return re.sub("(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", name).lower()


@contextmanager
def name_scope(name: str, **_: Any) -> Iterator[str]:
    """Put `name/` in front of the paths of the variables that are made inside."""
    with names((*names.get(), name)):
        yield name


class SymbolicScope(Opens):
    """A mark that code runs for its shapes only, as the inference of shapes sets it; kept for Keras programs."""

    def _scope(self) -> AbstractContextManager[bool]:
        return symbolic(True)
