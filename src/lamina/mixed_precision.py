"""The policies of dtypes, as `lamina.mixed_precision`."""

from lamina.config import dtype_policy, set_dtype_policy
from lamina.core.policy import DTypePolicy
from lamina.optimizers import LossScaleOptimizer

Policy = DTypePolicy
global_policy, set_global_policy = dtype_policy, set_dtype_policy

__all__ = [
    "DTypePolicy", "LossScaleOptimizer", "Policy", "dtype_policy", "global_policy", "set_dtype_policy",
    "set_global_policy",
]  # fmt: skip
