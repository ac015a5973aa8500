"""The range test: which learning rates lower the loss, and which is a good one to start with."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lamina.core import checks
from lamina.training.tools.result import Drawing, Result, Table, progress
from lamina.training.trial import trial_of

SMOOTHING = 0.9  # the share of the running average that each step keeps
FALL = 10  # the loss is compared over one part in so many of the steps


@dataclass(frozen=True, repr=False, eq=False)
class LearningRates(Result):
    """Losses of steps at growing learning rates.

    Attributes:
        learning_rate: the suggestion, about which the loss falls fastest; `None` where it never falls.
        rates, losses, smoothed: of each step.
        diverged: the rate at which the loss had grown beyond bounds, `None` if it never did.
    """

    learning_rate: float | None
    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    diverged: float | None

    def _table(self) -> Table:
        said = "no rate lowered the loss" if self.learning_rate is None else f"suggested {self.learning_rate:.3g}"
        shown = np.unique(np.linspace(0, len(self.rates) - 1, 12).astype(int))
        rows = [(f"{self.rates[i]:.3g}", f"{self.losses[i]:.5g}", f"{self.smoothed[i]:.5g}") for i in shown]
        below = [] if self.diverged is None else [f"The loss diverged at {self.diverged:.3g}."]
        return Table(f"Learning rate: {said}", ("Rate", "Loss", "Smoothed"), rows, below)

    def _drawing(self) -> Drawing:
        low, high = np.nanmin(self.smoothed), np.max(self.smoothed[: len(self.smoothed) // 2 + 1])
        curves = {"loss": (self.rates, self.losses), "smoothed": (self.rates, self.smoothed)}
        bounds = (low - 0.1 * (high - low) - 1e-9, high + 0.4 * (high - low) + 1e-9)
        return Drawing(
            "learning rate", "loss", curves, marked=self.learning_rate, scales=("log", "linear"), bounds=bounds
        )


def find_learning_rate(
    model: Any, x: Any, y: Any = None, sample_weight: Any = None, batch_size: int | None = None, *,
    min_rate: float = 1e-7, max_rate: float = 10.0, steps: int = 100, divergence: float = 4.0, verbose: Any = "auto",
) -> LearningRates:  # fmt: skip
    """Find a learning rate to start with, by steps at growing rates on copies of the model's state.

    Smith 2017, Cyclical learning rates for training neural networks, https://arxiv.org/abs/1506.01186

    Args:
        model: a compiled model; one that is not built is built, as by `fit`, and nothing else of it changes.
        x, y, sample_weight, batch_size: as in `fit`.
        min_rate, max_rate: of the first and the last step.
        steps: how many.
        divergence: the multiple of the least smoothed loss at which the test ends.
        verbose: 0 silent, 1 a progress bar, "auto" where progress goes to stdout.
    """
    who = "find_learning_rate"
    checks.integer(who, "steps", steps, 3)
    checks.positive(who, "min_rate", min_rate)
    checks.number(who, "max_rate", max_rate, 2 * min_rate)
    checks.number(who, "divergence", divergence, 1)
    trial = trial_of(model, who, x, y, sample_weight, batch_size=batch_size, shuffle=True)
    rated = any(hasattr(each, "learning_rate") for each in trial.optimizers)
    remedy = "make one of Optax with optax.inject_hyperparams"
    checks.require(rated, who, "the optimizer must have a learning rate that can be set", model.optimizer, remedy)
    rates, bar = np.geomspace(min_rate, max_rate, steps).astype("float32"), progress(steps, verbose)
    losses: list[float] = []
    smoothed: list[float] = []
    average, least, diverged = 0.0, float("inf"), False
    for loss in trial.losses(who, steps, rates):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        losses.append(loss)
        smoothed.append(average / (1 - SMOOTHING ** len(losses)))
        least = min(least, smoothed[-1])
        diverged = not np.isfinite(loss) or smoothed[-1] > least + (divergence - 1) * abs(least)
        bar.update(len(losses), [("loss", loss), ("learning_rate", rates[len(losses) - 1])], finalize=False)
        if diverged:
            break
    bar.update(len(losses), finalize=True)
    rates = rates[: len(losses)]
    found = _fastest_fall(np.array(losses))
    return LearningRates(
        None if found is None else float(rates[found]), rates, np.array(losses), np.array(smoothed),
        float(rates[-1]) if diverged else None,
    )  # fmt: skip


def _fastest_fall(losses: np.ndarray) -> int | None:
    """About which step the loss falls most; `None` where it falls by less than it goes up and down anyway."""
    start = losses[: max(3, len(losses) // 4)]
    bounded = np.minimum(np.where(np.isfinite(losses), losses, np.inf), np.max(start, initial=-np.inf))
    width = max(2, len(losses) // FALL)
    if not np.all(np.isfinite(bounded)) or len(losses) < 2 * width:
        return None
    ahead, behind = (np.convolve(part, np.ones(width) / width, "valid") for part in (bounded[width:], bounded[:-width]))
    falls = behind - ahead  # of means of `width` steps, one beside the other
    found = int(np.argmax(falls))
    noise = np.std(start) / np.sqrt(width)
    return found + width if falls[found] > noise else None
