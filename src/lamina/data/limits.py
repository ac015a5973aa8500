"""Limits of every run in the process, to try a long program out: `KERAS_MAX_EPOCHS=1 python program.py`."""

import os
import warnings

from lamina.core import checks

_limits: dict[str, int | None] = {"max_epochs": None, "max_steps_per_epoch": None}


def _set(name: str, value: int | None, who: str) -> None:
    _limits[name] = None if value is None else checks.integer(who, name, value, 1)


def set_max_epochs(max_epochs: int | None) -> None:
    """Let every `fit` end after so many epochs at the most; `None` takes the limit away."""
    _set("max_epochs", max_epochs, "set_max_epochs")


def set_max_steps_per_epoch(max_steps_per_epoch: int | None) -> None:
    """Let every epoch of `fit`, `evaluate` and `predict` have so many steps at the most; `None` takes it away."""
    _set("max_steps_per_epoch", max_steps_per_epoch, "set_max_steps_per_epoch")


def max_epochs() -> int | None:
    """The most epochs of a `fit`, from `set_max_epochs` or `KERAS_MAX_EPOCHS`; `None` without a limit."""
    return _limits["max_epochs"]


def max_steps_per_epoch() -> int | None:
    """The most steps of an epoch, from `set_max_steps_per_epoch` or `KERAS_MAX_STEPS_PER_EPOCH`; `None` without."""
    return _limits["max_steps_per_epoch"]


def limited(who: str, name: str, wanted: int | None, most: int | None) -> int | None:
    """`wanted`, but at most `most`; a warning says so."""
    if most is None or (wanted is not None and wanted <= most):
        return wanted
    warnings.warn(f"{who}: {name} is limited to {most} by lamina.config.", stacklevel=4)
    return most


for _name in _limits:
    _given = os.environ.get(f"KERAS_{_name.upper()}")
    if _given:
        _set(_name, int(_given) if _given.isdecimal() else _given, f"KERAS_{_name.upper()}")  # type: ignore[arg-type]
