"""Layers on images: what belongs to an image is changed with it, wherever they stand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lamina
from lamina import layers
from lamina.ops import sampling
from lamina.utils import bounding_boxes
from tests.laws.descriptors import ROWS

HEIGHT, WIDTH = 40, 50
X1, Y1, X2, Y2 = 18, 15, 32, 27  # a rectangle in the middle
STILL = {"training": False}


def with_parts(count=3, form="xyxy"):
    """Images of a rectangle, and its masks and boxes."""
    images = np.zeros((count, HEIGHT, WIDTH, 3), "float32")
    images[:, Y1:Y2, X1:X2] = 200
    boxes = np.tile(np.array([X1, Y1, X2, Y2], "float32"), (count, 1, 1))
    boxes = np.asarray(bounding_boxes.convert_format(boxes, "xyxy", form, HEIGHT, WIDTH))
    masks = (images[..., :1] > 0).astype("int32") * 4
    inside = {"boxes": boxes, "labels": np.full((count, 1), 5)}
    return {"images": images, "segmentation_masks": masks, "bounding_boxes": inside, "labels": np.eye(count)}


def around(mask):
    rows, columns = np.nonzero(np.asarray(mask)[..., 0])
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


MOVING = [
    ("RandomFlip", {"mode": "horizontal"}),
    ("RandomFlip", {}),
    ("RandomRotation", {"factor": 0.5}),
    ("RandomTranslation", {"height_factor": 0.2, "width_factor": 0.2}),
    ("RandomZoom", {"height_factor": (-0.2, 0.5), "width_factor": (-0.2, 0.5)}),
    ("RandomShear", {"x_factor": 0.3, "y_factor": 0.1}),
    ("RandomPerspective", {"factor": (1.0, 1.0), "scale": 0.3}),
    ("RandomCrop", {"height": 36, "width": 44}),
    ("RandomCrop", {"height": 50, "width": 44}),
    ("CenterCrop", {"height": 30, "width": 31}),
    ("CenterCrop", {"height": 60, "width": 44}),
    ("Resizing", {"height": 60, "width": 30}),
    ("Resizing", {"height": 60, "width": 60, "crop_to_aspect_ratio": True}),
    ("Resizing", {"height": 60, "width": 60, "pad_to_aspect_ratio": True}),
]


def make(name, arguments, **more):
    filled = name in ("RandomRotation", "RandomTranslation", "RandomZoom", "RandomShear")
    drawn = {"seed": 1} if name.startswith("Random") else {}
    fill = {"fill_mode": "constant"} if filled else {}
    return getattr(layers, name)(**{"bounding_box_format": "xyxy", **arguments, **drawn, **fill, **more})


moving = pytest.mark.parametrize(("name", "arguments"), MOVING, ids=str)


@moving
def test_a_box_follows_the_pixels_of_its_mask(name, arguments):
    out = make(name, arguments)(with_parts(8), training=True)
    for mask, boxes, image in zip(out["segmentation_masks"], out["bounding_boxes"]["boxes"], out["images"]):
        assert np.abs(np.asarray(boxes[0]) - around(mask)).max() <= 1.5
        assert np.abs(np.asarray(boxes[0]) - around(image > 100)).max() <= 2
        assert set(np.unique(mask)) == {0, 4}
    assert out["bounding_boxes"]["labels"].tolist() == [[5]] * 8
    assert out["segmentation_masks"].dtype == "int32"


@pytest.mark.parametrize("form", ["yxyx", "xywh", "center_yxhw", "rel_xyxy", "rel_center_xywh"])
@pytest.mark.parametrize(("name", "arguments"), [MOVING[2], MOVING[7], MOVING[11]], ids=str)
def test_boxes_of_every_format_are_the_same_boxes(name, arguments, form):
    usual = make(name, arguments)(with_parts(), training=True)
    other = make(name, {**arguments, "bounding_box_format": form})(with_parts(form=form), training=True)
    size = usual["images"].shape[1:3]
    boxes = bounding_boxes.convert_format(other["bounding_boxes"], form, "xyxy", *size)["boxes"]
    np.testing.assert_allclose(boxes, usual["bounding_boxes"]["boxes"], atol=1e-3)


@moving
def test_channels_first_is_the_same_with_other_axes(name, arguments):
    data = with_parts()
    usual = make(name, arguments)(data, training=True)
    turned = {k: np.moveaxis(v, -1, 1) if k in ("images", "segmentation_masks") else v for k, v in data.items()}
    first = make(name, arguments, data_format="channels_first")(turned, training=True)
    for part in ("images", "segmentation_masks"):
        np.testing.assert_allclose(np.moveaxis(first[part], 1, -1), usual[part], atol=1e-3)
    np.testing.assert_allclose(first["bounding_boxes"]["boxes"], usual["bounding_boxes"]["boxes"], atol=1e-4)


@pytest.mark.parametrize("row", [row for row in ROWS if row.noisy and row.call == STILL], ids=repr)
def test_inference_changes_nothing_and_one_image_is_a_batch_of_one(row):
    layer, (images,) = row.make(), row.data()
    np.testing.assert_array_equal(layer(images, training=False), images)
    alone = row.make()(images[0], training=True)
    batch = row.make()(images[:1], training=True)
    np.testing.assert_allclose(alone, batch[0], rtol=1e-5, atol=1e-5)


def test_a_box_that_is_moved_out_has_no_label():
    layer = make("RandomTranslation", {"height_factor": 0, "width_factor": (0.9, 0.9)})
    boxes = layer(with_parts(), training=True)["bounding_boxes"]
    assert boxes["labels"].tolist() == [[-1]] * 3


def test_two_flips_are_none():
    images = with_parts()["images"] + np.arange(WIDTH)[:, None]
    layer = layers.RandomFlip()
    flips = {"flips": jnp.ones((3, 1, 1, 1), bool), "input_shape": images.shape}
    once = layer.transform_images(images, flips)
    assert not np.array_equal(once, images)
    np.testing.assert_array_equal(layer.transform_images(once, flips), images)


def test_what_a_dict_holds_besides_stays():
    out = layers.RandomFlip()({"images": np.ones((4, 4, 3)), "name": np.arange(3)}, training=True)
    assert out["name"].tolist() == [0, 1, 2]


def test_mixed_images_keep_the_boxes_of_both():
    data = with_parts()
    data["bounding_boxes"]["labels"] = np.arange(3)[:, None]
    layer = layers.MixUp(seed=2, bounding_box_format="xyxy")
    drawn = layer.get_random_transformation(data)
    out = layer.transformed(data, drawn)
    order, own = np.asarray(drawn["permutation_order"]), np.asarray(drawn["mix_weight"])
    assert out["bounding_boxes"]["boxes"].shape == (3, 2, 4)
    assert out["bounding_boxes"]["labels"].tolist() == [[i, order[i]] for i in range(3)]
    expected = own[:, None] * np.eye(3) + (1 - own[:, None]) * np.eye(3)[order]
    np.testing.assert_allclose(out["labels"], expected, atol=1e-6)


def test_labels_are_mixed_by_what_is_seen_of_each_image():
    images = np.arange(4, dtype="float32")[:, None, None, None] * np.ones((4, 40, 40, 1), "float32")
    out = layers.CutMix(seed=1)({"images": images, "labels": np.eye(4, dtype="float32")}, training=True)
    share = [[(image == k).mean() for k in range(4)] for image in np.asarray(out["images"])]
    np.testing.assert_allclose(out["labels"], share, atol=0.06)  # of whole pixels


def test_a_colour_may_fill_a_rectangle():
    layer = layers.RandomErasing((1.0, 1.0), (0.3, 0.5), fill_value=(1, 2, 3), seed=1)
    out = np.asarray(layer(np.full((2, 8, 8, 3), 9.0), training=True))
    assert {tuple(pixel) for pixel in out.reshape(-1, 3)} == {(9, 9, 9), (1, 2, 3)}


def test_a_pipeline_draws_neighbours_at_once_and_the_same(monkeypatch):
    def parts():
        how = {"fill_mode": "wrap", "interpolation": "nearest"}
        turn = layers.RandomRotation((0.25, 0.25), **how, seed=1)
        move = layers.RandomTranslation((0.25, 0.25), (0.5, 0.5), **how, seed=1)
        return [turn, move, layers.RandomFlip(seed=1), layers.RandomBrightness(0.2, seed=1)]

    images = np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 3)).astype("float32")
    expected = images
    for layer in parts():
        expected = layer(expected, training=True)
    calls, warp = [], sampling.warp
    monkeypatch.setattr(sampling, "warp", lambda *args: calls.append(1) or warp(*args))
    np.testing.assert_allclose(layers.Pipeline(parts())(images, training=True), expected, atol=1e-4)
    assert len(calls) == 1


def test_a_pipeline_keeps_its_layers():
    pipeline = layers.Pipeline([layers.Resizing(4, 4), layers.RandomFlip(seed=3)], name="it")
    again = lamina.saving.deserialize_keras_object(lamina.saving.serialize_keras_object(pipeline))
    assert [type(layer) for layer in again.layers] == [layers.Resizing, layers.RandomFlip]
    assert again.get_config() == pipeline.get_config()
    assert again(np.ones((2, 6, 6, 3)), training=False).shape == (2, 4, 4, 3)


def test_a_compiled_function_draws_anew():
    layer = layers.AugMix(seed=1)
    images = np.random.default_rng(0).uniform(0, 255, (2, 9, 8, 3)).astype("float32")
    step = lamina.jit(lambda x: layer(x, training=True))
    assert not np.array_equal(step(images), step(images))


def test_a_factor_may_change_between_calls():
    layer = layers.RandomBrightness((0.1, 0.1))
    images = np.zeros((1, 2, 2, 3))
    assert np.allclose(layer(images, training=True), 25.5)
    layer.factor = (0.2, 0.2)
    assert np.allclose(layer(images, training=True), 51)


def test_an_own_layer_draws_and_applies():
    class Darker(layers.RandomBrightness):
        def get_random_transformation(self, data, training=True, seed=None):
            return {"rgb_delta": -10.0} if training else None

    layer = Darker(0.5, data_format="channels_first")
    assert np.allclose(layer(np.full((1, 3, 2, 2), 50.0), training=True), 40)
    assert Darker.from_config(layer.get_config()).data_format == "channels_first"


def test_a_subclass_with_a_constructor_keeps_what_it_passes_on():
    class Slight(layers.RandomRotation):
        def __init__(self, **kwargs):
            super().__init__(0.01, **kwargs)

    config = Slight(data_format="channels_first", bounding_box_format="xywh").get_config()
    assert (config["data_format"], config["bounding_box_format"]) == ("channels_first", "xywh")


def test_training_augments_and_prediction_does_not():
    layer = layers.RandomInvert((1.0, 1.0), (0, 1))
    model = lamina.Sequential([lamina.Input((2, 2, 1)), layer, layers.Flatten()])
    model.compile("sgd", "mse")
    x = np.full((4, 2, 2, 1), 0.25, "float32")
    assert model.predict(x, verbose=0).max() == 0.25
    history = model.fit(x, np.full((4, 4), 0.75), epochs=1, verbose=0)
    assert history.history["loss"][0] < 1e-6


IMAGE = np.ones((2, 8, 8, 3), "float32")
BOXED = {"images": IMAGE, "bounding_boxes": {"boxes": np.ones((2, 1, 4)), "labels": np.ones((2, 1))}}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.RandomRotation(1.5), 'RandomRotation ".*": factor must be a number from -1.0 to 1.0, or two'),
        (lambda: layers.RandomContrast((0.2, 1.2)), "factor must be a number from 0.0 to 1.0"),
        (lambda: layers.RandomZoom("far"), "height_factor must be a number"),
        (lambda: layers.RandomFlip("diagonal"), "mode must be one of"),
        (lambda: layers.RandomShear(fill_mode="mirror"), "fill_mode must be one of"),
        (lambda: layers.RandomHue(0.5, (3, 3)), "value_range must be two different numbers"),
        (lambda: layers.RandomGaussianBlur(kernel_size=4), "kernel_size must be an odd number"),
        (lambda: layers.RandomCrop(0, 3), "height must be a positive integer"),
        (lambda: layers.MixUp(0), "alpha must be a number above 0"),
        (lambda: layers.Resizing(3, 3, "cubic"), "interpolation must be one of"),
        (lambda: layers.RandomFlip(bounding_box_format="corners"), "bounding_box_format must be one of"),
        (lambda: layers.Pipeline([1]), "layers must be a list of layers"),
        (lambda: layers.Rescaling("half"), "scale must be a number"),
        (lambda: layers.STFTSpectrogram(frame_length=8, frame_step=9), "frame_step must be at most frame_length"),
        (lambda: layers.MelSpectrogram(fft_length=8, sequence_length=9), "sequence_length must be at most fft_length"),
        (lambda: layers.RandomFlip()(np.ones((8, 8))), "images must have shape"),
        (lambda: layers.RandomHue(0.5)(np.ones((8, 8, 4))), "images must have 3 channels"),
        (lambda: layers.RandomColorJitter(hue_factor=0.5)(np.ones((8, 8, 4))), "images must have 3 channels"),
        (lambda: layers.Pipeline([layers.RandomRotation(0.1), layers.RandomZoom(0.1)])(BOXED), "must be given for"),
        (lambda: layers.RandomFlip()({"image": IMAGE}), "a dict with the key 'images', got image"),
        (lambda: layers.RandomFlip()(None), "must get images, or a dict with the key 'images', got None"),
        (lambda: layers.Rescaling(1.0)({"images": IMAGE}), "the input must hold numbers, got .*images"),
        (lambda: layers.Rescaling(1.0)(np.array(["a"])), r"the input must hold numbers, got str32\(1,\)"),
        (
            lambda: layers.MixUp()({"images": np.ones((4, 2, 2, 3)), "labels": np.ones((3, 5))}),
            "images and labels must be as many, got 4 and 3",
        ),
        (lambda: layers.RandomFlip()(BOXED), "bounding_box_format must be given"),
        (lambda: make("RandomFlip", {})({**BOXED, "bounding_boxes": {"boxes": 1}}), "the keys 'boxes' and 'labels'"),
        (
            lambda: make("RandomFlip", {})({"images": IMAGE[0], "bounding_boxes": BOXED["bounding_boxes"]}),
            r"boxes and labels must have shapes \(count, 4\) and \(count,\), got \(2, 1, 4\) and \(2, 1\)",
        ),
    ],
)
def test_what_is_wrong_is_said(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layer", [layers.CutMix, layers.RandomElasticTransform])
def test_boxes_that_would_be_none_are_refused(layer):
    with pytest.raises(NotImplementedError, match="bounding_boxes must not be given"):
        layer(bounding_box_format="xyxy")(BOXED, training=True)


def test_layers_stand_in_a_pipeline_of_tensorflow():
    tf = pytest.importorskip("tensorflow")
    data = {k: v for k, v in with_parts(4).items() if k != "labels"}
    dataset = tf.data.Dataset.from_tensor_slices(data).map(make("RandomRotation", {"factor": 0.2}))
    assert dataset.element_spec["images"].shape == (HEIGHT, WIDTH, 3)
    alike = make("RandomRotation", {"factor": 0.2})
    for i, seen in enumerate(dataset):
        expected = alike(jax.tree.map(lambda x, i=i: x[i], data), training=True)
        np.testing.assert_allclose(seen["images"], expected["images"], atol=1e-4)
        np.testing.assert_allclose(seen["bounding_boxes"]["boxes"], expected["bounding_boxes"]["boxes"], atol=1e-4)
    batches = tf.data.Dataset.from_tensor_slices(data["images"]).batch(3).map(layers.Pipeline([layers.Resizing(4, 5)]))
    assert batches.element_spec.shape.as_list() == [None, 4, 5, 3]


def test_layers_stand_in_a_loader_of_torch():
    torch = pytest.importorskip("torch")
    layer = layers.RandomFlip(seed=1)
    loader = torch.utils.data.DataLoader(
        list(with_parts(4)["images"]), 2, collate_fn=lambda x: np.asarray(layer(np.stack(x), training=True))
    )
    assert [batch.shape for batch in loader] == [(2, HEIGHT, WIDTH, 3)] * 2


def test_power_of_long_frames_in_a_stack_of_unknown_length():
    stack = lamina.Sequential([lamina.Input((None, 2)), layers.STFTSpectrogram("psd", frame_length=64)])
    assert stack.output_shape == (None, None, 66) and stack(np.ones((1, 100, 2))).shape == (1, 2, 66)


def test_boxes_of_a_padded_image_lie_on_it_where_sizes_are_no_powers_of_two():
    boxes = {"boxes": np.array([[[0.0, 1.0, 6.0, 11.0]]]), "labels": np.ones((1, 1))}
    data = {"images": np.ones((1, 11, 6, 3)), "bounding_boxes": boxes}
    layer = layers.Resizing(20, 20, pad_to_aspect_ratio=True, bounding_box_format="xyxy")
    np.testing.assert_allclose(layer(data)["bounding_boxes"]["boxes"][0, 0], [4, 20 / 11, 164 / 11, 20], rtol=1e-6)


def test_no_augmentation_of_several():
    images = np.ones((2, 4, 4, 3), "float32")
    np.testing.assert_array_equal(layers.RandAugment(num_ops=0)(images, training=True), images)
