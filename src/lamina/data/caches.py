"""Where elements are kept: of `Dataset.cache` in memory or in a file, and what was decoded while there is room."""

from __future__ import annotations

import os
import threading
import weakref
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
from jax import tree_util

from lamina.core import files

DECODED_BYTES = 1 << 30  # that all `Decoded` keep together


class Decoded:
    """`load(path)`, kept while there is room and the file stays as it is: the second epoch decodes nothing again."""

    _all: weakref.WeakSet[Decoded] = weakref.WeakSet()
    _alone = threading.Lock()

    def __init__(self, load: Callable[[str], np.ndarray]):
        self._load, self._bytes = load, 0
        self._known: dict[str, tuple[tuple[int, int], np.ndarray]] = {}
        with self._alone:
            self._all.add(self)

    def __call__(self, path: str) -> np.ndarray:
        """What is in the file; nobody can change it."""
        stat = os.stat(path)
        state = stat.st_mtime_ns, stat.st_size
        known = self._known.get(path)
        if known is not None and known[0] == state:
            return known[1]
        content = self._load(path)
        content.flags.writeable = False
        with self._alone:
            former = self._known.pop(path, (state, content[:0]))[1]
            self._bytes -= former.nbytes
            if sum(each._bytes for each in self._all) + content.nbytes <= DECODED_BYTES:
                self._known[path] = state, content
                self._bytes += content.nbytes
        return content


class Memory(dict):
    """Elements by number."""

    done = False

    def finish(self) -> None:
        """Say that all are there."""
        self.done = True


class File:
    """Elements by number in a file like those of `np.savez`, which appears when all are there.

    Beside the arrays stands the structure of an element. Texts have a full stop at their ends, since NumPy's own lose
    zeros there.
    """

    def __init__(self, path: str):
        self._path, self._lock, self._stack = path, threading.Lock(), ExitStack()
        self._known: set[int] = set()
        self._zip: Any = None
        self.done = os.path.exists(path)
        if self.done:
            self._open()

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, number: int) -> bool:
        return self.done and number in self._known  # what is being written cannot be read yet

    def __getitem__(self, number: int) -> Any:
        return self._structure.unflatten([self._array(f"{number}.{at}") for at in range(self._structure.num_leaves)])

    def _array(self, name: str) -> np.ndarray:
        with self._zip.open(name) as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
        if array.dtype.kind != "S":
            return array
        return np.array([text[:-1] for text in array.reshape(-1)] + [None], object)[:-1].reshape(array.shape)

    def __setitem__(self, number: int, element: Any) -> None:
        with self._lock:
            if self.done or number in self._known:
                return
            if self._zip is None:
                folder, self._target = self._stack.enter_context(files.workplace(self._path))
                self._new = folder / self._target.name
                self._zip = self._stack.enter_context(zipfile.ZipFile(self._new, "w"))
                self._zip.writestr("structure", tree_util.tree_structure(element).serialize_using_proto())
            for at, leaf in enumerate(tree_util.tree_leaves(element)):
                if leaf.dtype == object:
                    leaf = np.array([text + b"." for text in leaf.reshape(-1)], "S").reshape(leaf.shape)
                with self._zip.open(f"{number}.{at}", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, leaf, allow_pickle=False)
            self._known.add(number)

    def finish(self) -> None:
        """Give the file its name."""
        with self._lock:
            if not self.done and self._zip is not None:
                self._zip.close()
                files.put(self._new, self._target)
                self._stack.close()
                self._open()
                self.done = True

    def _open(self) -> None:
        try:
            self._zip = zipfile.ZipFile(self._path)
            structure = self._zip.read("structure")
        except (zipfile.BadZipFile, KeyError):
            raise ValueError(f'cache: "{self._path}" must be a file that cache has written; delete it.') from None
        self._structure = tree_util.PyTreeDef.deserialize_using_proto(tree_util.default_registry, structure)
        self._known = {int(name.partition(".")[0]) for name in self._zip.namelist() if name != "structure"}
