"""Pipelines of other libraries that only move rows of arrays, as the numbers of the rows in each batch.

These take and join rows one by one, 4 µs each, on the cores that train. What is not known for sure is not read here.
"""

import itertools
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jax import tree_util

from lamina.data import flows, orders
from lamina.data.dataset import Dataset
from lamina.data.tables import is_of


class Numbered(NamedTuple):
    """Arrays in the structure of a batch, and what begins a pass: the numbers of the rows in each of its batches."""

    arrays: Any
    open: Callable[[], Iterator[np.ndarray]]


def numbered(data: Any) -> Numbered | None:
    """The rows that a pipeline reads and their order, `None` where only the pipeline itself can tell."""
    try:
        if is_of(data, "tensorflow", "DatasetV2"):
            return _of_tensorflow(data)
        return _of_torch(data) if is_of(data, "torch", "DataLoader") else None
    except (AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return None  # it is not, or is no more, what is known here


# The passes begun over each shuffle, which pipelines share with it; those that a program reads itself are not seen.
_passes: weakref.WeakKeyDictionary[Any, Iterator[int]] = weakref.WeakKeyDictionary()


def _batched(numbers: Dataset, size: int, drop: bool) -> Dataset:
    return Dataset(flows.Batched(numbers.flow, size, drop, np.asarray))


def _shuffled(numbers: Dataset, buffer: int, seed: int, other: int, anew: bool, passes: Iterator[int]) -> Dataset:
    def order(epoch: int) -> Iterator[Any]:
        seeds = (seed, other) if seed or other else np.random.default_rng().integers(1 << 63, size=2).tolist()
        return orders.shuffled(numbers.flow.read(epoch), buffer, orders.draws(seeds, next(passes) if anew else None))

    return Dataset(flows.Stream(order))


# The class of a dataset of TensorFlow -> its attributes that say what it does, and the same in our words. They are not
# documented. The graph that a dataset becomes is more stable, but holds a copy of the data, and none above 2 GB.
_STEPS: dict[str, tuple[tuple[str, ...], Callable[..., Dataset]]] = {
    "BatchDataset": (("_batch_size", "_drop_remainder"), _batched),
    "CacheDataset": (("_filename",), lambda numbers, filename: numbers),
    "PrefetchDataset": ((), lambda numbers: numbers),
    "RepeatDataset": (("_count",), Dataset.repeat),
    "ShuffleDataset": (("_buffer_size", "_seed", "_seed2", "_reshuffle_each_iteration"), _shuffled),
    "SkipDataset": (("_count",), Dataset.skip),
    "TakeDataset": (("_count",), Dataset.take),
}


def _steps(data: Any, above: tuple[str, ...] = ()) -> tuple[Dataset, Any]:
    """The numbers, and the dataset of rows that they count; `above` is what becomes of `data`."""
    kind = type(data).__name__.lstrip("_").replace("ParallelBatch", "Batch")
    if kind == "TensorSliceDataset" and above.count("BatchDataset") == 1:
        return Dataset(flows.Stream(lambda epoch: range(int(data.cardinality())))), data
    names, step = _STEPS[kind]
    given = [np.asarray(getattr(data, name)).item() for name in names]
    # Only TensorFlow knows an order that it draws for all passes, and the passes that a repeat elsewhere begins unread.
    unknown = kind == "CacheDataset" and given != [b""]  # a file, which the program wants to have
    if kind == "ShuffleDataset":
        unknown = given[0] < 1 or not any(given[1:]) or "CacheDataset" in above or "RepeatDataset" in above[:-1]
        given.append(_passes.setdefault(data, itertools.count()))
    if unknown:
        raise LookupError("Only TensorFlow can tell.")
    kind = "all" if given == [-1] else kind  # as many as there are, without end
    numbers, slices = _steps(data._input_dataset, (*above, kind))
    return step(numbers, *given), slices


def _of_tensorflow(data: Any) -> Numbered:
    numbers, slices = _steps(data)
    nest, arrays = sys.modules["tensorflow"].nest, [np.asarray(tensor) for tensor in slices._tensors]  # no copies
    table = nest.pack_sequence_as(slices.element_spec, arrays)
    tree_util.tree_map(len, table)  # an error where JAX does not know the structure
    return Numbered(table, lambda: numbers.flow.read(0))


def _of_torch(loader: Any) -> Numbered | None:
    torch: Any = sys.modules["torch"].utils.data
    data, order, at = loader.dataset, loader.batch_sampler, np.arange(len(loader.dataset))
    while type(data) is torch.Subset:
        data, at = data.dataset, np.asarray(data.indices)[at]
    kinds, known = (type(loader), type(data), type(order)), (torch.DataLoader, torch.TensorDataset, torch.BatchSampler)
    by_rows = loader.num_workers == 0 and not loader.pin_memory and loader.collate_fn is torch.default_collate
    if kinds != known or not by_rows or not type(order.sampler).__module__.startswith("torch."):
        return None
    # A loader of numbers in place of rows: torch draws their order, and leaves its generators as ever.
    options = {"batch_size": None, "sampler": order, "collate_fn": np.asarray, "generator": loader.generator}
    return Numbered([tensor.numpy() for tensor in data.tensors], lambda: iter(torch.DataLoader(at, **options)))
