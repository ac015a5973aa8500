"""Plans: what lies where when a model trains on several devices.

All of them compute what one device would; they differ in what each device keeps and in what travels.

| plan | a device keeps | what travels in a step, for weights of N bytes |
|---|---|---|
| `DataParallel` | all | gradients: one all-reduce of N |
| `DataParallel(shard_optimizer=True)` | weights, a part of the optimizer's state | and an all-gather of N |
| `FullySharded` | a part of everything | an all-gather of N, twice with `again`, and gradients |
| `ModelParallel` | what the layouts say | activations, at each product that is divided |
"""

import difflib
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from lamina.core import checks, placement
from lamina.core.placement import Placement
from lamina.distribution.meshes import DeviceMesh, LayoutMap, TensorLayout, list_devices


class Distribution(placement.Plan):
    """The base of plans.

    Args:
        device_mesh: the devices.
        batch_dim_name: the axis of the mesh over which the rows of a batch go.
        auto_shard_dataset: whether each process takes its rows out of a stream that all of them read; otherwise the
            stream of a process gives its own rows.
    """

    def __init__(self, device_mesh: DeviceMesh, batch_dim_name: str | None = None, auto_shard_dataset: bool = True):
        checks.require(isinstance(device_mesh, DeviceMesh), self, "device_mesh must be a DeviceMesh", device_mesh)
        name, known = batch_dim_name or device_mesh.axis_names[0], device_mesh.axis_names
        checks.require(name in known, self, f"batch_dim_name must be among {known}", name)
        self.device_mesh, self.batch_dim_name = device_mesh, name
        self.auto_shard_dataset = bool(auto_shard_dataset)
        self._mesh = device_mesh.backend_mesh
        self.replicated = self._on(())
        self._placements: dict[Any, Placement] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} device_mesh={self.device_mesh}>"

    # What Keras's plans tell.

    @property
    def num_processes(self) -> int:
        """How many processes train together."""
        return jax.process_count()

    @property
    def num_model_replicas(self) -> int:
        """How many groups of devices have rows of their own."""
        return self.device_mesh.size_of(self.batch_dim_name)

    @property
    def data_shard_id(self) -> int:
        """The number of this process among those with different rows."""
        return jax.process_index() * min(self.num_model_replicas, self.num_processes) // self.num_processes

    def get_data_layout(self, data_shape: Sequence[int]) -> TensorLayout:
        """The layout of data with rows on the first axis."""
        return TensorLayout([self.batch_dim_name, *(None for _ in data_shape[1:])], self.device_mesh)

    def get_variable_layout(self, variable: Any) -> TensorLayout:
        """The layout in which a variable is stored: its own, if it has one."""
        own = variable.layout
        if isinstance(own, TensorLayout):
            return own
        return TensorLayout(self._stored(variable) if own is None else own, self.device_mesh)

    def get_tensor_layout(self, path: str) -> TensorLayout | None:
        """The layout of what the layer at `"path/output"` gives, `None` for the compiler's choice."""
        return None

    def distribute_dataset(self, dataset: Any) -> Any:
        """The dataset as it is: `fit` divides batches among processes and devices."""
        return dataset

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Inside, the plan holds."""
        before = placement.current()
        placement.use(self)
        try:
            yield
        finally:
            placement.use(before)

    # What the library asks.

    def placement_of(self, variable: Any) -> Placement:
        own = variable.layout
        key = (variable.follows, variable.path, variable.shape, tuple(own) if isinstance(own, list) else own)
        if key not in self._placements:
            layout = self.get_variable_layout(variable)
            stored = self._on(layout.axes) if layout.device_mesh is self.device_mesh else layout.backend_layout
            used = stored if own is not None else self._on(self._used(variable))
            self._placements[key] = Placement(stored, used)
        return self._placements[key]

    def rows(self, shape: Sequence[int], before: int = 0) -> Sharding:
        if len(shape) <= before or shape[before] % self.num_model_replicas:
            return self.replicated
        return self._on((*(None,) * before, self.batch_dim_name))

    def output(self, path: str) -> NamedSharding | None:
        # As in the paths of variables, the model around may be left out: its layers were made before it.
        found = map(self.get_tensor_layout, (f"{path}/output", f"{path.partition('/')[2] or path}/output"))
        layout = next((each for each in found if each is not None), None)
        return None if layout is None else layout.backend_layout

    def _stored(self, variable: Any) -> tuple:
        """The axes of the mesh over which the cell of a variable is divided."""
        return (None,) * len(variable.shape)

    def _used(self, variable: Any) -> tuple:
        """Those over which a layer sees it divided."""
        return self._stored(variable)

    def _on(self, axes: Sequence[Any]) -> NamedSharding:
        while axes and axes[-1] is None:  # as JAX has it
            axes = axes[:-1]
        return NamedSharding(self._mesh, PartitionSpec(*axes))


def _one_axis(who: str, device_mesh: DeviceMesh | None, devices: Any) -> DeviceMesh:
    """The mesh of a plan that is given one, or devices for a single axis, or nothing."""
    if device_mesh is None:
        names = np.array(list_devices() if devices is None else devices).ravel()
        return DeviceMesh(names.shape, ["batch"], names)
    if devices is not None:
        raise ValueError(f"{who}: must be given a device_mesh or devices, got both.")
    return device_mesh


class DataParallel(Distribution):
    """Each device has all weights and a part of each batch; gradients are summed over the devices.

    Args:
        device_mesh: the devices; rows go over its first axis.
        devices: in place of a mesh, the names of the devices; all if not given.
        auto_shard_dataset: whether each process takes its rows out of a stream that all of them read.
        shard_optimizer: whether each device keeps and computes a part of the optimizer's state.
        least: numbers that a variable must have to be divided.
    """

    def __init__(
        self,
        device_mesh: DeviceMesh | None = None,
        devices: Any = None,
        auto_shard_dataset: bool = True,
        *,
        shard_optimizer: bool = False,
        least: int = 1024,
    ):
        super().__init__(_one_axis("DataParallel", device_mesh, devices), None, auto_shard_dataset)
        self.shard_optimizer, self.least = bool(shard_optimizer), least

    def _stored(self, variable: Any) -> tuple:
        divides = self.shard_optimizer and variable.follows is not None
        return divided(variable.shape, self.batch_dim_name, self.num_model_replicas, self.least, divides)


class FullySharded(Distribution):
    """Each device has a part of each weight, of the optimizer's state, and of each batch.

    A weight is gathered where a layer uses it, in the dtype in which the layer computes (Rajbhandari et al., 2020,
    https://arxiv.org/abs/1910.02054).

    Args:
        device_mesh, devices, least: as for `DataParallel`; weights go over the first axis, too.
        again: whether weights are gathered again in the backward pass, in place of being kept from the forward one.
    """

    def __init__(
        self, device_mesh: DeviceMesh | None = None, devices: Any = None, least: int = 1024, again: bool = False
    ):
        super().__init__(_one_axis("FullySharded", device_mesh, devices))
        self.least, self.gathers_again = least, bool(again)

    def _stored(self, variable: Any) -> tuple:
        return divided(variable.shape, self.batch_dim_name, self.num_model_replicas, self.least)

    def _used(self, variable: Any) -> tuple:
        return super()._stored(variable)


class ModelParallel(Distribution):
    """Weights are divided as a map of layouts says, and batches over one axis of the mesh.

    Args:
        layout_map: layouts by the paths of variables and of layers' outputs; its mesh is the plan's.
        batch_dim_name: the axis of the mesh over which rows go, the first if not given.
        auto_shard_dataset: whether each process takes its rows out of a stream that all of them read.
    """

    def __init__(
        self,
        *,
        layout_map: LayoutMap | None = None,
        batch_dim_name: str | None = None,
        auto_shard_dataset: bool = True,
        **kwargs: Any,
    ):
        kwargs.pop("device_mesh", None)  # older programs give it, and the map has it
        if kwargs:
            raise TypeError(f"ModelParallel: must not be given unknown arguments, got {', '.join(kwargs)}.")
        if not isinstance(layout_map, LayoutMap) or layout_map.device_mesh is None:
            raise ValueError(f"ModelParallel: layout_map must be a LayoutMap with a device_mesh, got {layout_map!r}.")
        super().__init__(layout_map.device_mesh, batch_dim_name, auto_shard_dataset)
        self._layout_map = layout_map
        self._unmatched = {key for key in layout_map if not key.endswith("/output")}  # by variables, until now

    def get_tensor_layout(self, path: str) -> TensorLayout | None:
        return self._layout_map[path]

    def look_for_slips(self, paths: Sequence[str]) -> None:
        for key in self._unmatched & self._layout_map.keys():
            if any(key == path or re.fullmatch(key, path) for path in paths):
                self._unmatched.discard(key)
        while self._unmatched:  # once: another model may have other paths
            key = self._unmatched.pop()
            near = difflib.get_close_matches(key, paths, 1, 0)
            hint = f"; the nearest path is {near[0]!r}" if near else ""
            warnings.warn(f"ModelParallel: no variable has a path like {key!r}{hint}.", stacklevel=2)

    def _stored(self, variable: Any) -> tuple:
        layout = self._layout_map[variable.follows or variable.path]
        return super()._stored(variable) if layout is None else layout.axes


def divided(shape: Sequence[int], axis: str, parts: int, least: int, wanted: bool = True) -> tuple:
    """The longest axis of an array that `parts` divides, over an axis of a mesh; none of an array that is small."""
    axes: list[str | None] = [None] * len(shape)
    fitting = [i for i, size in enumerate(shape) if size % parts == 0]
    if wanted and fitting and np.prod(shape) >= least:
        axes[max(fitting, key=lambda i: shape[i])] = axis
    return tuple(axes)


_NAMED = {"data": DataParallel, "fsdp": FullySharded}


def set_distribution(value: Any) -> None:
    """Let a plan hold from now on, for models that are there and those to come.

    Args:
        value: a plan, `"data"` or `"fsdp"` for all devices, or `None` for one device.

    The environment variable `LAMINA_DISTRIBUTION` names the plan of a program that sets none.
    """
    if isinstance(value, str) and value.lower() in _NAMED:
        value = _NAMED[value.lower()]()
    if value is not None and not isinstance(value, Distribution):
        raise ValueError(
            f"set_distribution: value must be a plan, {', '.join(map(repr, _NAMED))} or None, got {value!r}."
        )
    placement.use(value)


def distribution() -> Any:
    """The plan that holds now, `None` for one device."""
    return placement.current()


def plan_of_environment() -> None:
    """Let the plan hold that the environment names, from when arrays are first placed."""
    name = os.environ.get("LAMINA_DISTRIBUTION")
    if name:
        placement.when_asked(lambda: set_distribution(None if name.lower() == "none" else name))


def initialize(
    job_addresses: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Join the processes that train together; to be called first of all, in each.

    On Slurm, Kubernetes jobs, Open MPI and Cloud TPU JAX finds the arguments itself.

    Args:
        job_addresses: `"host:port"` of the first process, or of all, separated by commas.
        num_processes: how many there are.
        process_id: the number of this one.

    The environment variables `KERAS_DISTRIBUTION_JOB_ADDRESSES`, `..._NUM_PROCESSES` and `..._PROCESS_ID` stand in for
    arguments that are not given.
    """
    told = "KERAS_DISTRIBUTION_"
    job_addresses = job_addresses or os.environ.get(f"{told}JOB_ADDRESSES")
    num_processes = num_processes if num_processes is not None else _number(f"{told}NUM_PROCESSES")
    process_id = process_id if process_id is not None else _number(f"{told}PROCESS_ID")
    first = job_addresses.split(",")[0] if job_addresses else None
    jax.distributed.initialize(first, num_processes, process_id)


def _number(name: str) -> int | None:
    text = os.environ.get(name)
    return int(text) if text else None
