"""Windows over time series, and datasets in two parts."""

import random
from typing import Any

import numpy as np

from lamina.core import checks
from lamina.data import Dataset, elements, flows
from lamina.data.arrays import is_numbers, type_name


def timeseries_dataset_from_array(
    data: Any, targets: Any, sequence_length: int, sequence_stride: int = 1, sampling_rate: int = 1,
    batch_size: int | None = 128, shuffle: bool = False, seed: int | None = None, start_index: int | None = None,
    end_index: int | None = None, format: str = "tf",
) -> Dataset:  # fmt: skip
    """Batches of windows over an array, `(windows, targets)`; only those of a batch are ever copied.

    Args:
        data: the array, time first.
        targets: `targets[i]` belongs to the window that begins at `data[i]`; `None` for windows alone.
        sequence_length: steps of a window.
        sequence_stride: how far one window begins after the last.
        sampling_rate: how far one step of a window is after the last.
        batch_size: windows in a batch, `None` for one by one.
        shuffle: whether each epoch has an order of its own.
        seed: orders are a function of it.
        start_index, end_index: the part of the data to use, from `start_index` to before `end_index`.
        format: "tf" or "grain", without effect.

    Raises: ValueError if an argument does not fit the data.
    """
    who = "timeseries_dataset_from_array"
    series = elements.tidy(data, who)
    checks.one_of(who, "format", format, ("tf", "grain"))
    for name, value, least in (
        ("sequence_length", sequence_length, 1), ("sequence_stride", sequence_stride, 1),
        ("sampling_rate", sampling_rate, 1), ("start_index", start_index or 0, 0), ("end_index", end_index or 1, 1),
    ):  # fmt: skip
        if checks.integer(who, name, value, least) >= len(series) and name != "sequence_length":
            raise ValueError(f"{who}: {name} must be less than the {len(series)} steps of the data, got {value}.")
    start, end = start_index or 0, end_index or len(series)
    checks.require(end > start, who, f"end_index must be greater than start_index, {start}", end)
    wanted = None if targets is None else elements.tidy(targets, who)
    count = end - start - (sequence_length - 1) * sampling_rate
    begins = start + np.arange(0, count if wanted is None else min(count, len(wanted)), sequence_stride)
    if wanted is not None and len(begins) and begins[-1] >= len(wanted):
        raise ValueError(f"{who}: targets must reach to step {begins[-1]}, where a window begins, got {len(wanted)}.")
    seed = int(np.random.randint(1_000_000)) if shuffle and seed is None else seed or 0
    if shuffle:
        np.random.RandomState(seed).shuffle(begins)
    steps = np.arange(sequence_length) * sampling_rate

    def rows(numbers: Any) -> Any:
        at = begins[numbers, ...]
        windows = series[at[..., None] + steps]
        return windows if wanted is None else (windows, wanted[at, ...])

    flow: flows.Flow = flows.Table(len(begins), rows, rows)
    if shuffle:
        flow = flows.Shuffled(flow, 8 * (batch_size or 128), seed)
    return Dataset(
        flow if batch_size is None else flows.Batched(flow, checks.integer(who, "batch_size", batch_size), False)
    )


def split_dataset(
    dataset: Any, left_size: float | None = None, right_size: float | None = None, shuffle: bool = False,
    seed: int | None = None, preferred_backend: str | None = None,
) -> tuple[Any, Any]:  # fmt: skip
    """`(the first elements, the last elements)` of a dataset, in batches if it has batches.

    One of tf.data gives two of tf.data, and a dataset or loader of torch gives two of these. All else gives two
    `lamina.data.Dataset`.

    Args:
        dataset: a `Dataset`; an array, or a list, tuple or dict of arrays of the same length; of tf.data; of torch.
        left_size, right_size: how many elements, or their share as a float; without one of them, all others.
        shuffle: whether the elements are shuffled first.
        seed: the order is a function of it.
        preferred_backend: "tensorflow" or "torch" if the parts are to be of these.

    Raises: ValueError if the sizes do not fit.
    """
    who = "split_dataset"
    checks.one_of(who, "preferred_backend", preferred_backend, (None, "jax", "numpy", "tensorflow", "torch"))
    torch_given = any(cls.__module__.startswith("torch.utils.data") for cls in type(dataset).__mro__)
    tf_given = type(dataset).__module__.startswith("tensorflow")
    if torch_given:
        return _of_torch(dataset, left_size, right_size, shuffle, seed)
    flow, count = _elements(dataset, tf_given, who)
    left, right = _sizes(who, left_size, right_size, int(flow.size or 0))
    order = list(range(int(flow.size or 0)))
    if shuffle:
        random.Random(random.randint(0, 10**6) if seed is None else seed).shuffle(order)
    # In one order for all passes, or elements would change sides.
    table = flows.Table(
        len(order), lambda i: flow.get(i, 0), (lambda rows: flow.rows(rows, 0)) if flow.whole else None, flow.workers
    )
    parts = []
    for rows in (np.array(order[:left]), np.array(order[-right:])):
        part: flows.Flow = flows.Picked(table, len(rows), lambda number, epoch, rows=rows: rows[number])
        parts.append(Dataset(part if count is None else flows.Prefetched(flows.Batched(part, count, False))))
        if hasattr(dataset, "class_names"):
            parts[-1].class_names = dataset.class_names
    if preferred_backend == "tensorflow" or (tf_given and preferred_backend is None):
        return tuple(part.to_tf() for part in parts)  # type: ignore[return-value]
    return tuple(part.to_torch() if preferred_backend == "torch" else part for part in parts)  # type: ignore[return-value]


