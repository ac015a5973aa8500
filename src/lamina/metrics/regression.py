"""How far predictions lie from their targets: means of losses, and correlations."""

import warnings
from typing import Any

import jax.numpy as jnp
from jax.core import Tracer

from lamina import losses
from lamina.core import checks, dtypes
from lamina.core.arrays import as_array
from lamina.losses.functions import on_arrays
from lamina.losses.weighting import align, beside, check_same_shape
from lamina.metrics.metric import Metric
from lamina.metrics.reduction import Mean, MeanOf

__all__ = [
    "ConcordanceCorrelation", "CosineSimilarity", "LogCoshError", "MeanAbsoluteError", "MeanAbsolutePercentageError",
    "MeanSquaredError", "MeanSquaredLogarithmicError", "PearsonCorrelation", "R2Score", "RootMeanSquaredError",
    "concordance_correlation", "pearson_correlation",
]  # fmt: skip


class MeanSquaredError(MeanOf, fn=losses.mean_squared_error): ...


class RootMeanSquaredError(Mean, name="root_mean_squared_error"):
    """`sqrt(mean((y_true - y_pred)²))`.

    Shapes: y_true, y_pred: `(batch, ...)`; sample_weight: `(batch,)` or like y_pred.
    """

    direction = "min"

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        y_true, y_pred = align(as_array(y_true, self.dtype), as_array(y_pred, self.dtype))
        super().update_state(jnp.square(y_pred - y_true), sample_weight)

    def result(self) -> Any:
        return jnp.sqrt(super().result())


class MeanAbsoluteError(MeanOf, fn=losses.mean_absolute_error): ...


class MeanAbsolutePercentageError(MeanOf, fn=losses.mean_absolute_percentage_error): ...


class MeanSquaredLogarithmicError(MeanOf, fn=losses.mean_squared_logarithmic_error): ...


class LogCoshError(MeanOf, fn=losses.log_cosh, name="logcosh"): ...


def cosine_similarity(y_true: Any, y_pred: Any, axis: Any = -1) -> Any:
    """`sum(y_true · y_pred) / (‖y_true‖ ‖y_pred‖)` over `axis`: 1 for the same direction, unlike the loss.

    Args:
        y_true, y_pred: arrays of one shape.
        axis: along which the vectors lie.
    """
    return -losses.cosine_similarity(y_true, y_pred, axis)


@on_arrays
def pearson_correlation(y_true: Any, y_pred: Any, axis: Any = -1) -> Any:
    """`cov(y_true, y_pred) / (std(y_true) · std(y_pred))` over `axis`.

    Args:
        y_true, y_pred: arrays of one shape.
        axis: along which the vectors lie.
    """

    def standard(y: Any) -> Any:
        y = y - jnp.mean(y, axis, keepdims=True)
        return y / jnp.std(y, axis, keepdims=True)

    return jnp.mean(standard(y_true) * standard(y_pred), axis)


@on_arrays
def concordance_correlation(y_true: Any, y_pred: Any, axis: Any = -1) -> Any:
    """`2 cov / (var(y_true) + var(y_pred) + (mean(y_true) - mean(y_pred))²)` over `axis`.

    Lin 1989, A concordance correlation coefficient to evaluate reproducibility, https://doi.org/10.2307/2532051

    Args:
        y_true, y_pred: arrays of one shape.
        axis: along which the vectors lie.
    """
    true_mean, pred_mean = (jnp.mean(y, axis, keepdims=True) for y in (y_true, y_pred))
    covariance = (y_true - pred_mean) * (y_pred - pred_mean)  # the shift of y_true's mean cancels in the sum
    variances = jnp.var(y_true, axis, keepdims=True) + jnp.var(y_pred, axis, keepdims=True)
    spread = variances + jnp.square(true_mean - pred_mean)
    return jnp.mean(2 * covariance / (spread + dtypes.epsilon()), axis)


