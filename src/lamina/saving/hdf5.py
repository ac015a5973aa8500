"""HDF5 files from strangers: every object is looked at before a number is read.

Only groups and datasets of numbers are let through. What HDF5 can do beyond that (links to other files, data kept
elsewhere, objects, filters that are loaded as code, sizes that nothing backs) is refused by name.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, takewhile
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import jax.numpy as jnp
import numpy as np

from lamina.core.budget import MEBIBYTE, Budget, CorruptFileError, UnsafeFileError, blamed_on
from lamina.core.later import Later

if TYPE_CHECKING:
    import h5py
else:
    h5py = Later("h5py")

_MOST_LEVELS = 64
_MOST_TEXT = 256 * MEBIBYTE
# What a look costs, in steps of work.
_OBJECT, _CHUNK = 1000, 100
# Number formats that HDF5 does not know: they are kept as bytes, and an attribute names them.
BYTES_FORMATS = ("bfloat16", "float8_e4m3fn", "float8_e5m2")


def check_unpacked(unpacked: int, size: int) -> None:
    """A file of `size` bytes must not unpack to many more: packed weights do not shrink much."""
    most = 64 * MEBIBYTE + 20 * size
    if unpacked > most:
        raise UnsafeFileError(f"it may unpack to {most:,} bytes, and claims {unpacked:,}; save it without packing.")


class Stored(NamedTuple):
    """An array in a file, not read yet."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype
    dataset: Any

    @property
    def nbytes(self) -> int:
        """Its size in memory."""
        return size_of(self.dataset)

    def read(self) -> np.ndarray:
        """The array."""
        try:
            array = np.asarray(self.dataset[()])
        except Exception as error:
            rule = f"{self.path} cannot be read; the file is damaged: {error}; save or download it again."
            raise CorruptFileError(rule) from error
        if array.dtype.kind == "V":
            return array.view(self.dtype)
        return array.astype(self.dtype, copy=False)


class Lasting:
    """A file for HDF5 to write to, which does not bear that a write fails: the process would end with it.

    The first error, of a disk that is full, waits until `finish`; what comes after it is dropped.
    """

    def __init__(self, file: Any):
        self._file, self._error = file, None

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            try:
                return 0 if self._error else getattr(self._file, name)(*arguments)
            except OSError as error:
                self._error = error
                return 0

        return call

    def finish(self) -> None:
        """Raise what went wrong, once HDF5 has closed its side."""
        self.flush()
        if self._error is not None:
            raise self._error


@contextmanager
def opened_file(source: str | BinaryIO, name: str) -> Iterator[h5py.File]:
    """An HDF5 file, of which nothing is checked yet; what its inside raises is the file's fault."""
    with blamed_on(f'"{name}"'):
        try:
            file = h5py.File(source, "r")
        except Exception as error:
            raise CorruptFileError(f"must be a whole HDF5 file: {error}; save or download it again.") from error
    with file:
        yield file


@contextmanager
def opened(source: str | BinaryIO, name: str, size: int, mark: str | None = None) -> Iterator[dict[str, Stored]]:
    """The arrays of an HDF5 file by their paths, all checked.

    Args:
        source: the path of the file, or the file.
        name: what errors call it.
        size: its size in bytes.
        mark: what its attribute "written" must say.
    """
    with opened_file(source, name) as file:
        with blamed_on(f'"{name}"'):
            if mark is not None and text(file, "written") != mark:
                raise CorruptFileError("must be of the same writing as the files beside it; save all of them again.")
            arrays = checked(file, size)
        yield arrays


def checked(file: Any, size: int) -> dict[str, Stored]:
    """The arrays below a group by their paths, once all that lies there is allowed and as large as it says."""
    budget, arrays, unpacked = Budget(size), {}, 0
    for path, item in _walk(file, budget):
        if isinstance(item, h5py.Dataset):
            arrays[path] = _checked(path, item, size, budget)
            unpacked += size_of(item)
            check_unpacked(unpacked, size)
    return arrays


def text(item: Any, name: str) -> str | None:
    """An attribute that is one string of bounded length, `None` if it is not there."""
    if name not in item.attrs:
        return None
    attribute = item.attrs.get_id(name)
    string = h5py.check_string_dtype(attribute.dtype)
    if string is None or attribute.shape != () or (string.length or 0) > _MOST_TEXT:
        raise CorruptFileError(f"attribute {name!r} must be a string, got {attribute.dtype} of {attribute.shape}.")
    value = item.attrs[name]
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def texts(item: Any, name: str) -> list[str]:
    """An attribute that is a list of strings; long ones are kept in parts, `name0`, `name1`, ..."""
    parts = takewhile(item.attrs.__contains__, (f"{name}{i}" for i in count()))
    found: list[str] = []
    for each in [name] if name in item.attrs else parts:
        attribute = item.attrs.get_id(each)
        empty = attribute.shape == (0,)  # of floats, as nobody said otherwise
        if not empty and (h5py.check_string_dtype(attribute.dtype) is None or len(attribute.shape) != 1):
            raise CorruptFileError(f"attribute {each!r} must be strings, got {attribute.dtype} of {attribute.shape}.")
        values = [] if empty else item.attrs[each]
        found += [value.decode("utf-8") if isinstance(value, bytes) else str(value) for value in values]
    return found


