"""Weights by name: the arguments `kernel_initializer`, `kernel_regularizer` and `kernel_constraint` make `kernel`."""

from collections.abc import Sequence
from typing import Any

from lamina import activations, constraints, initializers, regularizers
from lamina.core.configurable import own_arguments
from lamina.core.variable import Variable
from lamina.layer import Layer

_GETTERS = {
    "initializer": initializers.get,
    "regularizer": regularizers.get,
    "constraint": constraints.get,
    "activation": activations.get,
}


def resolve_arguments(layer: Layer) -> None:
    """Keep each initializer, regularizer, constraint and activation that the constructor was given, as an attribute."""
    for name, value in own_arguments(layer).items():
        get = _GETTERS.get(name.rpartition("_")[2])
        if get is not None and name != "activity_regularizer":  # which every layer has
            setattr(layer, name, get(value))


def weight(layer: Layer, name: str, shape: Sequence[Any], arguments: str | None = None, **options: Any) -> Variable:
    """A new variable, with the initializer, the regularizer and the constraint of its name.

    Args:
        layer: the layer that it belongs to.
        name: its name.
        shape: its shape.
        arguments: what the layer's arguments for it begin with, if not with its name.
        options: those of `add_weight`.
    """
    for kind in ("initializer", "regularizer", "constraint"):
        options.setdefault(kind, getattr(layer, f"{arguments or name}_{kind}", None))
    return layer.add_weight(name=name, shape=tuple(shape), **options)
