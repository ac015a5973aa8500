"""Dtype policies, as `lamina.dtype_policies`."""

from lamina.core.configurable import deserialize
from lamina.core.configurable import serialize as _serialize
from lamina.core.policy import (
    AWQDTypePolicy,
    DTypePolicy,
    DTypePolicyMap,
    FloatDTypePolicy,
    GPTQDTypePolicy,
    Int4DTypePolicy,
    QuantizedDTypePolicy,
    QuantizedFloat8DTypePolicy,
)
from lamina.core.policy import get_policy as get


def serialize(dtype_policy):
    """The policy as JSON values."""
    return _serialize(dtype_policy)


__all__ = [
    "AWQDTypePolicy", "DTypePolicy", "DTypePolicyMap", "FloatDTypePolicy", "GPTQDTypePolicy", "Int4DTypePolicy",
    "QuantizedDTypePolicy", "QuantizedFloat8DTypePolicy", "deserialize", "get", "serialize",
]  # fmt: skip
