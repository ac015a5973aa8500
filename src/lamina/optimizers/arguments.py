"""What the arguments of optimizers must be."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import numpy as np

_LEAST = float(np.nextafter(0, 1))


def _within(low: float, high: float = math.inf, kind: type = Real) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind) and low <= value <= high


# (rule, test, names of the arguments that it holds for)
_RULES: tuple[tuple[str, Callable[[Any], bool], tuple[str, ...]], ...] = (
    (
        "a number in [0, 1]",
        _within(0, 1),
        ("momentum", "rho", "beta_1", "beta_2", "ema_momentum", "adam_beta_1", "adam_beta_2"),
    ),
    (
        "a number of at least 0",
        _within(0),
        (
            "weight_decay", "clipnorm", "clipvalue", "global_clipnorm", "epsilon", "epsilon_1", "epsilon_2",
            "initial_accumulator_value", "l1_regularization_strength", "l2_regularization_strength",
            "l2_shrinkage_regularization_strength", "adam_weight_decay", "warmup_steps",
        ),
    ),
    ("a number of at most 0", _within(-math.inf, 0), ("learning_rate_power",)),
    ("a number above 0", _within(_LEAST), ("loss_scale_factor", "clip_threshold", "initial_scale")),
    ("a positive integer", _within(1, kind=int), ("ema_overwrite_frequency", "dynamic_growth_steps")),
    ("an integer of at least 2", _within(2, kind=int), ("gradient_accumulation_steps",)),
)  # fmt: skip


def check(who: str, arguments: Mapping[str, Any]) -> None:
    """Raise `ValueError` for an argument that breaks its rule; `None` means: not used."""
    for rule, holds, names in _RULES:
        for name in names:
            value = arguments.get(name)
            if value is not None and not holds(value):
                raise ValueError(f"{who}: {name} must be {rule}, got {value!r}.")


def check_one_clipping(who: str, **clipping: Any) -> None:
    """Raise `ValueError` where more than one way of clipping is set."""
    given = [f"{name}={value!r}" for name, value in clipping.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"{who}: only one of {', '.join(clipping)} must be set, got {' and '.join(given)}.")
