"""Sources of data for training: whole arrays, or streams of batches, read by the loop alike.

The order of rows is a pure function of (seed, epoch): a resumed run sees the same batches.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sized
from typing import Any

import jax
import numpy as np
from jax import tree_util

from lamina.core import checks, errors
from lamina.data import streams, tables
from lamina.data.arrays import (
    ARRAYS,
    FLOATS,
    check_class_weight,
    convert_parts,
    is_array,
    labels_of,
    opened,
    pack_x_y_sample_weight,
    row_count,
    train_validation_split,
    type_name,
    unpack_x_y_sample_weight,
    weighted,
)
from lamina.data.dataset import Dataset
from lamina.data.lazy import LazyRows, host
from lamina.data.limits import limited, max_steps_per_epoch
from lamina.data.streams import PyDataset, Sequence, prefetch

__all__ = [
    "ArraySource",
    "PyDataset",
    "Sequence",
    "Source",
    "StreamSource",
    "held_out_source",
    "make_source",
    "pack_x_y_sample_weight",
    "prefetch",
    "train_validation_split",
    "unpack_x_y_sample_weight",
]

_STREAMS = "a dataset, loader or generator of batches"
_UNBATCHED = "; data of single rows must be batched, such as by .batch(32)"
# What a caller's arguments are called.
_ARGUMENTS = {
    "fit": ("batch_size", "steps_per_epoch"),
    "validation_data": ("validation_batch_size", "validation_steps"),
}
_PATIENCE = 10_000  # batches of a first epoch that may be without end


def _span(epoch: int, steps: int | None, num_batches: int) -> tuple[int, int, int]:
    """`(pass over the data, its first batch, number of batches)` of an epoch.

    With `steps` an epoch is a part of a pass: the next one goes on behind it, and the last part may be short.
    """
    if steps is None or steps >= num_batches:
        return epoch, 0, num_batches
    number, part = divmod(epoch, math.ceil(num_batches / steps))
    return number, part * steps, min(steps, num_batches - part * steps)


def _generator(seed: int, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed % 2**64, number], np.uint64)))


class Source:
    """What the loop reads.

    Attributes:
        num_batches: batches in a pass over the data, `None` where only the end will tell.
        batch_size: rows of a full batch, `None` if unknown.
        steps: batches of an epoch, if the caller limits them.
        seed: the orders are a function of it and of the epoch.
        can_seek: whether a later batch may be had without those before it.
    """

    num_batches: int | None = None
    batch_size: int | None = None
    steps: int | None = None
    seed: int = 0
    can_seek: bool = True

    def peek(self) -> Any:
        """The first batch, for building a model; it stays in the data."""
        raise NotImplementedError

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Any]:
        """The batches of an epoch, from batch `first` on."""
        raise NotImplementedError

    def pass_over(self, epoch: int) -> None:
        """Do to the data what an epoch does that nobody reads: an earlier run has."""
        for _ in () if self.can_seek else self.epoch(epoch):
            pass

    @property
    def structure(self) -> Any:
        """Shapes and dtypes of the first batch, as a train step gets it."""
        return tree_util.tree_map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype)), self.peek()
        )

    def close(self) -> None:
        """Let go of iterators and worker processes."""


class ArraySource(Source):
    """Whole arrays.

    Args:
        arrays: what `pack_x_y_sample_weight` makes of x, y and the weights.
        size: the number of rows.
        shuffle: whether each epoch has an order of its own; `"batch"` shuffles inside each batch only.
        seed: the orders are a function of it.
    """

    def __init__(
        self,
        arrays: Any,
        size: int,
        batch_size: int,
        steps: int | None = None,
        shuffle: bool | str = False,
        seed: int = 0,
    ):
        self.arrays = arrays
        self.size = size
        self.batch_size: int = batch_size
        self.steps = steps
        self.shuffle = shuffle
        self.seed = seed
        self.num_batches: int = math.ceil(size / batch_size)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, one that is there twice counted once."""
        return sum({id(leaf): leaf.nbytes for leaf in tree_util.tree_leaves(self.arrays)}.values())

    @property
    def is_lazy(self) -> bool:
        """Whether rows of an array are read when they are asked for: of a file, or of a sparse array."""
        return any(isinstance(leaf, LazyRows) for leaf in tree_util.tree_leaves(self.arrays))

    def order(self, epoch: int) -> np.ndarray | None:
        """The rows (int32) with those of this epoch first, `None` if that is their own order."""
        number, first, _ = _span(epoch, self.steps, self.num_batches)
        order = self._shuffled(number)
        if first == 0:
            return order
        order = np.arange(self.size, dtype=np.int32) if order is None else order
        return np.roll(order, -first * self.batch_size)

    def rows(self, epoch: int) -> int:
        """How many rows of `order` the epoch takes: all, unless `steps` makes an epoch a part of a pass."""
        _, first, count = _span(epoch, self.steps, self.num_batches)
        return min(count * self.batch_size, self.size - first * self.batch_size)

    def _shuffled(self, number: int) -> np.ndarray | None:
        if not self.shuffle:
            return None
        generator = _generator(self.seed, number)
        rows = np.arange(self.size, dtype=np.int32)
        if self.shuffle != "batch":
            return generator.permutation(rows)
        full = self.size - self.size % self.batch_size
        inside = generator.permuted(rows[:full].reshape(-1, self.batch_size), axis=1)
        return np.concatenate([inside.reshape(-1), generator.permutation(rows[full:])])

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Any]:
        order, rows = self.order(epoch), self.rows(epoch)
        for start in range(first * self.batch_size, rows, self.batch_size):
            stop = min(start + self.batch_size, rows)
            index = slice(start, stop) if order is None else order[start:stop]
            yield tree_util.tree_map(lambda leaf, i=index: host(leaf)[i], self.arrays)

    def peek(self) -> Any:
        return tree_util.tree_map(lambda leaf: host(leaf)[: self.batch_size], self.arrays)


