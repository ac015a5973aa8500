"""What arguments must be."""

import difflib
import os
import reprlib
from collections.abc import Iterable
from numbers import Real
from types import MethodType
from typing import Any

import numpy as np


def require(condition: Any, who: Any, rule: str, given: Any = None, remedy: str = "", got: str = "") -> None:
    """Raise `ValueError` unless the condition holds, in the one form of errors.

    Args:
        condition: what must be so.
        who: who speaks: a name, a method that gives it, or an object, which has that of its class.
        rule: what must be so, in words.
        given: what is, shown by its `repr` if that is one line.
        remedy: what helps.
        got: in place of `given`, what is in words.
    """
    if not condition:
        named = who() if isinstance(who, MethodType) else who
        name, ending = named if isinstance(named, str) else type(who).__name__, f"; {remedy}." if remedy else "."
        told = shorten(given) if "\n" in repr(given) else repr(given)
        raise ValueError(f"{name}: {rule}, got {got or told}{ending}")


def is_integer(value: Any, least: int = 1) -> bool:
    """Whether `value` is an integer, of Python or NumPy, of at least `least`."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) >= least


def flag(who: Any, name: str, value: Any) -> bool:
    """`value`, which is true or false and not only taken for it; `who` is that of `require`, here and below."""
    require(isinstance(value, (bool, np.bool_)), who, f"{name} must be True or False", value)
    return bool(value)


def integer(who: Any, name: str, value: Any, least: int = 1) -> int:
    """`value` as an integer of at least `least`."""
    rule = "a positive integer" if least == 1 else f"an integer of at least {least}"
    require(is_integer(value, least), who, f"{name} must be {rule}", value)
    return int(value)


def height_and_width(who: Any, name: str, value: Any) -> tuple[int, int]:
    """(height, width) of `value`, two positive integers, or one for both."""
    sizes = tuple(value) if isinstance(value, Iterable) else (value, value)
    both = len(sizes) == 2 and all(map(is_integer, sizes))
    require(both, who, f"{name} must be a height and a width above 0", value)
    return int(sizes[0]), int(sizes[1])


def some(items: list[str], most: int = 6) -> str:
    """The items of a list in words, at most so many of them."""
    return ", ".join([*items[:most], *([f"... and {len(items) - most} more"] if len(items) > most else [])])


def number(who: Any, name: str, value: Any, low: float | None = None, high: float | None = None) -> Any:
    """`value`, a number from `low` to `high`, where these are given."""
    valid = isinstance(value, Real) and not isinstance(value, bool)
    exact: Any = value
    if not valid or not (low is None or exact >= low) or not (high is None or exact <= high):
        ends = f"a number of at least {low}" if high is None else f"a number of at most {high}"
        above = high if high is None or high == round(high, 9) else f"below {round(high)}"
        rule = "a number" if low is high is None else f"from {low} to {above}" if None not in (low, high) else ends
        require(False, who, f"{name} must be {rule}", value)
    return value


def one_of(who: Any, name: str, value: Any, choices: Iterable[Any]) -> Any:
    """`value`, one of the choices."""
    choices = tuple(choices)
    if value not in choices:
        rule = " or ".join(map(repr, choices)) if len(choices) < 3 else f"one of {', '.join(map(repr, choices))}"
        require(False, who, f"{name} must be {rule}", value)
    return value


def known_size(who: Any, shape: Any, axis: int) -> int:
    """The size of an axis of the input, which must be there and not open."""
    known = -len(shape) <= axis < len(shape) and shape[axis] is not None
    require(known, who, f"axis {axis} must be an axis of known size", shape)
    return shape[axis]


def positive(who: Any, name: str, value: Any) -> Any:
    """`value`, a number above 0."""
    valid = isinstance(value, Real) and not isinstance(value, bool) and float(value) > 0
    require(valid, who, f"{name} must be a number above 0", value)
    return value


def folded(name: str) -> str:
    """A name without its case and underscores."""
    return name.lower().replace("_", "")


def nearest(name: str, known: Iterable[str], least: float = 0.6) -> str | None:
    """The known name that `name` is like, or has the initials of: `lr` stands for `learning_rate`."""
    names = list(known)
    initials = [each for each in names if "".join(word[:1] for word in each.split("_")) == name]
    near = difflib.get_close_matches(folded(name), {*map(folded, names)}, 1, least)
    spelt = [each for each in names if near and folded(each) == near[0]]  # in snake or camel case, as what was given
    return next(iter([*initials, *sorted(spelt, key=lambda n: -difflib.SequenceMatcher(None, name, n).ratio())]), None)


def did_you_mean(name: str, known: Iterable[str], least: float = 0.6) -> str:
    """The end of a message about a name that does not exist: the one that was probably meant, if any."""
    near = nearest(name, known, least)
    return f" Did you mean {near!r}?" if near else ""


class ArgumentError(TypeError, ValueError):
    """What a constructor or method was given and does not take, or takes and was not given."""


def unknown_arguments(who: str, names: Iterable[str], takes: Iterable[str]) -> ArgumentError:
    """The error that `who` does not take the arguments `names`, with the nearest ones among those that it takes."""
    names, takes = list(names), list(takes)
    near = [match for match in (nearest(name, [t for t in takes if t not in names]) for name in names) if match]
    hint = f"; did you mean {', '.join(near)}?" if near else "."
    return ArgumentError(f"{who}: must not be given unknown arguments, got {', '.join(names)}{hint}")


def path(who: str, name: str, value: Any) -> str:
    """`value`, a string or a path, as a string."""
    require(isinstance(value, (str, os.PathLike)), who, f"{name} must be a path", value)
    return str(os.fspath(value))


def integers(value: Any) -> Any:
    """NumPy's integers, also in sequences, as those of Python."""
    if isinstance(value, (int, np.integer)):
        return int(value)
    return tuple(map(integers, value)) if isinstance(value, Iterable) and not isinstance(value, str) else value


class _Short(reprlib.Repr):
    """A `repr` of the first items, with dtype and shape in place of an array."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxtuple, self.maxdict, self.maxstring, self.maxother = 3, 4, 4, 4, 80, 80

    def repr1(self, x: Any, level: int) -> str:
        shape, dtype = getattr(x, "shape", None), getattr(x, "dtype", None)
        if isinstance(shape, tuple) and dtype is not None:
            return f"{getattr(dtype, 'name', dtype)}{shape}"
        return super().repr1(x, level)


_short = _Short()


def shorten(value: Any, length: int = 160) -> str:
    """What a message says of a value of any size: dtype and shape of arrays, the first items of containers."""
    text = _short.repr(value)
    return text if len(text) <= length else f"{text[: length - 4]} ..."