def _elements(dataset: Any, tf_given: bool, who: str) -> tuple[flows.Flow, int | None]:
    """What is split, which must have numbers, and how many elements a batch of it has."""
    if tf_given:
        count = getattr(dataset, "_batch_size", None)
        found = list((dataset if count is None else dataset.unbatch()).as_numpy_iterator())
        dataset = Dataset.from_tensor_slices(elements.stacked([elements.tidy(each, who) for each in found]))
        return dataset.flow, None if count is None else int(count)
    if isinstance(dataset, Dataset):
        count = dataset.flow.count
        flow = (dataset if count is None else dataset.unbatch()).flow
        if not flow.indexed or flow.size is None:
            flow = Dataset.from_tensor_slices(elements.stacked(list(flow.read(0)))).flow
        return flow, count
    if not isinstance(dataset, (list, tuple, dict)) and not hasattr(dataset, "__array__"):
        rule = "dataset must be a Dataset, arrays, or a dataset of tf.data or torch"
        raise ValueError(f"{who}: {rule}, got {type_name(dataset)}.")
    if isinstance(dataset, list) and not is_numbers(dataset):
        dataset = tuple(dataset)
    return Dataset.from_tensor_slices(dataset).flow, None


def _sizes(who: str, left: float | None, right: float | None, total: int) -> tuple[int, int]:
    if left is None and right is None:
        raise ValueError(f"{who}: one of left_size and right_size must be given, got None for both.")
    sizes = []
    for name, size in (("left_size", left), ("right_size", right)):
        whole = checks.is_integer(size) and size < total  # type: ignore[operator]
        fits = size is None or whole or (isinstance(size, float) and 0 < size < 1)
        checks.require(fits, who, f"{name} must be an integer from 1 to {total - 1}, or a share between 0 and 1", size)
        sizes.append(round(size * total) if isinstance(size, float) else size)
    sizes = [total - sizes[1 - i] if size is None else size for i, size in enumerate(sizes)]
    if sum(sizes) > total or 0 in sizes:
        given = f"left_size={left!r} and right_size={right!r}, which are {sizes[0]} and {sizes[1]}"
        raise ValueError(f"{who}: both parts of {total} elements must have some, and not more than all, got {given}.")
    return sizes[0], sizes[1]


def _of_torch(dataset: Any, left: Any, right: Any, shuffle: bool, seed: int | None) -> tuple[Any, Any]:
    import torch  # noqa: PLC0415 (only where its datasets come in)

    loader = dataset if isinstance(dataset, torch.utils.data.DataLoader) else None
    data: Any = dataset if loader is None else loader.dataset
    sizes = _sizes("split_dataset", left, right, len(data))
    order = torch.arange(len(data))
    if shuffle:
        generator = torch.Generator()
        order = torch.randperm(len(data), generator=generator if seed is None else generator.manual_seed(seed))
    parts = [torch.utils.data.Subset(data, rows) for rows in (order[: sizes[0]].tolist(), order[-sizes[1] :].tolist())]
    if loader is not None:
        kept = {name: getattr(loader, name) for name in ("batch_size", "num_workers", "collate_fn", "drop_last")}
        parts = [torch.utils.data.DataLoader(part, **kept) for part in parts]
    return parts[0], parts[1]
