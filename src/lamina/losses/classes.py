"""The loss functions as objects: each class is a function and what it is given.

`reduction`, `name` and `dtype` are those of `Loss`, the other arguments those of the function.
"""

from __future__ import annotations

from typing import Any

from lamina.losses import functions as f
from lamina.losses.loss import LossFunctionWrapper

Text = str | None
BATCH = "sum_over_batch_size"


class MeanSquaredError(LossFunctionWrapper):
    """`mean((y_true - y_pred)²)` over the last axis: the loss `mean_squared_error`."""

    def __init__(self, reduction: Text = BATCH, name: Text = "mean_squared_error", dtype: Any = None):
        super().__init__(f.mean_squared_error, reduction, name, dtype)


class MeanAbsoluteError(LossFunctionWrapper):
    """`mean(|y_true - y_pred|)` over the last axis: the loss `mean_absolute_error`."""

    def __init__(self, reduction: Text = BATCH, name: Text = "mean_absolute_error", dtype: Any = None):
        super().__init__(f.mean_absolute_error, reduction, name, dtype)


class MeanAbsolutePercentageError(LossFunctionWrapper):
    """`100 · mean(|y_true - y_pred| / |y_true|)` over the last axis: `mean_absolute_percentage_error`."""

    def __init__(self, reduction: Text = BATCH, name: Text = "mean_absolute_percentage_error", dtype: Any = None):
        super().__init__(f.mean_absolute_percentage_error, reduction, name, dtype)


class MeanSquaredLogarithmicError(LossFunctionWrapper):
    """`mean((log(1 + y_true) - log(1 + y_pred))²)` over the last axis; values below 0 count as 0.

    Arguments are those of `mean_squared_logarithmic_error` and of `Loss`.
    """

    def __init__(self, reduction: Text = BATCH, name: Text = "mean_squared_logarithmic_error", dtype: Any = None):
        super().__init__(f.mean_squared_logarithmic_error, reduction, name, dtype)


class Huber(LossFunctionWrapper):
    """`mean(e² / 2 if e ≤ delta else delta · e - delta² / 2)` over the last axis, `e = |y_true - y_pred|`.

    Arguments are those of `huber` and of `Loss`.
    """

    _omit_none = frozenset({"dtype", "delta"})

    def __init__(self, delta: float = 1.0, reduction: Text = BATCH, name: Text = "huber_loss", dtype: Any = None):
        super().__init__(f.huber, reduction, name, dtype, delta=delta)


class LogCosh(LossFunctionWrapper):
    """`mean(log(cosh(y_pred - y_true)))` over the last axis: the loss `log_cosh`."""

    def __init__(self, reduction: Text = BATCH, name: Text = "log_cosh", dtype: Any = None):
        super().__init__(f.log_cosh, reduction, name, dtype)


class CosineSimilarity(LossFunctionWrapper):
    """`-sum(y_true · y_pred) / (‖y_true‖ ‖y_pred‖)` over `axis`: -1 for the same direction.

    Arguments are those of `cosine_similarity` and of `Loss`.
    """

    _omit_none = frozenset({"dtype", "axis"})

    def __init__(self, axis: int = -1, reduction: Text = BATCH, name: Text = "cosine_similarity", dtype: Any = None):
        super().__init__(f.cosine_similarity, reduction, name, dtype, axis=axis)


class KLDivergence(LossFunctionWrapper):
    """`sum(y_true · log(y_true / y_pred))` over the last axis: the loss `kl_divergence`."""

    def __init__(self, reduction: Text = BATCH, name: Text = "kl_divergence", dtype: Any = None):
        super().__init__(f.kl_divergence, reduction, name, dtype)


class Poisson(LossFunctionWrapper):
    """`mean(y_pred - y_true · log(y_pred))` over the last axis: the loss `poisson`."""

    def __init__(self, reduction: Text = BATCH, name: Text = "poisson", dtype: Any = None):
        super().__init__(f.poisson, reduction, name, dtype)


