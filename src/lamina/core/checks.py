"""What arguments must be."""

from __future__ import annotations

import os
from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np


def is_integer(value: Any, least: int = 1) -> bool:
    """Whether `value` is an integer, of Python or NumPy, of at least `least`."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) >= least


def integer(who: str, name: str, value: Any, least: int = 1) -> int:
    """`value` as an integer of at least `least`."""
    if not is_integer(value, least):
        rule = "a positive integer" if least == 1 else f"an integer of at least {least}"
        raise ValueError(f"{who}: {name} must be {rule}, got {value!r}.")
    return int(value)


def number(who: str, name: str, value: Any, low: float | None = None, high: float | None = None) -> Any:
    """`value`, a number from `low` to `high`."""
    valid = isinstance(value, Real) and not isinstance(value, bool)
    exact: Any = value
    if not valid or not (low is None or exact >= low) or not (high is None or exact <= high):
        rule = "a number" if low is None else f"a number of at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{who}: {name} must be {rule}, got {value!r}.")
    return value


def one_of(who: str, name: str, value: Any, choices: Iterable[Any]) -> Any:
    """`value`, one of the choices."""
    choices = tuple(choices)
    if value not in choices:
        rule = " or ".join(map(repr, choices)) if len(choices) < 3 else f"one of {', '.join(map(repr, choices))}"
        raise ValueError(f"{who}: {name} must be {rule}, got {value!r}.")
    return value


def known_size(who: str, shape: Any, axis: int) -> int:
    """The size of an axis of the input, which must be there and not open."""
    if not -len(shape) <= axis < len(shape) or shape[axis] is None:
        raise ValueError(f"{who}: axis {axis} must be an axis of known size, got {shape}.")
    return shape[axis]


def path(who: str, name: str, value: Any) -> str:
    """`value`, a string or a path, as a string."""
    if not isinstance(value, (str, os.PathLike)):
        raise ValueError(f"{who}: {name} must be a path, got {value!r}.")
    return str(os.fspath(value))


def integers(value: Any) -> Any:
    """NumPy's integers, also in sequences, as those of Python."""
    if isinstance(value, (int, np.integer)):
        return int(value)
    return tuple(integers(v) if isinstance(v, (int, np.integer, list, tuple, np.ndarray)) else v for v in value)
