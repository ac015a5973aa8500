"""All layers."""

from lamina.layer import InputSpec, Layer, Wrapper
from lamina.layers.core import Dense, Embedding, Identity, Input, InputLayer, Lambda, Masking

__all__ = [
    "Dense",
    "Embedding",
    "Identity",
    "Input",
    "InputLayer",
    "InputSpec",
    "Lambda",
    "Layer",
    "Masking",
    "Wrapper",
]
