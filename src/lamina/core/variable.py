"""`Variable`: a named cell that holds one array, and owns it.

A launch of many steps gives the arrays of its variables away (they are donated) and takes the new ones in. So a cell
knows whether its array may have been seen outside: `value` hands it out, `assign` takes what others may hold, and
`give` copies such an array first. What a program has read or assigned stays as it was.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from lamina.core import checks, dtypes, handover, placement, registry, scope, state
from lamina.core.arrays import copied, send, value_of
from lamina.core.constructors import explaining
from lamina.core.state import Cell

T = TypeVar("T")


def _of_value(function: Callable[[Any], T]) -> Callable[[Variable], T]:
    """The method that gives `function` of the value."""

    def method(self: Variable) -> T:
        return function(self.value)

    return method


class Variable(Cell):
    """A named, mutable cell that holds one array.

    Args:
        initializer: an array, or a function `(shape, dtype) -> array`, or the name of an initializer.
        shape: needed with a function.
        dtype: the default float dtype if not given, or that of the array.
        trainable: whether training may change it by gradients.
        autocast: whether layers that compute in another float dtype see it in that dtype.
        aggregation, synchronization: kept for Keras programs; one JAX array needs none of them.
        layout: how it lies on several devices, if not as the plan says (`lamina.distribution`).
        name: unique if not given.

    Raises: ValueError if an argument is outside its domain.

    >>> count = lamina.Variable(0, dtype="int32", name="count")
    >>> before = count.value
    >>> count.assign_add(2) + 1, before  # what was read stays as it was
    (Array(3, dtype=int32), Array(0, dtype=int32))
    """

    __array_priority__ = 100  # NumPy's arrays leave `array * variable` to the variable
    _shared = True  # whether others may hold the array

    name: str = ""
    path: str = ""  # the names of the layers around it, and its own
    shape: tuple[int, ...] = ()
    own_dtype: str = "float32"  # of the array in the cell
    trainable: bool = True
    frozen: bool = False  # by its layer
    made_trainable: bool = True  # by which variables are ordered: one that is frozen later keeps its place
    autocast: bool = True
    aggregation: str | None = "none"
    synchronization: str | None = "auto"
    regularizer: Any = None  # added to the loss
    constraint: Any = None  # applied to each new value after an optimizer's step
    overwrite_with_gradient: bool = False  # the gradient itself is the new value
    follows: str | None = None  # the path of the variable that it belongs to, as an optimizer's do

    @explaining
    def __init__(
        self,
        initializer: Any,
        shape: Sequence[int] | None = None,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        aggregation: str | None = "none",
        synchronization: str | None = "auto",
        name: str | None = None,
        layout: Any = None,
    ):
        self.name = name or scope.unique_name("variable")
        if not isinstance(self.name, str) or "/" in self.name:
            raise ValueError(f"Variable: name must be a string without '/', got {name!r}.")
        path = scope.current_path()
        self.path = f"{path}/{self.name}" if path else self.name
        self.trainable = self.made_trainable = bool(trainable)
        self.autocast = bool(autocast)
        self.aggregation = aggregation
        self.synchronization = synchronization
        self.layout = layout
        file = scope.loading.get()
        if file is not None:
            initializer = file.admit(self, initializer, shape, dtype)
        # A variable may be made inside a trace (a layer builds itself when first called): its value is real still.
        with jax.ensure_compile_time_eval(), scope.lanes(()):
            self._value: Any = _initial_value(self.path, initializer, shape, dtype)
        self.shape = self._value.shape
        self.own_dtype = self._value.dtype.name
        self._value = placement.placed(self, self._value)

    @property
    def dtype(self) -> str:
        """The value's: inside a layer that computes in another float dtype, that one."""
        cast, own = scope.autocast.get(), self.own_dtype
        return own if cast in (None, own) or not self.autocast or not dtypes.is_float(own) else cast

    @property
    def value(self) -> Any:
        """The array; inside a layer that computes in another float dtype, cast to that."""
        value, dtype = self.current, self.dtype
        return placement.as_used(self, value if dtype == self.own_dtype else value.astype(dtype))

    def rows(self, indices: Any) -> Any:
        """The rows of a table; NaN for those that it does not have."""
        rows, scoped = jnp.take(self.value, indices, axis=0), state.current.get()
        return rows if scoped is None else scoped.looked_up(self, indices, rows)

    def assign(self, value: Any) -> Any:
        """Put another array of the same shape into the cell, and return it."""
        value = _as_array(value_of(value), self.own_dtype)
        if value.shape != self.shape:
            raise ValueError(f'Variable "{self.path}": value must have shape {self.shape}, got {value.shape}.')
        current = state.current.get()
        if current is not None:
            current.write(self, value)
        elif isinstance(value, Tracer):
            raise ValueError(
                f'Variable "{self.path}": must not be assigned inside a plain JAX transform, where the value would '
                "be lost; use lamina.jit, lamina.value_and_grad or lamina.functional."
            )
        else:
            handover.settled(self._put, placement.placed(self, value))
        return value

    def assign_add(self, value: Any) -> Any:
        """`assign(self + value)`."""
        return self.assign(self.current + _operand(value))

    def assign_sub(self, value: Any) -> Any:
        """`assign(self - value)`."""
        return self.assign(self.current - _operand(value))

    @property
    def current(self) -> Any:
        """The array in the variable's own dtype: that of the open scope, or the cell's own."""
        scoped = state.current.get()
        return self.hand_out() if scoped is None else scoped.read(self)

    @property
    def stored(self) -> Any:
        """The cell's own array, to look at and not to keep: the next launch may give it away."""
        return self._value

    def hand_out(self) -> Any:
        """The cell's own array, to keep."""
        return handover.settled(self._share)

    def stand_in(self) -> Any:
        """A traced array of this shape and dtype; where nothing is traced, the cell's own."""
        zeros = jnp.zeros(self.shape, self.own_dtype)
        return zeros if isinstance(zeros, Tracer) else self.hand_out()

    def _share(self) -> Any:
        self._shared = True  # first: a launch that begins behind it makes a copy
        return self._value

    def _put(self, array: Any) -> None:
        self._shared = True
        self._value = array

    def give(self) -> Any:
        """An array that may be donated: the cell's own, or a copy if others may hold that. `take` must follow."""
        return copied(self._value) if self._shared else self._value

    def take(self, array: Any) -> None:
        """Put an array into the cell that nobody else holds."""
        self._value, self._shared = array, False

    def numpy(self) -> np.ndarray:
        """The value as a NumPy array of the program's own."""
        return np.array(placement.to_host(self.value))

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del copy  # the value lives in a JAX array: NumPy gets its own
        return np.array(placement.to_host(self.value), dtype)

    def __repr__(self) -> str:
        return f"<Variable path={self.path}, shape={self.shape}, dtype={self.own_dtype}, value={self.hand_out()}>"

    def __getitem__(self, index: Any) -> Any:
        return self.value[index]

    __len__ = _of_value(len)
    __iter__ = _of_value(iter)
    __bool__ = _of_value(bool)
    __int__ = _of_value(int)
    __float__ = _of_value(float)
    __index__ = _of_value(operator.index)
    __neg__ = _of_value(operator.neg)
    __pos__ = __jax_array__ = _of_value(lambda value: value)
    __abs__ = _of_value(abs)
    __invert__ = _of_value(operator.invert)

    def __format__(self, spec: str) -> str:
        return format(self.value, spec) if spec else str(self)

    def __hash__(self) -> int:
        return id(self)

    def __round__(self, ndigits: int = 0) -> Any:
        return jnp.round(self.value, ndigits)

    def __deepcopy__(self, memo: dict) -> Variable:
        twin = object.__new__(type(self))
        memo[id(self)] = twin
        array = self.hand_out()  # arrays are immutable: both may hold the same
        twin.__dict__.update(self.__dict__, _value=array, _shared=True)
        return twin

    def __reduce__(self) -> tuple:
        return _unpickle, ({**self.__dict__, "_value": placement.to_host(self.hand_out())},)


