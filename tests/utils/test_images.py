"""Images between files, Pillow and arrays, beside Keras."""

import io
import sys
import warnings

import keras
import numpy as np
import PIL.Image
import pytest

import lamina
from lamina.utils.images import smart_resize

DRAW = np.random.default_rng(0)
FILES = {"RGB": "png", "L": "png", "RGBA": "png", "I;16": "png", "I": "tiff", "F": "tiff", "1": "png",
         "P": "png", "LA": "png", "CMYK": "tiff"}  # fmt: skip


@pytest.fixture(params=FILES)
def path(request, tmp_path):
    """A file of each of Pillow's modes."""
    image = PIL.Image.fromarray(DRAW.integers(0, 256, (7, 10, 3)).astype("uint8"))
    gray = image.convert("L") if request.param in ("I", "I;16") else image
    path = tmp_path / f"x.{FILES[request.param]}"
    gray.convert(request.param).save(path)
    return path


@pytest.mark.parametrize("mode", ["rgb", "rgba", "grayscale"])
def test_load_img(path, mode):
    ours, theirs = (library.utils.load_img(path, color_mode=mode) for library in (lamina, keras))
    assert (ours.mode, ours.size) == (theirs.mode, theirs.size)
    arrays = [library.utils.img_to_array(image) for library, image in ((lamina, ours), (keras, theirs))]
    assert arrays[0].dtype == arrays[1].dtype
    np.testing.assert_array_equal(*arrays)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "hamming", "box", "lanczos"])
@pytest.mark.parametrize("size", [(3, 12), (12, 3), (7, 10)])
def test_load_img_in_another_size(tmp_path, size, interpolation, keep):
    PIL.Image.fromarray(DRAW.integers(0, 256, (7, 10, 3)).astype("uint8")).save(tmp_path / "x.png")
    given = {"target_size": size, "interpolation": interpolation, "keep_aspect_ratio": keep}
    ours, theirs = (library.utils.load_img(tmp_path / "x.png", **given) for library in (lamina, keras))
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


def test_load_img_of_an_open_file():
    file = io.BytesIO()
    PIL.Image.new("RGB", (3, 2), "red").save(file, "png")
    file.seek(0)
    assert lamina.utils.load_img(file).size == (3, 2)


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"color_mode": "bgr"}, "load_img: color_mode must be one of"),
        ({"interpolation": "cubic"}, "load_img: interpolation must be one of"),
        ({"target_size": (5,)}, "load_img: target_size must be a height and a width above 0, got .5,."),
    ],
)
def test_load_img_says_what_it_takes(given, rule, tmp_path):
    lamina.utils.save_img(tmp_path / "x.png", np.zeros((2, 2, 3)))
    with pytest.raises(ValueError, match=rule):
        lamina.utils.load_img(tmp_path / "x.png", **given)


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_array_to_img_and_back(channels, data_format, scale):
    x = DRAW.integers(0, 256, (4, 5, channels)).astype("float32")
    given = x.transpose(2, 0, 1) if data_format == "channels_first" else x
    found = [library.utils.array_to_img(given, data_format, scale) for library in (lamina, keras)]
    assert found[0].mode == found[1].mode
    np.testing.assert_array_equal(*map(np.asarray, found))
    for image in (found[0], x):
        np.testing.assert_array_equal(*(each.utils.img_to_array(image, data_format) for each in (lamina, keras)))


def test_array_to_img_of_one_value_and_of_deep_ones():
    for x in (np.zeros((3, 3, 1)), np.full((3, 3, 3), 7.0), DRAW.integers(0, 3000, (3, 3, 1))):
        found = [np.asarray(library.utils.array_to_img(x, scale=False)) for library in (lamina, keras)]
        np.testing.assert_array_equal(*found)
    assert not np.any(np.asarray(lamina.utils.array_to_img(np.full((3, 3, 3), 7.0))))


@pytest.mark.parametrize("shape", [(3, 3), (2, 3, 3, 3), (3, 3, 2)])
def test_array_to_img_takes_one_image(shape):
    with pytest.raises(ValueError, match="array_to_img: x must"):
        lamina.utils.array_to_img(np.zeros(shape))


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.bmp"])
def test_save_img(tmp_path, name):
    x = DRAW.integers(0, 256, (4, 5, 4 if name == "x.jpg" else 3)).astype("float32")
    x[0, 0] = 0, 255, *x[0, 0, 2:]  # so that the values are spread already
    lamina.utils.save_img(tmp_path / name, x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras says that JPEG has no transparency
        keras.utils.save_img(tmp_path / f"theirs-{name}", x)
    assert (tmp_path / name).read_bytes() == (tmp_path / f"theirs-{name}").read_bytes()


@pytest.mark.parametrize("shape", [(10, 20, 3), (2, 20, 10, 3)])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_smart_resize(shape, interpolation):
    x = DRAW.normal(size=shape).astype("float32")
    ours = lamina.preprocessing.image.smart_resize(x, (4, 6), interpolation)
    theirs = keras.preprocessing.image.smart_resize(x, (4, 6), interpolation)
    assert isinstance(ours, np.ndarray) and smart_resize is lamina.preprocessing.image.smart_resize
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_without_pillow_the_error_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "PIL.Image")
    monkeypatch.delitem(sys.modules, "PIL")
    monkeypatch.setattr(sys, "path", [])
    sys.path_importer_cache.clear()
    with pytest.raises(ModuleNotFoundError, match="This needs PIL; pip install pillow"):
        lamina.utils.array_to_img(np.zeros((2, 2, 3)))


def test_a_format_may_be_called_jpg():
    file = io.BytesIO()
    lamina.utils.save_img(file, np.zeros((4, 4, 4)), file_format="jpg")
    assert file.getvalue()[:3] == b"\xff\xd8\xff"
