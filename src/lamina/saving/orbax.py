"""Checkpoints of Orbax, as the callback `OrbaxCheckpoint` writes them here and in Keras.

A folder holds a folder for each step; in it are the state of the model as a tree of arrays, its configuration, and the
files of its layers.
"""

import io
import json
import math
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lamina.core import checks, configurable, placement, tree
from lamina.core.budget import blamed_on
from lamina.core.later import Later
from lamina.saving import hdf5, weights
from lamina.saving.contents import ASSETS, check_names, json_object, read_assets, write_assets
from lamina.saving.loading import Loading, made_of

orbax = Later("orbax.checkpoint", install="orbax-checkpoint")
_STATE, _CONFIG = "pytree", "model_config"
_WEIGHTS = ("trainable_variables", "non_trainable_variables")
_METADATA = "_CHECKPOINT_METADATA"


def content_of(model: Any, weights_only: bool) -> dict[str, Any]:
    """What a checkpoint holds of a model."""
    state = model.get_state_tree()
    if weights_only:
        return {_STATE: {kind: state[kind] for kind in _WEIGHTS}}
    content = {_STATE: state, _CONFIG: {"config": json.dumps(configurable.serialize_model(model))}}
    with tempfile.TemporaryDirectory() as folder:
        assets: dict[str, Any] = {}
        for path in write_assets(model, Path(folder)):
            inner = assets
            for name in path.relative_to(folder).parts[:-1]:
                inner = inner.setdefault(name, {})
            inner[path.name] = np.frombuffer(path.read_bytes(), np.uint8)
    return {**content, **({ASSETS: assets} if assets else {})}


def is_checkpoint(path: str) -> bool:
    """Whether a folder is a checkpoint, or holds those of some steps."""
    return os.path.isdir(path) and (os.path.exists(os.path.join(path, _METADATA)) or bool(_steps(path)))


def _steps(path: str) -> list[int]:
    """The steps whose checkpoints are whole."""
    return sorted(int(name) for name in os.listdir(path) if name.isdigit() and is_checkpoint(os.path.join(path, name)))


def _latest(path: str) -> str:
    steps = _steps(path)
    return os.path.abspath(os.path.join(path, str(steps[-1])) if steps else path)


def _forms(path: str, *wanted: str) -> dict[str, Any]:
    """Those of the wanted parts that a checkpoint has: for each array its shape, and that it is to be read whole."""
    plan, checkpoint = placement.current(), orbax.checkpoint.v1
    place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0]) if plan is None else plan.replicated
    with blamed_on(f'"{path}"', "save it again"):
        known = checkpoint.checkpointables_metadata(path).metadata
        forms = {name: None if name == _CONFIG else known[name] for name in wanted if name in known}
        if None in (forms.get(name, ()) for name in (_STATE, ASSETS)):
            raise ValueError("its arrays cannot be read")
        arrays = jax.tree.leaves(forms)
        hdf5.check_unpacked(sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in arrays), _size(path))
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), forms)


def _read(path: str, forms: dict[str, Any]) -> dict[str, Any]:
    """Parts of a checkpoint by name, each array where its form says."""
    with blamed_on(f'"{path}"', "save it again"):
        return orbax.checkpoint.v1.load_checkpointables(path, forms) if forms else {}


def _size(path: str) -> int:
    return sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())


def load_weights(model: Any, path: str) -> None:
    """Give a model the state in a checkpoint, the latest one if the folder holds several.

    Each array is read in the layout in which its variable is stored: of one that is divided, no device reads all.
    """
    optimizer, step = getattr(model, "optimizer", None), _latest(path)
    if optimizer is not None and not optimizer.built:
        optimizer.build(model.trainable_variables)
    groups = {kind: getattr(model, kind) for kind in (*_WEIGHTS, "metrics_variables")}
    groups["optimizer_variables"] = [] if optimizer is None else optimizer.variables
    own = {f"{kind}/{v.path}": v for kind, group in groups.items() for v in group}
    found, treedef = jax.tree_util.tree_flatten_with_path(_forms(step, _STATE))
    given = [jax.tree_util.keystr(keys[1:], simple=True, separator="/") for keys, _ in found]
    # A sequential model that was built by its data has its name before those of its layers; optimizers have numbers.
    bare = {n: re.sub(r"^(optimizer_\w+/\w+?)_\d+/", r"\1/", n) for n in (*given, *own)}
    bare = {n: b.replace(f"/{model.name}/", "/").replace(f"/{model.name}_", "/") for n, b in bare.items()}
    mine = {bare[name]: name for name in own}
    names = {name: mine.get(bare[name], name) for name in given}
    # Generators of seeds have the names of the moment at which they were made.
    seeds = [sorted((n for n in all_ if "seed_generator" in n), key=_natural) for all_ in (names.values(), own)]
    moved = dict(zip(*seeds)) if len(seeds[0]) == len(seeds[1]) else {}
    names = [moved.get(name, name) for name in names.values()]
    lost = sorted(name for name in own if name not in names and name.startswith(_WEIGHTS))
    if lost:
        raise ValueError(f'load_weights: "{path}" must hold every weight of the model, and lacks {checks.some(lost)}.')
    forms = [_as_stored(form, own.get(name)) for name, (_, form) in zip(names, found)]
    values = jax.tree.leaves(_read(step, treedef.unflatten(forms)))
    # Metrics that have seen no data yet have no variables.
    unused = "metrics" if optimizer is not None else ("metrics", "optimizer")
    with weights.all_or_none():
        model.set_state_tree({n: v for n, v in zip(names, values) if n in own or not n.startswith(unused)})


def _as_stored(form: Any, variable: Any) -> Any:
    """What is to be read for a variable; nothing for none."""
    plan = placement.current()
    if plan is None or variable is None or variable.shape != form.shape:
        return ... if variable is None else form
    return placement.laid(form, plan.placement_of(variable).stored)


def _natural(name: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def load_model(path: str, custom_objects: Any, compile: bool) -> Any:
    """The model in the latest checkpoint of a folder, with its state."""
    path = _latest(path)
    found = _read(path, _forms(path, _CONFIG, ASSETS))
    if _CONFIG not in found:
        raise ValueError(
            f'load_model: "{path}" must hold a configuration, and holds weights alone (save_weights_only=True); make '
            "the model in your program and call load_weights."
        )
    file = Loading(_size(path))
    config = json_object(str(found[_CONFIG]["config"]).encode(), file)
    model = made_of(config, file, f'"{path}", {_CONFIG}', custom_objects, compile)
    load_weights(model, path)
    file.draw_initial_values()
    assets = tree.flatten_with_path({ASSETS: found.get(ASSETS, {})})
    files = {"/".join(map(str, place)): io.BytesIO(np.asarray(value).tobytes()) for place, value in assets}
    check_names(list(files))
    read_assets(model, files)
    return model
