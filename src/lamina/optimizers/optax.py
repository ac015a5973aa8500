"""Optax transformations as optimizers; Optax itself is not imported, only called."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lamina.core.variable import Variable
from lamina.optimizers.base import constant
from lamina.optimizers.optimizer import Optimizer


def is_transformation(x: Any) -> bool:
    """Whether `x` is what Optax calls a gradient transformation: a pair of functions `init` and `update`."""
    return not isinstance(x, type) and all(callable(getattr(x, name, None)) for name in ("init", "update"))


def _out_of_reach() -> None:
    """Stands in the place of a learning rate that only the transformation knows."""


class OptaxOptimizer(Optimizer):
    """value += transformation.update(gradient, state, value).

    The arrays of the state are variables of the optimizer: they are saved, and trace. `learning_rate` is
    inside the transformation, out of reach, unless `optax.inject_hyperparams` put it into the state.

    Args:
        transformation: such as `optax.adamw(1e-3)`.

    Raises: TypeError if an argument is outside its domain.
    """

    def __init__(self, transformation: Any, name: str | None = None):
        if not is_transformation(transformation):
            raise TypeError(
                f"OptaxOptimizer: transformation must have functions init and update, got {transformation!r}."
            )
        super().__init__(_out_of_reach, name=name)
        self.transformation = transformation
        self._state: list[Variable] = []
        self._injected: Variable | None = None

    @property
    def learning_rate(self) -> Any:
        if self._injected is None:
            raise AttributeError(
                f"{self._who}: learning_rate must be given to the Optax transformation, where it stays; "
                "make that with optax.inject_hyperparams to read and set it here."
            )
        return self._injected

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        self.learning_rate.assign(learning_rate)

    def _make_variables(self, variables: Sequence[Variable]) -> None:
        super()._make_variables(variables)
        values = [v.stored for v in self._trainable_variables]
        # Compiled ahead and as one: real arrays come out, also where the optimizer is built inside a trace.
        with jax.disable_jit(False):
            state = jax.jit(self.transformation.init).lower(values).compile()(values)
        leaves, self._structure = jax.tree_util.tree_flatten_with_path(state)
        for path, leaf in leaves:
            name = re.sub(r"\W+", "_", jax.tree_util.keystr(path)).strip("_") or "state"
            self._state.append(self.add_variable(leaf.shape, constant(leaf), leaf.dtype, name=name))
            if name.endswith("hyperparams_learning_rate"):
                self._injected = self._state[-1]

    def _update(self, gradients: list[Any], variables: list[Variable]) -> None:
        params = [v.value for v in self._trainable_variables]
        given = {self._index[v]: g for g, v in zip(gradients, variables)}
        gradients = [given[i] if i in given else jnp.zeros_like(p) for i, p in enumerate(params)]
        state = self._structure.unflatten([v.value for v in self._state])
        updates, state = self.transformation.update(gradients, state, params)
        for variable, value in zip(self._state, self._structure.flatten_up_to(state)):
            variable.assign(value)
        for i in given:
            self._trainable_variables[i].assign(params[i] + updates[i])

    def get_config(self) -> dict[str, Any]:
        raise ValueError(
            f"{self._who}: an Optax transformation is made of functions, which a file cannot hold; save the "
            "weights, and compile the loaded model with the transformation again."
        )
