"""Datasets for training that need no other library; `Dataset` reads like `tf.data.Dataset`."""

from lamina.data.dataset import AUTOTUNE, Dataset
from lamina.data.elements import TensorSpec

__all__ = ["AUTOTUNE", "Dataset", "TensorSpec"]
