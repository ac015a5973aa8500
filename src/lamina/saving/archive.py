"""Models and weights as files, for Keras to read and from Keras: `.keras`, `.weights.h5`, `.weights.json`.

A `.keras` file is a zip archive of metadata.json, config.json (the architecture) and model.weights.h5. A file is
written whole or not at all. A file is read as one from a stranger: looked at in all its parts before anything is made
of it, and nothing in it is run.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import shutil
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core import configurable, dtypes, registry, scope
from lamina.core.files import atomic_write
from lamina.core.later import Later
from lamina.core.variable import Variable
from lamina.saving import weights
from lamina.saving.contents import (
    ASSETS,
    CONFIG,
    IN_MEMORY,
    METADATA,
    WEIGHTS,
    MissingFileError,
    opened_parts,
    opened_weights,
    parsed,
    stored_weights,
    unzipped,
)

if TYPE_CHECKING:
    import h5py
else:
    h5py = Later("h5py")
from lamina.saving.hdf5 import MEBIBYTE

KERAS_VERSION = "3.15.1"  # whose format this is


# Models ----------------------------------------------------------------------------------------------------------


def save_model(model: Any, filepath: Any, overwrite: bool = True, zipped: bool | None = None, **kwargs: Any) -> None:
    """Write architecture, weights and the state of training to a `.keras` file, all or nothing.

    Args:
        model: the model.
        filepath: ends in `.keras`; with `zipped=False`, a folder that is made.
        overwrite: whether a file that is there may be replaced without asking.
        zipped: `False` writes a folder in place of a file.
        kwargs: `include_optimizer=False` leaves the optimizer's state out.
    """
    with_optimizer = kwargs.pop("include_optimizer", True)
    kwargs.pop("save_format", None)
    if kwargs:
        raise ValueError(f"save_model: arguments must be known ones, got {', '.join(kwargs)}.")
    path, zipped = os.fspath(filepath), zipped is not False
    if zipped != path.endswith(".keras"):
        raise ValueError(
            "save_model: filepath must end in .keras (or be a folder's name with zipped=False; "
            f"save_weights writes .weights.h5), got {path!r}."
        )
    if not _may_write("save_model", path, overwrite):
        return
    if not model.built:
        warnings.warn(
            f'save_model: "{model.name}" should be built, so that there are weights to save; call it on data.',
            stacklevel=3,
        )
    skip = [] if with_optimizer else [getattr(model, "optimizer", None)]
    with atomic_write(path) as temporary:
        if zipped:
            with open(temporary, "wb") as file:
                write_archive(model, file, skip)
        else:
            temporary.mkdir()
            _write_folder(model, temporary, skip)


def write_archive(model: Any, file: BinaryIO, skip: Collection[Any] = ()) -> None:
    """Write the model to an open file as a `.keras` archive."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in _described(model).items():
            archive.writestr(name, text)
        with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as spool:
            _write_hdf5(model, spool, skip)
            spool.seek(0)
            with archive.open(WEIGHTS, "w", force_zip64=True) as member:
                shutil.copyfileobj(spool, member, MEBIBYTE)
        with tempfile.TemporaryDirectory() as folder:
            for path in _write_assets(model, Path(folder)):
                archive.write(path, f"{ASSETS}/{path.relative_to(folder).as_posix()}")


def _write_folder(model: Any, folder: Path, skip: Collection[Any]) -> None:
    for name, text in _described(model).items():
        (folder / name).write_text(text, encoding="utf-8")
    _write_hdf5(model, folder / WEIGHTS, skip)
    _write_assets(model, folder / ASSETS)


def _described(model: Any) -> dict[str, str]:
    """The two texts of an archive by name."""
    now = datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S")
    return {
        METADATA: json.dumps({"keras_version": KERAS_VERSION, "date_saved": now}),
        CONFIG: json.dumps(configurable.serialize_model(model)),
    }