class StreamSource(Source):
    """Batches from an iterable, as NumPy arrays.

    An iterator is read once: each epoch goes on where the one before ended. Any other iterable starts anew
    with each epoch, except that with `steps` an epoch is a part of a pass, and the next goes on behind it.
    Epoch 0 always starts a pass.
    """

    can_seek = False

    def __init__(
        self,
        data: Any,
        steps: int | None,
        who: str,
        class_weight: Mapping[Any, float] | None = None,
        fed: Callable[..., tuple[Any, Any, Any]] = opened,
    ):
        self.data = data
        self._fed = fed
        self.steps = steps
        self._who = who
        self._class_weight = class_weight
        self._once = hasattr(data, "__next__")
        self._iterator: Iterator[Any] | None = None  # to go on with
        self._untouched = False  # whether no epoch has taken of the iterator yet
        self._first: Any = None
        self.batch_size = _declared_batch_size(data, who)

    @property
    def num_batches(self) -> int | None:  # type: ignore[override]
        return None if self._once else streams.length_of(self.data)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Any]:
        """The batches of an epoch; fewer than `steps` if the data end before. Those before `first` are dropped."""
        with contextlib.closing(self._batches(epoch)) as batches:
            yield from itertools.islice(batches, first, None)

    def _batches(self, epoch: int) -> Generator[Any, None, None]:
        if epoch == 0 and not self._untouched:
            self.reset()
        goes_on = self._iterator is not None
        source = self._iterator = self._iterator or self._open()
        self._untouched = False
        count, ended = 0, self.steps is None
        try:
            for batch in itertools.islice(source, self.steps):
                count += 1
                if count == _PATIENCE and self.steps is None and streams.length_of(self.data) is None:
                    self._warn_of_no_end()
                yield batch
            ended = self.steps is None or count < self.steps
        finally:
            if ended and not self._once:
                self._iterator = None
        if count == 0 and goes_on and not self._once:
            yield from self._batches(0)  # the epoch before took the last batch of the pass

    def _warn_of_no_end(self) -> None:
        name = _ARGUMENTS.get(self._who, ("", "steps"))[1]
        given = f"the {type_name(self.data)} has given {_PATIENCE:,} batches of a pass"
        warnings.warn(f"{self._who}: {given} and goes on; if it has no end, give {name}.", stacklevel=2)

    def peek(self) -> Any:
        if self._first is None:
            source = self._iterator or self._open()
            self._untouched = self._iterator is None
            self._first = next(source, None)
            if self._first is None:
                raise ValueError(f"{self._who}: x must give at least one batch, got an empty {type_name(self.data)}.")
            self._iterator = itertools.chain([self._first], source)
        return self._first

    def reset(self) -> None:
        """Let the next epoch start anew, if the data can."""
        if not self._once:
            self._iterator = None

    def close(self) -> None:
        self.reset()

    def _open(self) -> Iterator[Any]:
        numpy_iterator = getattr(self.data, "as_numpy_iterator", None)
        return self._checked(iter(self.data) if numpy_iterator is None else numpy_iterator())

    def _checked(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The batches as a train step gets them; an error on the way says at which it came up."""
        number = 0
        try:
            for batch in batches:
                yield self._batch(batch)
                number += 1
        except Exception as error:
            errors.note(error, f"in the data for {self._who}, {type_name(self.data)}, batch {number}")
            raise

    def _batch(self, batch: Any) -> Any:
        """The batch as a train step gets it, checked."""
        who = self._who
        batch = tuple(batch) if isinstance(batch, (list, tuple)) else batch
        if isinstance(batch, tuple):
            valid = 1 <= len(batch) <= 3
        else:
            valid = isinstance(batch, dict) or (is_array(batch) and not self._once)
        if not valid:
            given = f"a tuple of {len(batch)}" if isinstance(batch, tuple) else type_name(batch)
            raise ValueError(
                f"{who}: a batch of {type_name(self.data)} must be a tuple (x,), (x, y) or "
                f"(x, y, sample_weight), or a dict, got {given}."
            )
        parts = self._fed(*(batch if isinstance(batch, tuple) else (batch,)))
        while parts[-1] is None and len(parts) > (len(batch) if isinstance(batch, tuple) else 1):
            parts = parts[:-1]
        parts = convert_parts(parts, who, ("float64",))
        parts = tree_util.tree_map(lambda leaf: leaf[:] if isinstance(leaf, LazyRows) else leaf, parts)
        row_count(parts, f"{who}: in a batch of {type_name(self.data)}", _UNBATCHED)
        if self._class_weight is not None:
            x, y, sample_weight = unpack_x_y_sample_weight(parts)
            return x, y, weighted(y, sample_weight, self._class_weight, who)
        bare = len(parts) == 1 and not isinstance(batch, tuple) and not isinstance(parts[0], tuple)
        return parts[0] if bare else parts


class PyDatasetSource(StreamSource):
    """Batches of a `PyDataset`, whose position can be sought; computed by its workers, in order."""

    def __init__(self, data: Any, steps: int | None, who: str, class_weight: Any, fed: Any, shuffle: bool, seed: int):
        super().__init__(data, steps, who, class_weight, fed)
        self._shuffle, self.seed, self.can_seek = shuffle, seed, True
        self._processes: streams.ProcessReader | None = None

    @property
    def num_batches(self) -> int | None:  # type: ignore[override]
        return self.data.num_batches  # asked each time: on_epoch_end may change it

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Any]:
        self.data.on_epoch_begin()
        indices = self._indices(epoch)
        count = first
        try:
            for batch in self._checked(self._read(itertools.islice(indices, first, None))):
                count += 1
                yield batch
        finally:  # a consumer that counts may close this right after the last batch
            if isinstance(indices, Sized) and count == len(indices):
                self.data.on_epoch_end()

    def pass_over(self, epoch: int) -> None:
        self.data.on_epoch_begin()  # which may shuffle, as the other may
        self.data.on_epoch_end()

    def _indices(self, epoch: int) -> Iterable[int]:
        size = self.num_batches
        if size is None:
            if self.steps is None:
                return itertools.count()
            return range(epoch * self.steps, (epoch + 1) * self.steps)
        number, first, count = _span(epoch, self.steps, size)
        order = _generator(self.seed, number).permutation(size).tolist() if self._shuffle else range(size)
        return order[first : first + count]

    def _read(self, indices: Iterable[int]) -> Iterator[Any]:
        workers = self.data.workers
        if self.data.use_multiprocessing and workers > 0:
            self._processes = self._processes or streams.ProcessReader(self.data)
            return self._processes.read(indices)
        if workers > 1:
            return streams.read_by_threads(self.data, indices)
        return (self.data[i] for i in indices)

    def peek(self) -> Any:
        if self._first is None:  # it may be dear to compute
            self.data.on_epoch_begin()
            index = next(iter(self._indices(0)), None)
            if index is None:
                raise ValueError(f"{self._who}: x must give at least one batch, got an empty {type_name(self.data)}.")
            self._first = self._batch(self.data[index])
            self.data.on_epoch_end()
        return self._first

    def close(self) -> None:
        if self._processes is not None:
            self._processes.close()
            self._processes = None


class DatasetSource(StreamSource):
    """Batches of a `Dataset`: those of an epoch are a function of its number, so that a later one can begin."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self._passes = itertools.count()

    def epoch(self, epoch: int) -> Iterator[Any]:
        size, steps = self.data.cardinality(), self.steps
        if size == -2 and steps is not None:  # a part of a pass, whose end only the data know
            yield from super().epoch(epoch)
            return
        number, first, count = (epoch, 0, steps) if size == -2 else (0, epoch * (steps or 0), steps)
        if size >= 0:
            number, first, count = _span(epoch, steps, max(1, size))
        looked_at = self._iterator if self._untouched and epoch == 0 else None
        self._iterator, self._untouched = None, False
        yield from itertools.islice(looked_at or self._checked(self.data.flow.read(number, first)), count)

    def reset(self) -> None:
        super().reset()
        self._passes = itertools.count()

    def _open(self) -> Iterator[Any]:
        return self._checked(self.data.flow.read(next(self._passes)))


def _declared_batch_size(data: Any, who: str) -> int | None:
    if isinstance(data, Dataset):
        return data.flow.count
    specs = tree_util.tree_leaves(getattr(data, "element_spec", None))
    for spec in specs:
        if type(spec).__name__ in ("RaggedTensorSpec", "SparseTensorSpec"):
            raise ValueError(
                f"{who}: x must give dense tensors, got {spec}; call .map(...) with to_tensor() or tf.sparse.to_dense."
            )
    size = specs[0].shape[0] if specs and specs[0].shape else getattr(data, "batch_size", None)
    return size if isinstance(size, int) else None


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
    named = _ARGUMENTS.get(who, ("batch_size", "steps"))
    for name, value in zip(named, (batch_size, steps)):
        if value is not None:
            checks.integer("fit" if who == "validation_data" else who, name, value, 1)
    steps = limited(who, "the number of steps", steps, max_steps_per_epoch())
    if shuffle not in (True, False, "batch"):
        raise ValueError(f"{who}: shuffle must be True, False or 'batch', got {shuffle!r}.")
    if batch_size is not None and tables.is_of(x, "datasets", "IterableDataset"):
        x, batch_size = x.batch(batch_size), None
    if is_stream(x):
        _check_stream(x, y, sample_weight, batch_size, who)
        if steps is None and streams.is_endless(x):
            raise ValueError(f"{who}: {named[1]} must be given for data without end, got a {type_name(x)}.")
        if isinstance(x, PyDataset):
            return PyDatasetSource(x, steps, who, class_weight, fed, bool(shuffle), seed)
        if isinstance(x, Dataset):
            return DatasetSource(x, steps, who, class_weight, fed)
        return StreamSource(x, steps, who, class_weight, fed)
    parts = _array_parts(*fed(*opened(x, y, sample_weight, who)), class_weight, who)
    size = row_count(parts, who)
    batch_size = _batch_size(size, batch_size, steps, who)
    return ArraySource(pack_x_y_sample_weight(*parts), size, batch_size, steps, shuffle, seed)


def held_out_source(data: Any, batch_size: int | None, steps: int | None, fed: Callable) -> Any:
    """The source of validation data, `None` without any."""
    if data is None:
        return None
    if isinstance(data, (tuple, list)) and not hasattr(data, "_fields"):
        if not 1 <= len(data) <= 3:
            raise ValueError(f"validation_data: must be (x, y) or (x, y, sample_weight), got {len(data)} items.")
        parts = unpack_x_y_sample_weight(tuple(data))
        return make_source(*parts, batch_size=batch_size, steps=steps, who="validation_data", fed=fed)
    batch_size = None if is_stream(data) else batch_size
    return make_source(data, batch_size=batch_size, steps=steps, who="validation_data", fed=fed)


def is_stream(x: Any) -> bool:
    """Whether `x` gives batches, and is no array or structure of arrays."""
    if is_array(x) or isinstance(x, (list, tuple, Mapping, str, bytes)) or tables.is_rows(x):
        return False
    return isinstance(x, PyDataset) or hasattr(x, "__iter__")


def _check_stream(x: Any, y: Any, sample_weight: Any, batch_size: int | None, who: str) -> None:
    for name, value in (("y", y), ("sample_weight", sample_weight)):
        if value is not None:
            raise ValueError(
                f"{who}: {name} must be part of each batch when x is a {type_name(x)}, "
                f"got {type_name(value)}; let it give (x, y) or (x, y, sample_weight)."
            )
    if batch_size is not None:
        warnings.warn(
            f"{who}: batch_size={batch_size} is not used, x is a {type_name(x)} of whole batches.", stacklevel=4
        )


def _array_parts(x: Any, y: Any, sample_weight: Any, class_weight: Any, who: str) -> tuple[Any, Any, Any]:
    if not (is_array(x) or isinstance(x, (list, tuple, dict))):
        call = "; call the function, and give what it returns" if callable(x) else ""
        call = "; give its to_tensor()" if hasattr(x, "to_tensor") else call
        raise ValueError(f"{who}: x must be {ARRAYS}; or {_STREAMS}, got {type_name(x)}{call}.")
    seen: dict[int, Any] = {}
    x, y, sample_weight = convert_parts((x, y, sample_weight), who, FLOATS, seen)
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
            f"got {_ARGUMENTS.get(who, ('', 'steps'))[1]}={steps}; leave the steps out to take all.",
            stacklevel=4,
        )
    return chosen
