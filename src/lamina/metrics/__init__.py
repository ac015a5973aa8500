"""Metrics: what training shows."""
# ruff: noqa: F403

from lamina import losses as _losses
from lamina.core import configurable as _configurable
from lamina.losses.functions import (
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    categorical_hinge,
    hinge,
    huber,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    poisson,
    sparse_categorical_crossentropy,
    squared_hinge,
)
from lamina.metrics import accuracy, confusion, probabilistic, regression
from lamina.metrics.accuracy import *
from lamina.metrics.auc import AUC
from lamina.metrics.confusion import *
from lamina.metrics.f_score import F1Score, FBetaScore
from lamina.metrics.iou import BinaryIoU, IoU, MeanIoU, OneHotIoU, OneHotMeanIoU
from lamina.metrics.metric import Metric
from lamina.metrics.probabilistic import *
from lamina.metrics.reduction import Mean, MeanMetricWrapper, Sum
from lamina.metrics.regression import *

__all__ = [
    "AUC", "BinaryIoU", "F1Score", "FBetaScore", "IoU", "Mean", "MeanIoU", "MeanMetricWrapper", "Metric", "OneHotIoU",
    "OneHotMeanIoU", "Sum", "binary_crossentropy", "binary_focal_crossentropy", "categorical_crossentropy",
    "categorical_focal_crossentropy", "categorical_hinge", "deserialize", "get", "hinge", "huber", "kl_divergence",
    "log_cosh", "mean_absolute_error", "mean_absolute_percentage_error", "mean_squared_error",
    "mean_squared_logarithmic_error", "poisson", "serialize", "sparse_categorical_crossentropy", "squared_hinge",
]  # fmt: skip
__all__ += accuracy.__all__
__all__ += confusion.__all__
__all__ += probabilistic.__all__
__all__ += regression.__all__

# A name in snake case means the class here, not the function of that name.
_ALIASES = {name.lower(): name for name in __all__ if name[0].isupper()} | {
    "bce": "BinaryCrossentropy",
    "mae": "MeanAbsoluteError",
    "mape": "MeanAbsolutePercentageError",
    "mse": "MeanSquaredError",
    "msle": "MeanSquaredLogarithmicError",
}


get, serialize, deserialize = _configurable.namespace_functions("metrics", "metric", Metric, aliases=_ALIASES)


def direction_of(name: str) -> str | None:
    """Which results are better of the metric or loss of this name: `"max"`, `"min"`, or `None` if there is none."""
    metric = globals().get(_ALIASES.get(name.replace("_", "").lower(), ""))
    return getattr(metric, "direction", None) or ("min" if name in _losses.__all__ else None)
