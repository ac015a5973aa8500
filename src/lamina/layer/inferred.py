"""Outputs that were inferred once serve every layer that computes the same.

A stack of equal blocks asks the same question many times. What a layer of the library without parts but variables
returns for symbolic tensors depends on its attributes, the settings and the tensors' shapes and dtypes. Where all of
them can be told apart by plain values, `remembered` asks once.
"""

from types import BuiltinFunctionType, FunctionType
from typing import Any

from lamina.core import dtypes, registry, scope
from lamina.core.policy import DTypePolicy, DTypePolicyMap
from lamina.core.runtime import settings
from lamina.core.symbolic import KerasTensor, infer
from lamina.core.variable import Variable
from lamina.layer.signature import InputSpec

# Attributes that the outputs' shapes and dtypes do not depend on.
_APART = frozenset({
    "name", "_inbound_nodes", "_losses", "_made", "_arguments", "_build_shapes", "_input_shape_arg", "_without_parts",
    "_trainable", "_kernel",
})  # fmt: skip
_APART_KINDS = ("_initializer", "_constraint", "kernel_regularizer", "bias_regularizer")
_PLAIN = (bool, int, float, str, bytes, type(None))
_REMEMBERED = 1000

_outputs: dict[Any, tuple[tuple[int | None, ...], str, bool]] = {}


class _Other(Exception):
    """A value that plain ones cannot stand for."""


def remembered(layer: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """What `infer` gives for a layer, or a tensor like the one that it gave for an equal layer and equal tensors."""
    key = _key(layer, args, kwargs)
    if key is not None and key in _outputs:
        return KerasTensor(*_outputs[key])
    outputs = infer(layer.__call__, args, kwargs)
    if key is not None and type(outputs) is KerasTensor and outputs.mask is None:
        if len(_outputs) >= _REMEMBERED:
            _outputs.clear()
        _outputs[key] = outputs.shape, outputs.dtype, outputs.sparse
    return outputs


def _key(layer: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """What the outputs depend on; `None` where that cannot be told."""
    cls = type(layer)
    if not registry.is_own(cls) or scope.call.get() is not None or scope.autocast.get() is not None:
        return None
    attributes = vars(layer).items()
    try:
        own = tuple(
            [(name, _mark(x)) for name, x in attributes if name not in _APART and not name.endswith(_APART_KINDS)]
        )
        given = tuple([(name, _mark(x)) for name, x in kwargs.items()])
        process = settings(), dtypes.floatx(), dtypes.epsilon(), dtypes.image_data_format()
        return cls, cls.call, own, _mark(args), given, process
    except _Other:
        return None


def _mark(value: Any) -> Any:
    """A value that is equal for what computes the same, and for nothing else."""
    kind = type(value)
    if kind in _PLAIN:
        return kind, value
    if kind is Variable:
        return kind, value.shape, value.dtype, value.autocast
    if kind is KerasTensor and value.mask is None:
        return kind, value.shape, value.dtype, value.sparse
    if kind in (list, tuple):
        return kind, tuple(map(_mark, value))
    if kind is dict:
        return kind, tuple([(_mark(key), _mark(item)) for key, item in value.items()])
    if kind is InputSpec:
        return kind, _mark(vars(value))
    if isinstance(value, DTypePolicy) and registry.is_own(kind) and kind is not DTypePolicyMap:
        return kind, value.compute_dtype, value.variable_dtype
    if kind in (FunctionType, BuiltinFunctionType) and str(value.__module__).startswith(("lamina.", "jax.")):
        return value
    raise _Other
