"""Models and weights as files, for Keras to read and from Keras: `.keras`, `.weights.h5`, `.weights.json`.

A `.keras` file is a zip archive of metadata.json, config.json (the architecture) and model.weights.h5. A file is
written whole or not at all. A file is read as one from a stranger: looked at in all its parts before anything is made
of it, and nothing in it is run.
"""

import datetime
import json
import os
import shutil
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from lamina.core import checks, configurable, registry
from lamina.core.budget import MEBIBYTE, blamed_on
from lamina.core.files import atomic_write
from lamina.core.functions import asked_for, lambdas
from lamina.saving import contents, hdf5, legacy, orbax, sharded, weights
from lamina.saving.contents import ASSETS, CONFIG, METADATA, WEIGHTS
from lamina.saving.loading import Loading, made_of

# Models ----------------------------------------------------------------------------------------------------------


def save_model(model: Any, filepath: Any, overwrite: bool = True, zipped: bool | None = None, **kwargs: Any) -> None:
    """Write architecture, weights and the state of training to a `.keras` file, all or nothing.

    Args:
        model: the model.
        filepath: ends in `.keras`; with `zipped=False`, a folder that is made. Or a file open for writing bytes. One
            that ends in `.h5` is written as old programs expect it, without the states of seeds.
        overwrite: whether a file that is there may be replaced without asking.
        zipped: `False` writes a folder in place of a file.
        kwargs: `include_optimizer=False` leaves the optimizer's state out.
    """
    with_optimizer = kwargs.pop("include_optimizer", True)
    kwargs.pop("save_format", None)
    checks.require(not kwargs, "save_model", "arguments must be known ones", got=", ".join(kwargs))
    skip = [] if with_optimizer else [getattr(model, "optimizer", None)]
    if hasattr(filepath, "write"):
        return write_archive(model, filepath, _form(model), skip)
    path, zipped = checks.path("save_model", "filepath", filepath), zipped is not False
    old = zipped and path.endswith(legacy.ENDINGS) and not path.endswith(".weights.h5")
    rule = "filepath must end in .keras (or be a folder's name with zipped=False; save_weights writes .weights.h5)"
    checks.require(old or zipped == path.endswith(".keras"), "save_model", rule, path)
    if not _may_write("save_model", path, overwrite):
        return
    if not model.built:
        warnings.warn(
            f'save_model: "{model.name}" should be built, so that there are weights to save; call it on data.',
            stacklevel=3,
        )
    form = _form(model)
    with atomic_write(path, together=True) as temporary:
        if old:
            legacy.save_model(model, temporary, form, with_optimizer)
        elif zipped:
            with open(temporary, "wb") as file:
                write_archive(model, file, form, skip)
        else:
            temporary.mkdir()
            _write_folder(model, temporary, form, skip)


def write_archive(model: Any, file: BinaryIO, form: dict[str, Any], skip: Collection[Any] = ()) -> None:
    """Write the model that `form` describes to an open file as a `.keras` archive."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in _texts(form).items():
            archive.writestr(name, text)
        with tempfile.SpooledTemporaryFile(max_size=contents.IN_MEMORY) as spool:
            _write_hdf5(model, spool, skip)
            spool.seek(0)
            with archive.open(WEIGHTS, "w", force_zip64=True) as member:
                shutil.copyfileobj(spool, member, MEBIBYTE)
        with tempfile.TemporaryDirectory() as folder:
            for path in contents.write_assets(model, Path(folder)):
                archive.write(path, f"{ASSETS}/{path.relative_to(folder).as_posix()}")


def _write_folder(model: Any, folder: Path, form: dict[str, Any], skip: Collection[Any]) -> None:
    for name, text in _texts(form).items():
        (folder / name).write_text(text, encoding="utf-8")
    _write_hdf5(model, folder / WEIGHTS, skip)
    contents.write_assets(model, folder / ASSETS)


def _texts(form: dict[str, Any]) -> dict[str, str]:
    """The two texts of an archive by name."""
    now = datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S")
    about = {"keras_version": contents.KERAS_VERSION, "date_saved": now}
    return {METADATA: json.dumps(about), CONFIG: contents.model_json(form)}


def _form(model: Any) -> dict[str, Any]:
    """What a file has of the model beside its weights."""
    form = configurable.serialize_model(model)
    names = [place.name for place in lambdas(form)]
    if names:
        warnings.warn(
            f'save_model: "{model.name}" holds lambdas, which the file has as byte code that lamina never runs; '
            f"open it with {asked_for(names)}.",
            stacklevel=4,
        )
    return form


def _write_hdf5(model: Any, target: Any, skip: Collection[Any]) -> None:
    with weights.written(target) as sink:
        weights.save(model, sink, skip)


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
        filepath: the file; or one that is open for reading bytes.
        custom_objects: classes and functions of your own that the file may name, `{name: object}`.
        compile: whether to compile the model as it was.
        safe_mode: kept for Keras programs. Code in files is never run, whatever it says.

    >>> import os, tempfile
    >>> model = lamina.Sequential([lamina.Input((2,)), layers.Dense(1)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     lamina.saving.save_model(model, os.path.join(folder, "line.keras"))
    ...     again = lamina.saving.load_model(os.path.join(folder, "line.keras"))
    >>> all((a == b).all() for a, b in zip(model.get_weights(), again.get_weights()))
    True
    """
    del safe_mode
    if hasattr(filepath, "read"):
        with contents.unzipped(filepath, "archive") as files:
            return _read_model(files, "archive", custom_objects, compile)
    path = checks.path("load_model", "filepath", filepath)
    if not os.path.exists(path):
        raise contents.MissingFileError(f'load_model: "{path}" must be there, and is not.')
    if path.endswith(legacy.ENDINGS) and not path.endswith(".weights.h5"):
        return legacy.load_model(path, custom_objects, compile)
    if orbax.is_checkpoint(path):
        return orbax.load_model(path, custom_objects, compile)
    known = path.endswith(".keras") or os.path.isfile(os.path.join(path, CONFIG))
    rule = "filepath must be a .keras or .h5 file, or a folder that save_model wrote with zipped=False"
    checks.require(known, "load_model", f"{rule} (load_weights reads .weights.h5 into a model)", path)
    with contents.opened_parts(path) as files:
        return _read_model(files, path, custom_objects, compile)


