"""How many rows a second a model trains on in batches of growing sizes, and how much memory these take."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import tree_util

from lamina.core import checks
from lamina.training.loop import rows_in
from lamina.training.tools.cost import memory as memory_of
from lamina.training.tools.result import Drawing, Result, Table, progress, quantity
from lamina.training.trial import trial_of


class Throughput(NamedTuple):
    """One batch size: seconds of a step, rows a second, and the bytes that a step takes at once."""

    batch_size: int
    seconds: float
    rows_per_second: float
    memory: int


@dataclass(frozen=True, repr=False, eq=False)
class BatchSizes(Result):
    """Throughput over batch sizes, the data being on the device already.

    Attributes:
        batch_size: the suggestion, the smallest that comes near the best throughput.
        rows: a `Throughput` for each size.
        too_large: the first size that memory did not carry, `None` if it carried all.
    """

    batch_size: int
    rows: tuple[Throughput, ...]
    too_large: int | None

    def _table(self) -> Table:
        rows = [
            (str(r.batch_size), quantity(r.seconds, "s"), quantity(r.rows_per_second), quantity(r.memory, "B"))
            for r in self.rows
        ]
        below = [] if self.too_large is None else [f"{self.too_large} rows are too many for the memory."]
        return Table(f"Batch size: suggested {self.batch_size}", ("Rows", "Step", "Rows/s", "Memory"), rows, below)

    def _drawing(self) -> Drawing:
        curve = ([r.batch_size for r in self.rows], [r.rows_per_second for r in self.rows])
        return Drawing("batch size", "rows a second", {"throughput": curve}, marked=self.batch_size,
                       scales=("log", "linear"), bounds=(0, 1.1 * max(curve[1])))  # fmt: skip


def find_batch_size(
    model: Any, x: Any, y: Any = None, sample_weight: Any = None, *, sizes: Sequence[int] | None = None,
    max_size: int | None = None, memory: float | None = None, near: float = 0.9, verbose: Any = "auto",
) -> BatchSizes:  # fmt: skip
    """Find the smallest batch size that trains on nearly as many rows a second as the best one.

    Steps run on copies of the model's state, and on rows of the first batch again and again.

    Args:
        model: a compiled model; one that is not built is built, as by `fit`, and nothing else of it changes.
        x, y, sample_weight: as in `fit`.
        sizes: which to try; powers of 2 from 8 to `max_size` if not given.
        max_size: the number of rows of the data if not given; of a stream, 64 of its batches.
        memory: bytes that a step may take; what is free if not given.
        near: the share of the best throughput that is near enough.
        verbose: 0 silent, 1 a progress bar, "auto" where progress goes to stdout.
    """
    who = "find_batch_size"
    checks.number(who, "near", near, 0, 1)
    trial = trial_of(model, who, x, y, sample_weight)
    batch, most = trial.batch, max_size or getattr(trial.source, "size", 64 * rows_in(trial.batch))
    checks.integer(who, "max_size", most)
    tried = [2**i for i in range(3, 31) if 2**i <= most] or [most] if sizes is None else sorted(sizes)
    for size in tried or [0]:
        checks.integer(who, "sizes", size)
    found, too_large, bar = [], None, progress(len(tried), verbose, "size")
    for size in tried:
        wide = tree_util.tree_map(lambda a, size=size: np.resize(a, (size, *a.shape[1:])), batch)
        try:
            found.append(_measured(trial, size, wide, _free() if memory is None else memory))
        except MemoryError:
            too_large = size
            break
        bar.update(len(found), [("rows/s", found[-1].rows_per_second)], finalize=False)
    if not found:
        raise MemoryError(f"{who}: memory must carry a step of {tried[0]} rows, and does not; try smaller sizes.")
    bar.update(len(found), finalize=True)
    enough = near * max(r.rows_per_second for r in found)
    return BatchSizes(next(r.batch_size for r in found if r.rows_per_second >= enough), tuple(found), too_large)


def _measured(trial: Any, size: int, batch: Any, limit: float) -> Throughput:
    try:
        program = trial.program([batch])
        peak = 0 if program is None else memory_of(program)[0]
        if peak > limit:
            raise MemoryError
        trial.start()
        seconds = trial.seconds_a_step(batch)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error) and "out of memory" not in str(error).lower():
            raise
        raise MemoryError from error
    return Throughput(size, seconds, size / seconds, peak)


def _free() -> float:
    """Bytes that a program may take: of the device, or of the host, which would end a process that takes more."""
    stats = jax.devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    return 0.8 * os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
