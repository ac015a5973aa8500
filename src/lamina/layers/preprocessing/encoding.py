"""Integers as vectors: CategoryEncoding, and what other layers make of their integers."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from lamina import ops
from lamina.core import checks
from lamina.core.sparse import hot_entries
from lamina.layers.preprocessing.pipelines import DataLayer, numpy_for

MODES = ("one_hot", "multi_hot", "count")
_OLD_MODES = {"binary": "multi_hot", "tf-idf": "tf_idf"}


def checked_mode(who: str, output_mode: Any, choices: tuple[str, ...], sparse: Any = False) -> str:
    """The output mode by its present name."""
    if sparse:
        raise ValueError(f"{who}: sparse must be False, got {sparse!r}; CategoryEncoding(sparse=True) takes integers.")
    mode = _OLD_MODES.get(output_mode, output_mode) if isinstance(output_mode, str) else output_mode
    return checks.one_of(who, "output_mode", mode, choices)


def encode(indices: Any, mode: str, depth: int, dtype: Any, weights: Any = None, sparse: bool = False) -> Any:
    """Integers as vectors of size `depth`, in a sparse array of JAX if asked; those outside count for nothing.

    Shapes, where () is (1,): one-hot (..., 1) or (...) -> (..., depth); others (batch, n, ...) -> (batch, ..., depth).
    """
    xp = numpy_for(indices)
    indices = indices.reshape(1) if indices.ndim == 0 else indices
    if mode == "one_hot" and indices.ndim > 1 and indices.shape[-1] == 1:
        indices = indices[..., 0]
    axis = min(1, indices.ndim - 1)
    if sparse:
        hot = hot_entries(jnp.asarray(indices), depth, -1, jnp.asarray(1 if weights is None else weights, dtype))
        hot = hot if mode == "one_hot" else hot.sum(axis)
        return ops.sign(hot) if mode == "multi_hot" else hot
    if mode == "one_hot":
        return (indices[..., None] == xp.arange(depth)).astype(dtype)
    moved = xp.moveaxis(indices, axis, -1)
    lead = moved.shape[:-1]
    flat = moved.reshape(math.prod(lead), moved.shape[-1])
    if weights is not None:
        weights = xp.moveaxis(xp.broadcast_to(weights, indices.shape), axis, -1).reshape(flat.shape)
    counts = (_counts_on_host if xp is np else _counts)(flat, depth, weights)
    counts = counts > 0 if mode == "multi_hot" else counts
    return counts.astype(dtype).reshape(*lead, depth)


def _counts_on_host(rows: np.ndarray, depth: int, weights: Any) -> np.ndarray:
    inside = (rows >= 0) & (rows < depth)
    places = (np.arange(len(rows), dtype=np.int64)[:, None] * depth + rows)[inside]
    weights = None if weights is None else weights[inside]
    return np.bincount(places, weights, len(rows) * depth).reshape(len(rows), depth)


def _counts(rows: Any, depth: int, weights: Any) -> Any:
    places = jnp.where((rows >= 0) & (rows < depth), rows, depth)  # and what lies outside is dropped
    added = jnp.float32(1) if weights is None else weights
    zeros = jnp.zeros((rows.shape[0], depth), jnp.result_type(added))
    return zeros.at[jnp.arange(rows.shape[0])[:, None], places].add(added, mode="drop")


class CategoryEncoding(DataLayer):
    """Integers as one-hot or multi-hot vectors, or as counts.

    Args:
        num_tokens: the size of the vectors; integers must be below it, and others count for nothing.
        output_mode: "one_hot" gives a vector for each integer, "multi_hot" one for each sample, with 1 at each integer
            that is there, "count" the number of times that each is there.
        sparse: whether the vectors come in a sparse array of JAX.

    Shapes: "one_hot" (...) or (..., 1) -> (..., num_tokens), others (batch, n) -> (batch, num_tokens).

    >>> layers.CategoryEncoding(4, "count")(np.array([[0, 1], [3, 3]])).tolist()
    [[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 2.0]]
    """

    def __init__(
        self, num_tokens: int | None = None, output_mode: str = "multi_hot", sparse: bool = False, **kwargs: Any
    ):
        super().__init__(**kwargs)
        if num_tokens is None:
            raise ValueError(f"{self._who()}: num_tokens must be given; IntegerLookup finds out which there are.")
        self.num_tokens = checks.integer(self._who, "num_tokens", num_tokens)
        self.output_mode = checked_mode(self._who(), output_mode, MODES)
        self.sparse = bool(sparse)
        self.autocast = False

    def call(self, inputs: Any, count_weights: Any = None) -> Any:
        if count_weights is not None and self.output_mode != "count":
            raise ValueError(f'{self._who()}: count_weights must be given with output_mode="count" only.')
        whole = inputs if inputs.dtype.kind in "iu" else inputs.astype("int32")
        return encode(whole, self.output_mode, self.num_tokens, self.compute_dtype, count_weights, self.sparse)

    def get_config(self) -> dict[str, Any]:
        named = {"num_tokens": self.num_tokens, "output_mode": self.output_mode}
        return {**super().get_config(), **named, **({"sparse": True} if self.sparse else {})}
