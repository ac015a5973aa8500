"""Sources of data for training: whole arrays, or streams of batches, read by the loop alike.

The order of rows is a pure function of (seed, epoch): a resumed run sees the same batches.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jax import tree_util

from lamina.core import checks, placement
from lamina.data import streams, tables
from lamina.data.arrays import (
    ARRAYS,
    FLOATS,
    check_class_weight,
    convert_parts,
    distinct,
    is_array,
    labels_of,
    may_differ,
    opened,
    pack_x_y_sample_weight,
    row_count,
    type_name,
    weighted,
)
from lamina.data.batches import DatasetSource, PyDatasetSource, StreamSource
from lamina.data.dataset import Dataset
from lamina.data.foreign import Numbered, numbered
from lamina.data.lazy import LazyRows, host
from lamina.data.limits import limited, max_steps_per_epoch
from lamina.data.source import ARGUMENTS, Source, generator, span
from lamina.data.streams import PyDataset


@dataclass(eq=False, repr=False)
class ArraySource(Source):
    """Whole arrays.

    Args:
        arrays: what `pack_x_y_sample_weight` makes of x, y and the weights.
        size: the number of rows.
        shuffle: whether each epoch has an order of its own; `"batch"` shuffles inside each batch only.
        seed: the orders are a function of it.
        numbers: the rows of a pass in place of all of them, in this order.
    """

    arrays: Any
    size: int
    batch_size: int
    steps: int | None = None
    shuffle: bool | str = False
    seed: int = 0
    numbers: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.num_batches: int = math.ceil(self.size / self.batch_size)

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of a row of all arrays, one that is there twice counted once."""
        return sum(leaf.dtype.itemsize * math.prod(leaf.shape[1:]) for leaf in distinct(self.arrays)[0])

    @property
    def is_lazy(self) -> bool:
        """Whether rows of an array are read when they are asked for: of a file, or of a sparse array."""
        return any(isinstance(leaf, LazyRows) for leaf in tree_util.tree_leaves(self.arrays))

    def order(self, epoch: int) -> np.ndarray | None:
        """The rows (int32) with those of this epoch first, `None` if that is their own order."""
        number, first, _ = span(epoch, self.steps, self.num_batches)
        order = self._shuffled(number)
        if first == 0:
            return order
        order = np.arange(self.size, dtype=np.int32) if order is None else order
        return np.roll(order, -first * self.batch_size)

    def rows(self, epoch: int) -> int:
        """How many rows of `order` the epoch takes: all, unless `steps` makes an epoch a part of a pass."""
        _, first, count = span(epoch, self.steps, self.num_batches)
        return min(count * self.batch_size, self.size - first * self.batch_size)

    def _shuffled(self, number: int) -> np.ndarray | None:
        if not self.shuffle:
            return self.numbers
        drawn = generator(self.seed, number)
        if self.shuffle != "batch":
            return drawn.permutation(self.size).astype(np.int32)  # numbers as long as pointers are moved faster
        rows = np.arange(self.size, dtype=np.int32)
        full = self.size - self.size % self.batch_size
        inside = drawn.permuted(rows[:full].reshape(-1, self.batch_size), axis=1)
        return np.concatenate([inside.reshape(-1), drawn.permutation(rows[full:])])

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Any]:
        order, rows = self.order(epoch), self.rows(epoch)
        for start in range(first * self.batch_size, rows, self.batch_size):
            stop = min(start + self.batch_size, rows)
            index = slice(start, stop) if order is None else order[start:stop]
            yield tree_util.tree_map(lambda leaf, i=index: host(leaf)[i], self.arrays)

    def peek(self) -> Any:
        return tree_util.tree_map(lambda leaf: host(leaf)[: self.batch_size], self.arrays)


class RowSource(StreamSource):
    """Batches of rows of arrays, of which only the numbers come from a stream."""

    def __init__(self, data: Any, rows: Numbered, *arguments: Any):
        super().__init__(data, *arguments)
        self._rows, self._arrays = rows, self._batch(rows.arrays)  # made for the step once, as a whole

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Any]:
        yield from map(self._taken, super().epoch(epoch, first))

    def ordered(self, epoch: int, first: int = 0) -> Any:
        """The arrays in the order of an epoch; its batches if these, all but the last, differ in size."""
        batches = list(super().epoch(epoch, first))
        sizes = list(map(len, batches))
        if not batches or len({*sizes[:-1], max(sizes)}) > 1:
            return map(self._taken, batches)
        return ArraySource(self._arrays, sum(sizes), sizes[0], numbers=np.concatenate(batches))

    def peek(self) -> Any:
        return self._taken(super().peek())

    def _open(self) -> Iterator[Any]:
        return self._rows.open()

    def _taken(self, numbers: np.ndarray) -> Any:
        return tree_util.tree_map(lambda leaf: leaf.take(numbers, 0), self._arrays)


