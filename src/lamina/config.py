"""Settings of the process, as `lamina.config`."""

from lamina.callbacks.progress import (
    disable_interactive_logging,
    enable_interactive_logging,
    is_interactive_logging_enabled,
)
from lamina.core.budget import UnsafeFileError
from lamina.core.dtypes import epsilon, floatx, image_data_format, set_epsilon, set_floatx, set_image_data_format
from lamina.core.errors import disable_traceback_filtering, enable_traceback_filtering, is_traceback_filtering_enabled
from lamina.core.policy import dtype_policy, set_dtype_policy
from lamina.data.limits import max_epochs, max_steps_per_epoch, set_max_epochs, set_max_steps_per_epoch
from lamina.ops.flash import disable_flash_attention, enable_flash_attention, is_flash_attention_enabled


def backend() -> str:
    """`"jax"`: the one engine."""
    return "jax"


def is_nnx_enabled() -> bool:
    """`False`: layers are not modules of Flax."""
    return False


def enable_unsafe_deserialization() -> None:
    """Raises `UnsafeFileError`: no setting lets a file run code here.

    A switch for the whole process would hold for files from strangers too, and a program that goes on after it would
    believe that lambdas in its own files are opened. The functions that a file needs are given by name instead.
    """
    raise UnsafeFileError(
        "code from files is never run; give load_model and its like custom_objects={name: function} in place of it.",
        "enable_unsafe_deserialization",
    )


__all__ = [
    "backend", "disable_flash_attention", "disable_interactive_logging", "disable_traceback_filtering",
    "dtype_policy", "enable_flash_attention", "enable_interactive_logging", "enable_traceback_filtering",
    "enable_unsafe_deserialization", "epsilon", "floatx", "image_data_format", "is_flash_attention_enabled",
    "is_interactive_logging_enabled", "is_nnx_enabled", "is_traceback_filtering_enabled", "max_epochs",
    "max_steps_per_epoch", "set_dtype_policy", "set_epsilon", "set_floatx", "set_image_data_format", "set_max_epochs",
    "set_max_steps_per_epoch",
]  # fmt: skip
