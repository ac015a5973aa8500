"""What goes through each layer in a training step: activations, gradients, and updates beside weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from lamina.core.watch import Probes, by_path
from lamina.data.sources import is_stream
from lamina.training.loop import rows_in
from lamina.training.tools.result import Drawing, Result, Table
from lamina.training.trial import Trial, trial_of

_KINDS = {"output": "activation", "gradient of output": "gradient", "gradient": "weight_gradient"}
_HEADS = {
    "Mean": "activation_mean", "Std": "activation_std", "Zeros": "activation_zeros", "Dead": "activation_dead",
    "Gradient": "gradient_norm", "of weights": "weight_gradient_norm", "Update/weight": "update_ratio",
}  # fmt: skip


@dataclass(frozen=True, repr=False, eq=False)
class Statistics(Result):
    """Numbers of one training step.

    Attributes:
        numbers: `{path: {name: number}}`. Of a layer `activation_norm`, `_mean`, `_std`, `_zeros` (the share of zeros),
            `_dead` (of units that are 0 in all rows) and `_spread` (the largest standard deviation of a unit over the
            rows), and the same of `gradient`, by its output. Of a weight those of `weight_gradient`, `weight_norm`,
            and `update_ratio`, the norm of its update over its own (1 for one that was 0).
        values: `{path: {"activation", "gradient" or "weight_gradient": a sample of 1,000}}`, for histograms.
    """

    numbers: dict[str, dict[str, float]]
    values: dict[str, dict[str, np.ndarray]]

    def _table(self) -> Table:
        rows = [
            (path, *(f"{numbers[name]:.3g}" if name in numbers else "" for name in _HEADS.values()))
            for path, numbers in self.numbers.items()
        ]
        return Table("Statistics of layers and weights", ("Layer or weight", *_HEADS), rows)

    def _drawing(self) -> Drawing:
        kinds = {"by outputs of layers": "gradient_norm", "by weights": "weight_gradient_norm"}
        bars = {label: [n.get(kind, 0.0) for n in self.numbers.values()] for label, kind in kinds.items()}
        return Drawing("norm of the gradient", bars=bars, names=list(self.numbers))


def measure(x: Any) -> dict[str, Any]:
    """What is told of each array."""
    wide = x.astype("float32")
    rows = wide.reshape(-1, wide.shape[-1] if wide.ndim else 1)
    return {
        "norm": jnp.linalg.norm(wide),
        "mean": jnp.mean(wide),
        "std": jnp.std(wide),
        "zeros": jnp.mean(wide == 0),
        "dead": jnp.mean(jnp.all(rows == 0, axis=0)),
        "spread": jnp.max(jnp.std(rows, axis=0), initial=0.0),
        "sample": wide.ravel()[:: -(-wide.size // 1000) or 1],
    }


def statistics_of(trial: Trial, probes: Probes) -> Statistics:
    """Those of a trial's next step, on its first batch."""
    before, (_, seen) = trial.values, trial.probed(trial.batch, probes)
    numbers: dict[str, dict[str, float]] = {}
    values: dict[str, dict[str, np.ndarray]] = {}
    for path, each in by_path(seen):
        kind = _KINDS[each.what] + each.key
        mine = {f"{kind}_{name}": float(n) for name, n in each.values.items() if name != "sample"}
        numbers.setdefault(path, {}).update(mine)
        values.setdefault(path, {})[kind] = each.values["sample"]
    trained = {id(v) for v in trial.model.trainable_variables}
    for variable, old, new in zip(trial.variables, before, trial.values):
        if id(variable) in trained:
            norm, moved = (float(np.linalg.norm(np.asarray(x, "float64"))) for x in (old, new - old))
            ratio = moved / norm if norm else float(moved > 0)
            numbers.setdefault(variable.path, {}).update(weight_norm=norm, update_ratio=ratio)
    return Statistics(numbers, values)


def statistics_function(model: Any, x: Any, y: Any = None, sample_weight: Any = None) -> Callable[[], Statistics]:
    """A function that measures `layer_statistics` on this batch at the weights of its time."""
    size = None if is_stream(x) else rows_in(x)
    trial = trial_of(model, "layer_statistics", x, y, sample_weight, batch_size=size)
    probes = Probes(measure, inputs=False)
    trial.source.close()

    def measured() -> Statistics:
        trial.start()
        return statistics_of(trial, probes)

    return measured


def layer_statistics(model: Any, x: Any, y: Any = None, sample_weight: Any = None) -> Statistics:
    """The statistics of activations, gradients and updates in a training step on this batch, on copies of the state.

    Args:
        model: a compiled model; one that is not built is built, as by `fit`, and nothing else of it changes.
        x, y, sample_weight: the batch; or x a stream, of which the first batch counts.
    """
    return statistics_function(model, x, y, sample_weight)()
