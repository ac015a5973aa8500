"""Checkpoints of Orbax, as the callback `OrbaxCheckpoint` writes them here and in Keras.

A folder holds a folder for each step; in it are the state of the model as a tree of arrays, its configuration, and the
files of its layers.
"""

from __future__ import annotations

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

from lamina.core import checks, configurable, tree
from lamina.core.budget import blamed_on
from lamina.core.later import Later
from lamina.saving import hdf5, weights
from lamina.saving.contents import ASSETS, check_names, json_object, read_assets, write_assets
from lamina.saving.loading import Loading, made_of

orbax = Later("orbax.checkpoint", install="orbax-checkpoint")
_STATE, _CONFIG = "pytree", "model_config"
_METADATA = "_CHECKPOINT_METADATA"


def content_of(model: Any, weights_only: bool) -> dict[str, Any]:
    """What a checkpoint holds of a model."""
    state = model.get_state_tree()
    if weights_only:
        return {_STATE: {kind: state[kind] for kind in ("trainable_variables", "non_trainable_variables")}}
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


def _read(path: str, *wanted: str) -> dict[str, Any]:
    """Parts of a checkpoint by name, those of them that are there; arrays where JAX would put them."""
    place, checkpoint = jax.sharding.SingleDeviceSharding(jax.devices()[0]), orbax.checkpoint.v1
    with blamed_on(f'"{path}"', "save it again"):
        known = checkpoint.checkpointables_metadata(path).metadata
        forms = {name: None if name == _CONFIG else known[name] for name in wanted if name in known}
        arrays = [leaf for leaf in jax.tree.leaves(forms) if hasattr(leaf, "shape")]
        hdf5.check_unpacked(sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in arrays), _size(path))
        forms = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), forms)
        return checkpoint.load_checkpointables(path, forms) if forms else {}


def _size(path: str) -> int:
    return sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())


def load_weights(model: Any, path: str) -> None:
    """Give a model the state in a checkpoint, the latest one if the folder holds several."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and not optimizer.built:
        optimizer.build(model.trainable_variables)
    states = _read(_latest(path), _STATE)[_STATE], model.get_state_tree()
    given, own = ({"/".join(map(str, place)): v for place, v in tree.flatten_with_path(s)} for s in states)
    # A sequential model that was built by its data has its name before those of its layers.
    bare = {name: name.replace(f"/{model.name}/", "/").replace(f"/{model.name}_", "/") for name in (*given, *own)}
    mine = {bare[name]: name for name in own}
    given = {mine.get(bare[name], name): value for name, value in given.items()}
    # Generators of seeds have the names of the moment at which they were made.
    seeds = [sorted((name for name in names if "seed_generator" in name), key=_natural) for names in (given, own)]
    given |= {name: given.pop(other) for other, name in zip(*seeds)} if len(seeds[0]) == len(seeds[1]) else {}
    lost = [name for name in own if name not in given and name.startswith(("trainable", "non_trainable"))]
    if lost:
        raise ValueError(f'load_weights: "{path}" must hold every weight of the model, and lacks {checks.some(lost)}.')
    # Metrics that have seen no data yet have no variables.
    unused = "metrics" if optimizer is not None else ("metrics", "optimizer")
    with weights.all_or_none():
        model.set_state_tree({name: v for name, v in given.items() if name in own or not name.startswith(unused)})


def _natural(name: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def load_model(path: str, custom_objects: Any, compile: bool) -> Any:
    """The model in the latest checkpoint of a folder, with its state."""
    path = _latest(path)
    found = _read(path, _CONFIG, ASSETS)
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