def make_source(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    batch_size: int | None = None,
    steps: int | None = None,
    shuffle: bool | str = False,
    class_weight: Mapping[Any, float] | None = None,
    seed: int = 0,
    who: str = "fit",
    fed: Callable[..., tuple[Any, Any, Any]] = opened,
) -> ArraySource | StreamSource:
    """The source for what `fit`, `evaluate` or `predict` (`who`) was given.

    Args:
        x: arrays, or a stream of batches, then without y and sample_weight.
        batch_size: 32 if neither it nor `steps` is given; streams have their own.
        steps: batches of an epoch.
        shuffle: of arrays and of a `PyDataset`; `"batch"` shuffles arrays inside each batch only.
        class_weight: class number to weight, in place of sample weights.
        seed: orders are a function of (seed, epoch).
        fed: makes of x, y and the weights, or of those of a batch, what the step gets; it runs on the host.
    """
    if isinstance(x, (ArraySource, StreamSource)):
        return x
    check_class_weight(class_weight, who)
    named = ARGUMENTS.get(who, ("batch_size", "steps"))
    for name, value in zip(named, (batch_size, steps)):
        if value is not None:
            checks.integer("fit" if who == "validation_data" else who, name, value, 1)
    steps = limited(who, "the number of steps", steps, max_steps_per_epoch())
    checks.require(shuffle in (True, False, "batch"), who, "shuffle must be True, False or 'batch'", shuffle)
    if batch_size is not None and tables.is_of(x, "datasets", "IterableDataset"):
        x, batch_size = x.batch(batch_size), None
    if is_stream(x):
        _check_stream(x, y, sample_weight, batch_size, who)
        if steps is None and streams.cardinality_of(x) == -1:
            raise ValueError(f"{who}: {named[1]} must be given for data without end, got a {type_name(x)}.")
        if isinstance(x, PyDataset):
            return PyDatasetSource(x, steps, who, class_weight, fed, bool(shuffle), seed)
        if isinstance(x, Dataset):
            return DatasetSource(x, steps, who, class_weight, fed)
        rows = numbered(x) if placement.processes() == 1 else None  # others draw orders of their own
        if rows is not None and _goes_through(fed, rows.arrays):
            return RowSource(x, rows, steps, who, class_weight, fed)
        return StreamSource(x, steps, who, class_weight, fed)
    parts = _array_parts(*fed(*opened(x, y, sample_weight, who)), class_weight, who)
    if who.endswith("_on_batch") and may_differ(parts):
        return StreamSource([pack_x_y_sample_weight(*parts)], None, who)
    size = row_count(parts, who)
    batch_size = _batch_size(size, batch_size, steps, who)
    return ArraySource(pack_x_y_sample_weight(*parts), size, batch_size, steps, shuffle, seed)


def held_out_source(data: Any, batch_size: int | None, steps: int | None, fed: Callable) -> Any:
    """The source of validation data, `None` without any."""
    if data is None:
        return None
    parts = tuple(data) if isinstance(data, (tuple, list)) and not hasattr(data, "_fields") else (data,)
    if not 1 <= len(parts) <= 3:
        raise ValueError(f"validation_data: must be (x, y) or (x, y, sample_weight), got {len(parts)} items.")
    batch_size = None if is_stream(data) else batch_size
    return make_source(*parts, batch_size=batch_size, steps=steps, who="validation_data", fed=fed)


def is_stream(x: Any) -> bool:
    """Whether `x` gives batches, and is no array or structure of arrays."""
    if is_array(x) or isinstance(x, (list, tuple, Mapping, str, bytes)) or tables.is_rows(x):
        return False
    return isinstance(x, PyDataset) or hasattr(x, "__iter__")


def _goes_through(fed: Callable[..., tuple[Any, Any, Any]], arrays: Any) -> bool:
    """Whether the step gets batches as they are; if not, what it gets is made one at a time, when it is needed."""
    row = tree_util.tree_map(lambda leaf: leaf[:1], arrays)
    given = row if isinstance(row, (list, tuple)) else (row,)
    made = fed(*given)[: len(given)] if len(given) <= 3 else ()
    return list(map(id, tree_util.tree_leaves(made))) == list(map(id, tree_util.tree_leaves(given)))


def _check_stream(x: Any, y: Any, sample_weight: Any, batch_size: int | None, who: str) -> None:
    for name, value in (("y", y), ("sample_weight", sample_weight)):
        rule = f"{name} must be part of each batch when x is a {type_name(x)}"
        remedy = "let it give (x, y) or (x, y, sample_weight)"
        checks.require(value is None, who, rule, got=type_name(value), remedy=remedy)
    if batch_size is not None:
        warnings.warn(
            f"{who}: batch_size={batch_size} is not used, x is a {type_name(x)} of whole batches.", stacklevel=4
        )


def _array_parts(x: Any, y: Any, sample_weight: Any, class_weight: Any, who: str) -> tuple[Any, Any, Any]:
    if not (is_array(x) or isinstance(x, (list, tuple, dict))):
        call = "; call the function, and give what it returns" if callable(x) else ""
        call = "; give its to_tensor()" if hasattr(x, "to_tensor") else call
        kinds = f"{ARRAYS}; or a dataset, loader or generator of batches"
        raise ValueError(f"{who}: x must be {kinds}, got {type_name(x)}{call}.")
    x, y, sample_weight = convert_parts((x, y, sample_weight), who, FLOATS, seen={})
    sample_weight = weighted(y, sample_weight, class_weight, who)
    if class_weight is not None and who == "fit":  # one batch need not have all classes
        found = set(np.unique(labels_of(y)).tolist())
        unknown = [str(number) for number in class_weight if number not in found]
        if unknown:
            given = f"has {', '.join(unknown)} too, whose weight is not used"
            warnings.warn(f"{who}: class_weight should hold classes that are in y, {given}.", stacklevel=5)
    return x, y, sample_weight


def _batch_size(size: int, batch_size: int | None, steps: int | None, who: str) -> int:
    chosen = batch_size or (math.ceil(size / steps) if steps else 32)
    batches = math.ceil(size / chosen)
    if steps is not None and steps > (batches if batch_size else size):
        warnings.warn(
            f"{who}: the data hold {batches} batches of {chosen} rows, and an epoch takes these, "
            f"got {ARGUMENTS.get(who, ('', 'steps'))[1]}={steps}; leave the steps out to take all.",
            stacklevel=4,
        )
    return chosen
