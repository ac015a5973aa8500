"""Symbolic tensors, the operations that make them, and the graph they form.

A `KerasTensor` has a shape and a dtype and no values. An operation that meets one runs its function abstractly
(`infer`), records a `Node`, and returns new symbolic tensors; a model is what lies between some of them.
"""

from __future__ import annotations

import copy
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util

from lamina.core import dtypes, errors, masking, op_names, registry, scope, sparse, tree
from lamina.core.arrays import value_of
from lamina.core.budget import spend
from lamina.core.configurable import Configurable, deserialize
from lamina.core.sizes import outputs_for, outputs_of
from lamina.core.state import StateScope
from lamina.core.variable import Variable


class Origin(NamedTuple):
    """Where a symbolic tensor comes from: output `tensor_index` of call `node_index` of an operation."""

    operation: Operation
    node_index: int
    tensor_index: int


class KerasTensor:
    """A stand-in for an array: a shape, in which `None` is any size, and a dtype."""

    __array_priority__ = 100  # `array * tensor` asks the tensor

    def __init__(
        self,
        shape: Iterable[int | None],
        dtype: Any = "float32",
        sparse: bool = False,
        ragged: bool = False,
        record_history: bool = True,
        name: str | None = None,
        **kwargs: Any,
    ):
        if ragged:
            raise ValueError("KerasTensor: ragged must be False; ragged tensors have no counterpart in JAX.")
        del kwargs
        self.shape = tuple(shape)
        self.dtype = dtypes.standardize_dtype(dtype)
        self.sparse, self.ragged, self.record_history = bool(sparse), False, record_history
        self.name = name or scope.unique_name("keras_tensor")
        self.origin: Origin | None = None
        self.mask: KerasTensor | None = None  # what the mask is like that rides on the array

    @property
    def _keras_history(self) -> Origin:
        """The origin, under the name by which packages ask for it."""
        if self.origin is None:
            raise AttributeError(f"KerasTensor {self.name!r} comes from no operation, so it has no _keras_history.")
        return self.origin

    @property
    def _keras_mask(self) -> Any:
        """The mask that rides on the array, or `None`, under the name by which programs ask for it."""
        return None if self.mask is None else mask_of(self)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def reshape(self, *newshape: Any) -> Any:
        """`ops.reshape(self, newshape)`."""
        shape = newshape[0] if len(newshape) == 1 and isinstance(newshape[0], (tuple, list)) else newshape
        return _op("reshape")(self, tuple(shape))

    def astype(self, dtype: Any) -> Any:
        """`ops.cast(self, dtype)`."""
        return _op("cast")(self, dtypes.standardize_dtype(dtype))

    def squeeze(self, axis: Any = None) -> Any:
        """`ops.squeeze(self, axis)`."""
        return _op("squeeze")(self, axis)

    @property
    def T(self) -> Any:
        """`ops.transpose(self)`."""
        return _op("transpose")(self)

    def serialized_tensor(self) -> dict[str, Any]:
        """What stands for this tensor in a saved graph."""
        config: dict[str, Any] = {"shape": list(self.shape), "dtype": self.dtype}
        if self.origin is not None:
            operation, node, tensor = self.origin
            config["keras_history"] = [operation.name, node, tensor]
        return {"class_name": "__keras_tensor__", "config": config}

    def __getstate__(self) -> dict[str, Any]:
        """All but the origin: a copy of a graph would otherwise go as deep as the graph is."""
        return {**vars(self), "origin": None}

    def __repr__(self) -> str:
        return f"<KerasTensor shape={self.shape}, dtype={self.dtype}, sparse={self.sparse}, name={self.name}>"

    def __bool__(self) -> bool:
        raise TypeError(_no_value(self, "has no truth value; use ops.where or ops.cond in place of `if`"))

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise ValueError(_no_value(self, "cannot become an array; use lamina.ops in place of numpy or jax.numpy"))

    def __int__(self) -> int:
        raise TypeError(_no_value(self, "cannot become a number"))

    __float__ = __index__ = __int__

    def __iter__(self) -> Iterator[Any]:
        if not self.shape or self.shape[0] is None:
            raise TypeError(_no_value(self, "cannot be iterated over along an axis of unknown size"))
        return (self[i] for i in range(self.shape[0]))

    def __getitem__(self, key: Any) -> Any:
        raise NotImplementedError  # bound below, as the other operators are

    def __len__(self) -> int:
        if not self.shape or self.shape[0] is None:
            raise TypeError(_no_value(self, "has no length along an axis of unknown size"))
        return self.shape[0]


