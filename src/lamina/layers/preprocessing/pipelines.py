"""Layers of data pipelines: what they take, where they compute, and how they learn from data.

Where a layer computes follows from what it is given. NumPy arrays, and all that becomes one (lists, pandas, Arrow,
torch), stay on the host, with a NumPy array as the result. Arrays of JAX stay where they are, also under `jit`. Tensors
of TensorFlow go to the host, and come out as such, also in the functions of `tf.data`. Strings are on the host always.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core import checks, dtypes
from lamina.core.arrays import value_of
from lamina.core.symbolic import KerasTensor, infer
from lamina.data.sources import is_stream
from lamina.layers.preprocessing.foreign import RAGGED, PipelineLayer, check_dense


def numpy_for(x: Any) -> Any:
    """The module whose functions take `x`: NumPy on the host, else `jax.numpy`."""
    return np if isinstance(x, np.ndarray) else jnp


def is_text(x: Any) -> bool:
    """Whether an array or a symbolic tensor holds strings."""
    return getattr(x.dtype, "kind", "") in "USTO" if isinstance(x, np.ndarray) else x.dtype == "string"


def host_array(value: Any, who: str) -> Any:
    """A NumPy array of numbers or strings of what `value` holds; JAX arrays and symbolic tensors as they are."""
    value = value_of(value)
    if isinstance(value, (jax.Array, KerasTensor)):
        return value
    check_dense(who, value)
    for method in ("detach", "dictionary_decode"):  # torch tensors that have gradients, Arrow arrays of categories
        value = getattr(value, method)() if hasattr(value, method) else value
    if isinstance(value, (list, tuple)):
        first = value
        while isinstance(first, (list, tuple)) and first:
            first = first[0]
        array = _of_list(value, object if isinstance(first, (str, bytes)) else None, who)
    else:
        array = np.asarray(value)
    if array.dtype.kind == "O" and array.size and not isinstance(array.flat[0], (str, bytes)):
        numbers = _of_list(array.tolist(), None, who)
        array = array if numbers.dtype.kind in "US" else numbers
    if array.dtype.kind not in "biufOUSTV":
        raise ValueError(f"{who}: the input must hold numbers or strings, got dtype {array.dtype}.")
    return array.astype(dtypes.floatx()) if array.dtype == np.float64 else array


def numbers(value: Any, who: str) -> Any:
    """`host_array` of what holds no strings."""
    array = host_array(value, who)
    if is_text(array):
        given = checks.shorten(array if array.ndim else array.item())
        raise ValueError(f"{who}: the input must hold numbers, got {given}.")
    return array


def _of_list(value: Any, dtype: Any, who: str) -> np.ndarray:
    try:
        array = np.array(value, dtype)
    except ValueError:
        array = None
    if array is None or (array.dtype == object and array.size and isinstance(array.flat[0], (list, tuple))):
        raise ValueError(f"{who}: the input must be a list whose rows have one length, got {checks.shorten(value)}.")
    return array


def check_strings(who: str, inputs: Any) -> None:
    """Whether the inputs are strings, on the host."""
    if not isinstance(inputs, np.ndarray) or not (is_text(inputs) or inputs.size == 0):
        raise ValueError(
            f"{who}: the input must hold strings, got dtype {inputs.dtype}; strings stay on the host, so that a "
            "function under jit cannot get them."
        )


class DataLayer(PipelineLayer):
    """Base of the layers that compute where their inputs are."""

    several = False  # whether the inputs are a list of arrays
    texts = False  # whether they may hold strings

    def _convert(self, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """What `call` gets: NumPy or JAX arrays, floats in the compute dtype."""

        def one(value: Any) -> Any:
            array = (host_array if self.texts else numbers)(value, self._who())
            cast = self.autocast and dtypes.is_float(self.compute_dtype) and array.dtype != self.compute_dtype
            return array.astype(self.compute_dtype) if cast and jnp.issubdtype(array.dtype, jnp.inexact) else array

        def converted(value: Any) -> Any:
            if self.several and isinstance(value, (list, tuple)):
                return [one(item) for item in value]
            return one(value)

        given = {k: v if k in ("mask", "training") or v is None else converted(v) for k, v in kwargs.items()}
        return tuple(converted(value) for value in args), given

    def _not_ready(self, what: str) -> ValueError:
        return ValueError(
            f"{self._who()}: {what} must be known before the layer is used; call adapt on data, or give it."
        )


class Joined(DataLayer):
    """The inputs one behind the other, along the last axis."""

    several = texts = True

    def call(self, inputs: Any) -> Any:
        return numpy_for(inputs[0]).concatenate(inputs, axis=-1)


class HostLayer(DataLayer):
    """Base of the layers whose inputs may be strings: `encoded(indices(x))`, integers and what is made of them."""

    texts = True

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.autocast = False

    def build(self, input_shape: Any = None) -> None:
        """Nothing: there are no weights."""

    def call(self, inputs: Any) -> Any:
        return self.encoded(self.indices(inputs))

    def indices(self, inputs: Any) -> Any:
        """The integer of each string or number."""
        raise NotImplementedError

    def encoded(self, indices: Any) -> Any:
        """What the layer returns for the integers."""
        raise NotImplementedError

    @property
    def output_dtype(self) -> str:
        """The dtype that the layer declares."""
        return self.compute_dtype

    def _symbolic_indices(self, inputs: Any) -> Any:
        """`indices` of a symbolic tensor: integers in its place."""
        return KerasTensor(inputs.shape, "int32")

    def _evaluate(self, inputs: Any) -> Any:
        """Strings have no place in an abstract evaluation: it begins behind them."""
        out = infer(self.encoded, (self._symbolic_indices(inputs),))
        return KerasTensor(out.shape, self.output_dtype)


# Learning from data -------------------------------------------------------------------------------------------------


def batches_of(data: Any, steps: int | None, who: str) -> Iterator[Any]:
    """The inputs in whatever `adapt` is given: an array as one batch, or the batches of a stream without targets."""
    if steps is not None:
        checks.integer(who, "steps", steps)
    if not _is_stream(data):
        yield host_array(data, who)
        return
    empty = True
    for batch in itertools.islice(data, steps):
        yield host_array(batch[0] if isinstance(batch, tuple) else batch, who)
        empty = False
    checks.require(not empty, who, "adapt must get at least one batch", got=f"an empty {type(data).__name__}")


def _is_stream(data: Any) -> bool:
    if isinstance(data, (list, tuple)):  # of batches, or one array
        first: Any = data[0] if data else None
        first = first[0] if isinstance(first, tuple) and first else first  # of inputs and targets
        return hasattr(first, "shape") and len(first.shape) > 0
    return is_stream(data) and type(data).__name__ not in RAGGED


def documents(data: Any, who: str) -> Any:
    """The data of `adapt`; each item of an array with one axis is a document."""
    if _is_stream(data):
        return data
    array = host_array(data, who)
    return array[:, None] if array.ndim == 1 else array


class Adapts(DataLayer):
    """Base of the layers that learn from data, in one pass: `update_state` for each batch, then `finalize_state`."""

    is_given = False  # whether the constructor was given what there is to learn
    _given_by = ""  # and what that is

    def adapt(self, data: Any, steps: int | None = None) -> None:
        """Forget what was learned, and learn from data.

        Args:
            data: an array of any kind, or a stream of batches: tf.data, a PyDataset, a loader, a generator.
            steps: batches of a stream to take, all if not given.
        """
        self._check_not_given()
        self.reset_state()
        for batch in batches_of(data, steps, self._who()):
            self.update_state(batch)
        self.finalize_state()

    def _check_not_given(self) -> None:
        if self.is_given:
            raise ValueError(f"{self._who()}: adapt must not be called where {self._given_by}.")

    @property
    def is_ready(self) -> bool:
        """Whether what there is to learn is known."""
        return self.is_given or self.built

    def update_state(self, data: Any) -> None:
        """Learn from a batch."""
        raise NotImplementedError

    def finalize_state(self) -> None:
        """Put what was learned into use."""
        raise NotImplementedError

    def reset_state(self) -> None:
        """Forget what was learned and is not in use yet."""
        raise NotImplementedError
