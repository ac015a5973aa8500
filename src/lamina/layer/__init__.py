"""`Layer`, the one core idea: weights in `build()`, computation in `call()`."""

from lamina.layer.base import Layer, Wrapper
from lamina.layer.signature import InputSpec

__all__ = ["InputSpec", "Layer", "Wrapper"]
