"""Transformations, bounding boxes and files of layers on images, beside those of Keras."""

import jax.numpy as jnp
import keras
import numpy as np
import pytest

import lamina
from lamina.utils import bounding_boxes as ours
from tests.laws.descriptors import ROWS

theirs = keras.utils.bounding_boxes
FORMATS = (
    "xyxy", "yxyx", "xywh", "center_xywh", "center_yxhw", "rel_xyxy", "rel_yxyx", "rel_xywh", "rel_center_xywh",
)  # fmt: skip
BOXES = np.array([[[1, 2, 6, 9], [-3, 3, 9, 12], [20, 20, 30, 31]]] * 2, "float32")
OTHERS = np.array([[[2, 2, 7, 8], [0, 0, 4, 4]]] * 2, "float32")
LABELS = np.array([[1, 2, 3]] * 2)


def assert_close(mine, other, tolerance=1e-5):
    other = np.asarray(other)
    np.testing.assert_allclose(mine, other, rtol=tolerance, atol=tolerance * np.abs(other).max(initial=0))


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("source", FORMATS)
def test_formats(source, target):
    boxes = theirs.convert_format(BOXES, "xyxy", source, height=16, width=12)
    assert_close(*(each.convert_format(boxes, source, target, height=16, width=12) for each in (ours, theirs)))


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("crop", {"boxes": BOXES, "top": 2, "left": 1, "height": 8, "width": 7}),
        ("pad", {"boxes": BOXES, "top": 2, "left": 1}),
        ("compute_iou", {"boxes1": BOXES, "boxes2": OTHERS, "bounding_box_format": "xyxy"}),
        ("compute_iou", {"boxes1": BOXES[0], "boxes2": OTHERS[0], "bounding_box_format": "xywh"}),
        ("compute_ciou", {"boxes1": BOXES[:, :2], "boxes2": OTHERS, "bounding_box_format": "xyxy"}),
        ("encode_box_to_deltas", {"anchors": BOXES[0], "boxes": BOXES + 1, "variance": [0.1, 0.1, 0.2, 0.2]}),
        ("decode_deltas_to_boxes", {"anchors": BOXES[0], "boxes_delta": BOXES / 9, "encoded_format": "center_xywh"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_functions_of_boxes(name, call):
    if "deltas" in name:
        call = {**call, "anchor_format": "xyxy", "box_format": "xyxy"}
    assert_close(*(getattr(each, name)(**call) for each in (ours, theirs)))


def test_boxes_that_are_turned():
    numbers = {"angle": [30.0, -70.0], "translate_x": [0.1, 0.0], "translate_y": [0.0, -0.2], "scale": [1.0, 1.5]}
    numbers |= {"shear_x": [5.0, 0.0], "shear_y": [0.0, 10.0]}
    call = {name: jnp.asarray(value) for name, value in numbers.items()} | {"height": 16, "width": 12}
    assert_close(*(each.affine_transform(BOXES, **call) for each in (ours, theirs)), 1e-4)


@pytest.mark.parametrize("form", ["xyxy", "rel_xyxy"])
def test_boxes_at_the_edge(form):
    boxes = {"boxes": BOXES if form == "xyxy" else BOXES / 12, "labels": LABELS}
    mine, other = (each.clip_to_image_size(dict(boxes), 16, 12, form) for each in (ours, theirs))
    for name in ("boxes", "labels"):
        assert_close(mine[name], other[name])


# A transformation of Keras on our layer. `RandomGrayscale` has no name for its own, the others are more than arrays.
APART = {"RandomGrayscale", "RandomColorJitter", "RandomElasticTransform", "AugMix"}
APPLIED = [row for row in ROWS if row.noisy and row.call == {"training": False} and row.layer not in APART]


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64:UserWarning")
@pytest.mark.parametrize("row", APPLIED, ids=repr)
def test_a_transformation_of_keras(row):
    mine, other = row.make(), row.make(keras.layers)
    (images,) = map(jnp.asarray, row.data())
    transformation = other.get_random_transformation(images)
    result = other.transform_images(images, transformation)
    if row.layer == "CutMix":
        transformation["batch_masks"] = transformation["batch_masks"][..., :1]
    assert_close(mine.transform_images(images, transformation), result, 1e-4)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("RandomFlip", {"mode": "horizontal"}),
        ("RandomFlip", {"mode": "vertical"}),
        ("RandomTranslation", {"height_factor": 0.3, "width_factor": 0.2}),
        ("Resizing", {"height": 20, "width": 9}),
        ("Resizing", {"height": 20, "width": 9, "pad_to_aspect_ratio": True}),
        ("Resizing", {"height": 20, "width": 9, "crop_to_aspect_ratio": True}),
        ("Resizing", {"height": 15, "width": 20, "crop_to_aspect_ratio": True}),
        ("CenterCrop", {"height": 8, "width": 7}),
        ("CenterCrop", {"height": 24, "width": 7}),
        ("MaxNumBoundingBoxes", {"max_number": 5}),
        ("MaxNumBoundingBoxes", {"max_number": 1}),
    ],
    ids=str,
)
def test_boxes_of_a_layer(name, arguments):
    seed = {"seed": 3} if name.startswith("Random") else {}
    results = []
    for library in (lamina, keras):
        layer = getattr(library.layers, name)(**arguments, **seed, bounding_box_format="xyxy")
        images = jnp.ones((2, 16, 12, 3))
        count = 1 if name == "RandomFlip" else 3  # Keras leaves a flipped box outside the image where it is
        boxes = {"boxes": jnp.asarray(BOXES[:, :count]), "labels": jnp.asarray(LABELS[:, :count])}
        results.append(layer({"images": images, "bounding_boxes": boxes}, training=True)["bounding_boxes"])
    for part in ("boxes", "labels"):
        assert_close(results[0][part], results[1][part])


def test_equalized_bytes():
    draw = np.random.default_rng(0)
    images = np.clip(draw.normal(100, 20, (2, 16, 16, 3)), 0, 255).astype("uint8")
    mine, other = (library.layers.Equalization()(images, training=True) for library in (lamina, keras))
    np.testing.assert_array_equal(mine, other)


def model(library):
    layers = library.layers
    first = layers.Pipeline([layers.Resizing(6, 5), layers.RandomFlip(seed=1, bounding_box_format="xyxy")])
    rest = [layers.RandomColorJitter((0, 255), 0.1, 0.2, seed=1), layers.RandAugment(seed=2), layers.Rescaling(0.5)]
    return library.Sequential([library.Input((7, 8, 3)), first, *rest, layers.Flatten(), layers.Dense(2)])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Model doesn't support `jit_compile=True`:UserWarning")
@pytest.mark.parametrize(("one", "other"), [(lamina, keras), (keras, lamina)], ids=["to Keras", "from Keras"])
def test_files(one, other, tmp_path):
    x = np.random.default_rng(0).uniform(0, 255, (2, 7, 8, 3)).astype("float32")
    first = model(one)
    first.save(tmp_path / "it.keras")
    second = other.saving.load_model(tmp_path / "it.keras")
    assert_close(second.predict(x, verbose=0), first.predict(x, verbose=0))
