"""Boxes and masks in arrays of images."""

import numpy as np
import pytest

from lamina.utils.bounding_boxes import convert_format
from lamina.visualization import draw_bounding_boxes, draw_segmentation_masks

BLACK = np.zeros((1, 12, 14, 3), "uint8")
BOX = {"boxes": np.array([[[4.0, 4.0, 9.0, 8.0]]]), "labels": np.array([[0]])}

# What OpenCV draws of this box, by thickness.
OPENCV = {
    1: """
..............
..............
..............
..............
....######....
....#....#....
....#....#....
....#....#....
....######....
..............
..............
..............""",
    2: """
..............
..............
..............
....######....
...########...
...########...
...###..###...
...########...
...########...
....######....
..............
..............""",
    3: """
..............
..............
....######....
...########...
..##########..
..##########..
..##########..
..##########..
..##########..
...########...
....######....
..............""",
    -1: """
..............
..............
..............
..............
....######....
....######....
....######....
....######....
....######....
..............
..............
..............""",
}


def painted(images, color=(128, 128, 128)):
    """Which pixels of the first image have a color, as lines of text."""
    return "\n".join("".join(".#"[bool((p == color).all())] for p in row) for row in images[0])


@pytest.mark.parametrize("thickness", OPENCV)
def test_a_box_has_the_pixels_that_opencv_gives_it(thickness):
    out = draw_bounding_boxes(BLACK, BOX, "xyxy", line_thickness=thickness)
    assert painted(out) == OPENCV[thickness].strip()
    assert out.dtype == np.uint8 and not BLACK.any()


@pytest.mark.parametrize("source", ["yxyx", "xywh", "center_yxhw", "rel_xyxy", "rel_center_xywh"])
def test_all_formats_mean_the_same(source):
    boxes = convert_format(BOX["boxes"], "xyxy", source, 12, 14)
    if source.startswith("rel"):
        boxes = boxes + 1e-6  # what is a pixel's edge may be rounded below it
    assert painted(draw_bounding_boxes(BLACK, {**BOX, "boxes": boxes}, source)) == OPENCV[2].strip()


def test_what_lies_outside_is_left_out_and_label_minus_1_is_no_box():
    outside = {"boxes": [[[-9, -9, 40, 40], [1, 1, 5, 5]]], "labels": [[0, -1]]}
    assert not draw_bounding_boxes(BLACK, outside, "xyxy").any()
    turned = {"boxes": [[[9, 8, 4, 4]]], "labels": [[0]]}
    assert painted(draw_bounding_boxes(BLACK, turned, "xyxy")) == OPENCV[2].strip()


@pytest.mark.parametrize(("value", "pixel"), [(0.5, 127), (1.0, 255), (300.0, 255), (100.5, 100)])
def test_floats_up_to_1_are_spread(value, pixel):
    out = draw_bounding_boxes(
        np.full((1, 4, 4, 3), value), {"boxes": np.zeros((1, 0, 4)), "labels": np.zeros((1, 0))}, "xyxy"
    )
    assert (out == pixel).all() and out.dtype == np.uint8


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_of_all_kinds_have_boxes(channels):
    images = np.zeros((1, 12, 14, channels), "uint8")
    last = draw_bounding_boxes(images, BOX, "xyxy", color=(9, 9, 9), data_format="channels_last")
    first = draw_bounding_boxes(
        images.transpose(0, 3, 1, 2), BOX, "xyxy", color=(9, 9, 9), data_format="channels_first"
    )
    assert np.array_equal(first, last.transpose(0, 3, 1, 2))
    assert painted(last[..., :1], 9) == OPENCV[2].strip()


@pytest.mark.parametrize("mapping", [{0: "cät"}, ["cät"]])
def test_classes_have_names_and_confidences(mapping):
    images, box = np.zeros((1, 90, 120, 3), "uint8"), {"boxes": [[[10, 60, 110, 80]]], "labels": [[0]]}
    plain = draw_bounding_boxes(images, box, "xyxy")
    named = draw_bounding_boxes(images, box, "xyxy", mapping)
    sure = draw_bounding_boxes(images, {**box, "confidences": [[0.5]]}, "xyxy", mapping, font_scale=0.8)
    assert plain.any(-1).sum() < named.any(-1).sum() and named[0, :52].any() and not plain[0, :50].any()
    assert np.argwhere(sure[0].any(-1))[:, 1].max() > np.argwhere(named[0, :50].any(-1))[:, 1].max()
    assert np.array_equal(plain, draw_bounding_boxes(images, box, "xyxy", {7: "dog"}))


@pytest.mark.parametrize(
    ("boxes", "error", "message"),
    [
        ([[1, 2, 3, 4]], TypeError, "bounding_boxes must be a dict, got list"),
        ({"boxes": []}, ValueError, 'must have "boxes" and "labels"'),
        ({"boxes": np.zeros((2, 1, 4)), "labels": np.zeros((2, 1))}, ValueError, r"must be boxes \(1, count, 4\)"),
        ({"boxes": np.zeros((1, 2, 4)), "labels": np.zeros((1, 1))}, ValueError, r"got \(1, 2, 4\) and \(1, 1\)"),
    ],
)
def test_boxes_that_are_none_are_told(boxes, error, message):
    with pytest.raises(error, match=f"draw_bounding_boxes: .*{message}"):
        draw_bounding_boxes(BLACK, boxes, "xyxy")
    with pytest.raises(ValueError, match=r"one image is x\[None\]"):
        draw_bounding_boxes(BLACK[0], BOX, "xyxy")


def test_masks_may_have_no_channel_and_channels_may_come_first():
    masks = np.arange(12 * 14).reshape(1, 12, 14) % 4
    images = np.full((1, 12, 14, 3), 77, "uint8")
    wanted = draw_segmentation_masks(images, masks[..., None], 4)
    assert np.array_equal(draw_segmentation_masks(images, masks, 4), wanted)
    first = {"data_format": "channels_first"}
    assert np.array_equal(draw_segmentation_masks(images.transpose(0, 3, 1, 2), masks[:, None], 4, **first), wanted)
    assert (draw_segmentation_masks(images, masks, 4, ignore_index=2, blend=False)[masks == 2] == 77).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"segmentation_masks": np.zeros((1, 12, 14))}, TypeError, "must be integers, got float64; cast"),
        ({"segmentation_masks": np.zeros((1, 3, 14), int)}, ValueError, r"must have shape \(1, 12, 14\)"),
        ({"alpha": 2}, ValueError, "alpha must be from 0 to 1, got 2"),
        ({"num_classes": 0}, ValueError, "num_classes must be a positive integer"),
    ],
)
def test_masks_that_are_none_are_told(arguments, error, message):
    given = {"segmentation_masks": np.zeros((1, 12, 14), int), **arguments}
    with pytest.raises(error, match=f"draw_segmentation_masks: .*{message}"):
        draw_segmentation_masks(BLACK, **given)
