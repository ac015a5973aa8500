"""Losses: what training makes small."""
# ruff: noqa: F403

from lamina.core import configurable as _configurable
from lamina.losses import classes, functions
from lamina.losses.classes import *
from lamina.losses.functions import *
from lamina.losses.loss import Loss

__all__ = ["Loss", "deserialize", "get", "serialize"]
__all__ += classes.__all__
__all__ += functions.__all__

_ALIASES = {
    "bce": "binary_crossentropy",
    "kld": "kl_divergence",
    "mae": "mean_absolute_error",
    "mape": "mean_absolute_percentage_error",
    "mse": "mean_squared_error",
    "msle": "mean_squared_logarithmic_error",
}


get, serialize, deserialize = _configurable.namespace_functions(
    "losses", "loss", Loss, aliases=_ALIASES, deserialized="name"
)