def assign_all(who: Any, variables: Sequence[Variable], values: Sequence[Any]) -> None:
    """Assign arrays to variables, in their order; all of them or, on an error in the name of `who`, none."""
    count = len(variables)
    checks.require(count == len(values), who, f"set_weights must get {count} arrays", len(values))
    for variable, shape in zip(variables, map(np.shape, values)):
        rule = f"the array for {variable.path} must have shape {variable.shape}"
        checks.require(shape == variable.shape, who, rule, shape)
    for variable, value in zip(variables, values):
        variable.assign(value)


def _unpickle(state: dict[str, Any]) -> Variable:
    variable = object.__new__(Variable)
    variable.__dict__.update(state, _value=send(state["_value"]), _shared=True)
    return variable


def _initial_value(path: str, initializer: Any, shape: Sequence[int] | None, dtype: Any) -> jax.Array:
    if isinstance(initializer, str):
        initializer = registry.namespace("initializers").get(initializer)  # shorter names, too
    if callable(initializer):
        if shape is None:
            raise ValueError(f'Variable "{path}": shape must be given with an initializer function.')
        shape = tuple(shape)
        if any(not isinstance(d, (int, np.integer)) or d < 0 for d in shape):
            raise ValueError(f'Variable "{path}": shape must be known sizes of at least 0, got {shape}.')
        value: Any = initializer(shape, dtype=dtypes.standardize_dtype(dtype))
        if tuple(np.shape(value)) != shape:
            raise ValueError(f'Variable "{path}": the initializer must return shape {shape}, got {np.shape(value)}.')
        return _as_array(value, dtypes.standardize_dtype(dtype))
    value = _as_array(value_of(initializer), dtype and dtypes.standardize_dtype(dtype))
    if shape is not None and value.shape != tuple(shape):
        raise ValueError(f'Variable "{path}": value must have shape {tuple(shape)}, got {value.shape}.')
    return value


