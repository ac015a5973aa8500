"""Bounding boxes and masks, drawn into arrays of images."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lamina.core import checks, dtypes
from lamina.utils.bounding_boxes import convert_format
from lamina.utils.decoding import PIL

_LETTERS = 29  # the size of letters with a scale of 1


def images_of(who: str, images: Any, data_format: str | None) -> np.ndarray:
    """A batch of images as a NumPy array with channels last."""
    images = np.asarray(images)
    if images.ndim != 4:
        raise ValueError(f"{who}: images must be a batch, of 4 axes, got shape {images.shape}; one image is x[None].")
    first = dtypes.standardize_data_format(data_format, who) == "channels_first"
    return images.transpose(0, 2, 3, 1) if first else images


def draw_bounding_boxes(
    images: Any, bounding_boxes: Mapping[str, Any], bounding_box_format: str, class_mapping: Any = None,
    color: Sequence[int] = (128, 128, 128), line_thickness: int = 2, text_thickness: int | None = 1,
    font_scale: float = 1.0, data_format: str | None = None,
) -> np.ndarray:  # fmt: skip
    """Images, 0 to 255, with boxes and the names of their classes.

    Args:
        images: (batch, height, width, channels); floats up to 1 are spread over 0 to 255.
        bounding_boxes: {"boxes": (batch, count, 4), "labels": (batch, count)}, and maybe "confidences" like the labels;
            a label of -1 is no box.
        bounding_box_format: one of `utils.bounding_boxes.convert_format`.
        class_mapping: names by label, in a dict or a list; other boxes have none.
        color: red, green and blue.
        line_thickness, text_thickness: in pixels; a negative `line_thickness` fills the boxes.
        font_scale: 1 for letters of about 20 pixels.
        data_format: where the images have their channels.

    Raises: ValueError or TypeError if an argument is none of these.
    """
    who = "draw_bounding_boxes"
    array = images_of(who, images, data_format)
    if not isinstance(bounding_boxes, Mapping):
        raise TypeError(f"{who}: bounding_boxes must be a dict, got {type(bounding_boxes).__name__}.")
    if not {"boxes", "labels"} <= bounding_boxes.keys():
        raise ValueError(f'{who}: bounding_boxes must have "boxes" and "labels", got {sorted(bounding_boxes)}.')
    if array.dtype.kind == "f":
        array = array * 255 if array.size and array.max() <= 1 else array
        array = np.clip(array, 0, 255)
    array = array.astype("uint8")
    corners = convert_format(bounding_boxes["boxes"], bounding_box_format, "xyxy", array.shape[1], array.shape[2])
    boxes, labels = np.asarray(corners).astype("int32"), np.asarray(bounding_boxes["labels"]).astype("int32")
    if boxes.ndim != 3 or boxes.shape[:2] != labels.shape or len(boxes) != len(array):
        rule = f"boxes ({len(array)}, count, 4) and labels ({len(array)}, count)"
        raise ValueError(f"{who}: bounding_boxes must be {rule}, got {boxes.shape} and {labels.shape}.")
    confidences = bounding_boxes.get("confidences")
    names = named(class_mapping)
    paint = np.array([*color, 255] if array.shape[-1] == 4 else color, "uint8")[: array.shape[-1]]
    for i, j in np.argwhere(labels != -1):
        _draw_outline(array[i], boxes[i, j].tolist(), paint, int(line_thickness))
        name = names.get(int(labels[i, j]))
        if name is not None:
            text = name if confidences is None else f"{name} | {float(np.asarray(confidences)[i, j]):.2f}"
            thickness = text_thickness or line_thickness
            _draw_text(array[i], str(text), boxes[i, j, :2].tolist(), paint, font_scale, thickness)
    first = dtypes.standardize_data_format(data_format) == "channels_first"
    return array.transpose(0, 3, 1, 2) if first else array


def named(mapping: Any) -> dict[Any, Any]:
    """Names by label, of a dict or a list."""
    return dict(mapping or {}) if isinstance(mapping, Mapping) or not mapping else dict(enumerate(mapping))


def _draw_outline(image: np.ndarray, box: list[int], paint: np.ndarray, thickness: int) -> None:
    """As OpenCV does: all pixels that a disc of radius `(thickness + 1) // 2` meets on its way round the box."""
    (left, right), (top, bottom) = sorted(box[::2]), sorted(box[1::2])
    radius = 0 if abs(thickness) <= 1 else (thickness + 1) // 2
    y, x = np.ogrid[: image.shape[0], : image.shape[1]]
    across, down = np.maximum(left - x, x - right), np.maximum(top - y, y - bottom)  # beyond the box, if above 0
    near = np.maximum(across, 0) ** 2 + np.maximum(down, 0) ** 2 <= (0 if thickness < 0 else radius) ** 2
    image[near & (np.maximum(across, down) >= -radius) if thickness >= 0 else near] = paint


def _draw_text(image: np.ndarray, text: str, corner: list[int], paint: Any, scale: float, thickness: int) -> None:
    """Above the corner of its box, or below it where there is no room."""
    (x, y), height = corner, int(scale * 12)
    place = (x, y - 8) if y - 8 > 2 * height else (x + 3, y + 2 * height + thickness + 3)
    canvas = PIL.Image.new("L", image.shape[1::-1])
    fonts = importlib.util.find_spec("matplotlib")  # whose font has accents, Greek and Cyrillic
    file = fonts and fonts.origin and Path(fonts.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf"
    size = _LETTERS * scale
    font: Any = PIL.ImageFont.truetype(file, size) if file else PIL.ImageFont.load_default(size)
    PIL.ImageDraw.Draw(canvas).text(place, text, 255, font, anchor="ls", stroke_width=max(thickness - 1, 0) / 2)
    share = np.asarray(canvas)[..., None] / 255
    image[:] = np.round(image * (1 - share) + paint * share)


def draw_segmentation_masks(
    images: Any, segmentation_masks: Any, num_classes: int | None = None, color_mapping: Any = None,
    alpha: float = 0.8, blend: bool = True, ignore_index: int = -1, data_format: str | None = None,
) -> np.ndarray:  # fmt: skip
    """Images, channels last, with a color laid over the pixels of each class.

    Args:
        images: (batch, height, width, channels), 0 to 255.
        segmentation_masks: integers (batch, height, width) or with one more axis for a channel.
        num_classes: classes below it are drawn; the largest in the masks if not given, as in Keras.
        color_mapping: {class: (red, green, blue)}, in place of our colors.
        alpha: how much of the color is seen, 0 to 1.
        blend: whether the images are seen through it; the result is then of integers, else of floats.
        ignore_index: a class that is not drawn.
        data_format: where images and masks have their channels.

    Raises: ValueError or TypeError if an argument is none of these.
    """
    who = "draw_segmentation_masks"
    array = images_of(who, images, data_format).astype("float32")
    masks = np.asarray(segmentation_masks)
    if masks.dtype.kind not in "iu":
        raise TypeError(f"{who}: segmentation_masks must be integers, got {masks.dtype}; cast them first.")
    if masks.ndim == 4:
        masks = images_of(who, masks, data_format)[..., 0]
    if masks.shape != array.shape[:3]:
        raise ValueError(f"{who}: segmentation_masks must have shape {array.shape[:3]}, got {masks.shape}.")
    checks.number(who, "alpha", alpha, 0, 1)
    count = int(masks.max(initial=0)) if num_classes is None else checks.integer(who, "num_classes", num_classes)
    palette = np.arange(count)[:, None] * np.array([2**25 - 1, 2**15 - 1, 2**21 - 1]) % 255
    for key, color in (color_mapping or {}).items():
        if 0 <= key < count:
            palette[key] = color
    drawn = (masks >= 0) & (masks < count) & (masks != ignore_index)
    colored = array.copy()
    colored[drawn] = palette.astype("float32")[masks[drawn]][:, : array.shape[-1]]
    if not blend:
        return colored
    seen = array * np.float32(1 - alpha) + colored * np.float32(alpha)
    return np.where((masks != ignore_index)[..., None], seen, array).astype("uint8")
