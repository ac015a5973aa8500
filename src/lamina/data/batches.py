"""Sources of batches: from iterables of any kind, from a `PyDataset`, and from a `Dataset`."""

import contextlib
import itertools
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sized
from typing import Any

from jax import tree_util

from lamina.core import errors
from lamina.data import streams
from lamina.data.arrays import (
    convert_parts,
    is_array,
    may_differ,
    opened,
    row_count,
    type_name,
    unpack_x_y_sample_weight,
    weighted,
)
from lamina.data.dataset import Dataset
from lamina.data.lazy import LazyRows
from lamina.data.source import ARGUMENTS, Source, generator, span

_PATIENCE = 10_000  # batches of a first epoch that may be without end


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
        size = -2 if self._once else streams.cardinality_of(self.data)
        return size if size >= 0 else None

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
                if count == _PATIENCE and self.steps is None and self.num_batches is None:
                    self._warn_of_no_end()
                yield batch
            ended = self.steps is None or count < self.steps
        finally:
            if ended and not self._once:
                self._iterator = None
        if count == 0 and goes_on and not self._once:
            yield from self._batches(0)  # the epoch before took the last batch of the pass

    def _warn_of_no_end(self) -> None:
        name = ARGUMENTS.get(self._who, ("", "steps"))[1]
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
        who, bare = self._who, not isinstance(batch, (list, tuple))
        given = (batch,) if bare else tuple(batch)
        valid = isinstance(batch, dict) or (is_array(batch) and not self._once) if bare else 1 <= len(given) <= 3
        if not valid:
            raise ValueError(
                f"{who}: a batch of {type_name(self.data)} must be a tuple (x,), (x, y) or (x, y, sample_weight), "
                f"or a dict, got {type_name(batch) if bare else f'a tuple of {len(given)}'}."
            )
        parts = self._fed(*given)
        while parts[-1] is None and len(parts) > len(given):
            parts = parts[:-1]
        parts = convert_parts(parts, who, ("float64",))
        parts = tree_util.tree_map(lambda leaf: leaf[:] if isinstance(leaf, LazyRows) else leaf, parts)
        remedy = "; data of single rows must be batched, such as by .batch(32)"
        if not may_differ(parts):
            row_count(parts, f"{who}: in a batch of {type_name(self.data)}", remedy)
        if self._class_weight is not None:
            x, y, sample_weight = unpack_x_y_sample_weight(parts)
            return x, y, weighted(y, sample_weight, self._class_weight, who)
        return parts[0] if bare and len(parts) == 1 and not isinstance(parts[0], tuple) else parts


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
        number, first, count = span(epoch, self.steps, size)
        order = generator(self.seed, number).permutation(size).tolist() if self._shuffle else range(size)
        return order[first : first + count]

    def _read(self, indices: Iterable[int]) -> Iterator[Any]:
        workers = self.data.workers
        ahead = max(workers, self.data.max_queue_size)
        if self.data.use_multiprocessing and workers > 0:
            self._processes = self._processes or streams.ProcessReader(self.data)
            return self._processes.read(indices, ahead)
        return streams.side_by_side(self.data.__getitem__, indices, workers, ahead)

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

    @property
    def can_seek(self) -> bool:  # type: ignore[override]
        return self.steps is None or self.data.cardinality() != -2

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Any]:
        size, steps = self.data.cardinality(), self.steps
        if not self.can_seek:  # a part of a pass, whose end only the data know
            yield from super().epoch(epoch, first)
            return
        number, start, count = (epoch, 0, steps) if size == -2 else (0, epoch * (steps or 0), steps)
        if size >= 0:
            number, start, count = span(epoch, steps, max(1, size))
        looked_at = self._iterator if self._untouched and epoch == first == 0 else None
        self._iterator, self._untouched = None, False
        left = None if count is None else count - first
        yield from itertools.islice(looked_at or self._checked(self.data.flow.read(number, start + first)), left)

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
