"""What a layer's call takes: its arguments by name, and what it asks of its inputs."""

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util

from lamina.core import checks, constructors, dtypes, errors, tree
from lamina.core.arrays import send, value_of
from lamina.core.constructors import KEYWORDS, MANY
from lamina.core.sparse import is_sparse
from lamina.core.symbolic import KerasTensor
from lamina.core.tree import is_shape

NO_NUMBERS = "OSUTMm"  # kinds of NumPy's dtypes: objects, strings, dates
ADD_BATCH_AXIS = "; if that is one sample, add a batch axis: x[None]"


class InputSpec:
    """What a layer asks of one input: rank, sizes of some axes, dtype.

    Args:
        dtype: the dtype it must have.
        shape: the shape it must have, `None` for any size.
        ndim, max_ndim, min_ndim: the rank it must have.
        axes: sizes that axes must have, `{axis: size}`; `None` for any.
        allow_last_axis_squeeze: whether a last axis of size 1 may be missing or be too many.
        name: the key of the input in a dict of inputs.
        optional: whether `None` is allowed.

    Raises: ValueError if an argument is outside its domain.
    """

    @constructors.explaining
    def __init__(
        self,
        dtype: Any = None,
        shape: Sequence[int | None] | None = None,
        ndim: int | None = None,
        max_ndim: int | None = None,
        min_ndim: int | None = None,
        axes: dict[int, int | None] | None = None,
        allow_last_axis_squeeze: bool = False,
        name: str | None = None,
        optional: bool = False,
    ):
        self.dtype = None if dtype is None else dtypes.standardize_dtype(dtype)
        self.shape = None if shape is None else tuple(shape)
        self.ndim = len(self.shape) if self.shape is not None else ndim
        self.max_ndim, self.min_ndim = max_ndim, min_ndim
        self.axes = {int(axis): size for axis, size in (axes or {}).items()}
        self.allow_last_axis_squeeze, self.name, self.optional = allow_last_axis_squeeze, name, optional
        limit = max((n for n in (self.ndim, max_ndim) if n is not None), default=None)
        if self.axes and limit is not None and max(self.axes) >= limit:
            raise ValueError(f"InputSpec: axes must be below the rank {limit}, got {self.axes}.")

    def violation(self, x: Any) -> str | None:
        """The rule that `x` breaks, in words, or `None`."""
        shape = tuple(x.shape)
        rank = len(shape)
        if self.ndim is not None and rank != self.ndim and not self.allow_last_axis_squeeze:
            return f"must have {self.ndim} axes"
        if self.max_ndim is not None and rank > self.max_ndim:
            return f"must have at most {self.max_ndim} axes"
        if self.min_ndim is not None and rank < self.min_ndim:
            return f"must have at least {self.min_ndim} axes"
        if self.dtype is not None and x.dtype != self.dtype:
            return f"must have dtype {self.dtype}"
        for axis, size in self.axes.items():
            if size is not None and -rank <= axis < rank and isinstance(shape[axis], int) and shape[axis] != size:
                return f"must have size {size} on axis {axis}"
        if self.shape is not None:
            wanted = self.shape
            if self.allow_last_axis_squeeze:
                shape, wanted = (s[:-1] if s and s[-1] == 1 else s for s in (shape, wanted))
            if not fits(shape, wanted):
                return f"must have shape {self.shape}"
        return None

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("dtype", "shape", "ndim", "max_ndim", "min_ndim", "axes")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The object that `get_config` described."""
        return cls(**config)

    def __repr__(self) -> str:
        return f"InputSpec({', '.join(f'{k}={v}' for k, v in self.get_config().items() if v)})"


def broken_rule(specs: Any, inputs: Any) -> str | None:
    """What the inputs of a layer break of what it asks for, in words, or `None`."""
    if isinstance(specs, dict):
        pairs = [(specs[k], inputs.get(k)) for k in specs] if isinstance(inputs, dict) else []
    else:
        if isinstance(specs, InputSpec) and tree.is_nested(inputs):
            return f"must get one array, got a {type(inputs).__name__}"
        flat = [specs] if isinstance(specs, InputSpec) else tree.flatten(specs)
        values = tree.flatten(inputs)
        if len(flat) != len(values) and len(flat) > 1:
            return f"must get {len(flat)} inputs, got {len(values)}"
        pairs = list(zip(flat, values))
    for spec, x in pairs:
        if spec is None or (spec.optional and x is None):
            continue
        if x is None or not hasattr(x, "shape"):
            return f"the input must be an array, got {checks.shorten(x)}"
        if isinstance(x, np.ndarray) and x.dtype.kind in NO_NUMBERS and spec.dtype != "string":
            return f"the input must hold numbers, got {checks.shorten(x)}"
        rule = spec.violation(x)
        if rule is not None:
            short = len(x.shape) + 1 in (spec.ndim, spec.min_ndim)
            return f"the input {rule}, got shape {shape_of(x)}{ADD_BATCH_AXIS if short else ''}"
    return None


class CallContext(NamedTuple):
    """What the layers inside a call inherit from the call: its training flag, and the shapes of the masks it met."""

    training: bool | None
    masks: set[tuple]


class CallSignature:
    """The arguments of the `call` of a class of layers, but for `self`."""

    def __init__(self, cls: Any):
        parameters = dict(list(inspect.signature(cls.call).parameters.items())[1:])
        self.names = [n for n, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.POSITIONAL_ONLY)]
        self.all = tuple(parameters)
        given = [p for p in parameters.values() if p.name != "training" and p.kind not in (MANY, KEYWORDS)]
        self.required = [p.name for p in given if p.default is p.empty]
        self.takes_any = any(p.kind is KEYWORDS for p in parameters.values())
        self.takes_training = "training" in self.all
        self.training_at = self.names.index("training") if "training" in self.names else sys.maxsize
        told = {*inspect.signature(cls.build).parameters, *inspect.signature(cls.compute_output_shape).parameters}
        self.shaped = frozenset(n for n in parameters if f"{n}_shape" in told)
        default = parameters["training"].default if self.takes_training else None
        self.training_default = None if default is inspect.Parameter.empty else default

    def arrays(self, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments that are arrays or structures of arrays, in the order of the signature.

        Of masks there are those whose shapes are asked for.
        """
        named = dict(zip(self.names, args))
        if kwargs:
            named |= {n: kwargs[n] for n in self.all if n in kwargs} | kwargs
        counted = {n: v for n, v in named.items() if v is not None and (not n.endswith("mask") or n in self.shaped)}
        return {n: v for n, v in counted.items() if holds_arrays(v)}

    def mask_name(self, position: int, name: str) -> str | None:
        """The argument through which `call` takes the mask of one of its arrays."""
        own = f"{name}_mask"
        if own in self.all:
            return own
        return "mask" if position == 0 and "mask" in self.all else None


