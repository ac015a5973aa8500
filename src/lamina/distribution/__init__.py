"""Training on several devices and processes, on JAX's own engine: `keras.distribution`, and what lamina adds to it."""

from lamina.distribution.meshes import (
    DeviceMesh,
    LayoutMap,
    TensorLayout,
    distribute_tensor,
    get_device_count,
    list_devices,
)
from lamina.distribution.plans import (
    DataParallel,
    Distribution,
    FullySharded,
    ModelParallel,
    distribution,
    initialize,
    set_distribution,
)

__all__ = [
    "DataParallel",
    "DeviceMesh",
    "Distribution",
    "FullySharded",
    "LayoutMap",
    "ModelParallel",
    "TensorLayout",
    "distribute_tensor",
    "distribution",
    "get_device_count",
    "initialize",
    "list_devices",
    "set_distribution",
]