def _write_hdf5(model: Any, target: Any, skip: Collection[Any]) -> None:
    sink = weights.Sink(lambda _: h5py.File(target, "w"))
    try:
        weights.save(model, sink, skip)
    finally:
        sink.close()


def _write_assets(model: Any, folder: Path) -> list[Path]:
    """The files that layers write beside their variables."""
    for path, part in weights.parts(model):
        if hasattr(part, "save_assets"):
            own = folder / path
            own.mkdir(parents=True, exist_ok=True)
            part.save_assets(str(own))
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []


def _may_write(who: str, path: str, overwrite: bool) -> bool:
    """Whether to go on: a file that is there is replaced if that was said, or is said now at the terminal."""
    if overwrite or not os.path.exists(path):
        return True
    if not (sys.stdin is not None and sys.stdin.isatty()):
        raise FileExistsError(f'{who}: "{path}" must not be there yet; overwrite=True replaces it.')
    return input(f'"{path}" is there already. Replace it? [y/n] ').strip().lower() in ("y", "yes")


def load_model(filepath: Any, custom_objects: Any = None, compile: bool = True, safe_mode: bool = True) -> Any:
    """The model in a `.keras` file (or folder), with its weights and, if it was compiled, the state of its training.

    Args:
        filepath: the file.
        custom_objects: classes and functions of your own that the file may name, `{name: object}`.
        compile: whether to compile the model as it was.
        safe_mode: kept for Keras programs. Code in files is never run, whatever it says.
    """
    del safe_mode
    path = os.fspath(filepath)
    if not os.path.exists(path):
        raise MissingFileError(f'load_model: "{path}" must be there, and is not.')
    if not path.endswith(".keras") and not os.path.isfile(os.path.join(path, CONFIG)):
        raise ValueError(
            "load_model: filepath must be a .keras file, or a folder that save_model wrote with zipped=False "
            f"(load_weights reads .weights.h5 into a model), got {path!r}."
        )
    with opened_parts(path) as files:
        return _read_model(files, path, custom_objects, compile)


def read_archive(file: BinaryIO, custom_objects: Any = None, compile: bool = True) -> Any:
    """The model in an open file that `write_archive` wrote."""
    with unzipped(file, "archive") as files:
        return _read_model(files, "archive", custom_objects, compile)


def _read_model(files: Mapping[str, Any], path: str, custom_objects: Any, compile: bool) -> Any:
    config = parsed(files, CONFIG, path)
    if not compile:
        config.pop("compile_config", None)
    with opened_weights(files, path) as arrays:
        file = Loading(path, sum(array.nbytes for array in arrays.values()))
        try:
            with registry.custom_objects(custom_objects):
                _check_names(config)
                with configurable.sharing({}), scope.loading(file):
                    model = configurable.deserialize(config)
        except Exception as error:
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            raise ValueError(f'load_model: "{path}", {CONFIG}: {kind}{error}') from error
        if not hasattr(model, "load_own_variables"):
            raise ValueError(f'load_model: "{path}", {CONFIG}: must describe a model, got {type(model).__name__}.')
        weights.load(model, arrays, path, fresh=True)
    file.draw_initial_values()
    _read_assets(model, files)
    return model


def unknown_names(config: Any) -> list[str]:
    """What a configuration names and neither the library nor the program has, lambdas included."""
    unknown: dict[str, None] = {}
    waiting = [config]
    while waiting:
        form = waiting.pop()
        if isinstance(form, dict) and isinstance(form.get("class_name"), str) and "config" in form:
            name = form["class_name"]
            if name.startswith("__"):
                unknown |= {"a lambda": None} if name == "__lambda__" else {}
                continue
            found = configurable.resolve(form)
            if found is None:
                plain = form["config"] if name == "function" else name
                module = str(form.get("module"))
                public = f"{module}.{plain}" if module.startswith("keras.") else plain
                unknown[str(form.get("registered_name") or public)] = None
            if found is None or not getattr(found, "__module__", "").startswith("lamina."):
                form = {key: form.get(key) for key in ("build_config", "compile_config")}  # the rest is its own affair
        if isinstance(form, (dict, list)):
            waiting.extend(reversed(list(form.values()) if isinstance(form, dict) else form))
    return list(unknown)


