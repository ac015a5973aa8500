"""Activation functions, and how a name, a function or a configuration becomes one."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax import nn as jnn

from lamina.core import configurable, dtypes
from lamina.core.symbolic import op
from lamina.ops import cpu, nn
from lamina.ops.binding import bound, operand
from lamina.ops.nn import (
    celu,
    elu,
    glu,
    hard_shrink,
    hard_sigmoid,
    hard_silu,
    hard_swish,
    hard_tanh,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_shrink,
    softmax,
    softplus,
    softsign,
    sparse_plus,
    sparse_sigmoid,
    sparsemax,
    squareplus,
    swish,
    tanh_shrink,
    threshold,
)
from lamina.ops.numpy import tanh

__all__ = [
    "celu", "deserialize", "elu", "exponential", "gelu", "get", "glu", "hard_shrink", "hard_sigmoid", "hard_silu",
    "hard_swish", "hard_tanh", "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu",
    "serialize", "sigmoid", "silu", "soft_shrink", "softmax", "softplus", "softsign", "sparse_plus",
    "sparse_sigmoid", "sparsemax", "squareplus", "swish", "tanh", "tanh_shrink", "threshold",
]  # fmt: skip


gelu = bound(
    cpu.gelu, "x approximate=False", "x P(Z <= x) for a standard normal Z, by tanh if `approximate`.", elementwise=True
)
mish = bound(jnn.mish, "x", "x tanh(softplus(x)).", elementwise=True)


@op(elementwise=True)
def exponential(x: Any) -> Any:
    """e^x."""
    return jnp.exp(operand(x))


def linear(x: Any) -> Any:
    """x."""
    return x


@op(elementwise=True)
def relu(x: Any, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0) -> Any:
    """x from threshold to max_value, max_value above, and negative_slope (x - threshold) below.

    Args:
        x: an array.
        negative_slope: the slope below the threshold.
        max_value: the largest value that comes out.
        threshold: the value below which the slope is another.
    """
    if negative_slope == 0 and max_value is None and threshold == 0:
        return nn.relu(x)
    x = jnp.asarray(x)
    x = x.astype(dtypes.floating(x.dtype))
    below = negative_slope * (x - threshold) if negative_slope else jnp.zeros_like(x)
    return jnp.minimum(jnp.where(x > threshold, x, below), jnp.inf if max_value is None else max_value).astype(x.dtype)


get, _, deserialize = configurable.namespace_functions(
    "activations", "activation", special=lambda identifier: linear if identifier is None else None
)


def serialize(activation: Any) -> Any:
    """The name of an activation function of the library; the configuration of any other."""
    plain = configurable.plain(activation)
    return plain if isinstance(plain, (str, Mapping)) else configurable.serialize(activation)
