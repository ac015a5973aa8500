"""`Wrapper`: a layer around another one."""

from typing import Any

from lamina.layer.base import Layer


class Wrapper(Layer):
    """A layer around another one.

    Args:
        layer: the layer inside.

    Raises: ValueError if `layer` is not a layer.
    """

    def __init__(self, layer: Layer, **kwargs: Any):
        if not isinstance(layer, Layer):
            raise ValueError(f"{type(self).__name__}: layer must be a Layer, got {layer!r}.")
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, input_shape: Any = None) -> None:
        if not self.layer.built:
            self.layer.build(input_shape)