def _read_model(files: Mapping[str, Any], path: str, custom_objects: Any, compile: bool) -> Any:
    with contents.opened_weights(files, path) as arrays:
        file = Loading(contents.size_of(files) + sum(array.nbytes for array in arrays.values()))
        config = contents.parsed(files, CONFIG, path, file)
        model = made_of(config, file, f'"{path}", {CONFIG}', custom_objects, compile)
        with blamed_on(f'"{path}", {WEIGHTS}'):
            weights.load(model, arrays, path, fresh=True)
    with blamed_on(f'"{path}", {CONFIG}'):
        file.draw_initial_values()
    with blamed_on(f'"{path}", {ASSETS}'):
        contents.read_assets(model, files)
    return model


def deserialize_keras_object(config: Any, custom_objects: Any = None, safe_mode: bool = True, **kwargs: Any) -> Any:
    """The object that `serialize_keras_object` described.

    Args:
        config: the description.
        custom_objects: classes and functions of your own that it may name, `{name: object}`.
        safe_mode: kept for Keras programs. Code in files is never run, whatever it says.
        kwargs: `module_objects`, more such objects; `printable_module_name` is accepted and has no effect.
    """
    del safe_mode
    kwargs.pop("printable_module_name", None)
    objects = {**(kwargs.pop("module_objects", None) or {}), **(custom_objects or {})}
    checks.require(not kwargs, "deserialize_keras_object", "arguments must be known ones", got=", ".join(kwargs))
    if isinstance(config, str):  # older files name functions so, and the `get` of a package its objects
        found = registry.get_registered_object(config, objects)
        of_package = isinstance(found, type) and config not in (custom_objects or {}) and config in objects
        return config if found is None else found() if of_package else found
    # Containers are gone through by the public name: packages put a function in its place that knows more forms.
    if isinstance(config, (list, tuple)):
        return type(config)(deserialize_keras_object(item, custom_objects=custom_objects) for item in config)
    if isinstance(config, Mapping) and not {"class_name", "config"} <= {*config}:
        return {key: deserialize_keras_object(item, custom_objects=custom_objects) for key, item in config.items()}
    return configurable.deserialize(config, objects)


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
    checks.require(not kwargs, "save_weights", "arguments must be known ones", got=", ".join(kwargs))
    path = checks.path("save_weights", "filepath", filepath)
    endings = (".weights.h5",) if max_shard_size is None else ("weights.json", "weights.h5")
    checks.require(path.endswith(endings), "save_weights", f"filepath must end in {endings[0]}", path)
    if not model.built:
        raise ValueError(f'save_weights: "{model.name}" must be built; call it on data or call build().')
    if max_shard_size is not None:
        path = path.removesuffix(".h5").removesuffix(".json") + ".json"
    if not _may_write("save_weights", path, overwrite):
        return
    if max_shard_size is not None:
        sharded.write_shards(model, path, max_shard_size * 2**30, skip)
        return
    with atomic_write(path, together=True) as temporary:
        _write_hdf5(model, temporary, skip)


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
    path = checks.path("load_weights", "filepath", filepath)
    old = path.endswith(legacy.ENDINGS) and os.path.exists(path)
    if old and legacy.load_weights(model, path, skip_mismatch, skip):
        return
    if orbax.is_checkpoint(path):
        orbax.load_weights(model, path)
        return
    with stored_weights(path) as arrays:
        weights.load(model, arrays, path, skip_mismatch=skip_mismatch, skip=skip)


@contextmanager
def stored_weights(path: str) -> Iterator[dict[str, hdf5.Stored]]:
    """The arrays in a file of weights of any kind."""
    if not os.path.exists(path):
        raise contents.MissingFileError(f'load_weights: "{path}" must be there, and is not.')
    if path.endswith(".weights.json"):
        with sharded.opened_shards(Path(path)) as arrays:
            yield arrays
    elif path.endswith(".keras"):
        with contents.opened_parts(path) as files, contents.opened_weights(files, path) as arrays:
            yield arrays
    elif path.endswith(legacy.ENDINGS):
        with hdf5.opened(path, path, contents.plain_size(path)) as arrays:
            yield arrays
    else:
        raise ValueError(f"load_weights: filepath must end in .weights.h5, .weights.json, .keras or .h5, got {path!r}.")
