"""Single images: between files, Pillow's images and arrays."""

import io
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lamina import ops
from lamina.core import checks, dtypes
from lamina.utils.decoding import CHANNELS, MODES, PIL

_GRAY = ("L", "I;16", "I")  # modes of one channel, of all depths
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "hamming", "box", "lanczos")


def img_to_array(img: Any, data_format: str | None = None, dtype: Any = None) -> np.ndarray:
    """The pixels of an image of Pillow, or an array of one, with an axis for the channels.

    Args:
        img: the image; an array is taken to have its channels last.
        data_format: where the result has its channels.
        dtype: of the result, `floatx` if not given.

    Shapes: (height, width), or with channels -> (height, width, channels), or with channels first.
    """
    data_format = dtypes.standardize_data_format(data_format, "img_to_array")
    x = np.asarray(img, dtype=dtype or dtypes.floatx())
    if x.ndim == 2:
        x = x[..., None]
    checks.require(x.ndim == 3, "img_to_array", "img must be one image, of 2 or 3 axes", got=f"shape {x.shape}")
    return x.transpose(2, 0, 1) if data_format == "channels_first" else x


def array_to_img(x: Any, data_format: str | None = None, scale: bool = True, dtype: Any = None) -> Any:
    """An array of one image as an image of Pillow.

    Args:
        x: the array, with 1, 3 or 4 channels.
        data_format: where it has its channels.
        scale: whether its values are spread over 0 to 255: `255 (x - min) / (max - min)`.
        dtype: to compute in, `floatx` if not given.

    Raises: ValueError if x is not one image.
    """
    x = np.asarray(x, dtype=dtype or dtypes.floatx())
    checks.require(x.ndim == 3, "array_to_img", "x must be one image, of 3 axes", got=f"shape {x.shape}")
    if dtypes.standardize_data_format(data_format, "array_to_img") == "channels_first":
        x = x.transpose(1, 2, 0)
    channels = x.shape[-1]
    checks.require(channels in MODES, "array_to_img", "x must have 1, 3 or 4 channels", got=f"shape {x.shape}")
    if scale:
        x = x - x.min()
        x = x / (x.max() or 1) * 255
    if channels == 1:  # of more than 8 bits where the values are
        return PIL.Image.fromarray(x[..., 0].astype("int32" if x.max() > 255 else "uint8"))
    return PIL.Image.fromarray(x.astype("uint8"), MODES[channels])


def load_img(
    path: Any,
    color_mode: str = "rgb",
    target_size: tuple[int, int] | None = None,
    interpolation: str = "nearest",
    keep_aspect_ratio: bool = False,
) -> Any:
    """The image in a file, as one of Pillow.

    Args:
        path: a file's name, or an open file.
        color_mode: "rgb", "rgba" or "grayscale"; of 16 or 32 bits stays what is gray and has them.
        target_size: (height, width) to resize to.
        interpolation: "nearest", "bilinear", "bicubic", "hamming", "box" or "lanczos".
        keep_aspect_ratio: whether the middle of the image is cut out first, in the proportions of `target_size`.

    Raises: ValueError on unknown modes; FileNotFoundError; `PIL.UnidentifiedImageError` for what is no image.
    """
    checks.one_of("load_img", "color_mode", color_mode, CHANNELS)
    checks.one_of("load_img", "interpolation", interpolation, INTERPOLATIONS)
    source: Any = path
    if not hasattr(path, "read"):
        source = io.BytesIO(Path(os.fspath(path)).read_bytes())  # Pillow would keep the file open
    img: Any = PIL.Image.open(source)
    mode = MODES[CHANNELS[color_mode]]
    if img.mode != mode and not (mode == "L" and img.mode in _GRAY):
        img = img.convert(mode)
    if target_size is None:
        return img
    height, width = checks.height_and_width("load_img", "target_size", target_size)
    if img.size == (width, height):
        return img
    box = _middle(img.size, (width, height)) if keep_aspect_ratio else None
    return img.resize((width, height), getattr(PIL.Image.Resampling, interpolation.upper()), box)


def _middle(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the largest part in the middle that has the proportions of `wanted`."""
    (width, height), (across, down) = size, wanted
    inside = min(width, width if across * height >= width * down else int(across * height / down))
    tall = min(height, int(down * width / across))
    left, top = (width - inside) // 2, (height - tall) // 2
    return left, top, left + inside, top + tall


def save_img(
    path: Any, x: Any, data_format: str | None = None, file_format: str | None = None, scale: bool = True, **kwargs: Any
) -> None:
    """Write an array of one image to a file.

    Args:
        path: a file's name, or an open file.
        x: the array, with 1, 3 or 4 channels.
        data_format: where it has its channels.
        file_format: such as "png"; by the name's ending if not given.
        scale: whether its values are spread over 0 to 255.
        kwargs: of Pillow's `Image.save`.
    """
    img = array_to_img(x, data_format=data_format, scale=scale)
    given = "jpeg" if str(file_format).lower() == "jpg" else file_format  # as Pillow calls it
    if img.mode == "RGBA" and str(given or os.path.splitext(str(path))[1]).lower().strip(".") in ("jpg", "jpeg"):
        img = img.convert("RGB")  # which has no transparency
    img.save(path, format=given, **kwargs)


def smart_resize(
    x: Any, size: tuple[int, int], interpolation: str = "bilinear", data_format: str = "channels_last", **kwargs: Any
) -> Any:
    """An image, or a batch of them, in another size: the largest part in the middle that has its proportions, resized.

    Args:
        x: the image or images.
        size: (height, width).
        interpolation: one of `ops.image.resize`.
        data_format: where the channels are.

    Shapes: (..., height, width, channels) -> (..., *size, channels).
    """
    kwargs.pop("backend_module", None)
    if kwargs:
        raise checks.unknown_arguments("smart_resize", kwargs, ("x", "size", "interpolation", "data_format"))
    out = ops.image.resize(x, size, interpolation, crop_to_aspect_ratio=True, data_format=data_format)
    return out if isinstance(x, jax.Array) else np.asarray(out)
