"""What arguments may be, as the annotations of the library's own constructors say: kinds of values, in words."""

import inspect
import operator
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from lamina.core.checks import ArgumentError, shorten

NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Kind(NamedTuple):
    """A kind of values: one and several of them in words, whether a value is one, and types of which all values are."""

    one: str
    several: str
    holds: Callable[[Any], bool]
    types: frozenset[type] = frozenset()


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) or hasattr(value, "shape")  # arrays and variables broadcast


def _is_integer(value: Any) -> bool:
    try:
        return operator.index(value) is not None
    except TypeError:
        return False


def _is_flag(value: Any) -> bool:
    return value is None or isinstance(value, np.bool_) or (isinstance(value, Real) and value in (0, 1))


_DICT = Kind("a dict", "dicts", lambda value: isinstance(value, Mapping))
_KINDS = {
    bool: Kind("True or False", "truth values", _is_flag, frozenset({bool})),
    int: Kind("an integer", "integers", _is_integer, frozenset({int, bool})),
    float: Kind("a number", "numbers", _is_number, frozenset({float, int, bool, type(None)})),
    str: Kind("a string", "strings", lambda value: isinstance(value, str), frozenset({str})),
    dict: _DICT,
    Mapping: _DICT,
    Iterable: Kind("iterable", "iterables", lambda value: isinstance(value, Iterable)),
    Callable: Kind("a function", "functions", callable),
    os.PathLike: Kind("a path", "paths", lambda value: isinstance(value, os.PathLike)),
    object: Kind("a value", "values", lambda value: True),
    type(None): Kind("", "", lambda value: value is None, frozenset({type(None)})),
}


def kind_of(annotation: Any) -> Kind | None:
    """The values that an annotation allows; `None` if it says nothing, or speaks of classes of the library."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        kinds = [kind_of(each) for each in inner]
        return None if None in kinds else _any_of([kind for kind in kinds if kind is not None])
    if origin is Sequence:
        item = _KINDS[object] if inner[0] is Any else kind_of(inner[0])
        return item and Kind(f"a sequence of {item.several}", "sequences", lambda value: _all_are(item, value))
    plain = origin or annotation
    return _KINDS.get(plain) if isinstance(plain, type) else None


def _any_of(kinds: list[Kind]) -> Kind:
    one, several = (" or ".join(filter(None, dict.fromkeys(words))) for words in list(zip(*kinds))[:2])
    exact = frozenset[type]().union(*(kind.types for kind in kinds))
    return Kind(one, several, lambda value: any(kind.holds(value) for kind in kinds), exact)


def _all_are(item: Kind, value: Any) -> bool:
    shape = getattr(value, "shape", None)
    if shape is not None:  # an array, of whatever library: its elements are as its dtype says, where that is told
        dtype = getattr(value, "dtype", None)
        return len(shape) > 0 and (getattr(dtype, "kind", "O") == "O" or item.holds(np.zeros((), dtype)[()]))
    if not isinstance(value, (Sequence, Set)) or isinstance(value, (str, bytes)):
        return False
    return all(item.holds(each) or _all_are(item, each) for each in value)


def signature_of(fn: Callable) -> inspect.Signature:
    """The signature, its annotations as what they stand for where all of them are there."""
    try:
        return inspect.signature(fn, eval_str=True)
    except NameError:
        return inspect.signature(fn)


def of_signature(signature: inspect.Signature) -> dict[str, Kind]:
    """The kind of each argument whose annotation tells one."""
    kinds = {name: kind_of(p.annotation) for name, p in signature.parameters.items() if p.kind in NAMED}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def refusal(
    who: str, signature: inspect.Signature, kinds: Mapping[str, Kind], args: tuple, kwargs: dict, said: str = ""
) -> ArgumentError | None:
    """The error about an argument that is neither of its kind nor its default, if `who` has not `said` so already."""
    named = said.startswith((f"{who}:", f'{who} "'))
    for name, value in [*zip(signature.parameters, args), *kwargs.items()]:
        kind = kinds.get(name)
        if kind is None or type(value) in kind.types or kind.holds(value):
            continue
        if value is not signature.parameters[name].default and not (named and f" {name} must" in said):
            return ArgumentError(f"{who}: {name} must be {kind.one}, got {shorten(value)}.")
    return None
