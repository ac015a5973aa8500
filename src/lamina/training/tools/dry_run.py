"""What a training would take, before it starts: shapes, memory, operations and time."""

import math
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

from jax import tree_util

from lamina.core.watch import Calls
from lamina.training.tools.cost import flops, memory, size_of
from lamina.training.tools.result import Drawing, Result, Table, quantity
from lamina.training.trial import Trial


class LayerShape(NamedTuple):
    """A layer as a training step calls it: `weights` are counted, `activations` are bytes of its outputs."""

    path: str
    layer: str
    output_shape: Any
    weights: int
    activations: int


@dataclass(frozen=True, repr=False, eq=False)
class DryRun(Result):
    """What `fit` would take; nothing was trained.

    Attributes:
        layers: a `LayerShape` for each layer that a step calls.
        weights, optimizer, activations: bytes; activations are the outputs of the layers that have none inside.
        peak, temporary: bytes that a step takes at once, and those of them beside state and data, by the compiler.
        flops: floating operations of a step: forward, backward and update.
        seconds_a_step, seconds_to_compile: measured, on data that are on the device.
        steps, epochs: of an epoch, `None` if the data do not tell; and of the training.
    """

    layers: tuple[LayerShape, ...]
    weights: int
    optimizer: int
    activations: int
    peak: int
    temporary: int
    flops: float
    seconds_a_step: float
    seconds_to_compile: float
    steps: int | None
    epochs: int

    @property
    def seconds_an_epoch(self) -> float | None:
        """The estimated time of an epoch, without validation."""
        return None if self.steps is None else self.steps * self.seconds_a_step

    def _table(self) -> Table:
        rows = [
            (f"{'  ' * r.path.count('/')}{r.path.rpartition('/')[2]} ({r.layer})", str(r.output_shape),
             f"{r.weights:,}", quantity(r.activations, "B"))
            for r in self.layers
        ]  # fmt: skip
        sizes = [f"{name} {quantity(getattr(self, name), 'B')}" for name in ("weights", "optimizer", "activations")]
        epoch, speed = self.seconds_an_epoch, quantity(self.flops / self.seconds_a_step, "FLOP/s")
        below = [
            f"Memory: {', '.join(sizes)}; a step takes {quantity(self.peak, 'B')} at once, "
            f"{quantity(self.temporary, 'B')} of it beside state and data.",
            f"A step: {quantity(self.flops)} floating operations in {quantity(self.seconds_a_step, 's')} ({speed}), "
            f"compiled in {quantity(self.seconds_to_compile, 's')}.",
            f"An epoch: {self.steps or '?'} steps, about {quantity(epoch, 's')}. All {self.epochs} epochs: about "
            f"{quantity(None if epoch is None else epoch * self.epochs, 's')}.",
        ]
        return Table("Dry run", ("Layer", "Output shape", "Weights", "Activations"), rows, below)

    def _drawing(self) -> Drawing:
        inner = _innermost(self.layers)
        bars = {"activations": [r.activations / 1e6 for r in inner], "weights": [r.weights * 4e-6 for r in inner]}
        return Drawing("MB", bars=bars, names=[r.path.partition("/")[2] or r.path for r in inner])


def _innermost(layers: tuple[LayerShape, ...]) -> list[LayerShape]:
    around = {each.path.rpartition("/")[0] for each in layers}
    return [each for each in layers if each.path not in around]


def dry_run(trial: Trial, epochs: int) -> DryRun:
    """Look at one training step of a trial."""
    start = time.perf_counter()
    program = trial.program([trial.batch])
    compiled = time.perf_counter() - start
    peak, temporary = (0, 0) if program is None else memory(program)
    seconds, calls = trial.seconds_a_step(trial.batch), Calls()
    operations = math.nan if program is None else flops(trial.equations(calls))
    if program is None:
        trial.step(trial.batch, calls)
    found: dict[str, LayerShape] = {}
    for call in calls.calls:
        shapes = tree_util.tree_map(lambda x: tuple(x.shape), call.outputs)
        count = sum(math.prod(v.shape) for v in call.layer.weights)
        row = LayerShape(call.path, type(call.layer).__name__, shapes, count, size_of(call.outputs))
        found.setdefault(f"{call.path} {shapes}", row)  # loops are traced more than once
    layers, source = tuple(found.values()), trial.source
    source.close()
    slots = {id(v) for each in trial.optimizers for v in each.variables}
    return DryRun(
        layers, size_of([v.stored for v in trial.model.weights]),
        size_of([v.stored for v in trial.variables if id(v) in slots]),
        sum(each.activations for each in _innermost(layers)), peak, temporary, operations, seconds, compiled,
        source.steps or source.num_batches, epochs,
    )  # fmt: skip
