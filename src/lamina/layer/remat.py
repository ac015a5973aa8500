"""`RematScope`: which layers compute their inside again in the backward pass, rather than keep it."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax

from lamina.core import checks, scope, tree
from lamina.core.effects import primitives
from lamina.core.state import StateScope
from lamina.core.transforms import remat

_MODES = ("full", "activations", "larger_than", "list_of_layers", None)
_PRODUCTS = ("dot_general", "conv_general_dilated")


class RematScope(scope.Opens):
    """Layers that are made inside keep less for the backward pass, and compute it again there.

    Args:
        mode: "full" for all of a layer's inside; "activations" for all but its matrix products and convolutions;
            "larger_than" for layers with larger outputs than the threshold; "list_of_layers" for those of the names;
            `None` for none, inside another scope.
        output_size_threshold: a number of values.
        layer_names: names of layers.

    Raises: ValueError if an argument is outside its domain.

    >>> with lamina.RematScope("list_of_layers", layer_names=["deep"]):
    ...     block = layers.Dense(4, activation="gelu", name="deep")
    """

    def __init__(
        self, mode: str | None = "full", output_size_threshold: int = 1024, layer_names: Sequence[str] | None = None
    ):
        self.mode = checks.one_of("RematScope", "mode", mode, _MODES)
        self.output_size_threshold = checks.integer("RematScope", "output_size_threshold", output_size_threshold, 0)
        self.layer_names = list(layer_names or [])

    def _scope(self) -> AbstractContextManager[Any]:
        return scope.remat(self)

    def __reduce__(self) -> tuple:  # a layer's copy has an equal scope, which is not open
        return RematScope, (self.mode, self.output_size_threshold, self.layer_names)

    def applied(self, name: str, call: Callable) -> Callable:
        """`call`, as the layer of this name is to make it."""
        if self.mode == "full" or (self.mode == "list_of_layers" and name in self.layer_names):
            return _again(call)
        if self.mode == "activations":
            return _again(call, policy=_is_product)
        return self._if_larger(call) if self.mode == "larger_than" else call

    def _if_larger(self, call: Callable) -> Callable:
        def run(*args: Any, **kwargs: Any) -> Any:
            inferred, arrays = tree.function_of(jax.Array, call, args, kwargs)
            with StateScope():
                outputs = jax.eval_shape(inferred, *arrays)
            size = sum(math.prod(x.shape) for x in jax.tree.leaves(outputs))
            return (_again(call) if size > self.output_size_threshold else call)(*args, **kwargs)

        return run


def _again(call: Callable, **options: Any) -> Callable:
    """`call`, computed again in the backward pass from the arrays among its arguments; all others are fixed."""

    def run(*args: Any, **kwargs: Any) -> Any:
        of_arrays, arrays = tree.function_of(jax.Array, call, args, kwargs)
        return remat(of_arrays, **options)(*arrays)

    return run


def _is_product(primitive: Any, *_: Any, **parameters: Any) -> bool:
    """Whether the result of an operation is kept; those with gradients of their own hold others."""
    inside = parameters.get("call_jaxpr")
    names = {primitive.name} if inside is None else primitives(getattr(inside, "jaxpr", inside))
    return not names.isdisjoint(_PRODUCTS)
