"""`Function`: what lies between symbolic inputs and outputs, as one operation; and its saved form."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util

from lamina.core import configurable, masking, scope, tree
from lamina.core.budget import CALL, CorruptFileError, UnsafeFileError, spend
from lamina.core.checks import shorten, some
from lamina.core.symbolic import KerasTensor, Node, Operation, any_symbolic, calls_of, node_of
from lamina.data.arrays import are_rows
from lamina.layer import Layer
from lamina.layer.signature import ADD_BATCH_AXIS
from lamina.layers.core import Input, InputLayer


class Function(Operation):
    """The graph between symbolic inputs and outputs, run as one operation.

    Args:
        inputs: symbolic tensors, alone or in lists, tuples and dicts.
        outputs: symbolic tensors that derive from them.
        name: unique if not given.
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None):
        super().__init__(name)
        for kind, structure in (("inputs", inputs), ("outputs", outputs)):
            wrong = [type(t).__name__ for t in tree.flatten(structure) if not isinstance(t, KerasTensor)]
            if wrong or not tree.flatten(structure):
                given = wrong[0] if wrong else structure
                raise ValueError(f'Functional "{self.name}": {kind} must be symbolic tensors, got {given}.')
        flat = tree.flatten(inputs)
        if len({id(t) for t in flat}) != len(flat):
            raise ValueError(f'Function "{self.name}": inputs must be different tensors, got one twice.')
        self.inputs_structure, self.outputs_structure = inputs, outputs
        self.inputs: list[KerasTensor] = flat
        self.outputs: list[KerasTensor] = tree.flatten(outputs)
        self.nodes, self.operations = _sorted_graph(self.name, self.inputs, self.outputs)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        for node in self.nodes:
            node.attach()

    @property
    def layers(self) -> list[Layer]:
        """The operations that are layers, inputs first."""
        return [operation for operation in self.operations if isinstance(operation, Layer)]

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Run every node in order."""
        arrays = self._arranged(inputs)
        if mask is not None:
            for array, one in zip(arrays, tree.flatten(mask)):
                masking.set_mask(array, one)
        values = {id(t): x for t, x in zip(self.inputs, arrays)}
        spend(f"{self._who()}: a run", len(self.nodes), work=CALL)
        for node in self.nodes:
            if all(id(t) in values for t in node.outputs):
                continue  # an input
            args, kwargs = tree_util.tree_map(lambda t: _filled(t, values), (node.args, node.kwargs))
            outputs = node.operation(*args, **kwargs)
            values.update((id(t), x) for t, x in zip(node.outputs, tree_util.tree_leaves(outputs)))
        return tree.map_structure(lambda t: values[id(t)], self.outputs_structure)

    def _arranged(self, inputs: Any) -> list[Any]:
        """The given arrays in the order of the graph's inputs, each checked, cast and of the right rank."""
        wanted = self.inputs_structure
        names = [t.name for t in self.inputs]
        if isinstance(inputs, dict):
            keys = sorted(wanted) if isinstance(wanted, dict) else names
            missing = [key for key in keys if key not in inputs]
            if missing:
                raise ValueError(
                    f"{self._who()}: the inputs must have the keys {shorten(keys)}, got {shorten(sorted(inputs))}; "
                    f"{missing[0]!r} is missing."
                )
            arrays = [x for key in keys for x in tree.flatten(inputs[key])]
        else:
            arrays = tree.flatten(inputs)
        if len(arrays) != len(self.inputs):
            hint = "; np.stack makes one array of a list of rows" if are_rows(inputs) else ""
            raise ValueError(
                f"{self._who()}: must get {len(self.inputs)} inputs ({some(names)}), got {len(arrays)}{hint}."
            )
        return [self._fitted(t, x) for t, x in zip(self.inputs, arrays)]

    def _fitted(self, tensor: KerasTensor, x: Any) -> Any:
        if x is None:
            operation = tensor.origin and tensor.origin[0]
            if getattr(operation, "optional", False):
                return None
            raise ValueError(f'{self._who()}: input "{tensor.name}" must be an array, got None.')
        if not isinstance(x, (jax.Array, KerasTensor)):
            x = jnp.asarray(np.asarray(x))
        if not isinstance(x, KerasTensor) and x.dtype != tensor.dtype:
            cast = x.astype(tensor.dtype)
            masking.set_mask(cast, masking.get_mask(x))
            x = cast
        shape, rank = tensor.shape, len(tensor.shape)
        if x.ndim == rank + 1 and x.shape[-1] == 1:
            x = x[..., 0]
        elif x.ndim == rank - 1 and rank > 0 and shape[-1] == 1:
            x = x[..., None]
        if not _fits(x, shape):
            given = tuple(d if isinstance(d, int) else None for d in x.shape)
            hint = ADD_BATCH_AXIS if shape and _fits(x, shape[1:]) else ""
            raise ValueError(f'{self._who()}: input "{tensor.name}" must have shape {shape}, got {given}{hint}.')
        return x

    def _who(self) -> str:
        around = scope.names.get()
        path = around if around and around[-1] == self.name else (*around, self.name)
        return f'Functional "{"/".join(path)}"'

    def known_outputs(self, inputs: Any) -> Any:
        """New symbolic outputs for symbolic inputs like the graph's own, `None` for others: nothing is run."""
        given = self._arranged(inputs)
        own = [(t.shape, t.dtype) for t in self.inputs]
        if all(isinstance(t, KerasTensor) for t in given) and [(t.shape, t.dtype) for t in given] == own:
            return self.compute_output_spec(inputs)
        return None

    def compute_output_spec(self, inputs: Any) -> Any:
        return tree.map_structure(lambda t: KerasTensor(t.shape, t.dtype), self.outputs_structure)

    def get_config(self) -> dict[str, Any]:
        """The layers with their calls, as Keras writes them."""
        kept = {id(node) for node in self.nodes}
        place = {}  # (operation, node) -> its number among the nodes of the operation that belong to this graph
        for operation in self.operations:
            numbers = iter(range(len(self.nodes)))
            place.update({(id(operation), n.index): next(numbers) for n in calls_of(operation) if id(n) in kept})

        def history(tensor: KerasTensor) -> list[Any]:
            operation, index, position = tensor.origin  # type: ignore[misc]
            return [operation.name, place[id(operation), index], position]

        def saved(value: Any) -> Any:
            if isinstance(value, KerasTensor):
                out = value.serialized_tensor()
                out["config"]["keras_history"] = history(value)
                return out
            if isinstance(value, (list, tuple)):
                return [saved(item) for item in value]
            if isinstance(value, dict):
                return {key: saved(item) for key, item in value.items()}
            return configurable.serialize(value)

        layers = []
        for operation in self.operations:
            calls = [n for n in calls_of(operation) if id(n) in kept and n.inputs]
            form = configurable.serialize(operation)
            nodes = [_saved_call(operation, node, saved) for node in calls]
            layers.append({**form, "name": operation.name, "inbound_nodes": nodes})
        return {
            "name": self.name,
            "layers": layers,
            "input_layers": tree.map_structure(history, self.inputs_structure),
            "output_layers": tree.map_structure(history, self.outputs_structure),
        }