def _no_value(tensor: KerasTensor, what: str) -> str:
    return f"KerasTensor {tensor.name!r} of shape {tensor.shape}: a symbolic tensor holds no values, so it {what}."


class Operation(Configurable):
    """Something that can stand in a graph: a layer, or a call of an op."""

    def __init__(self, name: str | None = None):
        if name is not None and (not isinstance(name, str) or "/" in name):
            raise ValueError(f"{type(self).__name__}: name must be a string without '/', got {name!r}.")
        self.name = name or scope.unique_name(scope.snake_case(type(self).__name__))
        self._inbound_nodes: list[Node] = []

    def _base_config(self) -> dict[str, Any]:
        return {"name": self.name}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if any_symbolic((args, kwargs)):
            return self.symbolic_call(*args, **kwargs)
        return self.call(*args, **kwargs)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """The computation."""
        raise NotImplementedError(f'{type(self).__name__} "{self.name}": a subclass must define call.')

    @errors.entry
    def symbolic_call(self, *args: Any, **kwargs: Any) -> Any:
        """Infer the outputs and record a node of the graph."""
        outputs = self.compute_output_spec(*args, **kwargs)
        Node(self, args, kwargs, outputs)
        return outputs

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """The shapes and dtypes of the outputs, as symbolic tensors."""
        return infer(self.call, args, kwargs)

    def _inside(self) -> tuple[str, ...]:
        """The names of the layers around and of this one, whether or not it is being built or called."""
        around = scope.names.get()
        return around if around and around[-1] == self.name else (*around, self.name)

    def __getstate__(self) -> dict[str, Any]:
        """All but the calls, which belong to the graph: it carries them, one after the other."""
        return {**vars(self), "_inbound_nodes": []}

    def _node_tensors(self, which: str) -> Any:
        if not self._inbound_nodes:
            raise AttributeError(
                f'{type(self).__name__} "{self.name}": .{which} needs a call on symbolic tensors, got none.'
            )
        return getattr(self._inbound_nodes[0], which)

    @property
    def input(self) -> Any:
        """The symbolic input of the first call."""
        return self._node_tensors("input")

    @property
    def output(self) -> Any:
        """The symbolic output of the first call."""
        return self._node_tensors("output")


def calls_of(operation: Operation) -> list[Node]:
    """The calls of an operation on symbolic tensors, oldest first.

    Not an attribute: a program's layer may count its `calls` in one of that name.
    """
    return operation._inbound_nodes


def get_source_inputs(tensor: Any) -> Any:
    """The inputs that a symbolic tensor depends on, in a list, each once; what is none comes back as it is."""
    if not isinstance(tensor, KerasTensor):
        return tensor
    found: dict[int, KerasTensor] = {}
    met, waiting = set(), [tensor]
    while waiting:
        one = waiting.pop()
        if id(one) not in met:
            met.add(id(one))
            node = one.origin and calls_of(one.origin.operation)[one.origin.node_index]
            if node and node.inputs:
                waiting.extend(reversed(node.inputs))
            else:
                found.update((id(each), each) for each in (node.outputs if node else [one]))
    return list(found.values())


class Node:
    """One call of an operation: what went in and what came out."""

    def __init__(self, operation: Operation, args: tuple, kwargs: dict, outputs: Any):
        self.operation, self.args, self.kwargs = operation, args, kwargs
        self.inputs = [t for t in tree_util.tree_leaves((args, kwargs)) if isinstance(t, KerasTensor)]
        self.output = outputs
        self.outputs = [t for t in tree_util.tree_leaves(outputs) if isinstance(t, KerasTensor)]
        self.index = 0
        self.attach()

    def attach(self) -> None:
        """Be among the calls of the operation, and the origin of the outputs."""
        calls = self.operation._inbound_nodes
        if self not in calls:
            self.index = len(calls)
            calls.append(self)
            for i, tensor in enumerate(tree_util.tree_leaves(self.output)):
                if isinstance(tensor, KerasTensor):
                    tensor.origin = Origin(self.operation, self.index, i)

    @property
    def input(self) -> Any:
        """The inputs as they were given, where they were one argument."""
        if len(self.args) == 1 and not any_symbolic(self.kwargs):
            return self.args[0]
        return self.inputs[0] if len(self.inputs) == 1 else self.inputs

    @property
    def parent_nodes(self) -> list[Node]:
        """The calls that made the inputs."""
        return [node_of(t) for t in self.inputs]


def node_of(tensor: KerasTensor) -> Node:
    """The call that made a symbolic tensor."""
    if tensor.origin is None:
        raise ValueError(_no_value(tensor, "belongs to no graph; make it with Input or by calling a layer"))
    operation, index, _ = tensor.origin
    return operation._inbound_nodes[index]


