"""Files of Keras 2, which Keras 3 still writes as `.h5`: whole models, and weights in the order of the layers.

A configuration of Keras 2 is put into the words of Keras 3, and made as any other. What is written is as Keras 3 does.
"""

import functools
import json
import tempfile
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lamina.core import op_names, registry
from lamina.core.budget import CorruptFileError, blamed_on
from lamina.core.functions import LAMBDA
from lamina.core.transforms import by_path
from lamina.saving import contents, hdf5, weights
from lamina.saving.hdf5 import Stored, text, texts
from lamina.saving.loading import Loading, made_of
from lamina.saving.weights import ReadStore, all_or_none

ENDINGS = (".h5", ".hdf5")
# Where Keras 2 has objects without a module, by what the name of the argument ends in.
_MODULES = {
    "initializer": "keras.initializers",
    "regularizer": "keras.regularizers",
    "constraint": "keras.constraints",
    "optimizer": "keras.optimizers",
    "learning_rate": "keras.optimizers.schedules",
    "loss": "keras.losses",
    "metrics": "keras.metrics",
    "policy": "keras.dtype_policies",
    **dict.fromkeys(["layer", "layers", "cell", "cells"], "keras.layers"),
}
_MODELS = {"Model": "Functional", "Functional": "Functional", "Sequential": "Sequential"}
_DROPPED = ("time_major", "implementation", "fused", "ragged", "input_length", "decay", "fn", "jit_compile")
_RENAMED = {"batch_input_shape": "batch_shape", "lr": "learning_rate"}
_LONGEST_ATTRIBUTE = 60_000  # bytes, of 64 KiB that HDF5 has for them


class Old:
    """An open file of Keras 2: its arrays, and the group in which the weights of the layers lie."""

    def __init__(self, file: Any, path: str, size: int):
        self.file, self.path, self.size = file, path, size
        self.prefix = "model_weights/" if "model_weights" in file else ""

    @functools.cached_property
    def arrays(self) -> dict[str, Stored]:
        """All of its arrays by path, checked."""
        return hdf5.checked(self.file, self.size)

    @property
    def top(self) -> Any:
        """The group itself."""
        return self.file[self.prefix or "/"]

    def layers(self) -> dict[str, list[Stored]]:
        """The weights of each layer that has some, in order."""
        found = {name: self.below(f"{self.prefix}{name}") for name in texts(self.top, "layer_names")}
        return {name: stored for name, stored in found.items() if stored}

    def below(self, group: str) -> list[Stored]:
        """The arrays of a group in the order that it names them in."""
        if group not in self.file:
            return []
        paths = [f"{group}/{name}" for name in texts(self.file[group], "weight_names")]
        missing = next((path for path in paths if path not in self.arrays), None)
        if missing is not None:
            raise CorruptFileError(f"{missing} must be an array, and is not there; save it again.")
        return [self.arrays[path] for path in paths]


@contextmanager
def opened(path: str) -> Iterator[Old]:
    """A file of Keras 2, all of it checked."""
    size = contents.plain_size(path)
    with hdf5.opened_file(path, path) as file, blamed_on(f'"{path}"'):
        yield Old(file, path, size)


def load_model(path: str, custom_objects: Any, compile: bool) -> Any:
    """The model in a file of Keras 2, with its weights and, if it was compiled, the state of its training."""
    with opened(path) as old:
        budget = Loading(old.size + sum(array.nbytes for array in old.arrays.values()))
        configs = {name: text(old.file, f"{name}_config") for name in ("model", "training")}
        if configs["model"] is None:
            raise CorruptFileError("it holds no model; make the model in your program and call load_weights.")
        config = modern(contents.json_object(configs["model"].encode(), budget))
        if compile and configs["training"] is not None:
            config["compile_config"] = _training(contents.json_object(configs["training"].encode(), budget))
        model = made_of(config, budget, f'"{path}", model_config', custom_objects, compile)
        _fill(model, old, skip_mismatch=False, skip=())
        budget.draw_initial_values()
        if getattr(model, "optimizer", None) is not None:
            _fill_optimizer(model, old.below("optimizer_weights"), path)
    return model


def load_weights(model: Any, path: str, skip_mismatch: bool, skip: Collection[Any]) -> bool:
    """Read weights by the order of layers; `False` if the file has none of that kind."""
    try:
        with opened(path) as old:
            if not {"layer_names", "layer_names0"} & {*old.top.attrs}:
                return False
            _fill(model, old, skip_mismatch, skip)
    except CorruptFileError as error:
        if isinstance(error.__cause__, _Misfit):  # of a program's model: the file is not to blame
            raise ValueError(str(error.__cause__)) from None
        raise
    return True


class _Misfit(ValueError):
    """The file's layers are not the model's."""


