"""How well predicted probabilities and margins fit: means of losses."""

from lamina import losses
from lamina.metrics.reduction import MeanOf

__all__ = [
    "BinaryCrossentropy", "CategoricalCrossentropy", "CategoricalHinge", "Hinge", "KLDivergence", "Poisson",
    "SparseCategoricalCrossentropy", "SquaredHinge",
]  # fmt: skip


class KLDivergence(MeanOf, fn=losses.kl_divergence): ...


class Poisson(MeanOf, fn=losses.poisson): ...


class BinaryCrossentropy(
    MeanOf, fn=losses.binary_crossentropy, order="name dtype from_logits label_smoothing", label_smoothing=0
): ...


class CategoricalCrossentropy(MeanOf, fn=losses.categorical_crossentropy, label_smoothing=0): ...


class SparseCategoricalCrossentropy(MeanOf, fn=losses.sparse_categorical_crossentropy): ...


class Hinge(MeanOf, fn=losses.hinge): ...


class SquaredHinge(MeanOf, fn=losses.squared_hinge): ...


class CategoricalHinge(MeanOf, fn=losses.categorical_hinge): ...