def any_symbolic(structure: Any) -> bool:
    """Whether a symbolic tensor is anywhere in nested lists, tuples and dicts."""
    return bool(_kinds((structure,)) & _SYMBOLIC)


def infer(fn: Callable, args: tuple = (), kwargs: dict[str, Any] | None = None, beside: Iterable[Any] = ()) -> Any:
    """The outputs of `fn` as symbolic tensors, by abstract evaluation; what it assigns to variables is dropped.

    Unknown sizes at one place of the shapes are the same, and those of different places are not; where that cannot be,
    they may be those that arguments have there, or the tensors `beside`.
    """
    run, tensors = tree.function_of(KerasTensor, fn, args, kwargs or {})
    for tensor in tensors:
        if tensor.dtype == "string":
            rule = "must hold numbers where a device computes, got strings"
            remedy = "let StringLookup, TextVectorization or Hashing look them up before, as a layer of the graph"
            raise TypeError(f'Tensor "{tensor.name}": {rule}; {remedy}.')
    masked = [i for i, tensor in enumerate(tensors) if tensor.mask is not None]
    tensors = [*tensors, *(tensors[i].mask for i in masked)]
    axes = sorted({axis for tensor in tensors for axis, size in enumerate(tensor.shape) if size is None})

    def structs(sizes: Sequence[Any]) -> list[Any]:
        shapes = [tuple(sizes[i] if d is None else d for i, d in enumerate(tensor.shape)) for tensor in tensors]
        return [jax.ShapeDtypeStruct(shape, tensor.dtype) for shape, tensor in zip(shapes, tensors)]

    def with_masks(*arrays: Any) -> tuple[Any, list[Any]]:
        count = len(arrays) - len(masked)
        for i, mask in zip(masked, arrays[count:]):
            masking.set_mask(arrays[i], mask)
        outputs = run(*arrays[:count])
        return outputs, [masking.get_mask(x) for x in tree_util.tree_leaves(outputs)]

    traced = sparse.traced(with_masks, [tensor.sparse for tensor in tensors])
    shapes = [x.shape for x in tree_util.tree_leaves((args, kwargs, *beside)) if hasattr(x, "shape")]
    with StateScope(), scope.symbolic(True):
        outputs, masks = sparse.told(outputs_for(traced, structs, axes, KerasTensor, shapes))
    for x, mask in zip(tree_util.tree_leaves(outputs), masks):
        if mask is not None:
            x.mask = mask
    return outputs