def _fill(model: Any, old: Old, skip_mismatch: bool, skip: Collection[Any]) -> None:
    """Give the layers their weights, first to first: all of them or, on an error, none."""
    layers = [layer for layer in model.layers if layer.weights]
    groups = old.layers()
    if len(layers) != len(groups):
        raise _Misfit(
            f'"{old.path}": must have weights of {len(layers)} layers ({", ".join(each.name for each in layers)}), '
            f"got {len(groups)} ({', '.join(groups)})."
        )
    with all_or_none():
        for layer, (name, stored) in zip(layers, groups.items()):
            try:
                if not any(layer is other for other in skip):
                    _fill_variables(layer, _in_order(layer), f'layer "{name}"', stored, old.path)
            except _Misfit as error:
                if not skip_mismatch:
                    raise
                warnings.warn(f"load_weights {error} Its other variables stay too.", stacklevel=5)
        top = old.below(f"{old.prefix}top_level_model_weights")
        _fill_variables(model, _own(model), "the model itself", top, old.path)


def _own(model: Any) -> list[Any]:
    """The weights that no layer of the model has."""
    inner = {id(variable) for layer in model.layers for variable in layer.weights}
    return [variable for variable in _in_order(model) if id(variable) not in inner]


def _in_order(layer: Any) -> list[Any]:
    """The weights of a layer, those that are trained first."""
    own = [*layer.trainable_weights, *layer.non_trainable_weights]
    return [variable for variable in own if any(variable is each for each in layer.weights)]


def _fill_variables(owner: Any, own: list[Any], who: str, stored: list[Stored], path: str) -> None:
    if len(own) != len(stored):
        paths = ", ".join(variable.path for variable in own)
        raise _Misfit(f'"{path}": {who} must hold {len(own)} variables ({paths}), got {len(stored)}.')
    store = ReadStore(owner, {str(i): each for i, each in enumerate(stored)}, own)
    try:
        with all_or_none():
            for i, variable in enumerate(own):
                variable.assign(store[str(i)])
    except CorruptFileError:
        raise
    except ValueError as error:
        raise _Misfit(f'"{path}": {error}') from error


def _fill_optimizer(model: Any, stored: list[Stored], path: str) -> None:
    """Its state, where Keras 3 wrote it; Keras 2 has another order, and no learning rate among the variables."""
    optimizer = model.optimizer
    if not stored:
        return
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    own = optimizer.variables
    if [each.shape for each in stored] != [variable.shape for variable in own]:
        rule = "the optimizer starts anew, as its state is of another kind"
        warnings.warn(f'load_model "{path}": {rule}; save the model as .keras to keep it.', stacklevel=5)
        return
    for variable, each in zip(own, stored):
        variable.assign(each.read())


# Writing ----------------------------------------------------------------------------------------------------------


def save_model(model: Any, target: Any, form: dict[str, Any], with_optimizer: bool) -> None:
    """Write the model that `form` describes, its weights and, if it is compiled, the state of its training."""
    with tempfile.TemporaryDirectory() as folder:
        if contents.write_assets(model, Path(folder)):
            raise ValueError(
                f'save_model: the layers of "{model.name}" must keep all that they know in weights, and write files '
                "beside them, for which .h5 has no place; save it as .keras."
            )
    compiled, optimizer = form.pop("compile_config", None), getattr(model, "optimizer", None)
    form["class_name"] = form["registered_name"] or form["class_name"]
    with weights.written(target) as sink:
        file = sink.files[0]
        about = {"keras_version": contents.KERAS_VERSION, "backend": "jax"}
        file.attrs.update({**about, "model_config": contents.model_json(form)})
        _names(file.require_group("model_weights"), "layer_names", [layer.name for layer in model.layers])
        file["model_weights"].attrs.update(about)
        for layer in model.layers:
            _put(sink, f"model_weights/{layer.name}", _in_order(layer))
        _put(sink, "model_weights/top_level_model_weights", _own(model))
        if compiled is not None and optimizer is not None and with_optimizer:
            compiled["optimizer_config"] = compiled.pop("optimizer")
            file.attrs["training_config"] = json.dumps(compiled)
            _put(sink, "optimizer_weights", optimizer.variables)


def _put(sink: weights.Sink, group: str, variables: list[Any]) -> None:
    """Write variables to a group that names them in their order."""
    named = by_path(variables)
    for name, variable in named.items():
        inner, _, key = f"{group}/{name}".rpartition("/")
        sink.put(inner, key, variable.numpy())
    _names(sink.files[0].require_group(group), "weight_names", list(named))


