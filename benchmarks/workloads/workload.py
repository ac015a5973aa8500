"""What a workload is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .data import Arrays

PEERS = ("lamina", "keras-jax", "keras-jax-32", "keras-tensorflow", "keras-torch", "torch", "torch-compile")


@dataclass(frozen=True)
class Workload:
    """One model with its data. `epochs` are enough to see a steady one; `quick_rows` serve `--quick`.

    `loss` is a class of `losses`; none where the model computes its own, for which `twin_loss(torch)` makes the twin's.
    Targets that are `padding` count neither in the twin's loss nor in its accuracy; the model has a mask for them.
    `streams` names what else the rows come from, see `streams.py`; the runs of `peers` may be others, see `loops.py`.
    """

    title: str
    model: Callable[[Any], Any]
    twin: Callable[[Any], Any] | None
    data: Callable[[np.random.Generator, int], Arrays]
    rows: int
    quick_rows: int
    batch: int
    epochs: int
    optimizer: str = "adam"
    loss: str | None = "SparseCategoricalCrossentropy"
    loss_options: Mapping[str, Any] = field(default_factory=dict)
    twin_loss: Callable[[Any], Any] | None = None
    padding: int = -100
    metrics: tuple[str, ...] = ("accuracy",)
    streams: tuple[str, ...] = ()
    peers: tuple[str, ...] = PEERS

    def size(self, quick: bool) -> int:
        """How many rows there are."""
        return self.quick_rows if quick else self.rows

    def steps(self, quick: bool) -> int:
        """How many batches make an epoch."""
        return -(-self.size(quick) // self.batch)

    def arrays(self, quick: bool) -> Arrays:
        """The rows, the same in each process."""
        return self.data(np.random.default_rng(0), self.size(quick))


def module(torch, forward: Callable, **parts: Any):
    """A module of PyTorch with these parts as attributes, whose `forward(self, inputs)` is the function."""

    class Twin(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, part in parts.items():
                setattr(self, name, part)

    Twin.forward = forward
    return Twin()
