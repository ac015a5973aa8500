"""F scores: means of precision and recall."""

from typing import Any

import jax.numpy as jnp

from lamina.core import checks, dtypes
from lamina.core.arrays import as_array
from lamina.core.configurable import variant
from lamina.losses.weighting import beside, check_same_shape
from lamina.metrics.metric import Metric


class FBetaScore(Metric):
    """`(1 + beta²) · precision · recall / (beta² · precision + recall)`, for each class.

    Args:
        average: how the classes become one: `"micro"` (all counted together), `"macro"` (mean), `"weighted"`
            (mean, weighted by the number of targets), or `None`.
        beta: how much more recall matters than precision.
        threshold: predictions above it are positive; without it, the highest of each sample.

    Shapes:
        y_true, y_pred: `(batch, classes)`; sample_weight: `(batch,)`; result: `()`, `(classes,)` with `None`.

    Raises:
        ValueError: for arguments out of these ranges, and for targets and predictions of other shapes.
    """

    direction = "max"
    _counts = ("true_positives", "false_positives", "false_negatives", "intermediate_weights")

    def __init__(
        self,
        average: str | None = None,
        beta: float = 1.0,
        threshold: float | None = None,
        name: str | None = "fbeta_score",
        dtype: Any = None,
    ):
        super().__init__(dtype, name)
        who = self._who
        checks.one_of(who, "average", average, ("micro", "macro", "weighted", None))
        checks.require(isinstance(beta, float) and beta > 0, who, "beta must be a float above 0", beta)
        fits = threshold is None or (isinstance(threshold, float) and 0 < threshold <= 1)
        checks.require(fits, who, "threshold must be None or a float in (0, 1]", threshold)
        self.average, self.beta, self.threshold = average, beta, threshold

    def _build(self, shape: tuple[int, ...]) -> None:
        checks.require(len(shape) == 2, self._who, "y_pred must have shape (batch, classes)", shape)
        count_shape = () if self.average == "micro" else shape[1:]
        for name in self._counts:
            setattr(self, name, self.add_variable(count_shape, dtype=self.dtype, name=name))
        self._built = True

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        y_true, y_pred = as_array(y_true, self.dtype), as_array(y_pred, self.dtype)
        if not self._built:
            self._build(y_pred.shape)
        check_same_shape(self._who, y_true, y_pred, "; for integer classes give one-hot targets")
        if self.threshold is None:
            highest = jnp.max(y_pred, -1, keepdims=True)
            chosen = (y_pred >= highest) & (jnp.abs(y_pred) > 1e-9)
        else:
            chosen = y_pred > self.threshold
        chosen = chosen.astype(self.dtype)
        weight = beside(as_array(1 if sample_weight is None else sample_weight, self.dtype), y_pred)
        axis = None if self.average == "micro" else 0
        batch = (chosen * y_true, chosen * (1 - y_true), (1 - chosen) * y_true, y_true)
        for name, values in zip(self._counts, batch):
            getattr(self, name).assign_add(jnp.sum(values * weight, axis))

    def result(self) -> Any:
        if not self._built:
            return jnp.zeros((), self.dtype)
        tiny = dtypes.epsilon()
        right, invented, missed, weights = (getattr(self, name).value for name in self._counts)
        precision, recall = right / (right + invented + tiny), right / (right + missed + tiny)
        score = (1 + self.beta**2) * precision * recall / (self.beta**2 * precision + recall + tiny)
        if self.average == "weighted":
            return jnp.sum(score * weights / (jnp.sum(weights) + tiny))
        return score if self.average is None else jnp.mean(score)


@variant(defaults={"name": "f1_score"}, without=["beta"])
class F1Score(FBetaScore):
    """`2 · precision · recall / (precision + recall)`, for each class."""