def _check_names(config: dict[str, Any]) -> None:
    unknown = unknown_names(config)
    if "a lambda" in unknown:
        raise ValueError(
            "it holds a lambda as code, and code from files is never run, whatever safe_mode says; save the model with "
            "a function (def) that is decorated with @lamina.saving.register_keras_serializable()."
        )
    if unknown:
        raise ValueError(
            f"it names {', '.join(unknown)}, which must be public names of lamina or registered ones; pass "
            "custom_objects={name: class} or decorate them with "
            "@lamina.saving.register_keras_serializable()."
        )


def deserialize_keras_object(config: Any, custom_objects: Any = None, safe_mode: bool = True, **kwargs: Any) -> Any:
    """The object that `serialize_keras_object` described.

    Args:
        config: the description.
        custom_objects: classes and functions of your own that it may name, `{name: object}`.
        safe_mode: kept for Keras programs. Code in files is never run, whatever it says.
        kwargs: `module_objects`, more such objects.
    """
    del safe_mode
    objects = {**(kwargs.pop("module_objects", None) or {}), **(custom_objects or {})}
    if kwargs:
        raise ValueError(f"deserialize_keras_object: arguments must be known ones, got {', '.join(kwargs)}.")
    if isinstance(config, str):  # older files name functions so
        found = registry.get_registered_object(config, objects)
        return config if found is None else found
    return configurable.deserialize(config, objects)


def _read_assets(model: Any, files: Mapping[str, Any]) -> None:
    found = {name.removeprefix(f"{ASSETS}/"): file for name, file in files.items() if name.startswith(f"{ASSETS}/")}
    if not found:
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, file in found.items():
            target = Path(folder, *PurePosixPath(name).parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "wb") as out:
                shutil.copyfileobj(file, out)
        for path, part in weights.parts(model):
            if hasattr(part, "load_assets") and os.path.isdir(os.path.join(folder, path)):
                part.load_assets(os.path.join(folder, path))


class Loading:
    """While a model is made from a file, its variables must fit what the file holds, and get no initial values yet.

    Args:
        path: the file.
        size: the bytes of its arrays.
    """

    def __init__(self, path: str, size: int):
        self._path = path
        # An optimizer that was not used yet makes its slots only now: up to five for each weight.
        self._left = 8 * size + 64 * MEBIBYTE
        self._waiting: list[tuple[Variable, Any, Any]] = []

    def admit(self, variable: Variable, initializer: Any, shape: Any, dtype: Any) -> Any:
        """Count the variable in; what is returned makes its first value, zeros unless it is an array."""
        if callable(initializer) or isinstance(initializer, str):
            sizes = tuple(shape or ())
            if any(not isinstance(d, (int, np.integer)) or d < 0 for d in sizes):
                return initializer  # which is an error of the variable
            name = dtypes.standardize_dtype(dtype)
            self._take(variable, sizes, math.prod(map(int, sizes)) * jnp.dtype(name).itemsize)
            zeros = jax.device_put(np.zeros(sizes, jnp.dtype(name)))
            self._waiting.append((variable, zeros, initializer))
            return lambda *_, **__: zeros
        self._take(variable, np.shape(initializer), int(getattr(initializer, "nbytes", 0)))
        return initializer

    def _take(self, variable: Variable, shape: tuple[int, ...], size: int) -> None:
        if size > self._left:
            raise ValueError(
                f'Variable "{variable.path}": a variable of shape {tuple(shape)} takes {size:,} bytes, more than the '
                f"arrays in the file account for."
            )
        self._left -= size

    def draw_initial_values(self) -> None:
        """Give the variables that the file has no array for the values that they start with, such as new seeds."""
        for variable, zeros, initializer in self._waiting:
            if variable.stored is zeros:
                variable.take(Variable(initializer, variable.shape, variable.dtype, name="initial").give())


