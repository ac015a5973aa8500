"""Bounding boxes: their formats, what becomes of them when images change, and how much two of them overlap.

Boxes are (..., 4). Their edges lie between pixels: an image's left edge is 0 and its right edge its width. So a box
"xyxy" around the pixels 2 and 3 goes from 2 to 4.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from lamina.core import checks, dtypes
from lamina.ops.sampling import affine

# format -> (whether it counts in parts of the image, whether it begins with y, what its four numbers are)
_LAYOUTS = {
    "xyxy": (False, False, "corners"),
    "yxyx": (False, True, "corners"),
    "xywh": (False, False, "corner and size"),
    "center_xywh": (False, False, "center and size"),
    "center_yxhw": (False, True, "center and size"),
    "rel_xyxy": (True, False, "corners"),
    "rel_yxyx": (True, True, "corners"),
    "rel_xywh": (True, False, "corner and size"),
    "rel_center_xywh": (True, False, "center and size"),
}
FORMATS = tuple(_LAYOUTS)

# (first two numbers, last two) -> corners, and back.
_TO_CORNERS: dict[str, Callable[[Any, Any], tuple[Any, Any]]] = {
    "corners": lambda first, last: (first, last),
    "corner and size": lambda corner, size: (corner, corner + size),
    "center and size": lambda center, size: (center - size / 2, center + size / 2),
}
_FROM_CORNERS: dict[str, Callable[[Any, Any], tuple[Any, Any]]] = {
    "corners": lambda first, last: (first, last),
    "corner and size": lambda first, last: (first, last - first),
    "center and size": lambda first, last: (first + (last - first) / 2, last - first),
}


def check_format(who: str, name: str, value: Any) -> str:
    """A format's name in lower case."""
    return checks.one_of(who, name, value.lower() if isinstance(value, str) else value, FORMATS)


def convert_format(
    boxes: Any, source: str, target: str, height: Any = None, width: Any = None, dtype: Any = "float32"
) -> Any:
    """Boxes in another format.

    Args:
        boxes: (..., 4), or a dict that holds them under "boxes".
        source, target: "xyxy", "yxyx", "xywh", "center_xywh", "center_yxhw", or "rel_xyxy", "rel_yxyx", "rel_xywh",
            "rel_center_xywh", which count in parts of the image.
        height, width: the image's, where one format counts in parts of it and the other does not.
        dtype: of the result.
    """
    if isinstance(boxes, Mapping):
        return {**boxes, "boxes": convert_format(boxes["boxes"], source, target, height, width, dtype)}
    who = "convert_format"
    source, target = check_format(who, "source", source), check_format(who, "target", target)
    (from_parts, from_y, given), (to_parts, to_y, wanted) = _LAYOUTS[source], _LAYOUTS[target]
    if (from_parts or to_parts) and (height is None or width is None):
        raise ValueError(f"{who}: height and width must be given for {source!r} to {target!r}, got {(height, width)}.")
    array = jnp.asarray(boxes, dtypes.standardize_dtype(dtype))
    if array.ndim == 0 or array.shape[-1] != 4:
        raise ValueError(f"{who}: boxes must have 4 numbers on the last axis, got shape {array.shape}.")
    if source == target:
        return array
    pairs = (array[..., :2], array[..., 2:])
    pairs = [pair[..., ::-1] for pair in pairs] if from_y else pairs
    corners = _TO_CORNERS[given](*pairs)
    if from_parts != to_parts:
        size = jnp.concatenate([jnp.atleast_1d(jnp.asarray(n, array.dtype)) for n in (width, height)], axis=-1)
        corners = [corner * size if from_parts else corner / size for corner in corners]
    pairs = _FROM_CORNERS[wanted](*corners)
    return jnp.concatenate([pair[..., ::-1] for pair in pairs] if to_y else pairs, axis=-1)


def _only(who: str, bounding_box_format: str, formats: Sequence[str] = ("xyxy",)) -> None:
    if bounding_box_format not in formats:
        rule = " or ".join(map(repr, formats))
        raise NotImplementedError(f"{who}: bounding_box_format must be {rule}, got {bounding_box_format!r}.")


