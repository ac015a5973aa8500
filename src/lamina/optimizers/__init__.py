"""Optimizers: `get` makes one from a name, a configuration or an Optax transformation."""

from lamina.core import configurable
from lamina.optimizers import legacy, schedules
from lamina.optimizers.adam import Adam, Adamax, AdamW, Lamb, Nadam, ScheduleFreeAdamW
from lamina.optimizers.adaptive import Adadelta, Adafactor, Adagrad, Ftrl, RMSprop
from lamina.optimizers.composite import LossScaleOptimizer, MultiOptimizer, OptimizerMap
from lamina.optimizers.momentum import SGD, Lion
from lamina.optimizers.muon import Muon
from lamina.optimizers.optax import OptaxOptimizer, is_transformation
from lamina.optimizers.optimizer import Optimizer

__all__ = [
    "SGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Ftrl", "Lamb", "Lion",
    "LossScaleOptimizer", "MultiOptimizer", "Muon", "Nadam", "Optimizer", "OptimizerMap", "RMSprop",
    "ScheduleFreeAdamW", "deserialize", "get", "legacy", "schedules", "serialize",
]  # fmt: skip


get, serialize, deserialize = configurable.namespace_functions(
    "optimizers", "optimizer", Optimizer, functions=False,
    special=lambda identifier: OptaxOptimizer(identifier) if is_transformation(identifier) else None,
)  # fmt: skip