def _as_array(x: Any, dtype: str | None) -> jax.Array:
    """`x` as a JAX array of its own. Only sending it compiles nothing; `jnp.asarray` would, for every new shape."""
    if isinstance(x, jax.Array):
        dtype = dtype or x.dtype.name
        return x if x.dtype == dtype and not x.weak_type else jax.lax.convert_element_type(x, dtype)
    host = np.array(x, None if dtype == "bfloat16" else dtype)
    if dtype is None and host.dtype == np.float64 and not isinstance(x, np.ndarray):
        host = host.astype(dtypes.floatx())
    if host.dtype.kind == "O":  # a list with arrays of JAX in it
        return jnp.asarray(x, dtype)
    return send(host, dtype)


def _operand(x: Any) -> Any:
    """What operators take for `x`: lists become arrays."""
    return _as_array(x, None) if isinstance(x, (list, tuple)) else value_of(x)


# As in Keras, of integers too.
_LOGICAL = {"__and__": jnp.logical_and, "__or__": jnp.logical_or, "__xor__": jnp.logical_xor}


def _bind(name: str) -> None:
    """Give `Variable` the operator `name`, which acts on the value."""
    function = _LOGICAL.get(name) or (divmod if name == "__divmod__" else getattr(operator, name))

    def forward(self: Variable, other: Any) -> Any:
        return function(self.value, _operand(other))

    def reflected(self: Variable, other: Any) -> Any:
        return function(_operand(other), self.value)

    setattr(Variable, name, forward)
    if name.strip("_") not in ("eq", "ne", "lt", "le", "gt", "ge"):
        setattr(Variable, f"__r{name.strip('_')}__", reflected)


for _name in (
    "add", "sub", "mul", "truediv", "floordiv", "mod", "divmod", "pow", "matmul", "and", "or", "xor",
    "lshift", "rshift", "eq", "ne", "lt", "le", "gt", "ge",
):  # fmt: skip
    _bind(f"__{_name}__")
