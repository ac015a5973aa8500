"""`Function`: what lies between symbolic inputs and outputs, as one operation; and its saved form."""

import contextlib
import functools
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util

from lamina.core import configurable, masking, scope, tree
from lamina.core.budget import CALL, CorruptFileError, UnsafeFileError, spend
from lamina.core.checks import shorten, some
from lamina.core.sparse import is_sparse
from lamina.core.symbolic import KerasTensor, Node, OpCall, Operation, any_symbolic, calls_of, infer, node_of
from lamina.data.arrays import are_rows, is_numbers
from lamina.layer import Layer
from lamina.layer.masks import check_mask
from lamina.layer.signature import ADD_BATCH_AXIS, CallContext, fits, sizes_of
from lamina.layers.core import Input, InputLayer
from lamina.layers.preprocessing.pipelines import host_array, is_text
from lamina.models.hosted import Fed, HostPart, filled
from lamina.saving.legacy import modern_call

# In the configuration of a graph: that its ops pass masks on. Keras writes no such key, and does not heed it.
OPS_PASS_MASKS = "ops_pass_masks"


class Function(Operation):
    """The graph between symbolic inputs and outputs, run as one operation.

    Args:
        inputs: symbolic tensors, alone or in lists, tuples and dicts.
        outputs: symbolic tensors that derive from them.
        name: unique if not given.
    """

    is_declared = True  # by a program, with the sizes of inputs: others are mistakes

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None):
        super().__init__(name)
        self._is_looked_at = False
        for kind, structure in (("inputs", inputs), ("outputs", outputs)):
            wrong = [type(t).__name__ for t in tree.flatten(structure) if not isinstance(t, KerasTensor)]
            if wrong or not tree.flatten(structure):
                given = wrong[0] if wrong else structure
                raise ValueError(f'Functional "{self.name}": {kind} must be symbolic tensors, got {given}.')
        flat = tree.flatten(inputs)
        if len({id(t) for t in flat}) != len(flat):
            raise ValueError(f'Function "{self.name}": inputs must be different tensors, got one twice.')
        for tensor in flat:
            if tensor.origin is None:
                Input(tensor=tensor, name=tensor.name)
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

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shapes of the outputs for these of the inputs."""
        specs = tree.map_shape_structure(KerasTensor, input_shape)
        return tree.map_structure(lambda t: t.shape, self.compute_output_spec(specs))

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Run every node in order, or those behind the part that has run on the host."""
        if isinstance(inputs, Fed):
            return self._run(*self.host_part.resume(inputs))
        arrays = self._arranged(inputs)
        if mask is not None:
            for tensor, array, one in zip(self.inputs, arrays, tree.flatten(mask)):
                if one is not None and array.ndim > 1:
                    check_mask(self._who(), one, array, f'the mask of "{tensor.name}"', least=1)
                masking.set_mask(array, one)
        return self._run({id(t): x for t, x in zip(self.inputs, arrays)})

    def _run(self, values: dict[int, Any], inner: Mapping[int, Any] = {}, done: Collection[int] = ()) -> Any:
        """Run the nodes whose outputs are not among the values; models get what is `inner` in place of strings."""
        spend(f"{self._who()}: a run", len(self.nodes), work=CALL)
        for node in self.nodes:
            if id(node) in done or all(id(t) in values for t in node.outputs):
                continue  # an input
            if id(node) in inner:
                args, kwargs = (inner[id(node)],), {}
            else:
                args, kwargs = filled((node.args, node.kwargs), values)
            outputs = tree_util.tree_leaves(node.operation(*args, **kwargs), is_leaf=is_sparse)
            values.update((id(t), outputs[t.origin.tensor_index]) for t in node.outputs)  # type: ignore[union-attr]
        return tree.map_structure(lambda t: values[id(t)], self.outputs_structure)

    @functools.cached_property
    def host_part(self) -> HostPart:
        """The part of the graph that runs on the host, since it holds strings."""
        return HostPart(self.inputs, self.nodes, self.outputs, graph_of, self._who())

    def takes_rows(self, x: Any) -> bool:
        """Whether `x` is a list of the rows of the only input."""
        return len(self.inputs) == 1 and are_rows(x) and fits(x[0].shape, self.inputs[0].shape[1:])

    def on_host(self, inputs: Any) -> Any:
        """What a device gets of the inputs: a `Fed` where there is a part that runs on the host."""
        if not self.host_part or isinstance(inputs, Fed):
            return inputs
        return self.host_part.run(self._arranged(inputs, on_host=True))

    def _arranged(self, inputs: Any, on_host: bool = False) -> list[Any]:
        """The given arrays in the order of the graph's inputs, each checked, cast and of the right rank."""
        arrays = self._matched(self.inputs_structure, inputs)
        names = [t.name for t in self.inputs]
        if len(arrays) != len(self.inputs):
            hint = "; np.stack makes one array of a list of rows" if self.takes_rows(inputs) else ""
            count = f"{len(names)} input{'s' if len(names) > 1 else ''} ({some(names)})"
            raise ValueError(f"{self._who()}: must get {count}, got {len(arrays)}{hint}.")
        return [self._fitted(t, x, on_host or t.dtype == "string") for t, x in zip(self.inputs, arrays)]

    def _matched(self, wanted: Any, given: Any) -> list[Any]:
        """The leaves of `given` in the order of those of `wanted`: by key where either is a dict, else by place."""
        if isinstance(wanted, dict):
            fields = given._asdict() if hasattr(given, "_asdict") else given
            more = sorted(map(str, fields.keys() - wanted.keys())) if isinstance(fields, dict) else []
            if more and wanted.keys() <= fields.keys():
                rule = f"{self._who()}: the inputs must have the keys {shorten(sorted(wanted))}"
                warnings.warn(f"{rule}, got {shorten(more)} too, which are not used.", stacklevel=2)
            if len(tree.flatten(wanted)) > 1 or isinstance(given, dict):
                return self._by_key([(key, wanted[key]) for key in sorted(wanted)], fields)
        elif isinstance(given, dict):
            own = wanted._asdict() if hasattr(wanted, "_asdict") else {}
            named = own if own.keys() & given.keys() else {t.name: t for t in tree.flatten(wanted)}
            return self._by_key(list(named.items()), given)
        elif isinstance(wanted, (list, tuple)) and isinstance(given, (list, tuple)):
            if len(wanted) == len(given):
                return [x for part, own in zip(wanted, given) for x in self._matched(part, own)]
            if any(isinstance(part, dict) for part in wanted):
                return self._matched(next(part for part in wanted if isinstance(part, dict)), given)
        elif isinstance(wanted, KerasTensor) and (is_numbers(given) or wanted.dtype == "string"):
            return [host_array(given, self._who())]  # also of a list
        return tree.flatten(given)

    def _by_key(self, wanted: list[tuple[Any, Any]], given: Any) -> list[Any]:
        keys = [key for key, _ in wanted]
        rule = f"{self._who()}: the inputs must have the keys {shorten(keys)}"
        if not isinstance(given, dict):
            raise ValueError(f"{rule}, got a {type(given).__name__}, whose order does not say which is which.")
        missing = [key for key in keys if key not in given]
        if missing:
            raise ValueError(f"{rule}, got {shorten(sorted(given))}; {missing[0]!r} is missing.")
        return [x for key, part in wanted for x in self._matched(part, given[key])]

    def _fitted(self, tensor: KerasTensor, x: Any, on_host: bool) -> Any:
        if x is None:
            operation = tensor.origin and tensor.origin[0]
            if getattr(operation, "optional", False):
                return None
            raise ValueError(f'{self._who()}: input "{tensor.name}" must be an array, got None.')
        mask = masking.get_mask(x)
        if on_host:
            x = host_array(x, self._who())
            if is_text(x) != (tensor.dtype == "string"):
                kind = "strings" if tensor.dtype == "string" else "numbers"
                raise ValueError(f'{self._who()}: input "{tensor.name}" must hold {kind}, got dtype {x.dtype}.')
        elif not isinstance(x, (jax.Array, KerasTensor)) and not is_sparse(x):
            x = jnp.asarray(np.asarray(x))
        if not on_host and not isinstance(x, KerasTensor) and x.dtype != tensor.dtype:
            x = x.astype(tensor.dtype)
        rank = len(tensor.shape)
        shape = (None, *tensor.shape[1:])[:rank]  # batches of any size
        given = x
        if x.ndim == rank + 1 and x.shape[-1] == 1:
            x = x[..., 0]
        elif x.ndim == rank - 1 and rank > 0 and shape[-1] == 1:
            x = x[..., None]
        if not fits(x.shape, shape if self.is_declared else (None,) * rank):
            given = sizes_of(given)
            one = shape and (fits(given, shape[1:]) or (shape[-1] == 1 and fits(given, shape[1:-1])))
            hint = ADD_BATCH_AXIS if one else ""
            raise ValueError(f'{self._who()}: input "{tensor.name}" must have shape {shape}, got {given}{hint}.')
        if mask is not None:
            masking.set_mask(x, mask)
        return x

    def _who(self) -> str:
        return f'Functional "{"/".join(self._inside())}"'

    def is_declared_for(self, inputs: Any) -> bool:
        """Whether inputs of these shapes give outputs of the shapes that the graph was made with, and no masks."""
        given = self._matched(self.inputs_structure, inputs)
        masked = any(getattr(x, "mask", None) is not None for x in (*given, *self.outputs))
        return not masked and [getattr(x, "shape", None) for x in given] == [t.shape for t in self.inputs]

    def compute_output_spec(self, inputs: Any, mask: Any = None) -> Any:
        if not self.is_declared_for(inputs):
            return super().compute_output_spec(inputs, mask)
        return tree.map_structure(lambda t: KerasTensor(t.shape, t.dtype, t.sparse), self.outputs_structure)

    def get_config(self) -> dict[str, Any]:
        """The layers with their calls, as Keras writes them."""
        kept = {id(node) for node in self.nodes}
        calls = {id(o): [node for node in calls_of(o) if id(node) in kept] for o in self.operations}
        # (operation, call) -> the number of the call among those of the operation in this graph
        place = {(key, node.index): i for key, own in calls.items() for i, node in enumerate(own)}

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
            form = configurable.serialize(operation)
            nodes = [_saved_call(operation, node, saved) for node in calls[id(operation)] if node.inputs]
            layers.append({**form, "name": operation.name, "inbound_nodes": nodes})
        return {
            "name": self.name,
            "layers": layers,
            "input_layers": tree.map_structure(history, self.inputs_structure),
            "output_layers": tree.map_structure(history, self.outputs_structure),
        }


