"""The public names of Keras, and what they mean in lamina."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import keras

import lamina

# Classes that programs derive from: their members are public too.
BASES = ("Layer", "Model", "Variable", "Metric", "Loss", "Optimizer")
# An object of each, for what is set by the constructor.
EXAMPLES = {
    "Layer": lamina.Layer,
    "Model": lamina.Model,
    "Variable": lambda: lamina.Variable(0.0),
    "Metric": lamina.metrics.Mean,
    "Loss": lamina.Loss,
    "Optimizer": lambda: lamina.optimizers.SGD(0.1),
}


def _walk(module: ModuleType, path: str, around: tuple[ModuleType, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in (n for n in dir(module) if not n.startswith("_")):
        value = getattr(module, name)
        if isinstance(value, ModuleType):
            own = value.__name__.startswith("keras.") and not value.__name__.startswith("keras.src")
            if own and value not in around:
                found |= _walk(value, f"{path}.{name}", (*around, value))
        elif callable(value):
            found[f"{path}.{name}"] = value
    return found


def of_keras() -> dict[str, Any]:
    """Every public class and function of Keras by its dotted name, and the members of the classes to derive from."""
    found = _walk(keras, "keras", (keras,))
    for base in BASES:
        cls = getattr(keras, base)
        found |= {f"keras.{base}.{name}": getattr(cls, name) for name in dir(cls) if not name.startswith("_")}
    return found


def in_lamina(name: str) -> Any:
    """What a dotted name of Keras means here, or `None`."""
    value: Any = lamina
    _, *parts = name.split(".")
    for part in parts:
        value = getattr(value, part, None)
    if value is None and parts[0] in EXAMPLES:
        return vars(EXAMPLES[parts[0]]()).get(parts[1], None)
    return value