def graph_of(model: Any) -> Any:
    """The graph that a model runs, `None` for one that has a `call` of its own.

    Not an attribute: a program's model may keep its data in a `graph`.
    """
    return getattr(model, "_function", None)


def _fits(x: Any, shape: tuple[int | None, ...]) -> bool:
    known = [(a, b) for a, b in zip(x.shape, shape) if isinstance(a, int) and b is not None]
    return x.ndim == len(shape) and all(a == b for a, b in known)


def input_like(tensor: KerasTensor) -> Any:
    """A new input of the shape, dtype and name of a symbolic tensor, optional if that one is."""
    optional = getattr(tensor.origin and tensor.origin[0], "optional", False)
    return Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name, optional=optional)


def _saved_call(operation: Operation, node: Node, saved: Callable) -> dict[str, Any]:
    split = getattr(operation, "graph_arguments", None)
    args, kwargs = split(node) if split is not None else (node.args, node.kwargs)
    call = {"args": saved(list(args)), "kwargs": saved(kwargs)}
    return {**call, "given": ["training"]} if "training" in kwargs else call


def _filled(leaf: Any, values: dict[int, Any]) -> Any:
    return values[id(leaf)] if isinstance(leaf, KerasTensor) else leaf


def _sorted_graph(
    name: str, inputs: list[KerasTensor], outputs: list[KerasTensor]
) -> tuple[list[Node], list[Operation]]:
    """The nodes between inputs and outputs, and their operations, in Keras's order.

    Operations go by the length of the longest way to an output, longest first, and then as a depth-first walk from the
    outputs meets them. Weights in files and in `get_weights` follow this order.
    """
    sources = {id(t): t for t in inputs}
    finished: list[Node] = []  # parents before children
    met: dict[int, int] = {}
    state: dict[int, int] = {}  # node -> 1 open, 2 finished
    for output in outputs:
        stack: list[tuple[Node, Iterator[KerasTensor]]] = []
        _enter(name, node_of(output), sources, met, state, stack)
        while stack:
            node, parents = stack[-1]
            parent = next((node_of(t) for t in parents if state.get(id(node_of(t))) != 2), None)
            if parent is not None:
                if state.get(id(parent)) == 1:
                    raise ValueError(
                        f'Functional "{name}": the graph must have no cycle, got one at "{parent.operation.name}".'
                    )
                _enter(name, parent, sources, met, state, stack)
            else:
                stack.pop()
                state[id(node)] = 2
                finished.append(node)
    depth: dict[int, int] = {}
    operation_depth: dict[int, int] = {}
    for node in reversed(finished):
        own = max(depth.get(id(node), 0), operation_depth.get(id(node.operation), 0))
        depth[id(node)] = operation_depth[id(node.operation)] = own
        if not _is_source(node, sources):
            for parent in node.parent_nodes:
                depth[id(parent)] = max(depth.get(id(parent), 0), own + 1)
    for tensor in inputs:
        node = node_of(tensor)
        if id(node) not in state:  # an input that no output needs
            finished.append(node)
            met[id(node.operation)] = -1
            operation_depth[id(node.operation)] = depth[id(node)] = 0
    operations = {id(n.operation): n.operation for n in finished}
    ordered = sorted(operations.values(), key=lambda o: (-operation_depth[id(o)], met[id(o)]))
    order = {id(o): i for i, o in enumerate(ordered)}
    nodes = sorted(finished, key=lambda n: (-depth[id(n)], order[id(n.operation)]))
    _check_names(name, ordered)
    return nodes, ordered


