"""What Keras programs ask of the backend, as `lamina.backend`."""

from lamina.config import backend
from lamina.core.dtypes import (
    epsilon,
    floatx,
    image_data_format,
    result_type,
    set_epsilon,
    set_floatx,
    set_image_data_format,
    standardize_dtype,
)
from lamina.core.dtypes import is_float as is_float_dtype
from lamina.core.dtypes import is_int as is_int_dtype
from lamina.core.scope import get_uid, reset_names
from lamina.core.symbolic import is_keras_tensor
from lamina.random.seeds import reset_global_generator


def clear_session(free_memory: bool = True) -> None:
    """Number automatic names from the start again, and forget the global seed generator."""
    del free_memory  # nothing is kept that models do not hold themselves
    reset_names()
    reset_global_generator()


__all__ = [
    "backend", "clear_session", "epsilon", "floatx", "get_uid", "image_data_format", "is_float_dtype", "is_int_dtype",
    "is_keras_tensor", "result_type", "set_epsilon", "set_floatx", "set_image_data_format", "standardize_dtype",
]  # fmt: skip
