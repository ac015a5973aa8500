"""`Dataset`: elements one after the other, decoded by threads, in the words of tf.data."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from jax import tree_util

from lamina.core import checks
from lamina.data import elements, flows
from lamina.data.arrays import row_count, type_name

AUTOTUNE = -1  # as many threads as there are cores, and as many elements ahead as are good


class Dataset:
    """Elements that can be gone through again and again: arrays, or tuples and dicts of arrays.

    `map`, `batch`, `shuffle` and the others return a new dataset, as those of `tf.data.Dataset` do; their arguments
    `deterministic` and its like have no effect. It goes into `fit`, `evaluate`, `predict` and `adapt`. The order of a
    shuffle is a function of (seed, epoch).

    Args:
        flow: what is read.
        child: the dataset that it was made of.

    >>> squares = lamina.data.Dataset.from_tensor_slices(np.arange(5)).map(lambda x: x * x).batch(2)
    >>> [batch.tolist() for batch in squares]
    [[0, 1], [4, 9], [16]]
    """

    class_names: list[str]
    file_paths: list[str]

    def __init__(self, flow: flows.Flow, child: Dataset | None = None):
        self.flow = flow
        self._passes = itertools.count()  # each pass of a program's own loop has a number, as those of fit have
        if child is not None:
            if not isinstance(flow, flows.Shuffled):
                self._passes = child._passes
            if hasattr(child, "class_names"):
                self.class_names = child.class_names

    def _read(self) -> Iterator[Any]:
        return self.flow.read(next(self._passes))

    def __iter__(self) -> Iterator[Any]:
        return map(elements.shown, self._read())

    def as_numpy_iterator(self) -> Iterator[Any]:
        """The elements of the next pass as plain arrays, single numbers and texts as such."""
        return (tree_util.tree_map(lambda a: a if a.ndim else a[()], element) for element in self._read())

    def __len__(self) -> int:
        if self.cardinality() < 0:
            raise TypeError(f"Dataset: len() needs a known number of elements, got {self!r}.")
        return self.cardinality()

    def __bool__(self) -> bool:
        return True

    def cardinality(self) -> int:
        """The number of elements, -1 if there is no end, -2 if it is not known."""
        size = self.flow.size
        return -2 if size is None else -1 if size == math.inf else int(size)

    @property
    def element_spec(self) -> Any:
        """Shapes and dtypes of an element, found out by reading the first."""
        return self.flow.spec()

    def __repr__(self) -> str:
        size = {-2: "of unknown length", -1: "without end"}.get(self.cardinality(), f"of {self.flow.size} elements")
        return f"<Dataset {size}>"

    # Where elements come from -----------------------------------------------------------------------------------------

    @staticmethod
    def from_tensor_slices(tensors: Any) -> Dataset:
        """The rows of arrays, or of tuples and dicts of arrays."""
        who = "from_tensor_slices"
        arrays = elements.tidy(tensors, who)
        if any(leaf.ndim == 0 for leaf in tree_util.tree_leaves(arrays)):
            raise ValueError(f"{who}: arrays must have a first axis of rows, got a single number or text.")

        def rows(numbers: Any) -> Any:
            return tree_util.tree_map(lambda leaf: leaf[numbers, ...], arrays)

        return Dataset(flows.Table(row_count([arrays], who), rows, rows))

    @staticmethod
    def from_tensors(tensors: Any) -> Dataset:
        """One element."""
        element = elements.tidy(tensors, "from_tensors")
        return Dataset(flows.Table(1, lambda number: element))

    @staticmethod
    def from_generator(
        generator: Callable[..., Iterable[Any]], output_types: Any = None, output_shapes: Any = None,
        args: tuple = (), output_signature: Any = None,
    ) -> Dataset:  # fmt: skip
        """What `generator(*args)` gives, called anew for each pass; a list, or anything else to iterate, will do.

        Args:
            output_types, output_signature: dtypes, or specs that have them, for the elements.
            output_shapes: has no effect.
        """
        if hasattr(generator, "__next__"):
            raise ValueError("from_generator: generator must be the function itself, got what it returned.")
        kinds = tree_util.tree_leaves(output_types if output_signature is None else output_signature)

        def element(given: Any) -> Any:
            leaves, structure = tree_util.tree_flatten(elements.tidy(given, "from_generator"))
            rule = f"elements must have {len(kinds)} parts, as the signature has"
            checks.require(len(kinds) in (0, len(leaves)), "from_generator", rule, len(leaves))
            return structure.unflatten(map(_cast, leaves, kinds) if kinds else leaves)

        return Dataset(flows.Stream(lambda epoch: map(element, generator(*args) if callable(generator) else generator)))

    @staticmethod
    def range(*args: int) -> Dataset:
        """The integers of Python's `range(*args)`."""
        numbers = range(*args)
        return Dataset(flows.Table(len(numbers), lambda number: np.asarray(numbers[number], np.int64)))

    @staticmethod
    def zip(*datasets: Any) -> Dataset:
        """Tuples of an element of each dataset, up to the end of the shortest; a dict of datasets gives dicts."""
        parts, structure = tree_util.tree_flatten(datasets[0] if len(datasets) == 1 else datasets)
        return Dataset(flows.Zipped([_flow(part, "zip") for part in parts], structure), parts[-1])

    # What becomes of them ---------------------------------------------------------------------------------------------

    def map(
        self, map_func: Callable, num_parallel_calls: int | None = None, deterministic: Any = None,
        *, workers: int | None = None,
    ) -> Dataset:  # fmt: skip
        """`map_func(element)` of each, in order; the parts of a tuple are its arguments.

        Args:
            num_parallel_calls, workers: threads that call the function at the same time, -1 for one a core.
        """
        checks.require(callable(map_func), "map", "map_func must be a function", map_func)
        threads = (num_parallel_calls if workers is None else workers) or 1
        threads = flows.cores() if threads == AUTOTUNE else checks.integer("map", "num_parallel_calls", threads)
        return Dataset(flows.Mapped(self.flow, map_func, threads), self)

    def filter(self, predicate: Callable) -> Dataset:
        """The elements for which `predicate(element)` is true."""
        return Dataset(flows.kept(self.flow, lambda element: bool(elements.called(predicate, element))), self)

    def batch(
        self, batch_size: int, drop_remainder: bool = False, num_parallel_calls: Any = None,
        deterministic: Any = None,
    ) -> Dataset:  # fmt: skip
        """Batches of `batch_size` elements; the last one may be shorter, or is left out if `drop_remainder`."""
        size = checks.integer("batch", "batch_size", batch_size)
        return Dataset(flows.Batched(self.flow, size, drop_remainder), self)

    def padded_batch(self, batch_size: int, drop_remainder: bool = False) -> Dataset:
        """Batches in which shorter elements are filled up with zeros to the length of the longest."""
        size = checks.integer("padded_batch", "batch_size", batch_size)
        return Dataset(flows.Batched(self.flow, size, drop_remainder, elements.padded), self)

    def unbatch(self) -> Dataset:
        """The rows of each element."""
        return Dataset(flows.unbatched(self.flow), self)

    def take(self, count: int) -> Dataset:
        """The first `count` elements, all if it is -1."""
        most = math.inf if count == -1 else checks.integer("take", "count", count, 0)
        return Dataset(flows.Part(self.flow, 0, most), self)

    def skip(self, count: int) -> Dataset:
        """The elements after the first `count`, none if it is -1."""
        first, most = (0, 0) if count == -1 else (checks.integer("skip", "count", count, 0), math.inf)
        return Dataset(flows.Part(self.flow, first, most), self)

    def shuffle(
        self, buffer_size: int | None = None, seed: Any = None, reshuffle_each_iteration: bool | None = True
    ) -> Dataset:
        """The elements in another order, which is that of tf.data for the same arguments.

        Args:
            buffer_size: each element is one of so many that come next; all if not given.
            seed: orders are a function of (seed, epoch); drawn from NumPy's generator if not given.
            reshuffle_each_iteration: whether each pass has an order of its own.
        """
        size = max(1, self.cardinality()) if buffer_size is None and self.cardinality() >= 0 else buffer_size
        size = checks.integer("shuffle", "buffer_size", size)
        seed = int(np.random.randint(1_000_000)) if seed is None else checks.integer("shuffle", "seed", seed, 0)
        return Dataset(flows.Shuffled(self.flow, size, seed, reshuffle_each_iteration is not False), self)

    def repeat(self, count: int | None = None) -> Dataset:
        """The elements `count` times, without end if it is `None` or -1; each time is a pass of its own."""
        times = math.inf if count in (None, -1) else checks.integer("repeat", "count", count, 0)
        return Dataset(flows.Repeated(self.flow, times), self)

    def concatenate(self, dataset: Dataset) -> Dataset:
        """The elements of this dataset, and then those of another."""
        return Dataset(flows.Chain(self.flow, _flow(dataset, "concatenate")), self)

    def enumerate(self, start: int = 0) -> Dataset:
        """`(number, element)`, the number counted from `start`."""
        numbers = flows.Table(math.inf, lambda number: np.asarray(start + number, np.int64))
        return Dataset.zip(Dataset(numbers), self)

    def prefetch(self, buffer_size: int = AUTOTUNE) -> Dataset:
        """The same elements, read by a thread that is `buffer_size` of them ahead."""
        size = flows.AHEAD if buffer_size == AUTOTUNE else checks.integer("prefetch", "buffer_size", buffer_size, 0)
        return Dataset(flows.Prefetched(self.flow, size), self)

    def cache(self, filename: Any = "") -> Dataset:
        """The same elements, each of them read and computed once: those of the first pass.

        Args:
            filename: the file that keeps them, which appears when all are there; memory keeps them if not given.
        """
        return Dataset(flows.Cached(self.flow, checks.path("cache", "filename", filename)), self)

    def apply(self, transformation_func: Callable[[Dataset], Any]) -> Any:
        """`transformation_func(dataset)`."""
        return transformation_func(self)

    # For other libraries ----------------------------------------------------------------------------------------------

    def to_tf(self) -> Any:
        """A `tf.data.Dataset` of the same elements."""
        import tensorflow as tf  # noqa: PLC0415 (only where it is asked for)

        def spec(part: Any) -> Any:
            return tf.TensorSpec(part.shape, tf.string if part.dtype == object else part.dtype)

        signature = tree_util.tree_map(spec, self.element_spec)
        dataset = tf.data.Dataset.from_generator(self.as_numpy_iterator, output_signature=signature)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(self.cardinality()))
        for name in vars(self).keys() & {"class_names", "file_paths"}:
            setattr(dataset, name, getattr(self, name))
        return dataset

    def to_torch(self) -> Any:
        """A `torch.utils.data.DataLoader` of the same elements as tensors of torch; texts stay bytes."""
        import torch  # noqa: PLC0415 (only where it is asked for)

        def tensor(leaf: np.ndarray) -> Any:
            return leaf.tolist() if leaf.dtype == object else torch.from_numpy(np.array(leaf))

        class Elements(torch.utils.data.IterableDataset):
            def __iter__(_) -> Iterator[Any]:
                return (tree_util.tree_map(tensor, element) for element in self._read())

            def __len__(_) -> int:
                return len(self)

        return torch.utils.data.DataLoader(Elements(), batch_size=None)


def _cast(leaf: np.ndarray, kind: Any) -> np.ndarray:
    kind = getattr(kind, "dtype", kind)  # of a spec
    return leaf.astype(getattr(kind, "as_numpy_dtype", kind), copy=False)


def _flow(dataset: Any, who: str) -> flows.Flow:
    checks.require(isinstance(dataset, Dataset), who, "what is put together must be Datasets", got=type_name(dataset))
    return dataset.flow
