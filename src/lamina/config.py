"""Settings of the process, as `lamina.config`."""

from lamina.callbacks.progress import (
    disable_interactive_logging,
    enable_interactive_logging,
    is_interactive_logging_enabled,
)
from lamina.core.dtypes import epsilon, floatx, image_data_format, set_epsilon, set_floatx, set_image_data_format
from lamina.core.errors import disable_traceback_filtering, enable_traceback_filtering, is_traceback_filtering_enabled
from lamina.core.policy import dtype_policy, set_dtype_policy
from lamina.ops.flash import disable_flash_attention, enable_flash_attention, is_flash_attention_enabled


def backend() -> str:
    """`"jax"`: the one engine."""
    return "jax"


__all__ = [
    "backend",
    "disable_flash_attention",
    "disable_interactive_logging",
    "disable_traceback_filtering",
    "dtype_policy",
    "enable_flash_attention",
    "enable_interactive_logging",
    "enable_traceback_filtering",
    "epsilon",
    "floatx",
    "image_data_format",
    "is_flash_attention_enabled",
    "is_interactive_logging_enabled",
    "is_traceback_filtering_enabled",
    "set_dtype_policy",
    "set_epsilon",
    "set_floatx",
    "set_image_data_format",
]
