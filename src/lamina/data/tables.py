"""What other libraries hold rows in, known by the names of classes, so that none of these is imported here.

Frames of pandas, Polars and Arrow become one array of their columns; datasets of rows become a structure of arrays.
"""

import functools
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax import tree_util

from lamina.core import dtypes
from lamina.data.lazy import of_rows

FRAMES = {
    "pandas": ("DataFrame", "Series", "Index", "ExtensionArray"),
    "polars": ("DataFrame", "Series", "LazyFrame"),
    "pyarrow": ("Table", "RecordBatch", "ChunkedArray", "Array"),
}
_PLAIN = "biuf"  # the kinds of dtypes that are numbers
# What helps against values of a dtype, by a part of its name.
_REMEDIES = (
    (("categor", "dictionary", "enum"), "give their codes, or one-hot columns (pd.get_dummies)"),
    (("date", "time", "duration"), "give parts of them, such as the year, or the seconds since a date"),
    (("",), "turn text and objects into numbers first, for example with StringLookup or TextVectorization"),
)


@functools.lru_cache(256)
def _classes(kind: type) -> frozenset[str]:
    return frozenset(f"{each.__module__.partition('.')[0]}.{each.__name__}" for each in kind.__mro__)


def is_of(value: Any, package: str, *names: str) -> bool:
    """Whether the class of `value`, or one that it derives from, is one of these of a package."""
    return not _classes(type(value)).isdisjoint(f"{package}.{name}" for name in names)


def is_frame(value: Any) -> bool:
    """Whether `value` is a frame, a table or a column of pandas, Polars or Arrow."""
    return any(is_of(value, package, *names) for package, names in FRAMES.items())


def column_names(value: Any) -> Sequence[Any]:
    """The names of the columns of a frame or table, none of a single column."""
    return getattr(value, "column_names", None) or list(getattr(value, "columns", ()))


def by_name(x: Any, y: Any, sample_weight: Any, inputs: set[str], outputs: set[str]) -> tuple[Any, Any, Any]:
    """x, y and the weights for a model whose inputs and outputs have these names.

    Of a dict without y beside it, what has the name of an output is y, and `sample_weight` the weights; text that no
    input has the name of is left out. A frame that has a column for each of several inputs is taken for a dict.
    """
    if len(inputs) > 1 and is_frame(x) and inputs <= set(column_names(x)):
        x = {name: x[name] for name in column_names(x)}
    if isinstance(x, dict):
        kinds = {key: getattr(getattr(x[key], "dtype", None), "kind", "f") for key in x}
        x = {key: x[key] for key in x if key in inputs or kinds[key] not in "OSUT"}
    targets = {key: x[key] for key in x if key in outputs - inputs} if isinstance(x, dict) and y is None else {}
    if targets:
        y = targets if len(outputs) > 1 else next(iter(targets.values()))
        if "sample_weight" in x.keys() - inputs:
            sample_weight = x["sample_weight"]
        x = {key: x[key] for key in x if key not in targets and (key in inputs or key != "sample_weight")}
    return x, y, sample_weight


class Column(NamedTuple):
    """One column of a frame: its dtype as the package calls it, how many values are missing, and how to get them."""

    name: Any
    dtype: str
    missing: int
    values: Callable[[], np.ndarray]


def _of_pandas(value: Any) -> Iterable[Column]:
    frame = hasattr(value, "items") and value.ndim == 2
    for name, one in value.items() if frame else [(getattr(value, "name", None), value)]:
        target = getattr(one.dtype, "numpy_dtype", None)  # of nullable and Arrow dtypes
        missing = 0 if isinstance(one.dtype, np.dtype) else int(one.isna().sum())  # NaN among floats is a value
        target = target if getattr(target, "kind", "") in _PLAIN else None
        yield Column(name, str(one.dtype), missing, functools.partial(one.to_numpy, dtype=target))


def _of_polars(value: Any) -> Iterable[Column]:
    for one in value.get_columns() if hasattr(value, "get_columns") else [value]:
        nested = str(one.dtype).startswith("List")  # a ValueError comes where these are of several lengths
        values = (lambda one=one: np.array(one.to_list())) if nested else one.to_numpy
        yield Column(one.name or None, str(one.dtype), one.null_count(), values)


def _of_arrow(value: Any) -> Iterable[Column]:
    names = column_names(value)
    for name, one in zip(names or [None], value.columns if names else [value]):
        nested = "list" in str(one.type)
        plain = functools.partial(one.to_numpy, zero_copy_only=False)
        values = functools.partial(_of_arrow_lists, one) if nested else plain
        yield Column(name, str(one.type), one.null_count, values)


def _of_arrow_lists(value: Any) -> np.ndarray:
    """Lists of one length as an axis of an array, to any depth."""
    value, shape = value.combine_chunks() if hasattr(value, "combine_chunks") else value, []
    while "list" in str(value.type).partition("<")[0] or value.null_count:
        length = len(value.flatten()) // max(len(value), 1)
        if value.null_count or set(value.value_lengths().to_numpy(zero_copy_only=False).tolist()) - {length}:
            raise ValueError
        shape.append(length)
        value = value.flatten()
    array = value.to_numpy(zero_copy_only=False)
    return array.reshape(-1, *shape)


_COLUMNS = {"pandas": _of_pandas, "polars": _of_polars, "pyarrow": _of_arrow}


