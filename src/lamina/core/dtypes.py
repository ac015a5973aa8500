"""Names of dtypes, and the settings of the process that go with them."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from lamina.core import checks

FLOATS = ("float16", "float32", "float64", "bfloat16")
INTEGERS = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "int4", "uint4")
ALLOWED = (*FLOATS, *INTEGERS, "bool", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2", "string")
_PYTHON_TYPES = {bool: "bool", int: "int32", float: "float32", str: "string", "int": "int32"}

_settings: dict[str, Any] = {"floatx": "float32", "epsilon": 1e-7, "image_data_format": "channels_last"}


def floatx() -> str:
    """The default float dtype, `"float32"` unless set."""
    return _settings["floatx"]


def set_floatx(value: str) -> None:
    """Set the default float dtype."""
    _settings["floatx"] = checks.one_of("set_floatx", "value", value, FLOATS)


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
    _settings["image_data_format"] = standardize_data_format(data_format, "set_image_data_format")


def standardize_data_format(data_format: str | None, who: str | None = None) -> str:
    """The given data format in lower case, or the default; anything else is an error."""
    if data_format is None:
        return image_data_format()
    value = str(data_format).lower()
    if value not in ("channels_first", "channels_last"):
        where = f"{who}: data_format" if who else "data_format"
        raise ValueError(f"{where} must be 'channels_first' or 'channels_last', got {data_format!r}.")
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


def wide(dtype: Any) -> Any:
    """The dtype that sums and statistics are kept in: a float or complex one of at least 32 bits a number."""
    return jnp.promote_types(dtype, jnp.float32)


def accumulator(*arrays: Any) -> str | None:
    """What products of arrays are summed in, if not in their own dtype: 8-bit integers in 32-bit ones."""
    return "int32" if {a.dtype.name for a in arrays} == {"int8"} else None


def floating(dtype: Any) -> Any:
    """The dtype itself if it has fractions, else the default float: what means of its values have."""
    return dtype if jnp.issubdtype(dtype, jnp.inexact) else jnp.dtype(floatx())


def result_type(*dtypes: Any) -> str:
    """The dtype that arrays of these dtypes have together; `None` stands for the default float."""
    if not dtypes:
        return floatx()
    known = [floatx() if d is None else d for d in dtypes]
    weak = {int: 0, float: 0.0, bool: False, complex: 0j}
    resolved = [weak[d] if isinstance(d, type) and d in weak else jnp.dtype(standardize_dtype(d)) for d in known]
    return np.dtype(jnp.result_type(*resolved)).name
