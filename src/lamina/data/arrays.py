"""Arrays from whatever a program has at hand, and the rules that x, y and the weights keep."""

import array as buffers
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util

from lamina.core import dtypes, tree
from lamina.core.arrays import value_of
from lamina.core.checks import require, shorten, some
from lamina.core.sparse import entries, is_sparse
from lamina.core.variable import Variable
from lamina.data import checking, tables
from lamina.data.lazy import LazyRows, host, of_entries, of_rows, of_slices

PARTS = ("x", "y", "sample_weight")
FLOATS = (*dtypes.FLOATS, "float8_e4m3fn", "float8_e5m2")
_NUMBERS = (bool, int, float, np.generic)
# The protocols by which a foreign object becomes one array.
_PROTOCOLS: tuple[tuple[str, Callable], ...] = (
    ("__array__", np.asarray), ("__array_interface__", np.asarray), ("__dlpack__", np.from_dlpack),
    ("__dlpack__", jax.dlpack.from_dlpack), ("__cuda_array_interface__", jnp.asarray), ("__getitem__", np.asarray),
)  # fmt: skip
ARRAYS = "arrays (NumPy, JAX, torch, tf, ...), frames, lists of numbers, or lists, tuples and dicts of these"


def opened(x: Any, y: Any = None, sample_weight: Any = None, who: str = "fit") -> tuple[Any, Any, Any]:
    """x, y and the weights, with a structure of arrays in place of a dataset of rows or a mapping.

    The items of torch's datasets may be `(x, y)` or `(x, y, sample_weight)`.
    """
    if hasattr(x, "tocoo"):
        x = x.tocoo()  # SciPy's matrix of keys is a dict, too
    elif isinstance(x, Mapping) and not isinstance(x, dict):
        x = dict(x)
    elif tables.is_rows(x):
        x = tables.columns_of(x, who, as_array)
        if isinstance(x, tuple) and y is None and 1 <= len(x) <= 3:
            return unpack_x_y_sample_weight(x)
    return x, y, sample_weight


def unpack_x_y_sample_weight(data: Any) -> tuple[Any, Any, Any]:
    """`(x, y, sample_weight)` of what a train step is given, with `None` for what is not there."""
    if not isinstance(data, (list, tuple)):
        return data, None, None
    rule = "data must be x, (x,), (x, y) or (x, y, sample_weight)"
    require(1 <= len(data) <= 3, "unpack_x_y_sample_weight", rule, got=f"{len(data)} items")
    x, y, sample_weight = (*data, None, None)[:3]
    return x, y, sample_weight


def pack_x_y_sample_weight(x: Any, y: Any = None, sample_weight: Any = None) -> Any:
    """What a train step is given: `x`, `(x, y)` or `(x, y, sample_weight)`; a list `x` becomes `(x,)`."""
    if y is None:
        return (x,) if isinstance(x, (list, tuple)) else x
    return (x, y) if sample_weight is None else (x, y, sample_weight)


def is_numbers(value: Any) -> bool:
    """Whether `value` is a list of numbers, or of such lists: one array, not a structure."""
    if not isinstance(value, (list, tuple)) or not value:
        return False
    return all(isinstance(item, _NUMBERS) or is_numbers(item) for item in value)


def _is_leaf(value: Any) -> bool:
    return value is not None and (not tree.is_nested(value) or is_numbers(value))


def is_array(value: Any) -> bool:
    """Whether `value` is something that becomes one array."""
    if isinstance(value, (Variable, LazyRows, memoryview, buffers.array)) or is_numbers(value):
        return True
    if any(hasattr(value, name) for name, _ in _PROTOCOLS[:-1]):
        return not isinstance(value, Mapping)
    sparse = is_sparse(value) or hasattr(value, "tocoo") or tables.is_of(value, "tensorflow", "SparseTensor")
    return sparse or tables.is_frame(value) or tables.is_of(value, "datasets", "Column") or _has_slices(value)


def _has_slices(value: Any) -> bool:
    """Whether `value` is like an array, but need not be in memory."""
    shaped = isinstance(getattr(value, "shape", None), tuple)
    return shaped and hasattr(value, "dtype") and hasattr(value, "__getitem__")