def _refused(rule: str) -> UnsafeFileError:
    return UnsafeFileError(f"{rule}; no saved weights do that: get the file from whom you trust.")


def _walk(file: Any, budget: Budget) -> Iterator[tuple[str, Any]]:
    """The groups and datasets, each reached by one plain link."""
    met = {_address(file)}
    waiting = [("", file, 0)]
    while waiting:
        path, group, level = waiting.pop()
        if level > _MOST_LEVELS:
            raise _refused(f"groups must lie at most {_MOST_LEVELS} deep, got {path}")
        for name in group:
            budget.spend("a file of so many arrays and groups", work=_OBJECT)
            inner = f"{path}/{name}" if path else name
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                kind = type(link).__name__
                raise _refused(f"{inner} must be an array or a group in the file itself, got {kind}")
            item = group[name]
            if not isinstance(item, (h5py.Group, h5py.Dataset)):
                raise _refused(f"{inner} must be an array or a group, got {type(item).__name__}")
            if _address(item) in met:
                raise _refused(f"{inner} must be a thing of its own, and is a second name of another one")
            met.add(_address(item))
            if isinstance(item, h5py.Group):
                waiting.append((inner, item, level + 1))
            yield inner, item


def _address(item: Any) -> int:
    return h5py.h5o.get_info(item.id).addr  # type: ignore[attr-defined]


def _checked(path: str, dataset: Any, size: int, budget: Budget) -> Stored:
    dtype = _number_format(path, dataset)
    if dataset.external or dataset.is_virtual:
        raise _refused(f"{path} must keep its data in the file itself")
    plan = dataset.id.get_create_plist()
    filters = {plan.get_filter(i)[0] for i in range(plan.get_nfilters())}
    if not filters <= {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE}:
        raise _refused(f"{path} must be packed by gzip or not at all, got filters {sorted(filters)}")
    kept = dataset.id.get_storage_size()
    if size_of(dataset) > (kept * 1100 if filters else kept) or kept > size:  # deflate packs 1032 to 1 at best
        raise _refused(f"{path} claims shape {dataset.shape} of {dtype}, which {kept:,} bytes in the file cannot hold")
    if h5py.h5z.FILTER_DEFLATE in filters:
        _check_chunks(path, dataset, budget)
    return Stored(path, dataset.shape, dtype, dataset)


def size_of(dataset: Any) -> int:
    """Its bytes in memory. h5py's own number overflows."""
    return math.prod(dataset.shape) * dataset.dtype.itemsize


def _number_format(path: str, dataset: Any) -> np.dtype:
    dtype, named = dataset.dtype, None
    if dtype.kind == "V" and dtype.names is None and dtype.subdtype is None:
        named = text(dataset, "dtype")
        if named is not None and named in BYTES_FORMATS and jnp.dtype(named).itemsize == dtype.itemsize:
            return jnp.dtype(named)
    if dtype.kind not in "biufc" or dataset.shape is None:
        raise _refused(f"{path} must be an array of numbers, got {named or dtype}")
    return dtype.newbyteorder("=")


def _check_chunks(path: str, dataset: Any, budget: Budget) -> None:
    """Each packed chunk must unpack to the size that it has; HDF5 itself would unpack whatever is there."""
    whole = math.prod(dataset.chunks) * dataset.dtype.itemsize
    if whole > max(size_of(dataset), MEBIBYTE):
        raise _refused(f"{path} must have chunks within its shape {dataset.shape}, got {dataset.chunks}")
    budget.spend(f"{path}, of so many chunks,", work=_CHUNK * dataset.id.get_num_chunks())
    places: list[tuple[int, ...]] = []
    dataset.id.chunk_iter(lambda chunk: places.append(chunk.chunk_offset))
    for place in places:
        skipped, packed = dataset.id.read_direct_chunk(place)
        if not skipped and len(zlib.decompressobj().decompress(packed, whole + 1)) != whole:  # 0: it is packed
            raise _refused(f"{path} has a chunk that does not unpack to its size")
