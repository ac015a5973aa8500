"""What a layer is made of: layers, variables, seeds and metrics, found by looking at its attributes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lamina.core.variable import Variable


class Composite:
    """Something whose parts are in its attributes, in lists, tuples and dicts there, and in the parts' own."""

    # Attributes that hold no part.
    _not_parts: frozenset[str] = frozenset()
    _trainable: bool
    built: bool
    _made = 0  # the number of this one among all that were made

    def _who(self) -> str:
        """Class and name, for errors."""
        raise NotImplementedError

    @property
    def trainable(self) -> bool:
        """Whether training changes the weights; setting it sets it on the children too."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self._flatten_layers():
            layer._trainable = bool(value)

    def _parts(self) -> Iterator[Any]:
        """The layers, variables, seed generators and metrics in the attributes, each once, in Keras's order.

        That is the order in which they came. Attributes tell it, but for what was appended to a list later, between
        other attributes or lists: there it is the order in which the layers were made.
        """
        found: dict[int, tuple[int, Any]] = {}
        reached = 0  # what a layer in an attribute says of the time
        for name, value in list(vars(self).items()):
            if name not in self._not_parts:
                time = reached
                for part in find_parts(value):
                    time = max(time, part._made) if isinstance(part, Composite) else time
                    found.setdefault(id(part), (time if isinstance(part, Composite) else reached, part))
                reached = time if isinstance(value, Composite) else reached
        yield from (part for _, part in sorted(found.values(), key=lambda entry: entry[0]))

    def _own_variables(self) -> list[Variable]:
        own = [p for p in self._parts() if isinstance(p, Variable)]
        return [v for v in own if v.trainable] + [v for v in own if not v.trainable]

    def _carried(self) -> list[Variable]:
        """What a call carries on to the next one and weights leave out: the seeds, and what a subclass adds."""
        return [part.state for part in self._parts() if is_seed_generator(part)]

    @property
    def _layers(self) -> list[Any]:
        return [p for p in self._parts() if isinstance(p, Composite)]

    def _flatten_layers(self, include_self: bool = True, recursive: bool = True) -> list[Any]:
        """This layer and those below it, each once, parents first."""
        found: dict[int, Composite] = {}

        def visit(layer: Any, depth: int) -> None:
            if id(layer) in found:
                return
            found[id(layer)] = layer
            if recursive or depth == 0:
                for child in layer._layers:
                    visit(child, depth + 1)

        visit(self, 0)
        return list(found.values())[0 if include_self else 1 :]

    def _collect(self, seeds: bool = True) -> list[tuple[Variable, bool]]:
        """(variable, whether training changes it) of the layer and all below, each once, in Keras's order."""
        found: dict[int, tuple[Variable, bool]] = {}

        def visit(layer: Any, trainable: bool) -> None:
            trainable = trainable and layer.trainable
            for variable in layer._own_variables():
                found.setdefault(id(variable), (variable, trainable and variable.trainable))
            for variable in layer._carried() if seeds else ():
                found.setdefault(id(variable), (variable, False))
            for part in list(layer._parts()):
                if isinstance(part, Composite) and id(part) not in visited:
                    visited.add(id(part))
                    visit(part, trainable)

        visited = {id(self)}
        visit(self, True)
        return list(found.values())

    @property
    def variables(self) -> list[Variable]:
        """All state but metrics': weights and seeds."""
        return [v for v, _ in self._collect()]

    @property
    def trainable_variables(self) -> list[Variable]:
        """The variables that training changes."""
        return [v for v, trainable in self._collect() if trainable]

    @property
    def non_trainable_variables(self) -> list[Variable]:
        """The variables that training by gradients does not change, seeds included."""
        return [v for v, trainable in self._collect() if not trainable]

    @property
    def weights(self) -> list[Variable]:
        """The variables without the seeds."""
        return [v for v, _ in self._collect(seeds=False)]

    @property
    def trainable_weights(self) -> list[Variable]:
        """The weights that training changes."""
        return [v for v, trainable in self._collect(seeds=False) if trainable]

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The weights that training by gradients does not change."""
        return [v for v, trainable in self._collect(seeds=False) if not trainable]

    @property
    def metrics(self) -> list[Any]:
        """The metrics in the attributes of the layer and those below it."""
        found = {id(p): p for layer in self._flatten_layers() for p in layer._parts() if is_metric(p)}
        return list(found.values())

    @property
    def metrics_variables(self) -> list[Variable]:
        """The variables of the metrics."""
        return [v for metric in self.metrics for v in metric.variables]

    def get_weights(self) -> list[np.ndarray]:
        """The weights as NumPy arrays."""
        return [v.numpy() for v in self.weights]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Assign arrays to the weights, in the order of `get_weights`; all of them or, on an error, none."""
        own = self.weights
        if len(own) != len(weights):
            raise ValueError(f"{self._who()}: set_weights must get {len(own)} arrays, got {len(weights)}.")
        for variable, value in zip(own, weights):
            if tuple(np.shape(value)) != variable.shape:
                raise ValueError(
                    f"{self._who()}: the array for {variable.path} must have shape {variable.shape}, "
                    f"got {np.shape(value)}."
                )
        for variable, value in zip(own, weights):
            variable.assign(value)

    def count_params(self) -> int:
        """The number of weights' elements."""
        if not self.built:
            raise ValueError(f"{self._who()}: must be built to count its weights; call it on data or call build().")
        return sum(math.prod(v.shape) for v in self.weights)

    def save_own_variables(self, store: Any) -> None:
        """Write the layer's own variables, children's not, into a dict-like `store` under "0", "1", ..."""
        for i, variable in enumerate(self._own_variables()):
            store[str(i)] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Read what `save_own_variables` wrote."""
        own = self._own_variables()
        if len(own) != len(store):
            hint = "" if self.built or own else " The layer is not built: call it on data or call build() first."
            raise ValueError(
                f"{self._who()}: the file must hold {len(own)} variables ({', '.join(v.path for v in own)}), "
                f"got {len(store)}.{hint}"
            )
        for i, variable in enumerate(own):
            variable.assign(store[str(i)])


def is_metric(part: Any) -> bool:
    return hasattr(part, "update_state") and hasattr(part, "reset_state")


def is_seed_generator(part: Any) -> bool:
    """Whether an object draws seeds from a variable of its own."""
    return hasattr(part, "next") and isinstance(getattr(part, "state", None), Variable)


def find_parts(value: Any) -> Iterator[Any]:
    if isinstance(value, (Composite, Variable)) or is_seed_generator(value) or is_metric(value):
        yield value
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            yield from find_parts(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from find_parts(item)