def _by_values(fn: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The outputs of `fn` as symbolic tensors where their shapes depend on values: arrays of several are tried."""
    run, tensors = tree.function_of(KerasTensor, fn, args, kwargs)

    def outputs(size: int, number: Callable[[int], np.ndarray]) -> Any:
        shapes = [tuple(size if d is None else d for d in tensor.shape) for tensor in tensors]
        for shape in shapes:
            spend("An array, to try an op on", shape, nbytes=8, work=1)
        arrays = [number(math.prod(shape)).reshape(shape).astype(t.dtype) for shape, t in zip(shapes, tensors)]
        return run(*map(jnp.asarray, arrays))

    tries = itertools.product((4, 7), (np.zeros, np.ones, np.arange))
    return outputs_of([functools.partial(outputs, *each) for each in tries], KerasTensor)


class OpCall(Operation):
    """One use of an op in a graph; each op has its own subclass, by the name that files have for it.

    Args:
        name: unique if not given.
        settings: arguments that every call gets; files keep those that are not tensors apart.
    """

    op: Callable[..., Any]

    def __init__(self, name: str | None = None, settings: dict[str, Any] | None = None):
        super().__init__(name)
        self.settings = settings or {}

    def call(self, *args: Any, **kwargs: Any) -> Any:
        if self.settings:
            positional, named = op_names.join(self.op, args, kwargs, self.settings)
            return self.op(*positional, **named)
        return self.op(*args, **kwargs)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().compute_output_spec(*args, **kwargs)
        except Exception as error:
            outputs = _by_values(self.call, args, kwargs) if errors.wants_values(error) else None
            if outputs is None:
                raise
            return outputs

    def _saved_arguments(self, node: Node) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
        args, kwargs = op_names.join(self.op, node.args, node.kwargs, self.settings)
        return op_names.split(self.op, args, kwargs, any_symbolic)

    def graph_arguments(self, node: Node) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of a call that a file keeps with the call."""
        return self._saved_arguments(node)[:2]

    def get_config(self) -> dict[str, Any]:
        """The name and the settings of the call."""
        settings = self._saved_arguments(self._inbound_nodes[0])[2] if self._inbound_nodes else self.settings
        return {"name": self.name, **settings}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> OpCall:
        settings = {key: deserialize(value) for key, value in config.items()}
        return cls(settings.pop("name", None), settings)

    def __reduce__(self) -> tuple:
        return _call_named, op_names.saved_class(self.op), self.__getstate__()

    def __deepcopy__(self, memo: dict) -> OpCall:
        twin = memo[id(self)] = object.__new__(type(self))
        vars(twin).update(copy.deepcopy(self.__getstate__(), memo))
        return twin

    def serialized_class(self) -> tuple[str, str, str | None]:
        """What files call this class."""
        module, name = op_names.saved_class(self.op)
        return module, name, name


def _call_named(module: str, name: str) -> OpCall:
    """A call of a public op, to be filled in: its class has no place of its own to be found in."""
    found = op_names.find(module, name)
    assert found is not None
    return object.__new__(call_class(found))


@functools.cache
def call_class(op: Callable) -> type[OpCall]:
    """The class of the op's calls."""
    return type(op_names.class_name(op), (OpCall,), {"op": staticmethod(op), "__module__": op.__module__})


def op(fn: Callable | None = None, *, elementwise: bool = False, in_graph: Callable | None = None) -> Any:
    """Make an op of a function on arrays: it takes variables, too, and symbolic tensors (a node is recorded).

    Args:
        fn: the function; its name and signature become the op's.
        elementwise: the output lies on the same axes as the inputs, so their masks ride on.
        in_graph: what is called in place of recording a node, where other ops make up for this one.
    """
    if fn is None:
        return functools.partial(op, elementwise=elementwise, in_graph=in_graph)

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        kinds = _kinds(args) | _kinds(kwargs.values())
        if kinds & _SYMBOLIC and in_graph is not None:
            return in_graph(*args, **kwargs)
        if kinds & _SYMBOLIC:
            return call_class(wrapper)().symbolic_call(*args, **kwargs)
        if kinds & _VARIABLE:
            args, kwargs = tree_util.tree_map(value_of, (args, kwargs))
        try:
            out = sparse.call(fn.__name__, fn, args, kwargs) if kinds & _SPARSE else fn(*args, **kwargs)
        except Exception as error:
            told = errors.of_op(fn, args, kwargs, error.with_traceback(error.__traceback__.tb_next))  # type: ignore[union-attr]
            if told is error:
                raise
            raise told from error
        if elementwise:
            masking.pass_on(fn.__name__, (*args, *kwargs.values()), out)
        return out

    setattr(wrapper, "is_op", True)  # noqa: B010
    setattr(wrapper, "elementwise", elementwise)  # noqa: B010
    setattr(wrapper, "from_config", lambda config: call_class(wrapper).from_config(config))  # noqa: B010
    return wrapper


@op
def mask_of(x: Any) -> Any:
    """The mask that rides on `x`, as an op of a graph."""
    return masking.get_mask(x)


_SYMBOLIC, _VARIABLE, _SPARSE = 1, 2, 4


def _kinds(values: Iterable[Any]) -> int:
    found = 0
    for value in values:
        if isinstance(value, KerasTensor):
            found |= _SYMBOLIC
        elif isinstance(value, Variable):
            found |= _VARIABLE
        elif isinstance(value, (list, tuple)):
            found |= _kinds(value)
        elif isinstance(value, dict):
            found |= _kinds(value.values())
        elif sparse.is_sparse(value):
            found |= _SPARSE
    return found


# The operators of symbolic tensors are the public ops of these names. Ops lie above this file, and are looked up.
_OPERATORS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide", "floordiv": "floor_divide",
    "mod": "mod", "pow": "power", "matmul": "matmul", "and": "logical_and", "or": "logical_or", "xor": "logical_xor",
}  # fmt: skip
_OTHER_OPERATORS = {
    "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "ne": "not_equal", "neg": "negative",
    "abs": "absolute", "invert": "logical_not", "getitem": "get_item", "round": "round",
}  # fmt: skip


@functools.cache
def _op(name: str) -> Callable:
    return getattr(registry.namespace("ops"), name)


for _method, _name in {**_OPERATORS, **_OTHER_OPERATORS}.items():
    setattr(KerasTensor, f"__{_method}__", lambda self, *other, name=_name: _op(name)(self, *other))
for _method, _name in _OPERATORS.items():
    setattr(KerasTensor, f"__r{_method}__", lambda self, other, name=_name: _op(name)(other, self))


def is_keras_tensor(x: Any) -> bool:
    """Whether `x` is a symbolic tensor."""
    return isinstance(x, KerasTensor)