def clip_to_image_size(
    bounding_boxes: Mapping[str, Any], height: Any = None, width: Any = None, bounding_box_format: str = "xyxy"
) -> dict[str, Any]:
    """Boxes cut at the image's edges; the labels of those of which nothing is left become -1.

    Args:
        bounding_boxes: {"boxes": (..., 4), "labels": (...)}; labels may be missing.
        height, width: the image's, for "xyxy".
        bounding_box_format: "xyxy" or "rel_xyxy".
    """
    _only("clip_to_image_size", bounding_box_format, ("xyxy", "rel_xyxy"))
    if bounding_box_format == "rel_xyxy":
        height = width = 1
    if height is None or width is None:
        raise ValueError(f"clip_to_image_size: height and width must be given for 'xyxy', got {(height, width)}.")
    boxes = _clipped(jnp.asarray(bounding_boxes["boxes"]), height, width)
    out = {**bounding_boxes, "boxes": boxes}
    if out.get("labels") is not None:
        seen = jnp.prod(boxes[..., 2:] - boxes[..., :2], axis=-1) > 0
        labels = jnp.asarray(out["labels"])
        out["labels"] = jnp.where(seen, labels, jnp.asarray(-1, labels.dtype))
    return out


def _clipped(boxes: Any, height: Any, width: Any) -> Any:
    sizes = [jnp.atleast_1d(jnp.asarray(size, boxes.dtype)) for size in (width, height) * 2]
    return jnp.clip(boxes, 0, jnp.concatenate(sizes, axis=-1))


def carried(boxes: Any, forward: Any) -> Any:
    """The boxes "xyxy" around what the matrices `forward` (batch, 3, 3) make of boxes (batch, count, 4)."""
    corners = jnp.stack([boxes[..., [0, 1]], boxes[..., [2, 1]], boxes[..., [2, 3]], boxes[..., [0, 3]]], axis=-2)
    corners = jnp.concatenate([corners, jnp.ones_like(corners[..., :1])], axis=-1)
    moved = jnp.einsum("bncx,byx->bncy", corners, forward, precision="highest")
    moved = moved[..., :2] / moved[..., 2:]
    return jnp.concatenate([moved.min(axis=-2), moved.max(axis=-2)], axis=-1)


def affine_transform(
    boxes: Any,
    angle: Any, translate_x: Any, translate_y: Any, scale: Any, shear_x: Any, shear_y: Any,
    height: Any, width: Any,
    center_x: float | None = None, center_y: float | None = None,
    bounding_box_format: str = "xyxy",
) -> Any:  # fmt: skip
    """The boxes around boxes that are sheared, scaled, turned and moved with their images.

    Args:
        boxes: (batch, count, 4).
        angle: in degrees, against the clock; (batch,), as those that follow.
        translate_x, translate_y: in parts of the image.
        scale: above 1 for smaller boxes.
        shear_x, shear_y: in degrees.
        height, width: the image's.
        center_x, center_y: the place that stays, in parts of the image; its middle if not given.
        bounding_box_format: "xyxy".
    """
    _only("affine_transform", bounding_box_format)
    angle, translate_x, translate_y, scale, shear_x, shear_y = (
        jnp.asarray(x, "float32") for x in (angle, translate_x, translate_y, scale, shear_x, shear_y)
    )
    turn, lean_x, lean_y = (-jnp.deg2rad(degrees) for degrees in (angle, shear_x, shear_y))
    a, c = jnp.cos(turn - lean_y) / jnp.cos(lean_y), -jnp.sin(turn - lean_y) / jnp.cos(lean_y)
    b, d = a * jnp.tan(lean_x) + jnp.sin(turn), jnp.cos(turn) - c * jnp.tan(lean_x)
    middle = [(0.5 if place is None else place) * (size - 1) for place, size in ((center_x, width), (center_y, height))]
    before = [at - move * (size - 1) for at, move, size in zip(middle, (translate_x, translate_y), (width, height))]
    lines = [(x * scale, y * scale) for x, y in ((d, -b), (-c, a))]
    rows = [[x, y, at - x * before[0] - y * before[1]] for (x, y), at in zip(lines, middle)]
    return carried(jnp.asarray(boxes, "float32"), affine(*rows))


