"""`Layer`, the one core idea: weights in `build()`, computation in `call()`."""

from lamina.layer.base import Layer
from lamina.layer.remat import RematScope
from lamina.layer.signature import InputSpec
from lamina.layer.wrapper import Wrapper

__all__ = ["InputSpec", "Layer", "RematScope", "Wrapper"]
