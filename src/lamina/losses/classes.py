"""The loss functions as objects: each class is a function and what it is given.

`reduction`, `name` and `dtype` are those of `Loss`, the other arguments those of the function, which has the formula.
"""

from lamina.core import checks
from lamina.losses import functions as f
from lamina.losses.loss import LossOf

__all__ = [
    "CTC", "BinaryCrossentropy", "BinaryFocalCrossentropy", "CategoricalCrossentropy", "CategoricalFocalCrossentropy",
    "CategoricalGeneralizedCrossEntropy", "CategoricalHinge", "Circle", "CosineSimilarity", "Dice", "Hinge", "Huber",
    "KLDivergence", "LogCosh", "MeanAbsoluteError", "MeanAbsolutePercentageError", "MeanSquaredError",
    "MeanSquaredLogarithmicError", "Poisson", "SparseCategoricalCrossentropy", "SquaredHinge", "Tversky",
]  # fmt: skip

# What Keras does not write into a configuration is left out while it has its default.
_WITHOUT_AXIS = frozenset({"dtype", "axis"})


class MeanSquaredError(LossOf, fn=f.mean_squared_error): ...


class MeanAbsoluteError(LossOf, fn=f.mean_absolute_error): ...


class MeanAbsolutePercentageError(LossOf, fn=f.mean_absolute_percentage_error): ...


class MeanSquaredLogarithmicError(LossOf, fn=f.mean_squared_logarithmic_error): ...


class Huber(LossOf, fn=f.huber, name="huber_loss"):
    _omit_none = frozenset({"dtype", "delta"})


class LogCosh(LossOf, fn=f.log_cosh): ...


class CosineSimilarity(LossOf, fn=f.cosine_similarity):
    _omit_none = _WITHOUT_AXIS


class KLDivergence(LossOf, fn=f.kl_divergence): ...


class Poisson(LossOf, fn=f.poisson): ...


class BinaryCrossentropy(LossOf, fn=f.binary_crossentropy): ...


class BinaryFocalCrossentropy(LossOf, fn=f.binary_focal_crossentropy): ...


class CategoricalCrossentropy(LossOf, fn=f.categorical_crossentropy): ...


class CategoricalFocalCrossentropy(LossOf, fn=f.categorical_focal_crossentropy): ...


class SparseCategoricalCrossentropy(
    LossOf, fn=f.sparse_categorical_crossentropy, order="from_logits ignore_class reduction axis name dtype"
):
    _omit_none = _WITHOUT_AXIS
    _keeps_integers = True


class CategoricalGeneralizedCrossEntropy(LossOf, fn=f.categorical_generalized_cross_entropy, q=0.5):
    q: float

    def __post_init__(self) -> None:
        checks.require(0 < self.q < 1, self, "q must be between 0 and 1", self.q)


class Hinge(LossOf, fn=f.hinge): ...


class SquaredHinge(LossOf, fn=f.squared_hinge): ...


class CategoricalHinge(LossOf, fn=f.categorical_hinge): ...


class Dice(LossOf, fn=f.dice, order="reduction name axis dtype"): ...


class Tversky(LossOf, fn=f.tversky, order="alpha beta reduction name axis dtype"): ...


class Circle(LossOf, fn=f.circle, order="gamma margin remove_diagonal reduction name dtype"): ...


class CTC(LossOf, fn=f.ctc, order="reduction name dtype"):
    _keeps_integers = True
