"""The part of a graph that runs on the host: the nodes that hold strings, which no device can.

A model on texts trains as any other. The data on their way to it go through this part, `HostPart.run`, in the thread of
the program or in the one that reads batches ahead. What comes out, a `Fed`, is what the step sees in place of the
inputs, and `Function.call` begins behind that part. Lookups of integers that come right from an input run there too:
what they look up in may change after a step is compiled.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jax import tree_util

from lamina.core import tree
from lamina.core.symbolic import KerasTensor, Node
from lamina.layers.preprocessing.pipelines import HostLayer, host_array, is_text


class Fed(NamedTuple):
    """What a device gets of a graph whose first part has run on the host.

    tensors: the arrays of `HostPart.tensors`.
    inner: what the models in the graph get that take strings, one for each of `HostPart.models`.
    """

    tensors: tuple[Any, ...]
    inner: tuple[Any, ...] = ()


class HostPart:
    """The part of a graph that runs on the host.

    Args:
        inputs, nodes, outputs: of the graph, parents before children.
        graph_of: the graph of an operation that is a model made of one, else `None`.
        who: the name of the graph, for errors.
    """

    def __init__(
        self, inputs: list[KerasTensor], nodes: list[Node], outputs: list[KerasTensor], graph_of: Callable, who: str
    ):
        at_hand = {id(tensor): tensor for tensor in inputs}
        self.nodes: list[Node] = []
        self.models: list[Node] = []
        self._graph_of, self._inputs = graph_of, inputs
        for node in nodes:
            reads, ready = any(t.dtype == "string" for t in node.inputs), all(id(t) in at_hand for t in node.inputs)
            if not node.inputs or not (reads or (ready and isinstance(node.operation, HostLayer))):
                continue
            if not ready:
                raise ValueError(f'{who}: "{node.operation.name}" gets strings that depend on what a device computes.')
            if graph_of(node.operation) is not None:
                self.models.append(node)
                continue
            if getattr(node.operation, "variables", None):
                raise ValueError(
                    f'{who}: "{node.operation.name}" must have no weights, since it gets strings, which stay on the '
                    "host; let one layer make integers of them, and another one have the weights."
                )
            self.nodes.append(node)
            at_hand.update((id(tensor), tensor) for tensor in node.outputs)
        self._done = {id(node) for node in nodes if not node.inputs} | {id(node) for node in self.nodes}
        later = [node for node in nodes if not any(node is other for other in (*self.nodes, *self.models))]
        wanted = {id(t) for node in later for t in node.inputs} | set(map(id, outputs))
        self.tensors = [tensor for key, tensor in at_hand.items() if key in wanted and tensor.dtype != "string"]
        lost = [t.name for t in outputs if t.dtype == "string" and id(t) in at_hand]
        if lost and (self.nodes or self.models):
            raise ValueError(f'{who}: the outputs of a model that trains must be numbers, got strings in "{lost[0]}".')

    def __bool__(self) -> bool:
        return bool(self.nodes or self.models)

    def run(self, arrays: Iterable[Any]) -> Fed:
        """What the device gets for arrays of the host, in the order of the graph's inputs."""
        values = {id(tensor): array for tensor, array in zip(self._inputs, arrays)}
        for node in self.nodes:
            args, kwargs = filled((node.args, node.kwargs), values)
            outputs = tree_util.tree_leaves(node.operation(*args, **kwargs))
            values.update((id(t), outputs[t.origin.tensor_index]) for t in node.outputs)  # type: ignore[union-attr]
        inner = [self._graph_of(node.operation).on_host(filled(node.args, values)[0]) for node in self.models]
        return Fed(tuple(values[id(tensor)] for tensor in self.tensors), tuple(inner))

    def resume(self, fed: Fed) -> tuple[dict[int, Any], dict[int, Fed], set[int]]:
        """Values by tensor, inputs by node, and the nodes that have run, to go on with on a device."""
        values = {id(tensor): array for tensor, array in zip(self.tensors, fed.tensors)}
        return values, {id(node): one for node, one in zip(self.models, fed.inner)}, self._done


def filled(structure: Any, values: Mapping[int, Any]) -> Any:
    """The structure with the value of each symbolic tensor in its place."""
    return tree.map_as_given(lambda leaf: values[id(leaf)] if isinstance(leaf, KerasTensor) else leaf, structure)


def texts_in(x: Any, who: str) -> np.ndarray | None:
    """The array of strings that `x` is, or `None`."""
    if isinstance(x, dict) or (isinstance(x, (list, tuple)) and (not x or hasattr(x[0], "shape"))):
        return None
    array = host_array(x, who)
    return array if isinstance(array, np.ndarray) and is_text(array) else None
