"""The parts of the files that hold models, each checked before it is given out: archives, folders, texts, shards."""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from lamina.saving import hdf5
from lamina.saving.hdf5 import MEBIBYTE, Stored

CONFIG, METADATA, WEIGHTS, ASSETS = "config.json", "metadata.json", "model.weights.h5", "assets"
IN_MEMORY = 256 * MEBIBYTE  # larger parts of an archive go through a temporary file
_MOST_JSON = 256 * MEBIBYTE


class MissingFileError(FileNotFoundError, ValueError):
    """There is no such file. Programs for Keras expect a `ValueError`."""


@contextmanager
def opened_parts(path: str) -> Iterator[dict[str, BinaryIO]]:
    """The parts of a `.keras` file or folder by name, each checked for its size."""
    if os.path.isdir(path):
        with ExitStack() as stack:
            names = [name for name in (METADATA, CONFIG, WEIGHTS) if os.path.isfile(os.path.join(path, name))]
            assets = [each for each in Path(path, ASSETS).rglob("*") if each.is_file() and not each.is_symlink()]
            names += [each.relative_to(path).as_posix() for each in assets]
            yield {name: stack.enter_context(open(os.path.join(path, name), "rb")) for name in names}
        return
    with open(path, "rb") as file, unzipped(file, path) as files:
        yield files


@contextmanager
def unzipped(file: BinaryIO, path: str) -> Iterator[dict[str, Any]]:
    """The members of a zip archive as files of their own, whole and with the right checksums."""
    size = file.seek(0, io.SEEK_END)
    with ExitStack() as stack:
        files: dict[str, Any] = {}
        try:
            archive = stack.enter_context(zipfile.ZipFile(file))
            members = archive.infolist()
            _check_members(members, size)
            for member in members:
                if not member.is_dir():
                    spool: Any = stack.enter_context(tempfile.SpooledTemporaryFile(max_size=IN_MEMORY))
                    with archive.open(member) as packed:
                        shutil.copyfileobj(packed, spool, MEBIBYTE)
                    spool.seek(0)
                    files[member.filename] = spool
        except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, ValueError, OSError) as error:
            raise ValueError(f'"{path}": must be a whole .keras file: {error}.') from error
        except Exception as error:  # zlib's, lzma's, ...
            raise ValueError(f'"{path}": must be a whole .keras file: {type(error).__name__}: {error}.') from error
        yield files


def _check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    names = [member.filename for member in members]
    if len(set(names)) != len(names):
        raise ValueError("a name stands in it twice")
    for name in names:
        plain = not ({"", ".", ".."} & set(name.removesuffix("/").split("/")) or set(name) & set("\\:\0"))
        if name not in (METADATA, CONFIG, WEIGHTS) and not (plain and name.startswith(f"{ASSETS}/")):
            raise ValueError(f"it may hold {METADATA}, {CONFIG}, {WEIGHTS} and {ASSETS}/, and holds {name!r}")
    unpacked = sum(member.file_size for member in members)
    if unpacked > hdf5.most_unpacked(size):
        raise ValueError(f"it may unpack to {hdf5.most_unpacked(size):,} bytes, and claims {unpacked:,}")


def parsed(files: Mapping[str, BinaryIO], name: str, path: str) -> dict[str, Any]:
    """A text of the archive, which must be a JSON object of known size."""
    if name not in files:
        raise ValueError(f'"{path}": must hold {name}, and holds {", ".join(files) or "nothing"}.')
    return parsed_json(files[name], f'"{path}", {name}')


def parsed_json(file: BinaryIO, who: str) -> dict[str, Any]:
    """The JSON object in a file."""
    text = file.read(_MOST_JSON + 1)
    if len(text) > _MOST_JSON:
        raise ValueError(f"{who}: must have at most {_MOST_JSON:,} bytes.")
    try:
        value = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{who}: must be JSON, a few hundred levels deep at most: {error}.") from error
    if not isinstance(value, dict):
        raise ValueError(f"{who}: must be a JSON object, got {type(value).__name__}.")
    return value


@contextmanager
def opened_weights(files: Mapping[str, Any], path: str) -> Iterator[dict[str, Stored]]:
    """The arrays in the weights of an archive."""
    if WEIGHTS not in files:
        raise ValueError(f'"{path}": must hold {WEIGHTS}, and holds {", ".join(files) or "nothing"}.')
    file = files[WEIGHTS]
    size = file.seek(0, io.SEEK_END)
    with hdf5.opened(file, f"{path}, {WEIGHTS}", size) as arrays:
        yield arrays


@contextmanager
def stored_weights(path: str) -> Iterator[dict[str, Stored]]:
    """The arrays in a file of weights of any kind."""
    if not os.path.exists(path):
        raise MissingFileError(f'load_weights: "{path}" must be there, and is not.')
    if path.endswith(".weights.json"):
        with _shards(Path(path)) as arrays:
            yield arrays
    elif path.endswith(".keras"):
        with opened_parts(path) as files, opened_weights(files, path) as arrays:
            yield arrays
    elif path.endswith(".weights.h5"):
        with hdf5.opened(path, path, os.path.getsize(path)) as arrays:
            yield arrays
    else:
        raise ValueError(f"load_weights: filepath must end in .weights.h5, .weights.json or .keras, got {path!r}.")


@contextmanager
def _shards(path: Path) -> Iterator[dict[str, Stored]]:
    with open(path, "rb") as file:
        index = parsed_json(file, f'"{path}"')
    places, metadata = index.get("weight_map"), index.get("metadata")
    mark = metadata.get("written") if isinstance(metadata, dict) else None
    lists = [v if isinstance(v, list) else [v] for v in places.values()] if isinstance(places, dict) else [[None]]
    names = sorted({name for each in lists for name in each}, key=str)
    if any(not isinstance(name, str) or os.path.basename(name) != name or not name.endswith(".h5") for name in names):
        raise ValueError(f'"{path}": weight_map must name files in the same folder, got {names}.')
    with ExitStack() as stack:
        arrays: dict[str, Stored] = {}
        for name in names:
            shard = path.with_name(str(name))
            if not shard.is_file():
                raise MissingFileError(f'"{path}": its shard "{name}" must lie beside it.')
            found = stack.enter_context(hdf5.opened(str(shard), str(shard), shard.stat().st_size, mark))
            double = next((each for each in found if each in arrays), None)
            if double is not None:
                raise ValueError(f'"{shard}": {double} must stand in one shard only.')
            arrays |= found
        yield arrays
