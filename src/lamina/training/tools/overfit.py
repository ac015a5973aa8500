"""Whether a model can learn one batch by heart, and if not, why."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
from jax import tree_util

from lamina.core import checks
from lamina.core.watch import Probes
from lamina.data.arrays import unpack_x_y_sample_weight
from lamina.data.sources import is_stream
from lamina.training.loop import rows_in
from lamina.training.tools.result import Drawing, Result, Table, progress
from lamina.training.tools.statistics import measure, statistics_of
from lamina.training.trial import Trial, trial_of

FLAT = 1e-5  # the spread of outputs over rows, beside their size, below which they are constant
BETTER = 2.0  # the rate is to blame if the loss falls by so many times as much at another one ...
LEAST = 0.05  # ... and by at least this share


@dataclass(frozen=True, repr=False, eq=False)
class Overfit(Result):
    """Losses of steps on one batch; `bool` of it tells whether the model has learned it.

    Attributes:
        learned: whether the loss came down to the goal.
        losses: of each step.
        causes: what may have kept it up.
    """

    learned: bool
    losses: np.ndarray
    causes: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.learned

    def _table(self) -> Table:
        did = "learned" if self.learned else "did not learn"
        first, last, steps = self.losses[0], self.losses[-1], len(self.losses)
        causes = [f"- {cause}" for cause in self.causes or ["no cause was found; try more steps or a larger model"]]
        title = f"The model {did} the batch: loss {first:.4g} to {last:.4g} in {steps} steps"
        return Table(title, below=[] if self.learned else causes)

    def _drawing(self) -> Drawing:
        curves = {"loss": (np.arange(1, len(self.losses) + 1), self.losses)}
        return Drawing("step", "loss", curves, scales=("linear", "log" if np.all(self.losses > 0) else "linear"))


def overfit(
    model: Any, x: Any, y: Any = None, sample_weight: Any = None, *,
    steps: int = 500, goal: float = 0.01, verbose: Any = "auto",
) -> Overfit:  # fmt: skip
    """Whether copies of a model's weights can learn one batch by heart; if not, what may be why.

    Args:
        model: a compiled model; one that is not built is built, as by `fit`, and nothing else of it changes.
        x, y, sample_weight: the batch; or x all of it as a tuple, or a stream, of which the first batch counts.
        steps: how many at most.
        goal: the share of the first loss at which the batch is learned.
        verbose: 0 silent, 1 a progress bar, "auto" where progress goes to stdout.
    """
    checks.integer("overfit", "steps", steps)
    checks.positive("overfit", "goal", goal)
    if isinstance(x, tuple) and y is None:
        x, y, sample_weight = unpack_x_y_sample_weight(x)
    trial = trial_of(model, "overfit", x, y, sample_weight, batch_size=None if is_stream(x) else rows_in(x))
    losses: list[float] = []
    bar = progress(steps, verbose)
    for loss in trial.losses("overfit", steps, batches=repeat(trial.batch)):
        losses.append(loss)
        bar.update(len(losses), [("loss", loss)], finalize=False)
        if loss <= goal * abs(losses[0]) or not np.isfinite(loss):
            break
    bar.update(len(losses), finalize=True)
    learned = losses[-1] <= goal * abs(losses[0])
    return Overfit(learned, np.array(losses), () if learned else tuple(_causes(trial, losses)))


def _causes(trial: Trial, losses: list[float]) -> Iterator[str]:
    x, y, _ = unpack_x_y_sample_weight(trial.batch)
    targets: dict[bytes, dict[bytes, int]] = {}
    for i, (row, target) in enumerate(zip(_bytes_of_rows(x), _bytes_of_rows(y))):
        targets.setdefault(row, {}).setdefault(target, i)
    odd = [list(each.values()) for each in targets.values() if len(each) > 1]
    if odd:
        yield f"equal inputs have different labels: {len(odd)} of them, such as rows {odd[0][0]} and {odd[0][1]}"
    if not trial.model.trainable_variables:
        yield "no weight is trainable"
        return
    if np.isfinite(losses[-1]):
        yield from _of_statistics(trial)
    else:
        yield f"the loss is not finite from step {len(losses)} on; locate_nan tells where that begins"
    yield from _of_rate(trial, losses)


def _bytes_of_rows(structure: Any) -> list[bytes]:
    leaves = [np.asarray(leaf) for leaf in tree_util.tree_leaves(structure)]
    return [b"".join(parts) for parts in zip(*([row.tobytes() for row in leaf] for leaf in leaves))]


def _of_statistics(trial: Trial) -> Iterator[str]:
    numbers = statistics_of(trial, Probes(measure, inputs=False)).numbers
    still = [p for p, n in numbers.items() if "weight_norm" in n and not n.get("weight_gradient_norm")]
    if still:
        yield f"the gradient is zero for {checks.some(still)}"
    dead = [path for path, n in numbers.items() if n.get("activation_dead") == 1]
    if dead:
        yield f"all units are 0 in all rows in {checks.some(dead)}"
    outer = [n for path, n in numbers.items() if "/" not in path and "activation_spread" in n]
    if rows_in(trial.batch) > 1 and any(
        n["activation_spread"] <= FLAT * max(abs(n["activation_mean"]), 1e-6) for n in outer
    ):
        yield "the outputs are the same for all rows"


def _of_rate(trial: Trial, losses: list[float]) -> Iterator[str]:
    """Whether another learning rate would do better in as many steps."""
    rates = [getattr(each, "learning_rate", None) for each in trial.optimizers[:1]]
    for rate in (float(np.asarray(rate)) for rate in rates if rate is not None):
        for factor, word in ((0.1, "high"), (10.0, "low")):
            trial.start()
            tried, some = factor * rate, np.full(len(losses), factor * rate)
            reached = list(trial.losses("overfit", len(losses), some, repeat(trial.batch)))[-1]
            fall, own = losses[0] - reached, losses[0] - losses[-1] if np.isfinite(losses[-1]) else 0.0
            if fall > max(BETTER * own, LEAST * abs(losses[0])):
                yield f"the learning rate {rate:.3g} may be too {word}: {tried:.3g} reached a loss of {reached:.4g}"