def crop(boxes: Any, top: Any, left: Any, height: Any, width: Any, bounding_box_format: str = "xyxy") -> Any:
    """Boxes in the part of an image that begins at `top`, `left` and has this size."""
    _only("crop", bounding_box_format)
    return _clipped(pad(boxes, -jnp.asarray(top), -jnp.asarray(left)), height, width)


def pad(
    boxes: Any, top: Any, left: Any, height: Any = None, width: Any = None, bounding_box_format: str = "xyxy"
) -> Any:
    """Boxes in an image with this much in front of it; its size does not matter."""
    del height, width
    _only("pad", bounding_box_format)
    boxes = jnp.asarray(boxes)
    return boxes + jnp.concatenate([jnp.atleast_1d(jnp.asarray(n, boxes.dtype)) for n in (left, top) * 2], axis=-1)


def _encoding(who: str, name: str, value: str, variance: Any, image_shape: Any) -> tuple[Any, Callable]:
    """The variances as an array, and `convert_format` for the image."""
    checks.one_of(who, name, value, ("center_xywh", "center_yxhw"))
    variance = None if variance is None else jnp.asarray(variance, "float32")
    if variance is not None and variance.shape[-1:] != (4,):
        raise ValueError(f"{who}: variance must be 4 numbers, got shape {variance.shape}.")
    height, width = (None, None) if image_shape is None else tuple(image_shape)[:2]
    return 1 if variance is None else variance, functools.partial(convert_format, height=height, width=width)


def encode_box_to_deltas(
    anchors: Any,
    boxes: Any,
    anchor_format: str,
    box_format: str,
    encoding_format: str = "center_yxhw",
    variance: Any = None,
    image_shape: Sequence[int] | None = None,
) -> Any:
    """What leads from anchors to boxes: the centers' distance in sizes of the anchor, and the logarithm of the sizes'
    quotient (Girshick et al., 2014, Rich feature hierarchies).

    Args:
        anchors: (count, 4).
        boxes: (..., count, 4).
        anchor_format, box_format: their formats.
        encoding_format: the order of the result, "center_xywh" or "center_yxhw".
        variance: four numbers that the result is divided by.
        image_shape: (height, width, channels), for formats in parts of the image.
    """
    variance, convert = _encoding("encode_box_to_deltas", "encoding_format", encoding_format, variance, image_shape)
    anchors, boxes = convert(anchors, anchor_format, encoding_format), convert(boxes, box_format, encoding_format)
    size = jnp.maximum(anchors[..., 2:], dtypes.epsilon())
    quotient = jnp.maximum(boxes[..., 2:], dtypes.epsilon()) / size
    return jnp.concatenate([(boxes[..., :2] - anchors[..., :2]) / size, jnp.log(quotient)], axis=-1) / variance


def decode_deltas_to_boxes(
    anchors: Any,
    boxes_delta: Any,
    anchor_format: str,
    box_format: str,
    encoded_format: str = "center_yxhw",
    variance: Any = None,
    image_shape: Sequence[int] | None = None,
) -> Any:
    """The boxes of which `encode_box_to_deltas` gave `boxes_delta`; anchors and deltas may be dicts by level.

    Args:
        anchors: (count, 4).
        boxes_delta: (..., count, 4).
        anchor_format, box_format: of the anchors and of the result.
        encoded_format: the order of the deltas, "center_xywh" or "center_yxhw".
        variance: four numbers that the deltas are multiplied with.
        image_shape: (height, width, channels), for formats in parts of the image.
    """
    variance, convert = _encoding("decode_deltas_to_boxes", "encoded_format", encoded_format, variance, image_shape)

    def decode(anchor: Any, delta: Any) -> Any:
        place, size = jnp.split(convert(anchor, anchor_format, encoded_format), 2, axis=-1)
        delta = jnp.asarray(delta) * variance
        boxes = jnp.concatenate([delta[..., :2] * size + place, jnp.exp(delta[..., 2:]) * size], axis=-1)
        return convert(boxes, encoded_format, box_format)

    if isinstance(anchors, Mapping):
        return {level: decode(anchor, boxes_delta[level]) for level, anchor in anchors.items()}
    return decode(anchors, boxes_delta)


