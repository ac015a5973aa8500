"""The arguments of constructors: which a class takes, what it was given by name, and errors in the program's words."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from lamina.core import checks
from lamina.core.checks import ArgumentError

MANY, KEYWORDS = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def explaining(init: Callable) -> Callable:
    """A constructor whose errors about its arguments speak of the class that the program named, and of near names."""

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            init(self, *args, **kwargs)
        except TypeError as error:
            better = _in_our_words(type(self), error)
            if better is None:
                raise
            raise better from None

    return __init__


def unknown_arguments(cls: type, names: Collection[str]) -> ArgumentError:
    """The error that a class does not take the arguments `names`, with the nearest ones that it takes."""
    return checks.unknown_arguments(cls.__name__, names, all_parameters(cls))


def bound(cls: type, signature: inspect.Signature, args: tuple, kwargs: dict[str, Any]) -> inspect.BoundArguments:
    """The arguments by name, where a constructor's real signature is not the one that Python knows."""
    try:
        return signature.bind(*args, **kwargs)
    except TypeError as error:
        unknown = [name for name in kwargs if name not in signature.parameters]
        if unknown:
            raise unknown_arguments(cls, unknown) from None
        places = [p for p in signature.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        lacking = [p.name for p in places[len(args) :] if p.default is p.empty and p.name not in kwargs]
        raise _wrong_number(cls, lacking, len(places) - 1, len(args) - 1, f"got {error}") from None


def _wrong_number(cls: type, lacking: Sequence[str], most: int, given: int, other: str) -> ArgumentError:
    few = f"must be given {' and '.join(lacking)}" if lacking else ""
    many = f"must be given at most {most} arguments without a name, got {given}" if given > most else other
    return ArgumentError(f"{cls.__name__}: {few or many}.")


def _in_our_words(cls: type, error: TypeError) -> ArgumentError | None:
    """Python's error about the arguments of a constructor of `cls`, in terms of what the program wrote."""
    owner, _, problem = str(error).partition(".__init__() ")
    if owner not in {each.__qualname__ for each in cls.__mro__} or isinstance(error, ArgumentError):
        return None
    names = re.findall(r"'(\w+)'", problem)
    if problem.startswith("got an unexpected"):
        return unknown_arguments(cls, names)
    most, given = [int(n) - 1 for n in re.findall(r"\d+", problem)[-2:]] if problem.startswith("takes") else (0, 0)
    return _wrong_number(cls, names if problem.startswith("missing") else (), most, given, problem)


def all_parameters(cls: type) -> list[str]:
    """The arguments of the constructor, and of those above that get what is left over and do not belong to others."""
    refused = getattr(cls.__init__, "refused", ())  # what a variant lacks
    names: list[str] = []
    for each in cls.__mro__:
        if "__init__" in each.__dict__ and each is not object:
            names += [name for name, p in parameters(each).items() if p.kind in _NAMED and name not in refused]
            if not takes_any(each):
                break
    return names


@functools.cache
def parameters(cls: type) -> Mapping[str, inspect.Parameter]:
    """Those of the class's constructor by name, but for the object itself."""
    return dict([*inspect.signature(cls.__init__).parameters.items()][1:])


def takes_any(cls: type, kind: Any = KEYWORDS) -> bool:
    """Whether the constructor takes `**kwargs`, or another kind of rest."""
    return any(p.kind is kind for p in parameters(cls).values())


def bound_arguments(cls: type, args: tuple, kwargs: dict) -> dict[str, Any]:
    """Each argument of the constructor by name, defaults included, and extra keywords behind them."""
    named = {name: p for name, p in parameters(cls).items() if p.kind in _NAMED}
    given = dict(zip(named, args)) | kwargs
    first = {name: given.pop(name, p.default) for name, p in named.items()}
    return {k: v for k, v in first.items() if v is not inspect.Parameter.empty} | given