class BinaryCrossentropy(LossFunctionWrapper):
    """`-mean(y_true · log(p) + (1 - y_true) · log(1 - p))` over `axis`: the loss `binary_crossentropy`."""

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: Text = BATCH,
        name: Text = "binary_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(
            f.binary_crossentropy,
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class BinaryFocalCrossentropy(LossFunctionWrapper):
    """`mean((1 - p_t)^gamma · binary crossentropy)`, `p_t` the probability given to the target.

    Arguments are those of `binary_focal_crossentropy` and of `Loss`.
    """

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: Text = BATCH,
        name: Text = "binary_focal_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(
            f.binary_focal_crossentropy,
            reduction,
            name,
            dtype,
            apply_class_balancing=apply_class_balancing,
            alpha=alpha,
            gamma=gamma,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class CategoricalCrossentropy(LossFunctionWrapper):
    """`-sum(y_true · log(p))` over the axis of the classes: the loss `categorical_crossentropy`."""

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: Text = BATCH,
        name: Text = "categorical_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(
            f.categorical_crossentropy,
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class CategoricalFocalCrossentropy(LossFunctionWrapper):
    """`-sum(alpha · (1 - p)^gamma · y_true · log(p))` over the axis of the classes.

    Arguments are those of `categorical_focal_crossentropy` and of `Loss`.
    """

    def __init__(
        self,
        alpha: Any = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: Text = BATCH,
        name: Text = "categorical_focal_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(
            f.categorical_focal_crossentropy,
            reduction,
            name,
            dtype,
            alpha=alpha,
            gamma=gamma,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class SparseCategoricalCrossentropy(LossFunctionWrapper):
    """`-log(p[y_true])`, `p` along the axis of the classes: the loss `sparse_categorical_crossentropy`."""

    _omit_none = frozenset({"dtype", "axis"})
    _keeps_integers = True

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: Text = BATCH,
        axis: int = -1,
        name: Text = "sparse_categorical_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(
            f.sparse_categorical_crossentropy,
            reduction,
            name,
            dtype,
            from_logits=from_logits,
            ignore_class=ignore_class,
            axis=axis,
        )


class CategoricalGeneralizedCrossEntropy(LossFunctionWrapper):
    """`(1 - p[y_true]^q) / q`, with `y_true` integer classes: less moved by wrong labels than crossentropy.

    Arguments are those of `categorical_generalized_cross_entropy` and of `Loss`.
    """

    def __init__(
        self,
        q: float = 0.5,
        reduction: Text = BATCH,
        name: Text = "categorical_generalized_cross_entropy",
        dtype: Any = None,
    ):
        if not 0 < q < 1:
            raise ValueError(f"{type(self).__name__}: q must be between 0 and 1, got {q}.")
        super().__init__(f.categorical_generalized_cross_entropy, reduction, name, dtype, q=q)


class Hinge(LossFunctionWrapper):
    """`mean(max(1 - y_true · y_pred, 0))` over the last axis, with targets -1 and 1 (or 0 and 1): `hinge`."""

    def __init__(self, reduction: Text = BATCH, name: Text = "hinge", dtype: Any = None):
        super().__init__(f.hinge, reduction, name, dtype)


class SquaredHinge(LossFunctionWrapper):
    """`mean(max(1 - y_true · y_pred, 0)²)` over the last axis, with targets -1 and 1 (or 0 and 1).

    Arguments are those of `squared_hinge` and of `Loss`.
    """

    def __init__(self, reduction: Text = BATCH, name: Text = "squared_hinge", dtype: Any = None):
        super().__init__(f.squared_hinge, reduction, name, dtype)


class CategoricalHinge(LossFunctionWrapper):
    """`max(1 + max((1 - y_true) · y_pred) - sum(y_true · y_pred), 0)` over the last axis, the classes.

    Arguments are those of `categorical_hinge` and of `Loss`.
    """

    def __init__(self, reduction: Text = BATCH, name: Text = "categorical_hinge", dtype: Any = None):
        super().__init__(f.categorical_hinge, reduction, name, dtype)


class Dice(LossFunctionWrapper):
    """`1 - 2 sum(y_true · y_pred) / (sum(y_true) + sum(y_pred))` over `axis`, all axes if `None`: `dice`."""

    def __init__(self, reduction: Text = BATCH, name: Text = "dice", axis: Any = None, dtype: Any = None):
        super().__init__(f.dice, reduction, name, dtype, axis=axis)


class Tversky(LossFunctionWrapper):
    """`1 - both / (both + alpha · missed + beta · invented)`, sums over `axis`, all axes if `None`.

    Arguments are those of `tversky` and of `Loss`.
    """

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.5,
        reduction: Text = BATCH,
        name: Text = "tversky",
        axis: Any = None,
        dtype: Any = None,
    ):
        super().__init__(f.tversky, reduction, name, dtype, alpha=alpha, beta=beta, axis=axis)


class Circle(LossFunctionWrapper):
    """`softplus(logsumexp(losses of pairs of one class) + logsumexp(losses of the other pairs))`.

    Arguments are those of `circle` and of `Loss`.
    """

    def __init__(
        self,
        gamma: float = 80.0,
        margin: float = 0.4,
        remove_diagonal: bool = True,
        reduction: Text = BATCH,
        name: Text = "circle",
        dtype: Any = None,
    ):
        super().__init__(f.circle, reduction, name, dtype, gamma=gamma, margin=margin, remove_diagonal=remove_diagonal)
