"""True and false positives and negatives at thresholds, and what is made of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core import checks, dtypes, functions
from lamina.core.arrays import as_array
from lamina.core.budget import spend
from lamina.core.configurable import variant
from lamina.losses.weighting import align, beside, check_same_shape
from lamina.metrics.metric import Metric
from lamina.ops.numpy import divide_no_nan

__all__ = [
    "FalseNegatives", "FalsePositives", "Precision", "PrecisionAtRecall", "Recall", "RecallAtPrecision",
    "SensitivityAtSpecificity", "SpecificityAtSensitivity", "TrueNegatives", "TruePositives",
]  # fmt: skip

CELLS = ("true_positives", "false_positives", "true_negatives", "false_negatives")
# rate = first / (first + second)
RATES = {
    "precision": ("true_positives", "false_positives"),
    "recall": ("true_positives", "false_negatives"),
    "sensitivity": ("true_positives", "false_negatives"),
    "specificity": ("true_negatives", "false_positives"),
    "fall_out": ("false_positives", "true_negatives"),
}
_EXCLUDED = -1e10  # the prediction of classes that are not among the top k; no threshold is below it


class ConfusionMetric(Metric):
    """Counts of true and false positives and negatives at each threshold: predicted is what lies above it.

    Raises: ValueError if an argument is outside its domain, and for targets and predictions of other shapes.
    """

    direction = "max"
    _kept: Mapping[str, str] = {cell: cell for cell in CELLS}  # variable -> what it counts

    def __init__(
        self,
        thresholds: Sequence[float],
        name: str | None = None,
        dtype: Any = None,
        top_k: int | None = None,
        class_id: int | None = None,
    ):
        super().__init__(dtype, name)
        self.thresholds = list(thresholds)
        self.top_k, self.class_id = top_k, class_id
        self._add_counts((len(self.thresholds),))

    def _add_counts(self, shape: tuple[int, ...]) -> None:
        for variable in self._kept:
            setattr(self, variable, self.add_variable(shape, name=variable))

    def _count(self, y_true: Any, y_pred: Any, weight: Any) -> None:
        """Add a batch of `(samples, labels)`."""
        counts = confusion_counts(y_true, y_pred, weight, self.thresholds)
        for variable, cell in self._kept.items():
            count = getattr(self, variable)
            count.assign_add(counts[cell] if count.ndim == 2 else counts[cell][:, 0])

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        y_true, y_pred, weight = aligned(self._who, y_true, y_pred, sample_weight)
        if self.top_k is not None:
            y_pred = _only_top(y_pred, self.top_k)
        if self.class_id is not None:
            rule, given = "y_pred must have an axis of classes with class_id", f"shape {y_pred.shape}"
            checks.require(y_pred.ndim > 1, self._who, rule, got=given)
            y_true, y_pred = y_true[..., self.class_id, None], y_pred[..., self.class_id, None]
        weight = jnp.broadcast_to(weight, y_pred.shape)
        self._count(*(x.reshape(-1, 1) for x in (y_true, y_pred, weight)))

    def rate(self, name: str) -> Any:
        """A rate of `RATES` at each threshold."""
        hits, misses = (getattr(self, cell).value for cell in RATES[name])
        return divide_no_nan(hits, hits + misses)

    def _argument(self, owner: type, name: str, recorded: Any) -> Any:
        return recorded if name == "thresholds" else super()._argument(owner, name, recorded)


def aligned(who: str, y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
    """Targets, predictions and weights as float arrays of as many axes."""
    y_pred, y_true = align(as_array(y_pred, dtypes.floatx()), as_array(y_true, dtypes.floatx()))
    check_same_shape(who, y_true, y_pred)
    weight = as_array(1 if sample_weight is None else sample_weight, dtypes.floatx())
    weight, _ = align(weight, y_true, expand_vectors=False)
    return y_true, y_pred, beside(weight, y_true)


def confusion_counts(y_true: Any, y_pred: Any, weight: Any, thresholds: Sequence[float]) -> dict[str, Any]:
    """The sums of the weights of true and false positives and negatives, each `(thresholds, labels)`.

    Args:
        y_true, y_pred, weight: `(samples, labels)`.
        thresholds: where predictions are cut.
    """
    positive = y_true.astype(bool)
    of_positive, of_negative = jnp.where(positive, weight, 0), jnp.where(positive, 0, weight)
    found, invented = (_sums_above(y_pred, w, thresholds) for w in (of_positive, of_negative))
    missed, rejected = jnp.sum(of_positive, 0) - found, jnp.sum(of_negative, 0) - invented
    return dict(zip(CELLS, (found, invented, rejected, missed)))


def _sums_above(y_pred: Any, weight: Any, thresholds: Sequence[float]) -> Any:
    """`sum(weight where y_pred > threshold)` over the samples: `(thresholds, labels)`."""
    if not _are_even(thresholds):
        cuts = jnp.asarray(thresholds, y_pred.dtype)[:, None, None]
        return jnp.sum(jnp.where(y_pred > cuts, weight, 0), 1)
    # Even thresholds: bucket i holds what lies above i of them; a sample is looked at once and not n times.
    n = len(thresholds)
    bucket = jnp.ceil(jnp.clip(y_pred, 0, 1) * (n - 1)).astype("int32")
    if thresholds[0] < 0:
        bucket = jnp.maximum(bucket, 1)
    labels = jnp.arange(y_pred.shape[1])
    buckets = jnp.zeros((n + 1, y_pred.shape[1]), weight.dtype).at[bucket, labels].add(weight)
    return jnp.cumsum(buckets[::-1], 0)[::-1][1:]


def _are_even(thresholds: Sequence[float]) -> bool:
    n = len(thresholds)
    return n > 2 and np.allclose(np.clip(thresholds, 0, 1), np.arange(n) / (n - 1), atol=dtypes.epsilon())


def _only_top(y_pred: Any, k: int) -> Any:
    _, index = jax.lax.top_k(y_pred, k)
    top = jnp.any(jax.nn.one_hot(index, y_pred.shape[-1], dtype=bool), -2)
    return jnp.where(top, y_pred, _EXCLUDED)


def even_thresholds(number: int) -> list[float]:
    """`number` thresholds from 0 to 1; for one, 0.5."""
    spend("A list of thresholds", number, nbytes=40, work=1)
    return [0.5] if number == 1 else [0.0, *((i + 1) / (number - 1) for i in range(number - 2)), 1.0]


class _AtThresholds(ConfusionMetric):
    """What is counted, or the rate of the first of two, at thresholds that the user gives, one or many.

    Args:
        thresholds: one or several between 0 and 1, above which a prediction is positive; 0.5 if not given.
        top_k: the `top_k` highest predictions of each sample are the positive ones.
        class_id: only this class counts, an index of the last axis.

    Shapes:
        y_true, y_pred: `(batch, ...)`, all entries counted alike; sample_weight: `(batch,)` or like y_pred.
    """

    def __init_subclass__(cls, kept: Mapping[str, str] = {}, direction: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._kept, cls.direction = kept or cls._kept, direction or cls.direction

    def __init__(
        self,
        thresholds: float | Sequence[float] | None = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        given = [] if thresholds is None else np.atleast_1d(np.asarray(thresholds, "float64")).tolist()
        checks.require(all(0 <= t <= 1 for t in given), self, "thresholds must be between 0 and 1", thresholds)
        default = 0.5 if top_k is None else _EXCLUDED
        super().__init__(given or [default], name, dtype, top_k, class_id)

    def result(self) -> Any:
        counted, *other = (getattr(self, variable).value for variable in self._kept)
        values = divide_no_nan(counted, counted + other[0]) if other else counted
        return values[0] if len(self.thresholds) == 1 else values


_COUNT = variant(without=["top_k", "class_id"])


@_COUNT
class TruePositives(_AtThresholds, kept={"accumulator": "true_positives"}):
    """The number of positive samples that were predicted to be positive."""


@_COUNT
class TrueNegatives(_AtThresholds, kept={"accumulator": "true_negatives"}):
    """The number of negative samples that were predicted to be negative."""


@_COUNT
class FalsePositives(_AtThresholds, kept={"accumulator": "false_positives"}, direction="min"):
    """The number of negative samples that were predicted to be positive."""


@_COUNT
class FalseNegatives(_AtThresholds, kept={"accumulator": "false_negatives"}, direction="min"):
    """The number of positive samples that were predicted to be negative."""


class Precision(_AtThresholds, kept={cell: cell for cell in RATES["precision"]}):
    """`true_positives / (true_positives + false_positives)`: the share of right ones among those predicted."""


class Recall(_AtThresholds, kept={cell: cell for cell in RATES["recall"]}):
    """`true_positives / (true_positives + false_negatives)`: the share of predicted ones among the right."""


_BEST = """The highest {maximized} at thresholds whose {held} is at least `{held}`.