def as_array(value: Any, path: str, who: str) -> Any:
    """A NumPy or JAX array of what `value` holds, or its rows where they need not be in memory."""
    if isinstance(value, (Variable, jax.Array)):
        return value_of(value)
    if isinstance(value, np.memmap) and value.shape:
        return of_slices(value)
    if isinstance(value, (*_NUMBERS, LazyRows, np.ndarray)):
        return host(value)
    if is_sparse(value):
        values, indices = entries(value)
        return of_entries(np.asarray(values), np.asarray(indices), value.shape)
    if hasattr(value, "tocoo"):
        found = value.tocoo()
        indices = found.coords if hasattr(found, "coords") else (found.row, found.col)
        return of_entries(found.data, np.stack(indices, axis=-1), found.shape)
    if tables.is_of(value, "tensorflow", "SparseTensor"):
        return of_entries(value.values.numpy(), value.indices.numpy(), tuple(value.shape))
    if tables.is_of(value, "torch", "Tensor"):
        value = value.detach().cpu().to_dense()
        return (value.float() if "bfloat16" in str(value.dtype) else value).numpy()
    if tables.is_frame(value):
        return tables.array_of(value, path, who)
    if tables.is_of(value, "datasets", "Column"):
        return _of_column(value, path, who)
    if _has_slices(value) and value.shape:
        return of_slices(value)
    return _by_protocol(value, path, who)


def _of_column(value: Any, path: str, who: str) -> Any:
    """A column of a dataset of Hugging Face; one inside another column knows no dataset."""
    if tables.is_of(value.source, "datasets", "Dataset"):
        (column,) = tables.columns_of(value.source.select_columns([value.column_name]), who, as_array).values()
        return column
    return of_rows(lambda rows: as_array(value[rows], path, who), len(value))


def _by_protocol(value: Any, path: str, who: str) -> Any:
    if isinstance(value, (str, bytes)):
        raise ValueError(f"{who}: {path} must hold numbers, got {value!r}; turn text into numbers first.")
    if not is_array(value):
        raise ValueError(f"{who}: {path} must be {ARRAYS}, got {type_name(value)}.")
    if is_numbers(value):
        try:
            return np.array(value)
        except ValueError:
            rule = "must be a list whose rows have one length"
            raise ValueError(f"{who}: {path} {rule}, got rows of several; pad them (pad_sequences).") from None
    problem: Any = None
    for protocol, make in _PROTOCOLS:
        if hasattr(value, protocol):
            try:
                return make(value)
            except Exception as error:  # memory of another device, or a class that refuses
                problem = error
    raise ValueError(
        f"{who}: {path} must be in memory that can be read from here, got {type_name(value)} "
        f"({str(problem).partition(chr(10))[0]}); give a NumPy array of it."
    ) from problem


def type_name(value: Any) -> str:
    """Package and class of `value`, for messages."""
    kind = type(value)
    return "None" if value is None else f"{kind.__module__.partition('.')[0]}.{kind.__name__}"


def _checked(array: Any, path: str, who: str, cast: tuple[str, ...]) -> Any:
    """The array with floats of the dtypes `cast` as floatx; errors for what no model can take."""
    array = tables.unboxed(array, f"{who}: {path}") if array.dtype == object else array
    name = array.dtype.name
    if name not in dtypes.ALLOWED:
        raise ValueError(
            f"{who}: {path} must hold numbers, got dtype {name}; turn text and objects into numbers first, "
            "for example with StringLookup or TextVectorization."
        )
    if array.ndim == 0:
        rule = "must have a first axis of rows, got a single number"
        raise ValueError(f"{who}: {path} {rule}; batch the data first, such as by .batch(32).")
    if isinstance(array, LazyRows):
        return array.then(partial(_checked, path=path, who=who, cast=cast))
    if array.dtype.kind in "iu" and isinstance(array, np.ndarray):
        narrow = jax.dtypes.canonicalize_dtype(array.dtype)
        if narrow != array.dtype:
            checking.check_range(array, narrow, path, who)
    if name in cast and name != dtypes.floatx():
        return array.astype(jnp.dtype(dtypes.floatx()))
    if isinstance(array, np.ndarray) and not array.dtype.isnative:
        return array.astype(array.dtype.newbyteorder("="))
    return array


