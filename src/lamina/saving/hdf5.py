"""HDF5 files from strangers: every object is looked at before a number is read.

Only groups and datasets of numbers are let through. What HDF5 can do beyond that (links to other files, data kept
elsewhere, objects, filters that are loaded as code, sizes that nothing backs) is refused by name.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import jax.numpy as jnp
import numpy as np

from lamina.core.later import Later

if TYPE_CHECKING:
    import h5py
else:
    h5py = Later("h5py")

MEBIBYTE = 2**20
_MOST_OBJECTS = 1_000_000
_MOST_LEVELS = 64
# Number formats that HDF5 does not know: they are kept as bytes, and an attribute names them.
BYTES_FORMATS = ("bfloat16", "float8_e4m3fn", "float8_e5m2")


def most_unpacked(size: int) -> int:
    """The bytes that a file of `size` bytes may hold when unpacked: packed weights do not shrink much."""
    return 64 * MEBIBYTE + 20 * size


class Stored(NamedTuple):
    """An array in a file, not read yet."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype
    dataset: Any

    @property
    def nbytes(self) -> int:
        """Its size in memory."""
        return self.dataset.nbytes

    def read(self) -> np.ndarray:
        """The array."""
        try:
            array = np.asarray(self.dataset[()])
        except Exception as error:
            raise ValueError(f"{self.path} cannot be read; the file is damaged: {error}.") from error
        if array.dtype.kind == "V":
            return array.view(self.dtype)
        return array.astype(self.dtype, copy=False)


@contextmanager
def opened(source: str | BinaryIO, name: str, size: int, mark: str | None = None) -> Iterator[dict[str, Stored]]:
    """The arrays of an HDF5 file by their paths, all checked.

    Args:
        source: the path of the file, or the file.
        name: what errors call it.
        size: its size in bytes.
        mark: what its attribute "written" must say.
    """
    try:
        file = h5py.File(source, "r")
    except Exception as error:
        raise ValueError(f'"{name}": must be a whole HDF5 file: {error}.') from error
    with file:
        try:
            if mark is not None and file.attrs.get("written") != mark:
                raise ValueError("it must be of the same writing as the files beside it")
            arrays = {path: _checked(path, dataset, size) for path, dataset in _walk(file)}
            unpacked = sum(array.nbytes for array in arrays.values())
            if unpacked > most_unpacked(size):
                raise ValueError(f"its arrays must have at most {most_unpacked(size):,} bytes, claim {unpacked:,}")
        except Exception as error:  # the library raises what it likes on damaged files
            raise ValueError(f'"{name}": refused, {error}.') from error
        yield arrays


def _walk(file: Any) -> Iterator[tuple[str, Any]]:
    """The datasets, each reached by one plain link."""
    met = {_address(file)}
    waiting = [("", file, 0)]
    while waiting:
        path, group, level = waiting.pop()
        if level > _MOST_LEVELS:
            raise ValueError(f"groups must lie at most {_MOST_LEVELS} deep, got {path}")
        for name in group:
            inner = f"{path}/{name}" if path else name
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise ValueError(f"{inner} must be an array or a group in the file itself, got {type(link).__name__}")
            item = group[name]
            if not isinstance(item, (h5py.Group, h5py.Dataset)):
                raise ValueError(f"{inner} must be an array or a group, got {type(item).__name__}")
            if _address(item) in met:
                raise ValueError(f"{inner} must be a thing of its own, and is a second name of another one")
            met.add(_address(item))
            if len(met) > _MOST_OBJECTS:
                raise ValueError(f"it must hold at most {_MOST_OBJECTS:,} arrays and groups")
            if isinstance(item, h5py.Group):
                waiting.append((inner, item, level + 1))
            else:
                yield inner, item


def _address(item: Any) -> int:
    return h5py.h5o.get_info(item.id).addr  # type: ignore[attr-defined]


def _checked(path: str, dataset: Any, size: int) -> Stored:
    dtype = _number_format(path, dataset)
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{path} must keep its data in the file itself")
    plan = dataset.id.get_create_plist()
    filters = {plan.get_filter(i)[0] for i in range(plan.get_nfilters())}
    if not filters <= {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE}:
        raise ValueError(f"{path} must be packed by gzip or not at all, got filters {sorted(filters)}")
    kept = dataset.id.get_storage_size()
    if dataset.nbytes > (kept * 1100 if filters else kept) or kept > size:  # deflate packs 1032 to 1 at best
        raise ValueError(
            f"{path} claims shape {dataset.shape} of {dtype}, which {kept:,} bytes in the file cannot hold"
        )
    if h5py.h5z.FILTER_DEFLATE in filters:
        _check_chunks(path, dataset)
    return Stored(path, dataset.shape, dtype, dataset)


def _number_format(path: str, dataset: Any) -> np.dtype:
    dtype, named = dataset.dtype, None
    if dtype.kind == "V" and dtype.names is None and dtype.subdtype is None:
        named = dataset.attrs.get("dtype")
        if named in BYTES_FORMATS and jnp.dtype(named).itemsize == dtype.itemsize:
            return jnp.dtype(named)
    if dtype.kind not in "biufc" or dataset.shape is None:
        raise ValueError(f"{path} must be an array of numbers, got {named or dtype}")
    return dtype.newbyteorder("=")


def _check_chunks(path: str, dataset: Any) -> None:
    """Each packed chunk must unpack to the size that it has; HDF5 itself would unpack whatever is there."""
    whole = int(np.prod(dataset.chunks)) * dataset.dtype.itemsize
    if whole > max(dataset.nbytes, MEBIBYTE):
        raise ValueError(f"{path} must have chunks within its shape {dataset.shape}, got {dataset.chunks}")
    for i in range(dataset.id.get_num_chunks()):
        chunk = dataset.id.get_chunk_info(i)
        skipped, packed = dataset.id.read_direct_chunk(chunk.chunk_offset)
        if skipped:  # a chunk may be kept unpacked
            continue
        if len(zlib.decompressobj().decompress(packed, whole + 1)) != whole:
            raise ValueError(f"{path} has a chunk that does not unpack to its size")