def _is_source(node: Node, sources: dict[int, KerasTensor]) -> bool:
    return not node.inputs or any(id(t) in sources for t in node.outputs)


def _enter(name: str, node: Node, sources: dict, met: dict, state: dict, stack: list) -> None:
    met.setdefault(id(node.operation), len(met))
    state[id(node)] = 1
    source = _is_source(node, sources)
    if source and not any(id(t) in sources for t in node.outputs):
        raise ValueError(
            f'Functional "{name}": every input that an output needs must be among the inputs; '
            f'"{node.operation.name}" is not.'
        )
    stack.append((node, iter(() if source else node.inputs)))


def _check_names(name: str, operations: list[Operation]) -> None:
    seen: set[str] = set()
    for operation in operations:
        if operation.name in seen:
            raise ValueError(f'Functional "{name}": names of layers must be unique, got "{operation.name}" twice.')
        seen.add(operation.name)


Place = tuple[str, int]  # a call in a saved graph: the name of its layer, and which of the layer's calls it is


def function_from_config(config: dict[str, Any], custom_objects: Any = None) -> tuple[Any, Any]:
    """The symbolic inputs and outputs of a saved graph; its layers are made anew."""
    who = f'Functional "{config.get("name")}"'
    forms = {form["name"]: form for form in config["layers"]}
    if len(forms) != len(config["layers"]):
        raise CorruptFileError(f"{who}: names of layers must be unique.")
    operations = {name: _operation_from(form, custom_objects) for name, form in forms.items()}
    made: dict[Place, list[Any]] = {}  # what the calls gave
    calls: dict[Place, Any] = {}
    for name, operation in operations.items():
        operation.name = name
        if isinstance(operation, InputLayer):
            made[name, 0] = list(calls_of(operation)[0].outputs)
        else:
            calls.update(((name, i), call) for i, call in enumerate(forms[name].get("inbound_nodes") or []))

    def tensor(history: Any) -> Any:
        name, index, position = history[0], history[1], history[2]
        return made[name, index][position]

    for place in _in_order(calls, made):
        args, kwargs = _restored(calls[place], tensor, custom_objects)
        if not any_symbolic((args, kwargs)):  # opening a file computes nothing
            raise UnsafeFileError(
                f'{who}: calls must take an output of another layer, and one of "{place[0]}" does not.'
            )
        made[place] = tree_util.tree_leaves(_call_saved(operations[place[0]], args, kwargs, calls[place]))
    if not made.keys() >= calls.keys():
        odd = ", ".join(sorted({name for name, _ in calls.keys() - made.keys()}))
        raise CorruptFileError(f"{who}: the saved graph has a cycle or a gap at {odd}.")
    return _ends(config["input_layers"], tensor), _ends(config["output_layers"], tensor)


