"""Devices in a grid, and how an array lies on it."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lamina.core import checks, placement
from lamina.core.arrays import value_of
from lamina.core.patterns import PatternMap
from lamina.core.runtime import device_called


def list_devices(device_type: str | None = None) -> list[str]:
    """The names of all devices of the cluster, such as `"cpu:0"`.

    Args:
        device_type: `"cpu"`, `"gpu"` or `"tpu"`; the kind that JAX prefers if not given.
    """
    devices = jax.devices(device_type.lower() if device_type else None)
    return [f"{device.platform}:{device.id}" for device in devices]


def get_device_count(device_type: str | None = None) -> int:
    """How many devices of a kind there are in the cluster."""
    return len(list_devices(device_type))


class DeviceMesh:
    """Devices in a grid with a name for each axis.

    Args:
        shape: the sizes of the axes; their product is the number of devices.
        axis_names: a name for each.
        devices: their names, or devices of JAX; all that there are if not given.

    Attributes:
        devices: their names, in the grid's shape.

    Raises: ValueError if sizes, names and devices do not fit together.
    """

    def __init__(self, shape: Sequence[int], axis_names: Sequence[str], devices: Any = None):
        given = f"shape {shape} and axis_names {axis_names}"
        checks.require(shape and axis_names, "DeviceMesh", "must have at least one axis", got=given)
        rule = f"axis_names must be different, one for each axis of shape {tuple(shape)}"
        checks.require(len(shape) == len(axis_names) == len(set(axis_names)), "DeviceMesh", rule, list(axis_names))
        grid = np.array(list_devices() if devices is None else devices)
        rule = f"shape must have as many places as there are devices ({grid.size})"
        checks.require(grid.size == math.prod(shape), "DeviceMesh", rule, tuple(shape))
        self.shape, self.axis_names = tuple(shape), list(axis_names)
        self.devices = grid.reshape(self.shape)

    @property
    def backend_mesh(self) -> Mesh:
        """JAX's form of it."""
        devices = [device_called(device) for device in self.devices.ravel()]
        return Mesh(np.array(devices).reshape(self.shape), self.axis_names)

    def size_of(self, axis: str) -> int:
        """How many devices lie along an axis."""
        return self.shape[self.axis_names.index(axis)]

    def __repr__(self) -> str:
        return f"<DeviceMesh shape={self.shape}, axis_names={self.axis_names}>"


class TensorLayout:
    """How an array lies on a mesh: for each of its axes the axis of the mesh that divides it, or `None`.

    Args:
        axes: such as `("data", None)`; an entry may be a tuple of axes of the mesh.
        device_mesh: the mesh; a `LayoutMap` fills it in.
    """

    def __init__(self, axes: Sequence[Any], device_mesh: DeviceMesh | None = None):
        self.axes, self._device_mesh = tuple(axes), None
        self.device_mesh = device_mesh

    @property
    def device_mesh(self) -> DeviceMesh | None:
        """The mesh."""
        return self._device_mesh

    @device_mesh.setter
    def device_mesh(self, mesh: DeviceMesh | None) -> None:
        if mesh is not None:
            if self._device_mesh is not None:
                raise ValueError(f"TensorLayout: device_mesh must be set once, and is {self._device_mesh}.")
            named = [name for axis in self.axes for name in (axis if isinstance(axis, tuple) else (axis,))]
            unknown = {name for name in named if name is not None} - set(mesh.axis_names)
            if unknown:
                raise ValueError(f"TensorLayout: axes must be among {mesh.axis_names} or None, got {sorted(unknown)}.")
        self._device_mesh = mesh

    @property
    def backend_layout(self) -> NamedSharding:
        """JAX's form of it."""
        if self._device_mesh is None:
            raise ValueError("TensorLayout: device_mesh must be set before an array can lie on it, is None.")
        return NamedSharding(self._device_mesh.backend_mesh, PartitionSpec(*self.axes))

    def __repr__(self) -> str:
        return f"<TensorLayout axes={self.axes}, device_mesh={self.device_mesh}>"


class LayoutMap(PatternMap):
    """Layouts by the paths of variables, and of layers' outputs as `"path/output"`.

    A key is a regular expression that must match a whole path. What no key matches lies whole on every device.

    Args:
        device_mesh: the mesh of layouts that have none.

    Raises: ValueError if a key is set twice, or if two match a path.

    >>> mesh = lamina.distribution.DeviceMesh((1,), ["model"], devices=lamina.distribution.list_devices()[:1])
    >>> layouts = lamina.distribution.LayoutMap(mesh)
    >>> layouts[".*dense.*kernel"] = (None, "model")
    >>> layouts["mlp/dense_1/kernel"].axes
    (None, 'model')
    """

    def __init__(self, device_mesh: DeviceMesh | None):
        super().__init__()
        self.device_mesh = device_mesh

    def _checked(self, key: str, value: Any) -> TensorLayout:
        layout = TensorLayout(value) if isinstance(value, tuple) else value
        if not isinstance(layout, TensorLayout):
            raise ValueError(f'LayoutMap: "{key}" must get a TensorLayout or a tuple of axes, got {layout!r}.')
        if layout.device_mesh is None and self.device_mesh is not None:
            layout.device_mesh = self.device_mesh
        return layout


def distribute_tensor(tensor: Any, layout: Any) -> Any:
    """The array in a layout; inside a compiled function, from there on.

    Args:
        tensor: an array.
        layout: a `TensorLayout`, or a sharding of JAX.
    """
    sharding = layout.backend_layout if isinstance(layout, TensorLayout) else layout
    return placement.laid(value_of(tensor), sharding)