signature_of = functools.cache(CallSignature)


def holds_arrays(value: Any) -> bool:
    if isinstance(value, (list, tuple, dict)):
        items = value.values() if isinstance(value, dict) else value
        return len(items) > 0 and all(v is None or holds_arrays(v) for v in items)
    return hasattr(value, "__array__") or isinstance(value, jax.Array) or is_sparse(value)  # keys of JAX have none


def shape_of(structure: Any) -> Any:
    """The shapes of the arrays in a structure, `None` for unknown sizes."""
    return tree.map_as_given(sizes_of, structure, is_leaf=is_sparse)


def sizes_of(x: Any) -> tuple[int | None, ...]:
    """The shape of an array, `None` for unknown sizes."""
    return tuple(size if isinstance(size, int) else None for size in x.shape)


def with_shapes(method: Callable, shapes: dict[str, Any], who: Callable[[], str]) -> tuple[Any, dict[str, Any]]:
    """Call a layer's `build` or its like with the shapes that it takes, by name or in their order.

    Returns:
        What it returns, and the shapes that it took.
    """
    function = getattr(method, "__func__", None)
    signature = inspect.signature(method) if function is None else method_signature(function)
    names = [n for n in signature.parameters if n not in ("args", "kwargs")]
    by_name = {n.removesuffix("_shape"): n for n in names if n.removesuffix("_shape") in shapes}
    if len(names) == 1:
        shapes = dict(list(shapes.items())[:1])
        return method(*shapes.values() or (None,)), shapes
    if len(by_name) == len(names) or len(by_name) > 1:
        shapes = {name: shapes[name] for name in by_name}
        return method(**{by_name[name]: shape for name, shape in shapes.items()}), shapes
    try:
        signature.bind(*shapes.values())
    except TypeError:
        wanted, given = ", ".join(names), ", ".join(shapes) or "none"
        raise ValueError(f"{who()}: {method.__name__} takes {wanted}; the call gave arrays for {given}.") from None
    return method(*shapes.values()), shapes


def as_told(shapes: Any, outputs: Any, dtype: str) -> Any:
    """Symbolic outputs, where an own `compute_output_shape` tells `shapes`: of the evaluated `outputs` it completes
    the unknown sizes, and where there are none it is all that is known."""
    if outputs is None:
        return symbolic_inputs(shapes, dtype)
    told = tree_util.tree_leaves(shapes, is_leaf=is_shape)
    tensors = tree_util.tree_leaves(outputs)
    if [len(shape) for shape in told] != [x.ndim for x in tensors]:
        return outputs
    for x, shape in zip(tensors, told):
        x.shape = tuple(b if a is None else a for a, b in zip(x.shape, shape))
    return outputs


@functools.cache
def method_signature(function: Callable) -> inspect.Signature:
    """That of a method without `self`, which takes long to find out."""
    signature = inspect.signature(function)
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def fits(shape: Sequence[Any], wanted: Sequence[int | None]) -> bool:
    """Whether an array of a shape is one of those that are wanted, `None` being any size."""
    known = [(a, b) for a, b in zip(shape, wanted) if isinstance(a, int) and b is not None]
    return len(shape) == len(wanted) and all(a == b for a, b in known)


def as_shapes(shapes: Any) -> Any:
    return tree.map_as_given(tuple, shapes, is_leaf=is_shape)


def symbolic_inputs(shapes: Any, dtype: str) -> Any:
    return tree.map_as_given(lambda s: KerasTensor(s, dtype), shapes, is_leaf=is_shape)


def as_jax_array(x: Any, cast: str | None) -> Any:
    """An array of any kind as one of JAX, floats in the dtype `cast`; all else as it is."""
    x = value_of(x)
    if not isinstance(x, jax.Array) and not is_sparse(x):
        if isinstance(x, (bool, int, float, str, type(None))) or not hasattr(x, "__array__"):
            return x
        array = np.asarray(x)
        if array.dtype.kind in NO_NUMBERS:  # which no device can hold
            return array
        x = send(array)
    if cast is not None and x.dtype != cast and jnp.issubdtype(x.dtype, jnp.floating):
        return x.astype(cast)
    return x


def shape_first(add_weight: errors.F) -> errors.F:
    """A guard of `add_weight`: names came first in Keras 2, as in `add_weight("kernel", shape=(3,))`."""

    @functools.wraps(add_weight)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], str):
            raise ValueError(f"{self._who()}: add_weight takes the shape first, got {args[0]!r}; pass a name as name=.")
        return add_weight(self, *args, **kwargs)

    return wrapper  # type: ignore[return-value]