def _names(group: Any, attribute: str, names: list[str]) -> None:
    """Write a list of names as an attribute: a long one in parts."""
    array = np.array([name.encode() for name in names])
    parts = np.array_split(array, -(-array.nbytes // _LONGEST_ATTRIBUTE) or 1)
    for i, part in enumerate(parts):
        group.attrs[attribute if len(parts) == 1 else f"{attribute}{i}"] = part


# Configurations ---------------------------------------------------------------------------------------------------


def modern(form: Any, role: str = "layer") -> Any:
    """A serialized object of Keras 2 as Keras 3 writes it.

    Args:
        form: the object, or whatever stands in its place.
        role: the name of the argument, which tells the kind of the object.
    """
    if isinstance(form, list):
        return [modern(item, role) for item in form]
    if not isinstance(form, dict):
        return form
    if not isinstance(form.get("class_name"), str) or "config" not in form:
        return {key: modern(value, key) for key, value in form.items()}
    name, config = form["class_name"], form["config"]
    if name == "Policy" and isinstance(config, dict):
        return config.get("name")
    if (name in _MODELS and form.get("module") is None and "layers" in role) or (role == "layer" and name in _MODELS):
        return {**form, **_model(_MODELS[name], config)}
    kind = _op_module(name, form) or next(
        (module for end, module in _MODULES.items() if role.endswith(end)), "keras.any"
    )
    given = {key: value for key, value in form.items() if value is not None}
    config = _arguments(name, config) if isinstance(config, dict) else config
    out = {"module": kind, "registered_name": None, **given, "config": config}
    if "inbound_nodes" in form:
        out["inbound_nodes"] = [modern_call(modern(node, "call")) for node in form["inbound_nodes"]]
    return out


def _op_module(name: str, form: Mapping[str, Any]) -> str | None:
    """The module of an op: what no layer is called, or what is called on several things that are not in one list."""
    nodes = [node for node in form.get("inbound_nodes") or () if isinstance(node, dict)]
    several = any(len(node.get("args", ())) > 1 for node in nodes)
    is_layer = registry.resolve("keras.layers", name, None) is not None
    if nodes and (several or not is_layer) and op_names.find("keras.src.ops.numpy", name) is not None:
        return "keras.src.ops.numpy"
    return None


def _model(name: str, config: Any) -> dict[str, Any]:
    module = "keras" if name == "Sequential" else "keras.src.models.functional"
    config = {"layers": config} if isinstance(config, list) else dict(config)  # the oldest Sequentials are lists
    layers = modern(config["layers"], "layers")
    shape = config["layers"][0]["config"].get("batch_input_shape") if name == "Sequential" and layers else None
    if shape is not None and layers[0]["class_name"] != "InputLayer":
        entry = {"batch_shape": shape, "dtype": config["layers"][0]["config"].get("dtype") or "float32"}
        layers.insert(0, {"module": "keras.layers", "class_name": "InputLayer", "config": entry})
    for end in ("input_layers", "output_layers"):
        value = config.get(end)
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
            config[end] = value[0]
    return {"module": module, "class_name": name, "registered_name": None, "config": {**config, "layers": layers}}


def _arguments(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    out = {}
    if name == "Lambda":
        config = _functions(config)
    for key, value in config.items():
        if key in _DROPPED or (key == "batch_input_shape" and name != "InputLayer"):
            continue
        out[_RENAMED.get(key, key)] = modern(value, key)
    if name == "BatchNormalization" and isinstance(out.get("axis"), list) and len(out["axis"]) == 1:
        out["axis"] = out["axis"][0]
    if out.get("reduction") == "auto":
        out["reduction"] = "sum_over_batch_size"
    return out


def _functions(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a `Lambda`, functions as objects; Keras 2 has their kinds in arguments beside them."""
    kinds = {key.removesuffix("_type"): kind for key, kind in config.items() if key.endswith("_type")}
    out = {key: value for key, value in config.items() if not key.endswith(("_type", "module"))}
    for key, kind in kinds.items():
        if kind == "lambda":
            out[key] = {"class_name": LAMBDA, "config": {"value": out.get(key)}}
        elif kind == "function":
            out[key] = {"module": "builtins", "class_name": "function", "config": out.get(key)}
    return out


def modern_call(node: Any) -> Any:
    """A call as Keras 3 writes it. Keras 2 has `[[name, node, tensor, keywords], ...]`, an item for each tensor."""
    if not isinstance(node, (list, tuple)):
        return node
    tensors = [_tensor(item) for item in node]
    keywords = node[0][3] if len(node[0]) > 3 else {}
    kwargs = {key: _tensor(value) if _is_place(value) else value for key, value in keywords.items()}
    return {"args": [tensors[0] if len(tensors) == 1 else tensors], "kwargs": kwargs}


def _is_place(value: Any) -> bool:
    return isinstance(value, list) and len(value) >= 3 and isinstance(value[0], str) and isinstance(value[1], int)


def _tensor(place: list[Any]) -> dict[str, Any]:
    return {"class_name": "__keras_tensor__", "config": {"keras_history": place[:3]}}


def _training(config: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `compile`."""
    optimizer = config.pop("optimizer_config", None)
    keys = ("loss", "metrics", "loss_weights", "weighted_metrics", "run_eagerly", "steps_per_execution")
    out = {key: _named(config[key], key) for key in keys if config.get(key) is not None}
    out.setdefault("metrics", None)
    return {"optimizer": _named(optimizer, "optimizer"), **out}


def _named(value: Any, role: str) -> Any:
    """A metric or loss around a function is the function; a list of one list is of a model with one output."""
    if isinstance(value, list):
        inner = value[0] if len(value) == 1 and isinstance(value[0], list) else value
        return [_named(item, role) for item in inner]
    if isinstance(value, dict) and isinstance(value.get("config"), dict):
        function = value["config"].get("fn")
        if value.get("class_name") in ("MeanMetricWrapper", "LossFunctionWrapper") and isinstance(function, str):
            return function
        return modern(value, role)
    return {key: _named(item, role) for key, item in value.items()} if isinstance(value, dict) else value
