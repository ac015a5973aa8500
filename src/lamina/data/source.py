"""What a source of data is, and what part of a pass over them an epoch is."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax import tree_util

# What a caller's arguments are called.
ARGUMENTS = {"fit": ("batch_size", "steps_per_epoch"), "validation_data": ("validation_batch_size", "validation_steps")}


def span(epoch: int, steps: int | None, num_batches: int) -> tuple[int, int, int]:
    """`(pass over the data, its first batch, number of batches)` of an epoch.

    With `steps` an epoch is a part of a pass: the next one goes on behind it, and the last part may be short.
    """
    if steps is None or steps >= num_batches:
        return epoch, 0, num_batches
    number, part = divmod(epoch, math.ceil(num_batches / steps))
    return number, part * steps, min(steps, num_batches - part * steps)


def generator(seed: int, number: int) -> np.random.Generator:
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
