"""Dtype policies: what a layer computes in, and what it keeps its weights in."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from lamina.core import dtypes
from lamina.core.configurable import Configurable

_default: dict[str, Any] = {"policy": None, "follows_floatx": True}


class DTypePolicy(Configurable):
    """What a layer computes in and what it keeps its weights in.

    `"float32"`, `"bfloat16"`, ... use one dtype for both; `"mixed_float16"` and `"mixed_bfloat16"` compute in
    16 bits and keep float32 weights.
    """

    def __init__(self, name: str | None = None):
        name = name or dtypes.floatx()
        if not isinstance(name, str):
            raise TypeError(f"DTypePolicy: name must be a string such as 'mixed_bfloat16', got {name!r}.")
        self._name = name
        self._compute_dtype, self._variable_dtype = self._parse_name(name)

    def _parse_name(self, name: str) -> tuple[str, str]:
        if name in ("mixed_float16", "mixed_bfloat16"):
            return name.removeprefix("mixed_"), "float32"
        try:
            dtype = dtypes.standardize_dtype(name)
        except ValueError:
            raise ValueError(
                f"DTypePolicy: name must be a dtype, 'mixed_float16' or 'mixed_bfloat16', got {name!r}."
            ) from None
        return dtype, dtype

    @property
    def name(self) -> str:
        """The name that the policy was made from."""
        return self._name

    @property
    def compute_dtype(self) -> str:
        """The dtype of a layer's inputs, computation and outputs."""
        return self._compute_dtype

    @property
    def variable_dtype(self) -> str:
        """The dtype of a layer's weights."""
        return self._variable_dtype

    @property
    def quantization_mode(self) -> str | None:
        """The mode of quantization, `None` here."""
        return None

    def convert_input(self, x: Any, autocast: bool, dtype: Any) -> Any:
        """`x` as an array of `dtype` if it is a float array and `autocast` holds."""
        dtype = dtypes.standardize_dtype(dtype)
        if isinstance(x, (int, float)):
            return jnp.asarray(x, dtype if isinstance(x, float) else None)
        current = getattr(x, "dtype", None)
        if autocast and current is not None and dtypes.is_float(current) and dtypes.standardize_dtype(current) != dtype:
            return x.astype(dtype)
        return x

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name}

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.get_config() == other.get_config()  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((type(self), self._name))

    def __repr__(self) -> str:
        return f'<{type(self).__name__} "{self._name}">'


class FloatDTypePolicy(DTypePolicy):
    """An older name of `DTypePolicy`, kept for saved files."""


def dtype_policy() -> DTypePolicy:
    """The policy that new layers get."""
    if _default["policy"] is None or (_default["policy"].name != dtypes.floatx() and _default["follows_floatx"]):
        _default["policy"], _default["follows_floatx"] = DTypePolicy(dtypes.floatx()), True
    return _default["policy"]


def set_dtype_policy(policy: Any) -> None:
    """Set the policy that new layers get, by name or as an object; `None` goes back to `floatx()`."""
    _default["follows_floatx"] = policy is None
    _default["policy"] = None if policy is None else get_policy(policy)


def get_policy(identifier: Any) -> DTypePolicy:
    """A policy from a policy, a name, a dtype, a saved configuration or `None` (the default policy)."""
    if identifier is None:
        return dtype_policy()
    if isinstance(identifier, DTypePolicy):
        return identifier
    if isinstance(identifier, dict):
        return DTypePolicy.from_config(identifier.get("config", identifier))
    if isinstance(identifier, str):
        return DTypePolicy(identifier)
    try:
        return DTypePolicy(dtypes.standardize_dtype(identifier))
    except ValueError:
        raise ValueError(f"dtype: must be a DTypePolicy, a name or a dtype, got {identifier!r}.") from None