Args:
    {held}: between 0 and 1.
    num_thresholds: how many thresholds from 0 to 1 are tried.
    class_id: only this class counts, an index of the last axis.
"""


class _BestAtRate(ConfusionMetric):
    """Base of the highest of one rate where another is held."""

    _rates: tuple[str, str]  # the one that is held, the one that is maximized

    def __init_subclass__(cls, held: str = "", maximized: str = "") -> None:
        if held:  # the class statement names both, and the constructor has the name of the held one for `value`
            cls._rates = (held, maximized)
            cls.__init__ = functions.with_argument(_BestAtRate.__init__, held, "", place=1)
            cls.__init__.__qualname__ = f"{cls.__qualname__}.__init__"
            cls.__doc__ = _BEST.format(held=held, maximized=maximized)
        super().__init_subclass__()

    def __init__(
        self,
        value: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        who, held = type(self).__name__, self._rates[0]
        self.value = checks.number(who, held, value, 0, 1)
        self.num_thresholds = checks.integer(who, "num_thresholds", num_thresholds)
        super().__init__(even_thresholds(num_thresholds), name, dtype, class_id=class_id)
        setattr(self, held, value)

    def result(self) -> Any:
        held, maximized = (self.rate(name) for name in self._rates)
        return jnp.max(jnp.where(held >= self.value, maximized, 0), initial=0)


class SensitivityAtSpecificity(_BestAtRate, held="specificity", maximized="sensitivity"): ...


class SpecificityAtSensitivity(_BestAtRate, held="sensitivity", maximized="specificity"): ...


class PrecisionAtRecall(_BestAtRate, held="recall", maximized="precision"): ...


class RecallAtPrecision(_BestAtRate, held="precision", maximized="recall"): ...
