"""Files of events, which TensorBoard shows: numbers, histograms, images and texts by tag and step.

A file is a row of records, each with its length and checksums (CRC-32C). A record is an `Event`, a message in the
encoding of protocol buffers: fields of a number, a kind and a value.
"""

import contextlib
import itertools
import os
import platform
import struct
import time
import warnings
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lamina.core import placement

_FLOAT, _DOUBLE, _STRING = 1, 2, 7  # kinds of tensors
_BUFFERED, _SECONDS = 1 << 20, 5.0  # how many bytes wait, and how long, at most
_numbers = itertools.count()  # that tell the files of a process apart


_CRC = list(range(256))  # what each byte does to a checksum
for _ in range(8):
    _CRC = [(value >> 1) ^ (0x82F63B78 if value & 1 else 0) for value in _CRC]


def masked_crc(data: bytes) -> int:
    """CRC-32C, turned and shifted, so that a checksum may itself be checked."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 255] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def record(data: bytes) -> bytes:
    """The data as they stand in a file."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc(length)) + data + struct.pack("<I", masked_crc(data))


def _varint(value: int) -> bytes:
    out = bytearray()
    value &= 2**64 - 1
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, value: int | float | str | bytes) -> bytes:
    """A field of a message: an integer, a double, or bytes, which may be a text or a message."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    if isinstance(value, float):
        return _varint(number << 3 | 1) + struct.pack("<d", value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _tensor(kind: int, shape: Sequence[int], content: bytes) -> bytes:
    sizes = b"".join(_field(2, _field(1, size)) for size in shape)
    return _field(1, kind) + _field(2, sizes) + content


def _strings(items: Sequence[str | bytes], shape: Sequence[int]) -> bytes:
    return _tensor(_STRING, shape, b"".join(_field(8, item) for item in items))


def _png(image: np.ndarray) -> bytes:
    """An image (height, width, channels) of bytes as a PNG file."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = image.shape
    color = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = np.concatenate([np.zeros((height, 1), np.uint8), image.reshape(height, -1)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows.tobytes())) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def buckets_of(values: Any, count: int) -> np.ndarray:
    """(left end, right end, how many values) of `count` intervals of one width, as (count, 3); of finite values."""
    flat = np.ravel(np.asarray(values)).astype(np.float64)
    flat = flat[np.isfinite(flat)]
    if not flat.size:
        return np.zeros((count, 3))
    low, high = flat.min(), flat.max()
    counts, ends = np.histogram(flat, count, (low, high))
    if np.isclose(high, low):
        counts, ends = [0] * (count - 1) + [flat.size], np.array([low] * count + [high])
    return np.stack([ends[:-1], ends[1:], counts], axis=1)


class EventWriter:
    """Writes events into a new file of a folder. What cannot be written is lost with one warning, and nothing raised.

    Args:
        folder: made with the first event.
        who: whom the warning is from.
        goes_on: `place()` of an earlier writer: its file is cut there and gone on with, if it is still whole so far.
    """

    def __init__(self, folder: str | os.PathLike[str], who: str = "EventWriter", goes_on: Sequence[Any] | None = None):
        self.folder, self._who = os.fspath(folder), who
        self._waiting, self._flushed = bytearray(), time.time()
        self._failed = not placement.is_first()  # of processes that train together one writes
        self._name = f"events.out.tfevents.{time.time():.0f}.{platform.node()}.{os.getpid()}.{next(_numbers)}.v2"
        self._size = 0
        if goes_on is not None:
            path = os.path.join(self.folder, goes_on[0])
            with self.attempt():
                if os.path.isfile(path) and os.path.getsize(path) >= goes_on[1]:
                    os.truncate(path, goes_on[1])
                    self._name, self._size = goes_on

    def scalar(self, tag: str, value: Any, step: int) -> None:
        """Write a number."""
        self._summary(tag, step, "scalars", _tensor(_FLOAT, (), _field(4, np.asarray(value, "<f4").tobytes())))

    def histogram(self, tag: str, values: Any, step: int, buckets: int = 30) -> None:
        """Write how the values of an array are spread."""
        content = buckets_of(values, buckets).astype("<f8")
        self._summary(tag, step, "histograms", _tensor(_DOUBLE, content.shape, _field(4, content.tobytes())))

    def image(self, tag: str, images: Any, step: int, most: int = 3) -> None:
        """Write the first of some images (count, height, width, channels): bytes, or floats from 0 to 1."""
        array = np.asarray(images)[:most]
        if array.dtype != np.uint8:
            array = np.clip(np.nan_to_num(array.astype(np.float32)) * 255.5, 0, 255).astype(np.uint8)
        _, height, width, _ = array.shape
        items = [str(width), str(height), *map(_png, array)]
        self._summary(tag, step, "images", _strings(items, (len(items),)))

    def text(self, tag: str, text: str, step: int) -> None:
        """Write a text, which is shown as Markdown."""
        self._summary(tag, step, "text", _strings([text], ()))

    def keras_model(self, tag: str, description: str, step: int = 0) -> None:
        """Write the JSON of a model, which is shown as a graph of its layers."""
        self._summary(tag, step, "graph_keras_model", _strings([description], ()), b"1")

    def flush(self) -> None:
        """Write what waits to the file."""
        if not self._waiting or self._failed:
            return
        with self.attempt():
            os.makedirs(self.folder, exist_ok=True)
            with open(os.path.join(self.folder, self._name), "ab") as file:
                file.write(self._waiting)
            self._size += len(self._waiting)
        self._waiting, self._flushed = bytearray(), time.time()

    def place(self) -> list[Any]:
        """The name of the file and its length, for a writer that goes on with it."""
        self.flush()
        return [self._name, self._size]

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """A disk that is full or a folder that cannot be written ends the block, and all writing, with a warning."""
        try:
            yield
        except OSError as error:
            if not self._failed:
                warnings.warn(f"{self._who}: nothing more is logged in {self.folder!r}: {error}.", stacklevel=4)
            self._failed = True

    def _summary(self, tag: str, step: int, plugin: str, tensor: bytes, content: bytes = b"") -> None:
        if self._failed:
            return
        shown = _field(1, plugin) + (_field(2, content) if content else b"")
        value = _field(1, tag) + _field(8, tensor) + _field(9, _field(1, shown))
        now = time.time()
        if not self._size and not self._waiting:
            self._waiting += record(_field(1, now) + _field(3, "brain.Event:2"))
        self._waiting += record(_field(1, now) + _field(2, int(step)) + _field(5, _field(1, value)))
        if len(self._waiting) > _BUFFERED or now - self._flushed > _SECONDS:
            self.flush()
