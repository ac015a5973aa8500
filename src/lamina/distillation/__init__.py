"""A small model learns from a large one, as `lamina.distillation`."""

from lamina.distillation.distiller import Distiller
from lamina.distillation.losses import DistillationLoss, FeatureDistillation, LogitsDistillation

__all__ = ["DistillationLoss", "Distiller", "FeatureDistillation", "LogitsDistillation"]
