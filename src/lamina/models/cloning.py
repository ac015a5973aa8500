"""Copies of models with fresh weights."""

from collections.abc import Callable
from typing import Any

from lamina.core import checks, errors, tree
from lamina.core.constructors import MANY, takes_any
from lamina.core.symbolic import Operation
from lamina.layer import Layer
from lamina.layers.core import InputLayer
from lamina.models.functional import Function, graph_of, input_like
from lamina.models.hosted import filled
from lamina.models.model import Model
from lamina.models.sequential import Sequential
from lamina.training.compiled import compile_like


@errors.entry
def clone_model(
    model: Model,
    input_tensors: Any = None,
    clone_function: Callable[[Layer], Layer] | None = None,
    call_function: Callable | None = None,
    recursive: bool = False,
) -> Model:
    """A model of the same architecture with new weights, compiled alike.

    Args:
        model: a Sequential or functional model; a subclass is rebuilt from its configuration.
        input_tensors: symbolic tensors to begin with, in place of new inputs.
        clone_function: makes the copy of each layer but inputs; `from_config` of its configuration if not given.
        call_function: `call_function(new_layer, *args, **kwargs)` calls the copies, where they are not just called.
        recursive: whether models inside go through `clone_function` layer by layer.
    """
    twin = _cloned(model, input_tensors, clone_function, call_function, recursive)
    twin.ops_pass_masks = model.ops_pass_masks
    compile_like(twin, model)
    return twin


def _cloned(model: Any, input_tensors: Any, clone_function: Any, call_function: Any, recursive: bool) -> Any:
    def copy(layer: Any) -> Any:
        if recursive and (isinstance(layer, Sequential) or graph_of(layer) is not None):
            return clone_model(layer, None, clone_function, call_function, True)
        if clone_function is not None and isinstance(layer, Layer):
            return clone_function(layer)
        return type(layer).from_config(layer.get_config())

    if isinstance(model, Sequential):
        entry = [] if model._entry is None else [InputLayer.from_config(model._entry.get_config())]
        if input_tensors is not None:
            entry = tree.flatten(input_tensors)
        copies = {layer: copy(layer) for layer in dict.fromkeys(model.layers)}
        twin = Sequential([*entry, *map(copies.get, model.layers)], trainable=model.trainable, name=model.name)
        if graph_of(model) is not None and not twin.built:
            twin.build(graph_of(model).inputs[0].shape)
        return twin
    if graph_of(model) is None:
        rule = "a subclassed model has no graph, so input_tensors and clone_function must be None"
        checks.require(input_tensors is None and clone_function is None, "clone_model", rule, got=f'"{model.name}"')
        return type(model).from_config(model.get_config())
    return _clone_graph(model, graph_of(model), input_tensors, copy, call_function)


def _clone_graph(model: Model, function: Function, input_tensors: Any, copy: Callable, call: Callable | None) -> Model:
    starts = [input_like(t) for t in function.inputs] if input_tensors is None else tree.flatten(input_tensors)
    if input_tensors is not None and len(starts) > 1:
        tree.assert_same_structure(*map(tree.lists_to_tuples, (function.inputs_structure, input_tensors)))
    values: dict[int, Any] = {id(old): new for old, new in zip(function.inputs, starts)}
    copies: dict[int, Operation] = {}
    for node in function.nodes:
        if all(id(t) in values for t in node.outputs):
            continue
        if id(node.operation) not in copies:
            copies[id(node.operation)] = copy(node.operation)
        twin = copies[id(node.operation)]
        args, kwargs = filled((node.args, node.kwargs), values)
        outputs = call(twin, *args, **kwargs) if call is not None else twin(*args, **kwargs)
        values.update((id(t), x) for t, x in zip(node.outputs, tree.flatten(outputs)))
    inputs = tree.pack_sequence_as(function.inputs_structure, starts)
    outputs = tree.map_structure(lambda t: values[id(t)], function.outputs_structure)
    passes_on = takes_any(type(model), MANY) and takes_any(type(model))  # a constructor like that of a model
    twin = (type(model) if passes_on else Model)(inputs, outputs, name=model.name)
    if not model.trainable:
        twin.trainable = False
    return twin