# Weights ---------------------------------------------------------------------------------------------------------


def save_weights(
    model: Any, filepath: Any, overwrite: bool = True, max_shard_size: float | None = None, **kwargs: Any
) -> None:
    """Write the weights, and the optimizer's state, to a `.weights.h5` file, all or nothing.

    Args:
        model: the model, built.
        filepath: ends in `.weights.h5`, or in `.weights.json` with `max_shard_size`.
        overwrite: whether a file that is there may be replaced without asking.
        max_shard_size: the largest size of a file in GB: several are written, and a `.weights.json` that names them.
        kwargs: `objects_to_skip`, parts of the model to leave out.
    """
    skip = list(kwargs.pop("objects_to_skip", None) or ())
    if kwargs:
        raise ValueError(f"save_weights: arguments must be known ones, got {', '.join(kwargs)}.")
    path, endings = (
        os.fspath(filepath),
        (".weights.h5",) if max_shard_size is None else ("weights.json", "weights.h5"),
    )
    if not path.endswith(endings):
        raise ValueError(f"save_weights: filepath must end in {endings[0]}, got {path!r}.")
    if not model.built:
        raise ValueError(f'save_weights: "{model.name}" must be built; call it on data or call build().')
    if max_shard_size is not None:
        path = path.removesuffix(".h5").removesuffix(".json") + ".json"
    if not _may_write("save_weights", path, overwrite):
        return
    if max_shard_size is not None:
        _write_shards(model, Path(path), max_shard_size * 2**30, skip)
        return
    with atomic_write(path) as temporary:
        _write_hdf5(model, temporary, skip)


def _write_shards(model: Any, path: Path, limit: float, skip: Collection[Any]) -> None:
    """The files are renamed when all of them are whole. A mark tells files of one writing from those of another."""
    mark = os.urandom(8).hex()
    base = path.name.removesuffix(".weights.json")

    def name(number: int) -> str:
        return f"{base}_{number:05}.weights.h5"

    with ExitStack() as stack:

        def open_file(number: int) -> h5py.File:
            file = h5py.File(stack.enter_context(atomic_write(path.with_name(name(number)))), "w")
            file.attrs["written"] = mark
            return file

        index = stack.enter_context(atomic_write(path))
        sink = weights.Sink(open_file, limit)
        try:
            weights.save(model, sink, skip)
        finally:
            sink.close()
        places = {f"/{group}": [name(number) for number in numbers] for group, numbers in sink.places.items()}
        described = {"metadata": {"total_size": sink.total, "written": mark}, "weight_map": places}
        index.write_text(json.dumps(described, indent=4), encoding="utf-8")


def load_weights(model: Any, filepath: Any, skip_mismatch: bool = False, **kwargs: Any) -> None:
    """Read weights from a `.weights.h5`, `.weights.json` or `.keras` file; on an error the model stays as it was.

    Args:
        model: the model, built.
        filepath: the file.
        skip_mismatch: warn about layers that the file's arrays do not fit, and load the others.
        kwargs: `objects_to_skip`, parts of the model to leave as they are.
    """
    skip = list(kwargs.pop("objects_to_skip", None) or ())
    if kwargs.pop("by_name", None) or kwargs:
        raise ValueError(f"load_weights: arguments must be known ones, got {', '.join(kwargs) or 'by_name'}.")
    if not model.built:
        raise ValueError(f'load_weights: "{model.name}" must be built; call it on data or call build().')
    path = os.fspath(filepath)
    with stored_weights(path) as arrays:
        weights.load(model, arrays, path, skip_mismatch=skip_mismatch, skip=skip)
