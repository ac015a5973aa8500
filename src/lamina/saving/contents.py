"""The parts of the files that hold models, each checked before it is given out: archives, folders, texts."""

import io
import json
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from lamina.core.budget import MEBIBYTE, Budget, CorruptFileError, UnsafeFileError, blamed_on
from lamina.core.checks import require
from lamina.saving import hdf5, weights
from lamina.saving.hdf5 import Stored

CONFIG, METADATA, WEIGHTS, ASSETS = "config.json", "metadata.json", "model.weights.h5", "assets"
KERAS_VERSION = "3.15.1"  # whose formats these are
IN_MEMORY = 256 * MEBIBYTE  # larger parts of an archive go through a temporary file
MOST_JSON = 64 * MEBIBYTE
_MOST_MEMBERS, _LONGEST_NAME, _MOST_LEVELS = 500, 200, 128
_AGAIN = "save or download it again"


class MissingFileError(FileNotFoundError, ValueError):
    """There is no such file. Programs for Keras expect a `ValueError`."""


def opened_plain(path: str, follow: bool = True) -> BinaryIO:
    """An ordinary file, open. Others (pipes, devices) would be waited for; links in folders lead to other files."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags | (0 if follow else getattr(os, "O_NOFOLLOW", 0)))
    except FileNotFoundError:
        raise MissingFileError(f'"{path}" must be there, and is not.') from None
    except OSError as error:
        if follow or not os.path.islink(path):
            raise
        raise UnsafeFileError("must be a file of its own, not a link; put the file itself there.", path) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UnsafeFileError("must be an ordinary file, not a pipe, a device or a folder.", f'"{path}"')
    return os.fdopen(handle, "rb")


@contextmanager
def opened_parts(path: str) -> Iterator[dict[str, BinaryIO]]:
    """The parts of a `.keras` file or folder by name, each checked for its size."""
    if os.path.isdir(path):
        names = [name for name in (METADATA, CONFIG, WEIGHTS) if os.path.lexists(os.path.join(path, name))]
        inner = {name: os.path.join(path, *name.split("/")) for name in [*names, *_asset_names(path)]}
        with ExitStack() as stack:
            yield {name: stack.enter_context(opened_plain(each, follow=False)) for name, each in inner.items()}
    else:
        with opened_plain(path) as file, unzipped(file, path) as files:
            yield files


def _asset_names(path: str) -> list[str]:
    """The files of layers in a folder, which must not lie elsewhere."""
    found: list[str] = []
    root = os.path.join(path, ASSETS)
    for folder, folders, names in os.walk(root):
        links = [each for each in (folder, *(os.path.join(folder, n) for n in folders)) if os.path.islink(each)]
        if links:
            raise UnsafeFileError("must be a folder of its own, not a link; put the files themselves there.", links[0])
        found += [os.path.relpath(os.path.join(folder, name), path).replace(os.sep, "/") for name in names]
        if len(found) > _MOST_MEMBERS:
            raise UnsafeFileError(f"must hold at most {_MOST_MEMBERS} files of layers.", f'"{root}"')
    return sorted(found)


@contextmanager
def unzipped(file: BinaryIO, path: str) -> Iterator[dict[str, Any]]:
    """The members of a zip archive as files of their own, whole and with the right checksums."""
    size = file.seek(0, io.SEEK_END)
    with ExitStack() as stack:
        files: dict[str, Any] = {}
        with blamed_on(f'"{path}"'):
            try:
                archive = stack.enter_context(zipfile.ZipFile(file))
                members = archive.infolist()
                check_names([member.filename for member in members])
                hdf5.check_unpacked(sum(member.file_size for member in members), size)
                for member in members:
                    if not member.is_dir():
                        spool: Any = stack.enter_context(tempfile.SpooledTemporaryFile(max_size=IN_MEMORY))
                        with archive.open(member) as packed:
                            shutil.copyfileobj(packed, spool, MEBIBYTE)
                        spool.seek(0)
                        files[member.filename] = spool
            except UnsafeFileError:
                raise
            except Exception as error:  # zipfile's, zlib's, lzma's, ...
                raise CorruptFileError(f"must be a whole .keras file: {error}; {_AGAIN}.") from error
        yield files


def check_names(names: list[str]) -> None:
    """What the members of an archive are called: files that every disk can hold, and nothing outside of it."""
    known = set(names)
    if len(names) > _MOST_MEMBERS:
        raise UnsafeFileError(f"it may have {_MOST_MEMBERS} members, and has {len(names):,}; {_AGAIN}.")
    if len(known) != len(names):
        raise UnsafeFileError(f"every name must stand in it once, and a name stands in it twice; {_AGAIN}.")
    for name in names:
        words = name.removesuffix("/").split("/")
        plain = not ({"", ".", ".."} & set(words) or set(name) & set("\\:\0")) and name.isprintable()
        if name not in (METADATA, CONFIG, WEIGHTS) and not (plain and name.startswith(f"{ASSETS}/")):
            allowed = f"{METADATA}, {CONFIG}, {WEIGHTS} and {ASSETS}/"
            raise UnsafeFileError(f"it may hold {allowed}, and holds {name!r}; take that out of it.")
        if max(map(len, map(str.encode, words))) > _LONGEST_NAME or len(words) > _MOST_LEVELS:
            raise UnsafeFileError(f"names in it may have {_LONGEST_NAME} bytes, and one is {name!r}; shorten it.")
        if any("/".join(words[:i]) in known for i in range(1, len(words))):
            raise CorruptFileError(f"no file in it may lie in another one, and {name!r} does; {_AGAIN}.")


def size_of(files: Mapping[str, BinaryIO]) -> int:
    """The bytes of all parts together."""
    sizes = [file.seek(0, io.SEEK_END) for file in files.values()]
    for file in files.values():
        file.seek(0)
    return sum(sizes)


def parsed(files: Mapping[str, BinaryIO], name: str, path: str, budget: Budget) -> dict[str, Any]:
    """A text of the archive, which must be a JSON object that the budget allows."""
    with blamed_on(f'"{path}", {name}'):
        return json_object(_part(files, name, path).read(MOST_JSON + 1), budget)


def _part(files: Mapping[str, BinaryIO], name: str, path: str) -> BinaryIO:
    if name not in files:
        holds = ", ".join(files) or "nothing"
        raise CorruptFileError(f"must hold {name}, and holds {holds}; {_AGAIN}.", f'"{path}"')
    return files[name]


def json_object(text: bytes, budget: Budget) -> dict[str, Any]:
    """The JSON object that a text describes, once the budget allows what it takes in memory."""
    if len(text) > MOST_JSON:
        raise UnsafeFileError(f"must have at most {MOST_JSON:,} bytes; keep large constants in weights.")
    # What CPython takes for a list, a dict, an item of either, and the characters.
    taken = 64 * text.count(b"[") + 240 * text.count(b"{") + 40 * text.count(b",") + 2 * len(text)
    budget.spend("JSON of so many values", taken)
    try:
        value = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"must be JSON, a few hundred levels deep at most: {error}; {_AGAIN}.") from error
    if not isinstance(value, dict):
        raise CorruptFileError(f"must be a JSON object, got {type(value).__name__}; {_AGAIN}.")
    return value


def opened_weights(files: Mapping[str, Any], path: str) -> AbstractContextManager[dict[str, Stored]]:
    """The arrays in the weights of an archive."""
    file = _part(files, WEIGHTS, path)
    return hdf5.opened(file, f"{path}, {WEIGHTS}", file.seek(0, io.SEEK_END))


def plain_size(path: str) -> int:
    """The bytes of an ordinary file."""
    with opened_plain(path) as file:
        return os.fstat(file.fileno()).st_size


def model_json(form: dict[str, Any]) -> str:
    """The text of a configuration that is saved; one that is too long would be refused when it is read."""
    text = json.dumps(form)
    rule, remedy = f"the configuration must have at most {MOST_JSON:,} characters", "keep large constants in weights"
    require(len(text) <= MOST_JSON, "save_model", rule, got=f"{len(text):,}", remedy=remedy)
    return text


def write_assets(model: Any, folder: Path) -> list[Path]:
    """The files that layers write beside their variables."""
    for path, part in weights.parts(model):
        if hasattr(part, "save_assets"):
            own = folder / path
            own.mkdir(parents=True, exist_ok=True)
            part.save_assets(str(own))
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    check_names([f"{ASSETS}/{path.relative_to(folder).as_posix()}" for path in files])  # as when they are read
    return files


def read_assets(model: Any, files: Mapping[str, Any]) -> None:
    """Give layers the files that they wrote beside their variables."""
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
