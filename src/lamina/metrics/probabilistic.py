"""How well predicted probabilities and margins fit: means of losses."""

from __future__ import annotations

from typing import Any

from lamina import losses
from lamina.metrics.reduction import MeanMetricWrapper

Text = str | None


class KLDivergence(MeanMetricWrapper):
    """Mean of `kl_divergence`."""

    direction = "min"

    def __init__(self, name: Text = "kl_divergence", dtype: Any = None):
        super().__init__(losses.kl_divergence, name, dtype)


class Poisson(MeanMetricWrapper):
    """Mean of `poisson`."""

    direction = "min"

    def __init__(self, name: Text = "poisson", dtype: Any = None):
        super().__init__(losses.poisson, name, dtype)


class BinaryCrossentropy(MeanMetricWrapper):
    """Mean of `binary_crossentropy`."""

    direction = "min"

    def __init__(
        self,
        name: Text = "binary_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0,
    ):
        arguments = {"from_logits": from_logits, "label_smoothing": label_smoothing}
        super().__init__(losses.binary_crossentropy, name, dtype, **arguments)


class CategoricalCrossentropy(MeanMetricWrapper):
    """Mean of `categorical_crossentropy`."""

    direction = "min"

    def __init__(
        self,
        name: Text = "categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0,
        axis: int = -1,
    ):
        arguments = {"from_logits": from_logits, "label_smoothing": label_smoothing, "axis": axis}
        super().__init__(losses.categorical_crossentropy, name, dtype, **arguments)


class SparseCategoricalCrossentropy(MeanMetricWrapper):
    """Mean of `sparse_categorical_crossentropy`."""

    direction = "min"

    def __init__(
        self,
        name: Text = "sparse_categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        ignore_class: int | None = None,
        axis: int = -1,
    ):
        arguments = {"from_logits": from_logits, "ignore_class": ignore_class, "axis": axis}
        super().__init__(losses.sparse_categorical_crossentropy, name, dtype, **arguments)


class Hinge(MeanMetricWrapper):
    """Mean of `hinge`."""

    direction = "min"

    def __init__(self, name: Text = "hinge", dtype: Any = None):
        super().__init__(losses.hinge, name, dtype)


class SquaredHinge(MeanMetricWrapper):
    """Mean of `squared_hinge`."""

    direction = "min"

    def __init__(self, name: Text = "squared_hinge", dtype: Any = None):
        super().__init__(losses.squared_hinge, name, dtype)


class CategoricalHinge(MeanMetricWrapper):
    """Mean of `categorical_hinge`."""

    direction = "min"

    def __init__(self, name: Text = "categorical_hinge", dtype: Any = None):
        super().__init__(losses.categorical_hinge, name, dtype)
