"""Sparse matrices as data: they stay sparse as a whole, and are made dense a batch at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lamina.core.sparse import entries, is_sparse


class SparseRows:
    """The rows of a sparse array in the host's memory; those that are taken are dense.

    Args:
        values: those that are there.
        indices: the place of each, (values, axes).
        shape: of the whole.
    """

    def __init__(self, values: np.ndarray, indices: np.ndarray, shape: Sequence[int]):
        self.shape: tuple[int, ...] = tuple(shape)
        self.ndim = len(self.shape)
        self._width = math.prod(self.shape[1:])
        inside = (indices < np.asarray(self.shape)).all(axis=1)  # what JAX pads with lies outside
        flat = np.ravel_multi_index(tuple(indices[inside].T.astype(np.int64)), self.shape)
        places, inverse = np.unique(flat, return_inverse=True)
        total = np.zeros(places.shape, values.dtype)
        np.add.at(total, inverse, values[inside])  # several values for one place are added
        self._values, self._columns = total, places % self._width
        self._starts = np.searchsorted(places, np.arange(self.shape[0] + 1) * self._width)

    @property
    def dtype(self) -> Any:
        """The dtype of the values."""
        return self._values.dtype

    def astype(self, dtype: Any) -> SparseRows:
        """The same with values of another dtype."""
        return self._with(self.shape[0], self._values.astype(dtype), self._columns, self._starts)

    def part(self, rows: slice) -> SparseRows:
        """Some rows that lie together, still sparse."""
        first, last, _ = rows.indices(self.shape[0])
        starts = self._starts[first : last + 1]
        kept = slice(starts[0], starts[-1])
        return self._with(last - first, self._values[kept], self._columns[kept], starts - starts[0])

    def _with(self, rows: int, values: np.ndarray, columns: np.ndarray, starts: np.ndarray) -> SparseRows:
        other = object.__new__(SparseRows)
        vars(other).update(vars(self), shape=(rows, *self.shape[1:]))
        other._values, other._columns, other._starts = values, columns, starts
        return other

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        rows = np.arange(self.shape[0])[rows]
        starts, counts = self._starts[rows], self._starts[rows + 1] - self._starts[rows]
        ends = np.cumsum(counts)
        index = np.arange(counts.sum()) + np.repeat(starts - ends + counts, counts)
        out = np.zeros((len(rows), self._width), self.dtype)
        out[np.repeat(np.arange(len(rows)), counts), self._columns[index]] = self._values[index]
        return out.reshape(len(rows), *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del copy  # dense memory is new
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)


def is_sparse_data(value: Any) -> bool:
    """Whether `value` is a sparse matrix of SciPy or a sparse array of JAX."""
    return is_sparse(value) or hasattr(value, "tocoo")


def rows_of(value: Any) -> SparseRows:
    """The rows of a sparse matrix of SciPy or a sparse array of JAX."""
    if is_sparse(value):
        values, indices = entries(value)
        return SparseRows(np.asarray(values), np.asarray(indices), value.shape)
    found = value.tocoo()
    indices = found.coords if hasattr(found, "coords") else (found.row, found.col)
    return SparseRows(found.data, np.stack(indices, axis=-1), found.shape)


def host(array: Any) -> Any:
    """An array in the host's memory; a sparse one stays so."""
    return array if isinstance(array, SparseRows) else np.asarray(array)