def warn_of_keras(graph: Function) -> None:
    """Warn, once, if a layer or output of the graph has a mask that it would not have in Keras, where ops pass none.

    Nor does a layer get one there that is called on several arrays, such as an RNN with `initial_state`.
    """
    several = any(len(node.inputs) > 1 and len(node.args) + len(node.kwargs) > 1 for node in graph.nodes)
    if graph._is_looked_at or not (several or any(isinstance(o, OpCall) for o in graph.operations)):
        return
    graph._is_looked_at = True

    def watch(ops_pass: bool) -> masking.Watch:
        seen = masking.Watch([], [])

        def run(inputs: Any) -> None:
            seen.ops.clear()
            seen.users.clear()
            outputs = tree.flatten(graph.call(inputs))
            seen.users.extend(f"output {i}" for i, x in enumerate(outputs) if masking.get_mask(x) is not None)

        with scope.call(CallContext(False, set())), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with masking.watched(seen), masking.ops_pass(ops_pass):
                infer(run, (graph.inputs_structure,), beside=graph.outputs)
        return seen

    here, there = watch(True), watch(False)
    lost = [user for user in here.users if user not in there.users]
    if lost and here.ops:
        rule = f"pass masks on through {', '.join(dict.fromkeys(here.ops))}"
        remedy = "Use layers such as layers.Add in place of ops between a mask and the layer that uses it."
    else:
        rule, remedy = f"give {some(lost)}, which gets several arrays", "Pass mask= there."
    if lost:
        text = f"{graph._who()}: Keras will not {rule}, so this model computes something else there. {remedy}"
        warnings.warn(text, stacklevel=3)


