"""Arrays from whatever a program has at hand, and the rules that x, y and the weights keep."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util

from lamina.core import dtypes, tree
from lamina.core.arrays import value_of
from lamina.core.checks import shorten, some
from lamina.core.variable import Variable
from lamina.data import checking
from lamina.data.sparse import SparseRows, host, is_sparse_data, rows_of

PARTS = ("x", "y", "sample_weight")
FLOATS = (*dtypes.FLOATS, "float8_e4m3fn", "float8_e5m2")
_NUMBERS = (bool, int, float, np.generic)
ARRAYS = "arrays (NumPy, JAX, SciPy, torch, tf or pandas), lists of numbers, or lists, tuples and dicts of these"


def unpack_x_y_sample_weight(data: Any) -> tuple[Any, Any, Any]:
    """`(x, y, sample_weight)` of what a train step is given, with `None` for what is not there."""
    if not isinstance(data, (list, tuple)):
        return data, None, None
    if not 1 <= len(data) <= 3:
        raise ValueError(
            f"unpack_x_y_sample_weight: data must be x, (x,), (x, y) or (x, y, sample_weight), got {len(data)} items."
        )
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
    return isinstance(value, Variable) or hasattr(value, "__array__") or is_numbers(value) or is_sparse_data(value)


def _framework(value: Any) -> str:
    return type(value).__module__.split(".")[0]


def _as_array(value: Any, path: str, who: str) -> Any:
    """A NumPy or JAX array of what `value` holds."""
    if isinstance(value, (Variable, jax.Array)):
        return value_of(value)
    if is_sparse_data(value):
        return rows_of(value)
    framework = _framework(value)
    if framework == "torch" and hasattr(value, "detach"):
        value = value.detach().cpu()
        return (value.float() if "bfloat16" in str(value.dtype) else value).numpy()
    if framework == "pandas":
        return _from_pandas(value)
    if hasattr(value, "__array__") or isinstance(value, _NUMBERS):
        return host(value)
    if is_numbers(value):
        try:
            return np.array(value)
        except ValueError:
            raise ValueError(f"{who}: {path} must be a list whose rows have one length, got rows of several.") from None
    if isinstance(value, (str, bytes)):
        raise ValueError(f"{who}: {path} must hold numbers, got {value!r}; turn text into numbers first.")
    raise ValueError(f"{who}: {path} must be {ARRAYS}, got {type_name(value)}.")


def _from_pandas(value: Any) -> np.ndarray:
    """A column becomes `(rows, 1)`; columns of several numeric dtypes get one that holds them all."""
    array = value.to_numpy()
    if array.ndim == 1:
        return array[:, None]
    if array.dtype == object and all(getattr(dtype, "kind", "O") in "biuf" for dtype in value.dtypes):
        return value.to_numpy(dtype=dtypes.floatx())
    return array


def type_name(value: Any) -> str:
    """Package and class of `value`, for messages."""
    return "None" if value is None else f"{_framework(value)}.{type(value).__name__}"


def _checked(array: Any, path: str, who: str, cast: tuple[str, ...]) -> Any:
    """The array with floats of the dtypes `cast` as floatx; errors for what no model can take."""
    name = array.dtype.name
    if name not in dtypes.ALLOWED:
        raise ValueError(
            f"{who}: {path} must hold numbers, got dtype {name}; turn text and objects into numbers first, "
            "for example with StringLookup or TextVectorization."
        )
    if array.ndim == 0:
        raise ValueError(f"{who}: {path} must have a first axis of rows, got a single number; batch the data first.")
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
            seen[id(leaf)] = _checked(_as_array(leaf, path, who), path, who, cast)
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
    return tuple(arrays)


def _for_rows(weight: Any, x: Any) -> Any:
    if not isinstance(weight, _NUMBERS) and getattr(weight, "shape", None) != ():
        return weight
    return np.full(len(tree_util.tree_leaves(x)[0]), float(weight), dtypes.floatx())


def row_count(parts: Iterable[Any], who: str) -> int:
    """The number of rows that all arrays have."""
    parts = tuple(parts)
    sizes = {leaf.shape[0] for leaf in tree_util.tree_leaves(parts)}
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
    raise ValueError(f"{who}: {rule}, got {', '.join(given)}{''.join(remedies)}.")


def are_rows(structure: Any) -> bool:
    """Whether this looks like the rows of one array in a list: vectors of one length."""
    if not isinstance(structure, (list, tuple)) or len(structure) < 2:
        return False
    return len({np.shape(leaf) for leaf in structure}) == 1 and np.ndim(structure[0]) == 1


def class_weights(y: Any, class_weight: Mapping[Any, float], who: str = "class_weight") -> np.ndarray:
    """`class_weight[label]` for each label, 1 where there is none; labels are whole numbers or one-hot."""
    if y is None or tree.is_nested(y):
        raise ValueError(f"{who}: class_weight needs one array of targets y, got {type(y).__name__}.")
    labels = np.asarray(y)
    if labels.ndim > 1:
        labels = labels[..., 0] if labels.shape[-1] == 1 else labels.argmax(-1)
    values, inverse = np.unique(np.rint(labels.astype(np.float64)), return_inverse=True)
    weights = np.array([class_weight.get(int(v), 1.0) for v in values])
    return weights[inverse].reshape(labels.shape).astype(dtypes.floatx())


def check_class_weight(class_weight: Any, who: str) -> None:
    """Raise unless it is `None` or a dict of class numbers."""
    if class_weight is None:
        return
    if not isinstance(class_weight, Mapping) or not all(isinstance(k, _NUMBERS) for k in class_weight):
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
        if sample_weight.ndim != 1 and sample_weight.shape[1:] != (1,):
            raise ValueError(
                f"{who}: one sample_weight for several outputs must have shape (rows,), got "
                f"{sample_weight.shape}; give one for each output, in the structure of y."
            )
        return tree.map_structure(lambda _: sample_weight, y)
    if tree_util.tree_structure(y) != tree_util.tree_structure(sample_weight):
        given = f"{shorten(y)}, got {shorten(sample_weight)}"
        raise ValueError(f"{who}: sample_weight must have the structure of y, {given}.")
    return sample_weight


def train_validation_split(arrays: Any, validation_split: float, who: str = "fit") -> tuple[Any, Any]:
    """`(first rows, last rows)`: the last `validation_split` of the rows are for validation.

    Args:
        arrays: `(x, y, sample_weight)`, each an array, a structure of arrays or `None`.
        validation_split: a share between 0 and 1.
    """
    if not 0 < validation_split < 1:
        raise ValueError(f"{who}: validation_split must be between 0 and 1, got {validation_split!r}.")
    for leaf in tree_util.tree_leaves(arrays, is_leaf=_is_leaf):
        if not is_array(leaf):
            raise ValueError(
                f"{who}: validation_split takes the last rows of arrays, got {type_name(leaf)}; "
                "give validation_data instead."
            )
    seen: dict[int, Any] = {}
    arrays = convert_parts(arrays, who, FLOATS, seen)
    size = row_count(arrays, who)
    at = math.floor(size * (1.0 - validation_split))
    if at in (0, size):
        raise ValueError(
            f"{who}: validation_split must leave rows on both sides, got {validation_split!r} of {size} rows."
        )
    return _cut(arrays, slice(0, at)), _cut(arrays, slice(at, size))


def _cut(arrays: Any, rows: slice) -> Any:
    def cut_one(leaf: Any) -> Any:
        return leaf.part(rows) if isinstance(leaf, SparseRows) else leaf[rows]

    cut = {id(leaf): cut_one(leaf) for leaf in tree_util.tree_leaves(arrays)}  # one that is there twice stays one
    return tree_util.tree_map(lambda leaf: cut[id(leaf)], arrays)