def array_of(value: Any, path: str, who: str, texts: bool = False) -> np.ndarray:
    """The array of a frame: `(rows, columns)`; of one column `(rows,)`, or `(rows, 1)` in pandas, as in Keras.

    Args:
        texts: whether a column may hold strings, which a model may turn into numbers or not use at all.
    """
    if is_of(value, "polars", "LazyFrame"):
        warnings.warn(f"{who}: a LazyFrame is collected, all of it; give its collect() to do so once.", stacklevel=2)
        value = value.collect()
    package = next(name for name, names in FRAMES.items() if is_of(value, name, *names))
    if package == "pandas" and value.ndim == 2 and all(map(_is_plain, value.dtypes)):
        array = value.to_numpy()  # of one block: no copy
        return array if array.dtype != object else value.to_numpy(dtype=dtypes.floatx())
    arrays = [_numbers(column, path, who, texts) for column in _COLUMNS[package](value)]
    if package != "pandas" and not column_names(value):
        return arrays[0]
    kinds = {array.dtype.kind for array in arrays}
    if "b" in kinds and len(kinds) > 1:
        arrays = [array.astype(dtypes.floatx()) for array in arrays]
    return np.column_stack(arrays)


def unboxed(array: np.ndarray, where: str) -> np.ndarray:
    """One array in place of an array whose objects are the rows of one."""
    if array.dtype != object or array.ndim != 1 or not all(isinstance(row, (list, np.ndarray)) for row in array):
        return array
    rows = [np.asarray(row) for row in array]
    return stacked(rows, f"{where} must have rows of one shape", "pad them (pad_sequences)") if rows else array


def stacked(rows: Sequence[np.ndarray], rule: str, remedy: str) -> np.ndarray:
    """One array of rows, which must be of one shape: what the rule says."""
    shapes = sorted({row.shape for row in rows})
    if len(shapes) > 1:
        raise ValueError(f"{rule}, got {shapes[0]} and {shapes[1]}; {remedy}.")
    return np.stack(rows)


def _is_plain(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and dtype.kind in _PLAIN


def _numbers(column: Column, path: str, who: str, texts: bool) -> np.ndarray:
    """The values of a column, of which none may be missing."""
    where = f"{who}: {path}" if column.name is None else f"{who}: column {column.name!r} of {path}"
    if texts and "str" in column.dtype.lower() and "list" not in column.dtype:
        return column.values()
    if column.missing:
        given = f"got {column.missing} null{'s' if column.missing > 1 else ''}"
        raise ValueError(f"{where} must have no missing values, {given}; fill the gaps, or leave these rows out.")
    try:
        array = column.values()
    except ValueError:
        raise ValueError(
            f"{where} must have lists of numbers of one length and without gaps, got others in {column.dtype}; "
            "pad them (pad_sequences), fill the gaps."
        ) from None
    array = unboxed(array, where)
    if array.dtype.kind not in _PLAIN or "dictionary" in column.dtype:
        name = column.dtype.lower()
        remedy = next(remedy for words, remedy in _REMEDIES if any(word in name for word in words))
        raise ValueError(f"{where} must hold numbers, got dtype {re.split('[(<]', column.dtype)[0]}; {remedy}.")
    return array


# Datasets of rows -------------------------------------------------------------------------------


def is_rows(value: Any) -> bool:
    """Whether `value` is a dataset whose items are rows, any of which may be asked for: of torch, of Hugging Face."""
    of_torch = is_of(value, "torch", "Dataset") and hasattr(value, "__getitem__") and hasattr(value, "__len__")
    return of_torch or is_of(value, "datasets", "Dataset")


def columns_of(data: Any, who: str, as_array: Callable[[Any, str, str], Any]) -> Any:
    """The arrays of a dataset of rows: of torch in the structure of its items, of Hugging Face a dict by column.

    Args:
        as_array: makes an array of a column or of a value in a row, given with how messages call it, and `who`.
    """
    if len(data) == 0:
        raise ValueError(f"{who}: the data must not be empty, got a {type(data).__name__} of 0 rows.")
    if is_of(data, "torch", "Dataset"):
        return of_rows(lambda rows: _of_items(data, rows, as_array, who), len(data))
    if data.format["type"] is None:
        arrow = data.with_format("arrow")
        kinds = " ".join(map(str, arrow[:1].schema.types))
        data = data.with_format("numpy") if "struct<" in kinds or "extension<" in kinds else arrow

    def fetch(rows: Any) -> dict[str, Any]:
        found = data[rows]
        names = column_names(found) or list(found)
        parts = {name: (found[name], f"x[{name!r}]", who) for name in names}
        arrays = {name: array_of(*p, texts=True) if is_frame(p[0]) else as_array(*p) for name, p in parts.items()}
        return tree_util.tree_map(np.asarray, arrays)

    return of_rows(fetch, len(data))


def _of_items(data: Any, rows: Any, as_array: Callable, who: str) -> Any:
    """Some items of a dataset of torch, put together."""
    numbers = list(range(rows.start, rows.stop)) if isinstance(rows, slice) else rows.tolist()
    items = data.__getitems__(numbers) if hasattr(data, "__getitems__") else [data[i] for i in numbers]

    def column(*values: Any) -> np.ndarray:
        arrays = [np.asarray(as_array(value, "x", who)) for value in values]
        rule = f"{who}: items of {type(data).__name__} must have one shape"
        return stacked(arrays, rule, "pad them, or use a DataLoader with a collate_fn")

    return tree_util.tree_map(column, *[tuple(item) if isinstance(item, list) else item for item in items])
