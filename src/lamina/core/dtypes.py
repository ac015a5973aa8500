"""Floating-point settings of the process, and dtype policies."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from lamina.core.config import Configurable
from lamina.core.scope import Scope

FLOATS = ("float16", "float32", "float64", "bfloat16")
INTEGERS = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "int4", "uint4")
ALLOWED = (*FLOATS, *INTEGERS, "bool", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2", "string")
_PYTHON_TYPES = {bool: "bool", int: "int32", float: "float32", str: "string", "int": "int32"}

_settings: dict[str, Any] = {"floatx": "float32", "epsilon": 1e-7, "image_data_format": "channels_last", "policy": None}


def floatx() -> str:
    """The default float dtype, `"float32"` unless set."""
    return _settings["floatx"]


def set_floatx(value: str) -> None:
    """Set the default float dtype."""
    if value not in FLOATS:
        raise ValueError(f"set_floatx: value must be one of {', '.join(FLOATS)}, got {value!r}.")
    _settings["floatx"] = value


def epsilon() -> float:
    """The small number that keeps divisions and logarithms finite, 1e-7 unless set."""
    return _settings["epsilon"]


def set_epsilon(value: float) -> None:
    """Set the number that `epsilon()` returns."""
    _settings["epsilon"] = value


def image_data_format() -> str:
    """`"channels_last"` or `"channels_first"`."""
    return _settings["image_data_format"]


def set_image_data_format(data_format: str) -> None:
    """Set the default position of the channel axis of images."""
    _settings["image_data_format"] = standardize_data_format(data_format)


def standardize_data_format(data_format: str | None, who: str = "data_format") -> str:
    """The given data format in lower case, or the default; anything else is an error."""
    if data_format is None:
        return image_data_format()
    value = str(data_format).lower()
    if value not in ("channels_first", "channels_last"):
        raise ValueError(f"{who}: must be 'channels_first' or 'channels_last', got {data_format!r}.")
    return value


def standardize_dtype(dtype: Any) -> str:
    """The canonical name of a dtype given as a string, NumPy or JAX dtype, Python type or torch/TF dtype."""
    if dtype is None:
        return floatx()
    if isinstance(dtype, str) and dtype in ALLOWED:
        return dtype
    if (isinstance(dtype, (type, str))) and dtype in _PYTHON_TYPES:
        return _PYTHON_TYPES[dtype]
    name = getattr(dtype, "name", None) or getattr(dtype, "__name__", None)
    if name is None:
        name = str(dtype).removeprefix("torch.")
    if name not in ALLOWED:
        raise ValueError(f"dtype: must name a known dtype such as 'float32', got {dtype!r}.")
    return name


def is_float(dtype: Any) -> bool:
    """Whether the dtype is a floating-point one (8-bit floats included)."""
    return "float" in standardize_dtype(dtype)


def is_int(dtype: Any) -> bool:
    """Whether the dtype is an integer one."""
    return standardize_dtype(dtype) in INTEGERS


def result_type(*dtypes: Any) -> str:
    """The dtype that arrays of these dtypes have together; `None` stands for the default float."""
    if not dtypes:
        return floatx()
    known = [floatx() if d is None else d for d in dtypes]
    weak = {int: 0, float: 0.0, bool: False, complex: 0j}
    resolved = [weak[d] if isinstance(d, type) and d in weak else jnp.dtype(standardize_dtype(d)) for d in known]
    return np.dtype(jnp.result_type(*resolved)).name


class DTypePolicy(Configurable):
    """What a layer computes in and what it keeps its weights in.

    `"float32"`, `"bfloat16"`, ... use one dtype for both; `"mixed_float16"` and `"mixed_bfloat16"` compute in
    16 bits and keep float32 weights.
    """

    def __init__(self, name: str | None = None):
        name = name or floatx()
        if not isinstance(name, str):
            raise TypeError(f"DTypePolicy: name must be a string such as 'mixed_bfloat16', got {name!r}.")
        self._name = name
        self._compute_dtype, self._variable_dtype = self._parse_name(name)

    def _parse_name(self, name: str) -> tuple[str, str]:
        if name in ("mixed_float16", "mixed_bfloat16"):
            return name.removeprefix("mixed_"), "float32"
        try:
            dtype = standardize_dtype(name)
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
        dtype = standardize_dtype(dtype)
        if isinstance(x, (int, float)):
            return jnp.asarray(x, dtype if isinstance(x, float) else None)
        current = getattr(x, "dtype", None)
        if autocast and current is not None and is_float(current) and standardize_dtype(current) != dtype:
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
    if _settings["policy"] is None or (_settings["policy"].name != floatx() and _settings["follows_floatx"]):
        _settings["policy"], _settings["follows_floatx"] = DTypePolicy(floatx()), True
    return _settings["policy"]


def set_dtype_policy(policy: Any) -> None:
    """Set the policy that new layers get, by name or as an object; `None` goes back to `floatx()`."""
    _settings["follows_floatx"] = policy is None
    _settings["policy"] = None if policy is None else get_policy(policy)


def get_policy(identifier: Any) -> DTypePolicy:
    """A policy from a policy, a name, a dtype, a saved configuration or `None` (the default policy)."""
    if identifier is None:
        return dtype_policy()
    if isinstance(identifier, DTypePolicy):
        return identifier
    if isinstance(identifier, dict):
        from_config = DTypePolicy.from_config(identifier.get("config", identifier))
        return from_config
    if isinstance(identifier, str):
        return DTypePolicy(identifier)
    try:
        return DTypePolicy(standardize_dtype(identifier))
    except ValueError:
        raise ValueError(f"dtype: must be a DTypePolicy, a name or a dtype, got {identifier!r}.") from None


device_scope: Scope[Any] = Scope("device", None)
