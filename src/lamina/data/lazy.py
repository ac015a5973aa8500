"""Rows that lie elsewhere: in a file, a dataset, a sparse matrix. They are read a window at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jax import tree_util

Rows = slice | np.ndarray  # rows that lie together, or the numbers of rows
NEAR = 1 << 16  # bytes between two rows that are read rather than left out
TOGETHER = 1 << 25  # bytes that are read at once


class LazyRows:
    """An array of which only the rows that are asked for are in memory.

    Args:
        read: makes an array of a slice of rows, or of an array of their numbers.
        shape, dtype: of the whole.
        first: the number that row 0 has for `read`.
    """

    def __init__(self, read: Callable[[Any], np.ndarray], shape: Any, dtype: Any, first: int = 0):
        self.shape: tuple[int, ...] = tuple(shape)
        self.ndim, self.dtype = len(self.shape), np.dtype(dtype)
        self._read, self._first = read, first

    def then(self, fn: Callable[[np.ndarray], np.ndarray]) -> LazyRows:
        """The same with `fn` done to what is read."""
        read, dtype = self._read, fn(np.empty((0, *self.shape[1:]), self.dtype)).dtype
        return LazyRows(lambda rows: fn(read(rows)), self.shape, dtype, self._first)

    def part(self, rows: slice) -> LazyRows:
        """Some rows that lie together, not read yet."""
        first, last, _ = rows.indices(len(self))
        return LazyRows(self._read, (last - first, *self.shape[1:]), self.dtype, self._first + first)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        if isinstance(rows, slice):
            first, last, _ = rows.indices(len(self))
            return self._read(slice(self._first + first, self._first + max(first, last)))
        return self._read(np.asarray(rows) + self._first)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del copy  # what is read is new
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)


def host(array: Any) -> Any:
    """An array in the host's memory, or rows that are read when they are asked for."""
    return array if isinstance(array, LazyRows) else np.asarray(array)


def of_slices(source: Any) -> LazyRows:
    """Rows of what has a shape, a dtype and slices: a dataset of HDF5, an array of zarr, a file mapped into memory."""
    mapped = isinstance(source, np.memmap)
    whole = np.asarray(source) if mapped else source

    def read(rows: Any) -> np.ndarray:
        if mapped or isinstance(rows, slice):
            return np.asarray(whole[rows])
        order = np.argsort(rows, kind="stable")
        places = np.asarray(rows)[order].astype(np.int64)
        out = np.empty((len(places), *source.shape[1:]), dtype)
        apart = (np.diff(places) * row > NEAR) | (np.diff(places * row // TOGETHER) > 0)
        for run in np.split(np.arange(len(places)), np.flatnonzero(apart) + 1):
            first, last = int(places[run[0]]), int(places[run[-1]]) + 1
            out[order[run]] = np.asarray(whole[first:last])[places[run] - first]
        return out

    dtype = np.asarray(whole[0:0]).dtype  # in NumPy's form
    row = dtype.itemsize * math.prod(source.shape[1:])
    return LazyRows(read, source.shape, dtype)


def of_rows(fetch: Callable[[Any], Any], size: int) -> Any:
    """The arrays of a dataset that gives several at once, each of `size` rows, in the structure that `fetch` gives.

    Args:
        fetch: makes a structure of arrays of a slice of rows, or of an array of their numbers.
    """
    first, treedef = tree_util.tree_flatten(fetch(slice(0, 1)))
    last: list[tuple[Any, list[np.ndarray]]] = [(None, [])]  # the arrays are read one after the other, of the same rows

    def read(number: int, rows: Any) -> np.ndarray:
        asked = (rows.start, rows.stop) if isinstance(rows, slice) else rows.tobytes()
        key, leaves = last[0]
        if key != asked:
            leaves = tree_util.tree_leaves(fetch(rows))
            last[0] = asked, leaves
        return leaves[number]

    def column(number: int, leaf: np.ndarray) -> LazyRows:
        return LazyRows(lambda rows: read(number, rows), (size, *leaf.shape[1:]), leaf.dtype)

    return treedef.unflatten([column(number, leaf) for number, leaf in enumerate(first)])


def of_entries(values: np.ndarray, indices: np.ndarray, shape: Any) -> LazyRows:
    """The dense rows of a sparse array.

    Args:
        values: those that are there.
        indices: the place of each, (values, axes).
        shape: of the whole.
    """
    width = math.prod(shape[1:])
    inside = (indices < np.asarray(shape)).all(axis=1)  # what JAX pads with lies outside
    flat = np.ravel_multi_index(tuple(indices[inside].T.astype(np.int64)), shape)
    places, inverse = np.unique(flat, return_inverse=True)
    total = np.zeros(places.shape, values.dtype)
    np.add.at(total, inverse, values[inside])  # several values for one place are added
    columns, starts = places % width, np.searchsorted(places, np.arange(shape[0] + 1) * width)

    def read(rows: Any) -> np.ndarray:
        rows = np.arange(shape[0])[rows]
        begins, counts = starts[rows], starts[rows + 1] - starts[rows]
        ends = np.cumsum(counts)
        index = np.arange(counts.sum()) + np.repeat(begins - ends + counts, counts)
        out = np.zeros((len(rows), width), values.dtype)
        out[np.repeat(np.arange(len(rows)), counts), columns[index]] = total[index]
        return out.reshape(len(rows), *shape[1:])

    return LazyRows(read, shape, values.dtype)