def convert(structure: Any, name: str, who: str, cast: tuple[str, ...], seen: dict[int, Any] | None = None) -> Any:
    """`structure` with every leaf as an array; an object that is there twice becomes one array."""
    if isinstance(structure, np.ndarray) and seen is None:
        return _checked(np.asarray(structure), name, who, cast)
    pairs, treedef = tree_util.tree_flatten_with_path(structure, is_leaf=_is_leaf)
    seen = {} if seen is None else seen
    leaves = []
    for keys, leaf in pairs:
        if id(leaf) not in seen:
            path = name + tree_util.keystr(keys)
            seen[id(leaf)] = _checked(as_array(leaf, path, who), path, who, cast)
        leaves.append(seen[id(leaf)])
    return treedef.unflatten(leaves)


def convert_parts(
    parts: Iterable[Any], who: str, cast: tuple[str, ...], seen: dict[int, Any] | None = None
) -> tuple[Any, ...]:
    """x, y and the weights as arrays; a number as a weight is one for every row."""
    x, *others = parts
    arrays = [convert(x, PARTS[0], who, cast, seen)]
    for name, part in zip(PARTS[1:], others):
        if name == "sample_weight" and arrays[0] is not None:
            part = tree_util.tree_map(lambda w: _for_rows(w, arrays[0]), part, is_leaf=_is_leaf)
        arrays.append(convert(part, name, who, cast, seen))
    if len(_sizes(arrays)) > 1:  # what is a list of rows only as one array fits the others
        stacked = tree_util.tree_map(lambda part: np.stack(part) if are_rows(part) else part, arrays, is_leaf=are_rows)
        arrays = stacked if len(_sizes(stacked)) == 1 else arrays
    return tuple(arrays)


def _sizes(parts: Any) -> set[int]:
    return {leaf.shape[0] for leaf in tree_util.tree_leaves(parts)}


def _for_rows(weight: Any, x: Any) -> Any:
    if not isinstance(weight, _NUMBERS) and getattr(weight, "shape", None) != ():
        return weight
    return np.full(len(tree_util.tree_leaves(x)[0]), float(weight), dtypes.floatx())


def row_count(parts: Iterable[Any], who: str, remedy: str = "") -> int:
    """The number of rows that all arrays have; where one has no other axis, the error says the remedy."""
    parts = tuple(parts)
    sizes = _sizes(parts)
    if len(sizes) == 1 and 0 not in sizes:
        return sizes.pop()
    if not sizes:
        raise ValueError(f"{who}: x must hold at least one array, got none.")
    named = [(name, part) for name, part in zip(PARTS, parts) if part is not None]
    leaves = [(name, tree_util.tree_flatten_with_path(part)[0]) for name, part in named]
    given = [
        some([f"{name}{tree_util.keystr(keys)} {leaf.shape[0]}" for keys, leaf in found]) for name, found in leaves
    ]
    rule = "all arrays must have the same number of rows" if len(sizes) > 1 else "the data must not be empty"
    remedies = [f"; np.stack({name}) makes one array of a list of rows" for name, part in named if are_rows(part)]
    remedies += [remedy] if any(leaf.ndim == 1 for leaf in tree_util.tree_leaves(parts)) else []
    raise ValueError(f"{who}: {rule}, got {', '.join(given)}{''.join(remedies)}.")


def may_differ(parts: Iterable[Any]) -> bool:
    """Whether a batch has arrays of several sizes that may belong together: nodes and edges in x, say, of one graph.

    The loss compares the rows of y with those of the outputs.
    """
    x, *_ = parts = tuple(parts)
    sizes = [leaf.shape[0] for leaf in tree_util.tree_leaves(x)]
    return len(sizes) > 1 and len(_sizes(parts)) > 1 and sizes[0] > 0


def are_rows(structure: Any) -> bool:
    """Whether this may be the rows of one array in a list: arrays of one shape."""
    if not isinstance(structure, (list, tuple)) or len(structure) < 2:
        return False
    shapes = {getattr(leaf, "shape", ()) for leaf in structure}
    return len(shapes) == 1 and shapes != {()}


def labels_of(y: Any) -> np.ndarray:
    """The classes in targets that are whole numbers or one-hot."""
    labels = np.asarray(y)
    if labels.ndim > 1:
        labels = labels[..., 0] if labels.shape[-1] == 1 else labels.argmax(-1)
    return np.rint(labels.astype(np.float64))