def graph_of(model: Any) -> Any:
    """The graph that a model runs, `None` for one that has a `call` of its own.

    Not an attribute: a program's model may keep its data in a `graph`.
    """
    return getattr(model, "_function", None)


def input_like(tensor: KerasTensor) -> Any:
    """A new input of the shape, dtype and name of a symbolic tensor, optional if that one is."""
    optional = getattr(tensor.origin and tensor.origin[0], "optional", False)
    given = {"dtype": tensor.dtype, "sparse": tensor.sparse, "name": tensor.name, "optional": optional}
    return Input(batch_shape=tensor.shape, **given)


def _saved_call(operation: Operation, node: Node, saved: Callable) -> dict[str, Any]:
    split = getattr(operation, "graph_arguments", None)
    args, kwargs = split(node) if split is not None else (node.args, node.kwargs)
    call = {"args": saved(list(args)), "kwargs": saved(kwargs)}
    return {**call, "given": ["training"]} if "training" in kwargs else call


def _sorted_graph(
    name: str, inputs: list[KerasTensor], outputs: list[KerasTensor]
) -> tuple[list[Node], list[Operation]]:
    """The nodes between inputs and outputs, and their operations, in Keras's order.

    Operations go by the length of the longest way to an output, longest first, and then as a depth-first walk from the
    outputs meets them. Weights in files and in `get_weights` follow this order.
    """
    sources = {id(t) for t in inputs}
    finished: dict[int, Node] = {}  # parents before children
    entered: set[int] = set()
    met: dict[int, int] = {}  # operation -> how many were met before it
    stack: list[tuple[Node | None, Iterator[Node]]] = [(None, map(node_of, outputs))]
    while stack:
        node, parents = stack[-1]
        parent = next((each for each in parents if id(each) not in finished), None)
        if parent is None:
            stack.pop()
            if node is not None:
                finished[id(node)] = node
        elif id(parent) in entered:
            raise ValueError(
                f'Functional "{name}": the graph must have no cycle, got one at "{parent.operation.name}".'
            )
        else:
            entered.add(id(parent))
            met.setdefault(id(parent.operation), len(met))
            stack.append((parent, _parents(name, parent, sources)))
    depth: dict[int, int] = {}
    operation_depth: dict[int, int] = {}
    for node in reversed(finished.values()):
        own = max(depth.get(id(node), 0), operation_depth.get(id(node.operation), 0))
        depth[id(node)] = operation_depth[id(node.operation)] = own
        for parent in _parents(name, node, sources):
            depth[id(parent)] = max(depth.get(id(parent), 0), own + 1)
    for node in map(node_of, inputs):
        if id(node) not in finished:  # an input that no output needs
            finished[id(node)] = node
            met[id(node.operation)] = -1
            operation_depth[id(node.operation)] = depth[id(node)] = 0
    # Calls that make inputs are outside, but for those where data enter.
    finished = {k: n for k, n in finished.items() if not n.inputs or sources.isdisjoint(map(id, n.outputs))}
    operations = {id(n.operation): n.operation for n in finished.values()}
    ordered = sorted(operations.values(), key=lambda o: (-operation_depth[id(o)], met[id(o)]))
    order = {id(o): i for i, o in enumerate(ordered)}
    nodes = sorted(finished.values(), key=lambda n: (-depth[id(n)], order[id(n.operation)]))
    _check_names(name, ordered)
    return nodes, ordered