def _area(boxes: Any) -> Any:
    return jnp.prod(boxes[..., 2:] - boxes[..., :2], axis=-1)


def _intersection(first: Any, second: Any) -> Any:
    """The area of what boxes that broadcast have in common."""
    low, high = jnp.maximum(first[..., :2], second[..., :2]), jnp.minimum(first[..., 2:], second[..., 2:])
    return jnp.prod(jnp.maximum(high - low, 0), axis=-1)


def _corners(who: str, boxes: Any, bounding_box_format: str, image_shape: Any) -> Any:
    if str(bounding_box_format).startswith("rel") and image_shape is None:
        raise ValueError(f"{who}: image_shape must be given for boxes in {bounding_box_format!r}, got None.")
    height, width = (None, None) if image_shape is None else tuple(image_shape)[:2]
    return convert_format(boxes, bounding_box_format, "xyxy", height, width)


def compute_iou(
    boxes1: Any,
    boxes2: Any,
    bounding_box_format: str,
    use_masking: bool = False,
    mask_val: float = -1,
    image_shape: Sequence[int] | None = None,
) -> Any:
    """The area that each two boxes have in common, in parts of what they cover together.

    Args:
        boxes1: (n, 4) or (batch, n, 4).
        boxes2: (m, 4) or (batch, m, 4).
        bounding_box_format: of both.
        use_masking: whether pairs with a box without any number above 0 get `mask_val`.
        mask_val: what these get.
        image_shape: (height, width, channels), for formats in parts of the image.

    Shapes: (n, m), or (batch, n, m).
    """
    for name, boxes in (("boxes1", boxes1), ("boxes2", boxes2)):
        if jnp.ndim(boxes) not in (2, 3):
            raise ValueError(f"compute_iou: {name} must have 2 or 3 axes, got shape {jnp.shape(boxes)}.")
    given = jnp.asarray(boxes1)[..., :, None, :], jnp.asarray(boxes2)[..., None, :, :]
    first, second = (_corners("compute_iou", boxes, bounding_box_format, image_shape) for boxes in given)
    common = _intersection(first, second)
    quotient = common / (_area(first) + _area(second) - common + dtypes.epsilon())
    if not use_masking:
        return quotient
    absent = (given[0].max(axis=-1) < 0) | (given[1].max(axis=-1) < 0)
    return jnp.where(absent, jnp.asarray(mask_val, quotient.dtype), quotient)


def compute_ciou(boxes1: Any, boxes2: Any, bounding_box_format: str, image_shape: Sequence[int] | None = None) -> Any:
    """The complete IoU of pairs of boxes: less for centers apart and other proportions.

    Zheng et al., 2020, Distance-IoU loss, https://arxiv.org/abs/1911.08287

    Args:
        boxes1, boxes2: (..., 4), pair by pair.
        bounding_box_format, image_shape: see `compute_iou`.
    """
    tiny = dtypes.epsilon()
    first, second = (_corners("compute_ciou", boxes, bounding_box_format, image_shape) for boxes in (boxes1, boxes2))
    sizes = [boxes[..., 2:] - boxes[..., :2] + jnp.array([0, tiny], boxes.dtype) for boxes in (first, second)]
    common = _intersection(first, second)
    iou = common / (jnp.prod(sizes[0], axis=-1) + jnp.prod(sizes[1], axis=-1) - common + 2 * tiny)
    around = jnp.maximum(first[..., 2:], second[..., 2:]) - jnp.minimum(first[..., :2], second[..., :2])
    apart = (first[..., :2] + first[..., 2:] - second[..., :2] - second[..., 2:]) / 2
    distance = jnp.sum(apart**2, axis=-1) / (jnp.sum(around**2, axis=-1) + tiny)
    angles = [jnp.arctan(size[..., 0] / size[..., 1]) for size in sizes]
    shape = 4 / math.pi**2 * (angles[1] - angles[0]) ** 2
    return iou - (distance + shape * shape / (shape - iou + (1 + tiny)))