def class_weights(y: Any, class_weight: Mapping[Any, float], who: str = "class_weight") -> np.ndarray:
    """`class_weight[label]` for each label, 1 where there is none; labels are whole numbers or one-hot."""
    if y is None or tree.is_nested(y):
        given = type_name(y).removeprefix("builtins.")
        raise ValueError(f"{who}: class_weight needs one array of targets y, got {given}.")
    labels = labels_of(y)
    values, inverse = np.unique(labels, return_inverse=True)
    weights = np.array([class_weight.get(int(v), 1.0) for v in values])
    return weights[inverse].reshape(labels.shape).astype(dtypes.floatx())


def check_class_weight(class_weight: Any, who: str) -> None:
    """Raise unless it is `None` or a dict of class numbers."""
    if class_weight is None:
        return
    numbers = (*class_weight, *class_weight.values()) if isinstance(class_weight, Mapping) else ("",)
    if not all(isinstance(number, _NUMBERS) for number in numbers):
        raise ValueError(f"{who}: class_weight must be a dict of class number to weight, got {shorten(class_weight)}.")


def weighted(y: Any, sample_weight: Any, class_weight: Mapping[Any, float] | None, who: str) -> Any:
    """The sample weights: those given, brought into the structure of `y`, or those of the classes."""
    if class_weight is not None:
        if sample_weight is not None:
            raise ValueError(
                f"{who}: class_weight and sample_weight must not both be given; "
                "multiply the weights of the classes into sample_weight."
            )
        return class_weights(y, class_weight, who)
    if sample_weight is None:
        return None
    if y is None:
        raise ValueError(f"{who}: sample_weight needs targets y to weigh, got y=None.")
    if tree.is_nested(y) and not tree.is_nested(sample_weight):
        rule, shape = "one sample_weight for several outputs must have shape (rows,)", sample_weight.shape
        require(shape[1:] in ((), (1,)), who, rule, shape, "give one for each output, in the structure of y")
        return tree.map_structure(lambda _: sample_weight, y)
    if tree_util.tree_structure(y) != tree_util.tree_structure(sample_weight, is_leaf=lambda leaf: leaf is None):
        given = f"{shorten(y)}, got {shorten(sample_weight)}"
        raise ValueError(f"{who}: sample_weight must have the structure of y, {given}.")
    return sample_weight


def train_validation_split(arrays: Any, validation_split: float, who: str = "fit") -> tuple[Any, Any]:
    """`(first rows, last rows)`: the last `validation_split` of the rows are for validation.

    Args:
        arrays: `(x, y, sample_weight)`, each an array, a structure of arrays or `None`.
        validation_split: a share between 0 and 1.
    """
    if not isinstance(validation_split, (int, float, np.number)) or not 0 < validation_split < 1:
        raise ValueError(f"{who}: validation_split must be between 0 and 1, got {validation_split!r}.")
    for leaf in tree_util.tree_leaves(arrays, is_leaf=_is_leaf):
        rule, remedy = "validation_split takes the last rows of arrays", "give validation_data instead"
        require(is_array(leaf), who, rule, got=type_name(leaf), remedy=remedy)
    arrays = convert_parts(arrays, who, FLOATS, seen={})
    size = row_count(arrays, who)
    at = math.floor(size * (1.0 - validation_split))
    given = f"{validation_split!r} of {size} rows"
    require(0 < at < size, who, "validation_split must leave rows on both sides", got=given)
    return _cut(arrays, slice(0, at)), _cut(arrays, slice(at, size))


def _cut(arrays: Any, rows: slice) -> Any:
    leaves, numbers = distinct(arrays)
    cut = [leaf.part(rows) if isinstance(leaf, LazyRows) else leaf[rows] for leaf in leaves]
    return tree_util.tree_map(cut.__getitem__, numbers)


def distinct(structure: Any) -> tuple[list[Any], Any]:
    """The different arrays of a structure, and the structure of their numbers: one that is there twice stays one."""
    arrays = {id(leaf): leaf for leaf in tree_util.tree_leaves(structure)}
    numbers = {key: number for number, key in enumerate(arrays)}
    return list(arrays.values()), tree_util.tree_map(lambda leaf: numbers[id(leaf)], structure)
