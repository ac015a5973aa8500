"""Where data sets come from, and how their files are read: as data, never as programs."""

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from lamina.core import checks
from lamina.core.budget import UnsafeFileError, blamed_on
from lamina.utils.downloads import get_file

Split = tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
# The name of a file -> its URL and its hash.
ORIGINS = json.loads(Path(__file__).with_name("origins.json").read_text())
_ARRAYS = {"numpy.ndarray", "numpy.dtype", "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"}


def fetch(name: str, fname: Any = None, **more: Any) -> str:
    """The path of a file of the table, or of what was in it, in the cache."""
    url, file_hash = ORIGINS[name]
    return get_file(fname or name, url, file_hash=file_hash, **more)


class Unpickler(pickle.Unpickler):
    """Reads the arrays, lists, dicts and texts of a pickle, and refuses all else."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        """What an array is made with."""
        if f"{module_name}.{global_name}" in _ARRAYS and "." not in global_name:
            return super().find_class(module_name, global_name)
        raise UnsafeFileError(f"must hold only arrays, lists, dicts and texts, and names {module_name}.{global_name}.")


def arrays(name: str, fname: Any, *keys: str) -> list[Any]:
    """The arrays `keys` of a file of NumPy; those of lists are pickled there."""
    path, found = fetch(name, fname), []
    with blamed_on(path), zipfile.ZipFile(path) as archive:
        for key in keys:
            with archive.open(f"{key}.npy") as file:
                try:
                    found.append(np.lib.format.read_array(file, allow_pickle=False))
                except ValueError:  # after the header, behind which the pickle is
                    found.append(np.asarray(Unpickler(file).load()))
    return found


def word_index(name: str, fname: Any) -> dict[str, int]:
    """Each word -> its place in the order of frequency, from 1."""
    path = fetch(name, fname)
    with blamed_on(path):
        return json.loads(Path(path).read_text("utf-8"))


def split(test_split: float, x: Any, y: Any) -> Split:
    """What comes first, and the share `test_split` at the end."""
    end = int(len(x) * (1 - test_split))
    return (x[:end], y[:end]), (x[end:], y[end:])


def housing(name: str, path: Any, test_split: float, seed: int, most: int | None = None) -> Split:
    """The first `most` rows of a table with targets, shuffled and split."""
    if checks.number(name, "test_split", test_split, 0, 1) == 1:
        raise ValueError(f"{name}: test_split must be below 1, so that there is something to train on, got 1.")
    x, y = (each[:most] for each in arrays(f"{name}.npz", path, "x", "y"))
    order = np.random.RandomState(seed).permutation(len(x))
    return split(test_split, x[order], y[order])


def texts(
    name: str, test_split: Any, num_words: Any, skip_top: int, maxlen: Any, seed: int, start: Any, oov: Any, shift: Any,
    *parts: Any,
) -> Split:  # fmt: skip
    """Each of `parts`, texts and labels, shuffled and with the numbers of words that `imdb.load_data` tells of."""
    rng, found, first = np.random.RandomState(seed), [], [] if start is None else [start]
    for words, labels in parts:
        xs = [np.append(first, np.add(text, shift or 0)).astype(int) for text in words]
        kept = [i for i in rng.permutation(len(xs)) if not maxlen or len(xs[i]) < maxlen]
        checks.require(kept, name, "maxlen must be above the length of a text in each part", maxlen)
        found.append(([xs[i] for i in kept], labels[kept]))
    end = num_words or max(x.max(initial=0) for xs, _ in found for x in xs)  # cuts the last word, as in Keras
    for xs, _ in found:
        known = ((x, (skip_top <= x) & (x < end)) for x in xs)
        xs[:] = [(x[good] if oov is None else np.where(good, x, oov)).tolist() for x, good in known]
    train, test = split(test_split, *found[0]) if test_split is not None else found
    return (np.array(train[0], dtype=object), train[1]), (np.array(test[0], dtype=object), test[1])
