"""Weights in several files: shards, and a `.weights.json` that names them.

The shards of one writing have its mark in their names, and are there before the index names them: an index is of one
writing, whenever the writer is killed. What no index names goes with the next writing.
"""

import json
import os
import re
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from lamina.core import files, placement
from lamina.core.budget import Budget, CorruptFileError, UnsafeFileError, blamed_on
from lamina.saving import contents, hdf5, weights
from lamina.saving.hdf5 import Stored, h5py


def write_shards(model: Any, path: Any, limit: float, skip: Collection[Any]) -> None:
    """Write the weights to shards of at most `limit` bytes of arrays and the index `path`, all or nothing."""
    with files.workplace(path) as (folder, index):
        mark = files.mark_of(folder)
        names: list[str] = []

        def open_file(number: int) -> BinaryIO:
            names.append(f"{_base(index)}_{number:05}-{mark}.weights.h5")
            return stack.enter_context(open(folder / names[number], "w+b"))

        before = _named(index)
        with ExitStack() as stack, closing(weights.Sink(open_file, limit)) as sink:
            weights.save(model, sink, skip)
            for file in sink.files:
                file.attrs["written"] = mark
        places = {f"/{group}": [names[number] for number in sorted(numbers)] for group, numbers in sink.places.items()}
        described = {"metadata": {"total_size": sink.total, "written": mark}, "weight_map": places}
        if not placement.is_first():
            return placement.barrier()
        (folder / index.name).write_text(json.dumps(described, indent=4), encoding="utf-8")
        first = index.with_name(f"{_base(index)}_00000.weights.h5")
        h5py.File(folder / first.name, "w").close()  # Keras opens it before it reads the index
        for name in names if first.exists() else [*names, first.name]:
            files.put(folder / name, index.with_name(name))
        files.put(folder / index.name, index)
        if first.name in before:
            files.put(folder / first.name, first)
        _remove_old(index, before - {first.name})
        placement.barrier()


def _base(index: Path) -> str:
    return index.name.removesuffix(".weights.json")


def _named(index: Path) -> set[str]:
    """The shards that an index names, none if it cannot be read."""
    with suppress(OSError, ValueError):
        return set(_read_index(index)[0])
    return set()


def _remove_old(index: Path, before: set[str]) -> None:
    """Remove the shards that the index named `before`, and those of writers that were killed."""
    shard = re.compile(re.escape(_base(index)) + r"_\d{5}(-([0-9a-f]{16}))?\.weights\.h5")
    there = [(path, match) for path in index.parent.iterdir() if (match := shard.fullmatch(path.name))]
    # First who writes, then what is named: a writer that has just ended has its index in place.
    writing = {files.mark_of(folder) for folder in files.leftovers(index)}
    named = _named(index)
    for path, match in there:
        gone = path.name in before if match[2] is None else match[2] not in writing
        if gone and path.name not in named:
            path.unlink(missing_ok=True)


def _read_index(path: Path) -> tuple[list[str], str | None]:
    """The names of the shards, and the mark that they have."""
    place = f'"{path}"'
    with contents.opened_plain(str(path)) as file, blamed_on(place):
        index = contents.json_object(file.read(contents.MOST_JSON + 1), Budget(os.fstat(file.fileno()).st_size))
    places, metadata = index.get("weight_map"), index.get("metadata")
    mark = metadata.get("written") if isinstance(metadata, dict) else None
    lists = [v if isinstance(v, list) else [v] for v in places.values()] if isinstance(places, dict) else [[None]]
    names = [name for each in lists for name in each]
    wrong = next((name for name in names if not _is_name(name)), "")
    if wrong != "":
        raise UnsafeFileError(f"weight_map must name .h5 files in the same folder, got {wrong!r}.", place)
    if mark is not None and not isinstance(mark, str):
        raise CorruptFileError(f"metadata: written must be a string, got {mark!r}; save the files again.", place)
    return sorted({str(name) for name in names}), mark


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and name.endswith(".h5") and not set(name) & set("/\\:\0") and len(name) < 250


@contextmanager
def opened_shards(path: Path) -> Iterator[dict[str, Stored]]:
    """The arrays of all shards that the index `path` names, by their paths."""
    names, mark = _read_index(path)
    with ExitStack() as stack:
        arrays: dict[str, Stored] = {}
        for name in names:
            shard = path.with_name(name)
            try:
                size = contents.plain_size(str(shard))
            except contents.MissingFileError as error:
                raise contents.MissingFileError(f'"{path}": its shard "{name}" must lie beside it.') from error
            found = stack.enter_context(hdf5.opened(str(shard), str(shard), size, mark))
            with blamed_on(f'"{shard}"'):
                double = next((each for each in found if each in arrays), None)
                if double is not None:
                    raise CorruptFileError(f"{double} must stand in one shard only; save the files again.")
            arrays |= found
        yield arrays
