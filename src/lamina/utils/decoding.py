"""Files as arrays of NumPy: images in one size, with the pixels that TensorFlow's resizing gives, and sounds."""

import functools
import math
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lamina.core.later import Later

if TYPE_CHECKING:
    import PIL.Image
    import PIL.ImageDraw
    import PIL.ImageFont
else:
    PIL = Later("PIL.Image", "PIL.ImageDraw", "PIL.ImageFont", install="pillow")

CHANNELS = {"rgb": 3, "rgba": 4, "grayscale": 1}
MODES = {3: "RGB", 4: "RGBA", 1: "L"}  # Pillow's, by the number of channels
_LUMA = np.array([9797, 19235, 3736], np.int32)  # of red, green and blue, in units of 2**-15
# How far each interpolation looks, and what a pixel at a distance counts; none smooths what is made smaller.
_KERNELS = {
    "bilinear": (1.0, lambda x: 1 - x),
    "bicubic": (2.0, lambda x: np.where(x < 1, (1.5 * x - 2.5) * x * x + 1, ((2.5 - 0.5 * x) * x - 4) * x + 2)),
    "lanczos3": (3.0, lambda x: np.sinc(x) * np.sinc(x / 3)),
    "lanczos5": (5.0, lambda x: np.sinc(x) * np.sinc(x / 5)),
    "gaussian": (1.5, lambda x: np.exp(-2 * x * x)),
    "mitchellcubic": (
        2.0,
        lambda x: np.where(x < 1, (7 * x - 12) * x * x / 6 + 8 / 9, ((12 - 7 * x / 3) * x - 20) * x / 6 + 16 / 9),
    ),
}
INTERPOLATIONS = (*_KERNELS, "nearest", "area")


def image(path: str, channels: int) -> np.ndarray:
    """The pixels of an image in a file, 8 bits each, (height, width, channels); of several images the first."""
    with PIL.Image.open(path) as opened:
        img: Any = opened
        if channels == 1:
            img.draft("L", img.size)  # a JPEG has its brightness by itself
        if img.mode.startswith("I"):  # of 16 bits
            img = PIL.Image.fromarray((np.asarray(img) >> 8).astype(np.uint8))
        if channels == 1 and img.mode == "RGB":
            return (np.asarray(img) @ _LUMA >> 15).astype(np.uint8)[..., None]
        pixels = np.asarray(img if img.mode == MODES[channels] else img.convert(MODES[channels]))
    return pixels.reshape(*pixels.shape[:2], channels)


@functools.lru_cache(256)
def _taps(size: int, wanted: int, method: str) -> tuple[np.ndarray, np.ndarray]:
    """(pixels, weights) along an axis, each (wanted, count): what an output is the sum of."""
    scale, out = size / wanted, np.arange(wanted)[:, None]
    if method == "nearest":
        return np.minimum((out + 0.5) * scale, size - 1).astype(int), np.ones((wanted, 1), np.float32)
    if method == "area":
        pixels = np.floor(out * scale).astype(int) + np.arange(math.ceil(scale) + 1)
        weights = np.maximum(np.minimum(pixels + 1, (out + 1) * scale) - np.maximum(pixels, out * scale), 0)
    else:
        radius, kernel = _KERNELS[method]
        centers, reach = (out + 0.5) * scale - 0.5, math.ceil(radius)
        pixels = np.floor(centers).astype(int) + np.arange(1 - reach, 1 + reach)
        distance = np.abs(pixels - centers)
        weights = np.where(distance < radius, kernel(distance), 0)
        weights[(pixels < 0) | (pixels >= size)] = 0
    return np.clip(pixels, 0, size - 1), (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def resized(pixels: np.ndarray, size: tuple[int, int], method: str) -> np.ndarray:
    """An image in another size, float32; 8 bits stay with "nearest"."""
    for axis, wanted in enumerate(size):
        places, weights = _taps(pixels.shape[axis], wanted, method)
        if method == "nearest":
            pixels = np.take(pixels, places[:, 0], axis)
            continue
        out: Any = None
        for place, weight in zip(places.T, weights.T):
            part = np.take(pixels, place, axis).astype(np.float32, copy=False)
            flat = part.reshape(len(part), -1)  # the same memory; long rows multiply faster than a few channels
            flat *= weight[:, None] if axis == 0 else np.repeat(weight, part.shape[-1])
            out = part if out is None else np.add(out, part, out)  # in place: new memory is half of the time
        pixels = out
    return pixels


def cropped(pixels: np.ndarray, size: tuple[int, int], method: str) -> np.ndarray:
    """The largest part in the middle that has the proportions of `size`, resized."""
    height, width = pixels.shape[:2]
    fitting = int(np.float32(width * size[0]) / size[1]), int(np.float32(height * size[1]) / size[0])
    tall, wide = (max(1, min(present, fit)) for present, fit in zip((height, width), fitting))
    top, left = (height - tall) // 2, (width - wide) // 2
    return resized(pixels[top : top + tall, left : left + wide], size, method)


def padded(pixels: np.ndarray, size: tuple[int, int], method: str) -> np.ndarray:
    """The whole image, as large as it fits into `size`, in the middle of zeros."""
    given = np.array(pixels.shape[:2], np.float32)
    fitting = given / (given / np.array(size, np.float32)).max()
    inner = resized(pixels, tuple(np.floor(fitting).astype(int).tolist()), method)
    out = np.zeros((*size, inner.shape[-1]), inner.dtype)
    top, left = np.maximum(0, np.floor((np.array(size, np.float32) - fitting) / 2)).astype(int)
    out[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return out


def sound(path: str) -> tuple[np.ndarray, int]:
    """(samples from -1 to 1, (time, channels); how many a second) of a WAV file of integers or floats."""
    content, at, chunks = Path(path).read_bytes(), 12, {}
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise ValueError("a file that does not begin as WAV files do")
    while at + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, at)
        chunks.setdefault(name, content[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
    if len(chunks.get(b"fmt ", b"")) < 16 or b"data" not in chunks:
        raise ValueError("a WAV file without format or data")
    head = chunks[b"fmt "]
    kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", head)
    if kind == 0xFFFE:  # the extensible format has its kind further back
        kind = int.from_bytes(head[24:26], "little")
    width = bits // 8
    if (kind, bits) not in {(1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64)} or not channels:
        raise ValueError(f"{channels} channels of {bits} bits of the kind {kind}")
    raw = np.frombuffer(chunks[b"data"], np.uint8)
    raw = raw[: len(raw) // (width * channels) * width * channels].reshape(-1, width)
    if kind == 3:
        samples: Any = raw.view(f"<f{width}").astype(np.float32)
    else:
        wide = np.zeros((len(raw), 4), np.uint8)
        wide[:, 4 - width :] = raw if width > 1 else raw ^ 0x80  # 8 bits have no sign
        samples = (wide.view("<i4") / 2**31).astype(np.float32)
    return samples.reshape(-1, channels), rate
