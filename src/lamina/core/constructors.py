"""The arguments of constructors: which a class takes, what it was given by name, and errors in the program's words."""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from lamina.core import checks, domains, registry
from lamina.core.checks import ArgumentError

MANY, KEYWORDS = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD


def explaining(init: Callable) -> Callable:
    """A constructor whose errors about its arguments speak of the class that the program named, and of near names.

    What annotations of the library's own say of arguments is asked at the end: most arguments are right. Those of a
    program are its own affair, and are not looked at.
    """
    own = registry.is_own(init)

    @functools.cache
    def signature() -> inspect.Signature:
        return domains.signature_of(init) if own else inspect.signature(init)

    @functools.cache
    def kinds() -> dict[str, domains.Kind]:
        return domains.of_signature(signature())

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        given, who, told = (self, *args), type(self).__name__, None
        try:
            init(self, *args, **kwargs)
        except Exception as error:
            if isinstance(error, TypeError):
                told = _told(type(self), signature(), given, kwargs)
            if told is None and own:
                told = domains.refusal(who, signature(), kinds(), given, kwargs, said=str(error))
            if told is None:
                raise
            raise told from None
        if own and (told := domains.refusal(who, signature(), kinds(), given, kwargs)) is not None:
            raise told

    return __init__


def unknown_arguments(cls: type, names: Collection[str]) -> ArgumentError:
    """The error that a class does not take the arguments `names`, with the nearest ones that it takes."""
    return checks.unknown_arguments(cls.__name__, names, all_parameters(cls))


def _told(cls: type, signature: inspect.Signature, args: tuple, kwargs: dict[str, Any]) -> ArgumentError | None:
    """The error about arguments that a constructor of `cls` does not take; `None` if it takes them."""
    try:
        signature.bind(*args, **kwargs)
        return None
    except TypeError as error:
        problem = f"got {error}"
    named = [p for p in signature.parameters.values() if p.kind in domains.NAMED]
    unknown = [name for name in kwargs if name not in signature.parameters]
    if unknown and not any(p.kind is KEYWORDS for p in signature.parameters.values()):
        return unknown_arguments(cls, unknown)
    places = [p.name for p in named if p.kind is POSITIONAL]
    given = {*places[: len(args)], *kwargs}
    lacking = [p.name for p in named if p.default is p.empty and p.name not in given]
    if lacking:
        problem = f"must be given {' and '.join(lacking)}"
    elif len(args) > len(places):  # of which the first is the object itself
        most, count = len(places) - 1, len(args) - 1
        problem = f"must be given at most {most} arguments without a name, got {count}"
    return ArgumentError(f"{cls.__name__}: {problem}.")


def all_parameters(cls: type) -> list[str]:
    """The arguments of the constructor, and of those above that get what is left over and do not belong to others."""
    refused = getattr(cls.__init__, "refused", ())  # what a variant lacks
    names: list[str] = []
    for each in cls.__mro__:
        if "__init__" in each.__dict__ and each is not object:
            names += [name for name, p in parameters(each).items() if p.kind in domains.NAMED and name not in refused]
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
    named = {name: p for name, p in parameters(cls).items() if p.kind in domains.NAMED}
    given = dict(zip(named, args)) | kwargs
    first = {name: given.pop(name, p.default) for name, p in named.items()}
    return {k: v for k, v in first.items() if v is not inspect.Parameter.empty} | given