class CosineSimilarity(MeanOf, fn=cosine_similarity, direction="max"):
    _omit_none = frozenset({"axis"})


class PearsonCorrelation(MeanOf, fn=pearson_correlation, direction="max"): ...


class ConcordanceCorrelation(MeanOf, fn=concordance_correlation, direction="max"): ...


class R2Score(Metric):
    """`1 - sum((y_true - y_pred)²) / sum((y_true - mean(y_true))²)`, for each output.

    Args:
        class_aggregation: `"uniform_average"` or `"variance_weighted_average"` of the outputs, or `None`.
        num_regressors: with a number above 0 the score is adjusted for that many independent variables.

    Shapes:
        y_true, y_pred: `(batch, outputs)`; sample_weight: `(batch,)`; result: `()`, `(outputs,)` with `None`.

    Raises:
        ValueError: for arguments out of these ranges, and for targets and predictions of other shapes.
    """

    direction = "max"

    def __init__(
        self,
        class_aggregation: str | None = "uniform_average",
        num_regressors: int = 0,
        name: str | None = "r2_score",
        dtype: Any = None,
    ):
        super().__init__(dtype, name)
        aggregations = ("uniform_average", "variance_weighted_average", None)
        self.class_aggregation = checks.one_of(self._who, "class_aggregation", class_aggregation, aggregations)
        self.num_regressors = checks.number(self._who, "num_regressors", num_regressors, 0)
        self.num_samples = self.add_variable((), name="num_samples")

    def _build(self, shape: tuple[int, ...]) -> None:
        checks.require(len(shape) == 2, self._who, "y_pred must have shape (batch, outputs)", shape)
        self.squared_sum = self.add_variable(shape[1:], name="squared_sum")
        self.sum = self.add_variable(shape[1:], name="sum")
        self.total_mse = self.add_variable(shape[1:], name="residual")
        self.count = self.add_variable(shape[1:], name="count")
        self._built = True

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        y_true, y_pred = align(as_array(y_true, self.dtype), as_array(y_pred, self.dtype))
        if not self._built:
            self._build(y_pred.shape)
        check_same_shape(self._who, y_true, y_pred)
        weight = beside(as_array(1 if sample_weight is None else sample_weight, self.dtype), y_true)
        weight = jnp.broadcast_to(weight, y_true.shape)
        self.sum.assign_add(jnp.sum(y_true * weight, 0))
        self.squared_sum.assign_add(jnp.sum(jnp.square(y_true) * weight, 0))
        self.total_mse.assign_add(jnp.sum(jnp.square(y_true - y_pred) * weight, 0))
        self.count.assign_add(jnp.sum(weight, 0))
        self.num_samples.assign_add(y_true.size)

    def result(self) -> Any:
        if not self._built:
            return jnp.zeros((), self.dtype)
        count = self.count.value
        total = self.squared_sum.value - jnp.square(self.sum.value) / count
        scores = 1 - self.total_mse.value / total
        scores = jnp.where(jnp.isinf(scores) | (count == 0), 0.0, scores)
        if self.class_aggregation == "uniform_average":
            scores = jnp.mean(scores)
        elif self.class_aggregation == "variance_weighted_average":
            scores = jnp.sum(total * scores) / jnp.sum(total)
        return self._adjusted(scores) if self.num_regressors else scores

    def _adjusted(self, scores: Any) -> Any:
        """`1 - (1 - score)(n - 1) / (n - p - 1)`; the score itself where there are not enough samples."""
        samples, free = self.num_samples.value, self.num_samples.value - self.num_regressors - 1
        if not isinstance(free, Tracer) and free <= 0 < samples:
            what = f"num_regressors {self.num_regressors} leave too few samples to adjust the score"
            warnings.warn(f"{self._who}: {what}; it is not adjusted.", stacklevel=3)
        adjusted = 1 - (1 - scores) * (samples - 1) / jnp.where(free > 0, free, 1)
        return jnp.where(free > 0, adjusted, scores)
