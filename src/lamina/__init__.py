"""lamina: deep learning with the Keras interface on JAX. `import lamina as keras` runs a Keras program."""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from lamina import (
    activations,
    backend,
    callbacks,
    config,
    constraints,
    data,
    distillation,
    distribution,
    dtype_policies,
    initializers,
    layers,
    losses,
    metrics,
    mixed_precision,
    models,
    ops,
    optimizers,
    preprocessing,
    quantizers,
    random,
    regularizers,
    saving,
    tree,
    utils,
)
from lamina.core.absent import AbsentName, explain_absent_names
from lamina.core.jit import jit
from lamina.core.policy import DTypePolicy, FloatDTypePolicy
from lamina.core.runtime import device, keep_compiled_programs, run_where_called, write_code_for_cpus
from lamina.core.scope import SymbolicScope, name_scope
from lamina.core.state import StatelessScope
from lamina.core.symbolic import KerasTensor, Operation
from lamina.core.transforms import functional, grad, remat, scan, value_and_grad, vmap
from lamina.core.variable import Variable
from lamina.distribution.plans import plan_of_environment
from lamina.initializers import Initializer
from lamina.layer import RematScope
from lamina.layers import Input, InputSpec, Layer
from lamina.losses import Loss
from lamina.metrics import Metric
from lamina.models import Function, Model, Sequential
from lamina.optimizers import Optimizer
from lamina.quantizers import Quantizer
from lamina.regularizers import Regularizer
from lamina.stand_in import as_keras
from lamina.training.tools.locate_nan import locate_nan
from lamina.training.tools.overfit import overfit
from lamina.training.tools.profile import profile

__version__ = "0.1.0"

keep_compiled_programs()
run_where_called()
write_code_for_cpus()
plan_of_environment()

# Namespaces that load when first touched.
_LATER = ("datasets", "visualization", "wrappers")

if TYPE_CHECKING:
    from lamina import datasets, visualization, wrappers


def version() -> str:
    """The version of lamina."""
    return __version__


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return importlib.import_module(f"lamina.{name}")
    raise AbsentName("lamina", name)


__all__ = [
    "DTypePolicy", "FloatDTypePolicy", "Function", "Initializer", "Input", "InputSpec", "KerasTensor", "Layer",
    "Loss", "Metric", "Model", "Operation", "Optimizer", "Quantizer", "Regularizer", "RematScope", "Sequential",
    "StatelessScope", "SymbolicScope", "Variable", "__version__", "activations", "as_keras", "backend", "callbacks",
    "config", "constraints", "data", "datasets", "device", "distillation", "distribution", "dtype_policies",
    "functional", "grad", "initializers", "jit", "layers", "locate_nan", "losses", "metrics", "mixed_precision",
    "models", "name_scope", "ops", "optimizers", "overfit", "preprocessing", "profile", "quantizers", "random",
    "regularizers", "remat", "saving", "scan", "tree", "utils", "value_and_grad", "version", "visualization", "vmap",
    "wrappers",
]  # fmt: skip

explain_absent_names(sys.modules[__name__])
