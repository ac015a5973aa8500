"""Elements of a dataset: arrays of NumPy in tuples and dicts; texts are bytes in arrays of objects, as in tf.data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax import tree_util

from lamina.data import tables

_NARROW = {"float64": "float32", "int64": "int32"}  # what numbers of Python become


class Element(np.ndarray):
    """What a program sees of an element: an array that it cannot change, with what tensors have beside arrays.

    `.numpy()` gives an array of its own, an item is an element too, and `x /= 255` makes a new array.
    """

    def numpy(self) -> Any:
        """The values as an array of its own; those of one item as a number or as bytes."""
        return np.array(self) if self.ndim else np.asarray(self)[()]

    def __getitem__(self, key: Any) -> Any:
        item = super().__getitem__(key)
        return item if isinstance(item, np.ndarray) else shown(np.array(item, self.dtype))

    __iadd__, __isub__, __imul__ = np.ndarray.__add__, np.ndarray.__sub__, np.ndarray.__mul__  # type: ignore[assignment]
    __itruediv__, __ipow__ = np.ndarray.__truediv__, np.ndarray.__pow__  # type: ignore[assignment]


@dataclass(frozen=True)
class TensorSpec:
    """Shape and dtype of a part of an element; sizes that may differ are `None`."""

    shape: tuple[int | None, ...]
    dtype: np.dtype


def _shown(leaf: np.ndarray) -> Any:
    if leaf.dtype == object and not leaf.ndim and isinstance(leaf.item(), str):
        return leaf.item()
    view = leaf.view(Element)
    view.flags.writeable = False
    return view


def shown(element: Any) -> Any:
    """The element as programs see it."""
    return tree_util.tree_map(_shown, element)


def called(fn: Callable, element: Any) -> Any:
    """`fn` of an element as programs see it; the parts of a tuple are its arguments."""
    seen = shown(element)
    return fn(*seen) if isinstance(seen, tuple) else fn(seen)


def tidy(value: Any, who: str) -> Any:
    """An element of what a program gives as one: arrays of any library, numbers, texts, lists of these."""
    if isinstance(value, tuple):
        parts = [tidy(part, who) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, dict):
        return {key: tidy(part, who) for key, part in value.items()}
    given = value.detach().cpu() if hasattr(value, "detach") else value  # of torch
    try:
        array = np.array(given, object) if isinstance(given, (str, bytes)) else np.asarray(given)
    except ValueError:
        raise ValueError(f"{who}: a list in an element must become one array, got rows of several lengths.") from None
    if array.dtype.kind in "USO":  # a list as it is: NumPy's own texts lose zeros at their ends
        return _texts(array if hasattr(given, "dtype") else np.array(given, object), who)
    if isinstance(value, (list, int, float)) and not isinstance(value, np.generic):
        return array.astype(_NARROW.get(array.dtype.name, array.dtype))
    return array.view(np.ndarray)


def _texts(array: np.ndarray, who: str) -> np.ndarray:
    out = np.empty(array.shape, object)
    for at, text in np.ndenumerate(array):
        if not isinstance(text, (str, bytes)):
            raise ValueError(f"{who}: an element must hold arrays, numbers or texts, got {type(text).__name__}.")
        out[at] = text.encode() if isinstance(text, str) else bytes(text)
    return out


def stacked(elements: Sequence[Any]) -> Any:
    """One batch of several elements."""
    rule, remedy = "batch: elements must have one shape", "map them to one, or use padded_batch"
    return _together(elements, lambda leaves: tables.stacked(leaves, rule, remedy))


def padded(elements: Sequence[Any]) -> Any:
    """One batch of several elements, in which shorter ones are filled up with zeros."""
    return _together(elements, _padded)


def _together(elements: Sequence[Any], join: Callable) -> Any:
    kinds = {tree_util.tree_structure(element) for element in elements}
    if len(kinds) > 1:
        raise ValueError(f"batch: elements must have one structure, got {' and '.join(map(str, kinds))}.")
    return tree_util.tree_map(lambda *leaves: join(leaves), *elements)


def _padded(leaves: Sequence[np.ndarray]) -> np.ndarray:
    sizes = tuple(map(max, zip(*(leaf.shape for leaf in leaves))))
    out = np.full((len(leaves), *sizes), b"" if leaves[0].dtype == object else 0, leaves[0].dtype)
    for row, leaf in enumerate(leaves):
        out[(row, *map(slice, leaf.shape))] = leaf
    return out
