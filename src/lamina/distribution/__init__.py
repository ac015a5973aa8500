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
from lamina.distribution.traffic import Collective, Forecast, Traffic, explain, forecast, travelling

__all__ = [
    "Collective", "DataParallel", "DeviceMesh", "Distribution", "Forecast", "FullySharded", "LayoutMap",
    "ModelParallel", "TensorLayout", "Traffic", "distribute_tensor", "distribution", "explain", "forecast",
    "get_device_count", "initialize", "list_devices", "set_distribution", "travelling",
]  # fmt: skip