def _in_order(calls: dict[Place, Any], made: dict[Place, Any]) -> Iterator[Place]:
    """The calls, each behind those that it takes outputs of, and behind the one before it of its layer."""
    missing: dict[Place, set[Place]] = {}
    awaited: dict[Place, list[Place]] = {}
    for (name, index), call in calls.items():
        needed = {(h[0], h[1]) for h in _histories(call)} | ({(name, index - 1)} if index else set())
        missing[name, index] = needed - made.keys()
        for each in missing[name, index]:
            awaited.setdefault(each, []).append((name, index))
    ready = deque(place for place, needed in missing.items() if not needed)
    while ready:
        place = ready.popleft()
        yield place
        for each in awaited.get(place, ()):
            missing[each].discard(place)
            if not missing[each]:
                ready.append(each)


def _operation_from(form: dict[str, Any], custom_objects: Any) -> Any:
    operation = configurable.deserialize({k: v for k, v in form.items() if k != "inbound_nodes"}, custom_objects)
    if not isinstance(operation, Operation):
        raise CorruptFileError(f'"{form["name"]}" must be a layer or an op, got {type(operation).__name__}.')
    return operation


def _call_saved(operation: Any, args: list, kwargs: dict, call: Any) -> Any:
    """Call on symbolic tensors. Masks are not part of the graph: they ride on the data.

    Keras writes `training=False` for every layer that has it as a default, and does not keep to it. Our files say so
    where it was given.
    """
    if isinstance(operation, Layer):
        given = isinstance(call, dict) and "training" in call.get("given", ())
        kwargs = {k: v for k, v in kwargs.items() if not (k.endswith("mask") and v is None)}
        kwargs = {k: v for k, v in kwargs.items() if k != "training" or given}
    return operation(*args, **kwargs)


def _is_history(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) in (3, 4) and isinstance(value[0], str)


def _ends(saved: Any, tensor: Callable) -> Any:
    if _is_history(saved):
        return tensor(saved)
    if isinstance(saved, dict):
        return {key: _ends(value, tensor) for key, value in saved.items()}
    ends = [_ends(value, tensor) for value in saved]
    return ends


def _histories(call: Any) -> Iterator[Any]:
    """The places in the graph that a saved call takes its inputs from."""
    if isinstance(call, dict):
        if call.get("class_name") == "__keras_tensor__":
            yield call["config"]["keras_history"]
        else:
            for value in call.values():
                yield from _histories(value)
    elif isinstance(call, (list, tuple)):
        if _is_history(call) and isinstance(call[1], int):
            yield call  # the form of Keras 2
        else:
            for value in call:
                yield from _histories(value)


def _restored(call: Any, tensor: Callable, custom_objects: Any) -> tuple[list, dict]:
    if isinstance(call, (list, tuple)):  # the form of Keras 2: [[name, node, tensor, kwargs], ...]
        tensors = [tensor(h) for h in call]
        return [tensors[0] if len(tensors) == 1 else tensors], (call[0][3] if len(call[0]) > 3 else {})

    def restore(value: Any) -> Any:
        if isinstance(value, dict):
            if value.get("class_name") == "__keras_tensor__":
                return tensor(value["config"]["keras_history"])
            if "class_name" in value and "config" in value:
                return configurable.deserialize(value, custom_objects)
            return {key: restore(item) for key, item in value.items()}
        return [restore(item) for item in value] if isinstance(value, list) else value

    return restore(list(call["args"])), restore(dict(call["kwargs"]))
