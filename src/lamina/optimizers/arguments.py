"""What the arguments of optimizers must be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from lamina.core import checks

_CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")
# (check, names of the arguments that it is for)
_CHECKS: tuple[tuple[Callable[[str, str, Any], Any], tuple[str, ...]], ...] = (
    (
        partial(checks.number, low=0, high=1),
        ("momentum", "rho", "beta_1", "beta_2", "ema_momentum", "adam_beta_1", "adam_beta_2"),
    ),
    (
        partial(checks.number, low=0),
        (
            "weight_decay", *_CLIPPING, "epsilon", "epsilon_1", "epsilon_2",
            "initial_accumulator_value", "l1_regularization_strength", "l2_regularization_strength",
            "l2_shrinkage_regularization_strength", "adam_weight_decay", "warmup_steps",
        ),
    ),
    (partial(checks.number, high=0), ("learning_rate_power",)),
    (checks.positive, ("loss_scale_factor", "clip_threshold", "initial_scale")),
    (checks.integer, ("ema_overwrite_frequency", "dynamic_growth_steps")),
    (partial(checks.integer, least=2), ("gradient_accumulation_steps",)),
)  # fmt: skip


def check(who: str, arguments: Mapping[str, Any]) -> None:
    """Raise `ValueError` for an argument that breaks its rule, or two ways of clipping; `None` means: not used."""
    for rule, names in _CHECKS:
        for name in names:
            if arguments.get(name) is not None:
                rule(who, name, arguments[name])
    given = [f"{name}={arguments[name]!r}" for name in _CLIPPING if arguments.get(name) is not None]
    if len(given) > 1:
        raise ValueError(f"{who}: only one of {', '.join(_CLIPPING)} must be set, got {' and '.join(given)}.")