def _parents(name: str, node: Node, sources: Collection[int]) -> Iterator[Node]:
    """The calls that a call takes outputs of, none where the graph begins."""
    if any(id(t) in sources for t in node.outputs):
        return iter(())
    if not node.inputs:
        raise ValueError(
            f'Functional "{name}": every input that an output needs must be among the inputs; '
            f'"{node.operation.name}" is not.'
        )
    return map(node_of, node.inputs)


def _check_names(name: str, operations: list[Operation]) -> None:
    twice = [own for own, count in Counter(operation.name for operation in operations).items() if count > 1]
    if twice:
        raise ValueError(f'Functional "{name}": names of layers must be unique, got "{twice[0]}" twice.')


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
            saved = map(modern_call, forms[name].get("inbound_nodes") or [])
            calls.update(((name, i), call) for i, call in enumerate(saved))

    def tensor(history: Any) -> Any:
        name, index, position = history[:3]
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
    needed: dict[Place, set[Place]] = {}
    for (name, index), call in calls.items():
        needed[name, index] = {(h[0], h[1]) for h in _histories(call)} | ({(name, index - 1)} if index else set())
    sorter = TopologicalSorter(needed)
    with contextlib.suppress(CycleError):
        sorter.prepare()
    while ready := [place for place in sorter.get_ready() if place in calls or place in made]:
        yield from (place for place in ready if place in calls)
        sorter.done(*ready)  # what is in a cycle, or needs what is not there, never gets ready


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
        kwargs = {k: v for k, v in kwargs.items() if not (k.endswith("mask") and v is None)}
        kwargs = {k: v for k, v in kwargs.items() if k != "training" or "training" in call.get("given", ())}
    return operation(*args, **kwargs)


def _ends(saved: Any, tensor: Callable) -> Any:
    if isinstance(saved, (list, tuple)) and len(saved) in (3, 4) and isinstance(saved[0], str):
        return tensor(saved)
    if isinstance(saved, dict):
        return {key: _ends(value, tensor) for key, value in saved.items()}
    return type(saved)(_ends(value, tensor) for value in saved)


def _histories(call: Any) -> Iterator[Any]:
    """The places in the graph that a saved call takes its inputs from."""
    if isinstance(call, dict) and call.get("class_name") == "__keras_tensor__":
        yield call["config"]["keras_history"]
    elif isinstance(call, (dict, list, tuple)):
        for value in call.values() if isinstance(call, dict) else call:
            yield from _histories(value)


def _restored(call: Any, tensor: Callable, custom_objects: Any) -> tuple[list, dict]:
    def restore(value: Any) -> Any:
        if isinstance(value, dict):
            if value.get("class_name") == "__keras_tensor__":
                return tensor(value["config"]["keras_history"])
            if "class_name" in value and "config" in value:
                return configurable.deserialize(value, custom_objects)
            return {key: restore(item) for key, item in value.items()}
        return type(value)(map(restore, value)) if isinstance(value, (list, tuple)) else value

    return restore(list(call["args"])), restore(dict(call["kwargs"]))
