"""Optimizers: `get` makes one from a name, a configuration or an Optax transformation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamina.core import configurable, registry
from lamina.optimizers import schedules
from lamina.optimizers.adam import Adam, Adamax, AdamW, Lamb, Nadam, ScheduleFreeAdamW
from lamina.optimizers.adaptive import Adadelta, Adafactor, Adagrad, Ftrl, RMSprop
from lamina.optimizers.composite import LossScaleOptimizer, MultiOptimizer, OptimizerMap
from lamina.optimizers.momentum import SGD, Lion
from lamina.optimizers.muon import Muon
from lamina.optimizers.optax import OptaxOptimizer, is_transformation
from lamina.optimizers.optimizer import Optimizer

__all__ = [
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Ftrl",
    "Lamb",
    "Lion",
    "LossScaleOptimizer",
    "MultiOptimizer",
    "Muon",
    "Nadam",
    "Optimizer",
    "OptimizerMap",
    "RMSprop",
    "ScheduleFreeAdamW",
    "deserialize",
    "get",
    "schedules",
    "serialize",
]


def get(identifier: Any) -> Optimizer | None:
    """The optimizer that a name in any case, a configuration or an Optax transformation means."""
    if identifier is None or isinstance(identifier, Optimizer):
        return identifier
    if is_transformation(identifier):
        return OptaxOptimizer(identifier)
    found = deserialize(identifier) if isinstance(identifier, Mapping) else _make(identifier)
    if not isinstance(found, Optimizer):
        raise ValueError(f"optimizer: must be an Optimizer, its name or configuration, got {identifier!r}.")
    return found


def _make(identifier: Any) -> Any:
    return configurable.make("optimizers", identifier, "optimizer")


def serialize(optimizer: Optimizer) -> Any:
    """An optimizer as JSON values."""
    return configurable.serialize(optimizer)


def deserialize(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The optimizer that `serialize` described; the class's name may be in any case."""
    with registry.custom_objects(custom_objects):
        name = config.get("class_name")
        known = {public.lower(): public for public in __all__}
        if isinstance(name, str) and registry.get_registered_object(name) is None:
            config = {**config, "class_name": known.get(name.lower(), name)}
        return _make(config)
