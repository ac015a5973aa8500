"""Loaders of folders beside those of Keras: the same files in the same order, with the same labels and values."""

import itertools
import os
import struct

import keras
import numpy as np
import pytest

import lamina

tf = pytest.importorskip("tensorflow")
Image = pytest.importorskip("PIL.Image")

CLASSES = {"cats": 5, "dogs": 7, "Owls": 4}
PNG_SIZES = ((20, 31), (13, 9), (32, 32), (5, 40))


def picture(rng, mode, size):
    channels = {"RGB": 3, "RGBA": 4, "L": 1}[mode]
    return Image.fromarray(rng.randint(0, 256, (*size, channels), "uint8").squeeze(), mode)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Classes with nested folders, hidden files and folders, links, upper-case endings and files of other kinds."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.RandomState(0)
    for name, count in CLASSES.items():
        inner = root / name / "inner"
        inner.mkdir(parents=True)
        for i in range(count):
            folder, ending = (inner, ".PNG") if i % 3 == 2 else (root / name, (".png", ".bmp")[i % 2])
            mode = "RGB" if ending == ".bmp" else ("RGB", "L", "RGBA")[i % 3]
            picture(rng, mode, PNG_SIZES[i % 4]).save(folder / f"{name[0]}{10 - i}{ending}")
        (root / name / "notes.txt").write_text("no image")
    picture(rng, "RGB", (8, 8)).save(root / "cats" / ".hidden.png")
    (root / ".cache").mkdir()
    picture(rng, "RGB", (8, 8)).save(root / ".cache" / "a.png")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    picture(rng, "RGB", (8, 8)).save(elsewhere / "linked.png")
    os.symlink(elsewhere, root / "dogs" / "link")
    os.symlink(elsewhere, root / "linked_class")
    return root


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    root = tmp_path_factory.mktemp("texts")
    for name, count in {"neg": 9, "pos": 8}.items():
        (root / name).mkdir()
        for i in range(count):
            (root / name / f"{i}.txt").write_bytes(f"{name} {i} déjà\x00 vu ".encode() * (i + 1) if i else b"")
    return root


def wav(samples, rate=8000):
    data = samples.astype("<i2").tobytes()
    channels = samples.shape[1]
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * channels * 2, channels * 2, 16)
    chunks = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("sounds"), np.random.RandomState(0)
    for name, count in {"no": 4, "yes": 5}.items():
        (root / name).mkdir()
        for i in range(count):
            samples = rng.randint(-(2**15), 2**15, (30 + 7 * i, 2))
            (root / name / f"{i}.WAV").write_bytes(wav(samples))
    return root


def same(ours, theirs, tolerance=0.0):
    """Whether two datasets give the same in two passes, dtypes included."""
    for _ in range(2):
        pairs = list(itertools.zip_longest(ours.as_numpy_iterator(), theirs.as_numpy_iterator()))
        assert pairs
        for mine, other in pairs:
            mine, other = (part if isinstance(part, tuple) else (part,) for part in (mine, other))
            assert len(mine) == len(other)
            for a, b in zip(mine, other):
                assert (getattr(a, "dtype", type(a)), np.shape(a)) == (getattr(b, "dtype", type(b)), np.shape(b))
                if tolerance and a.dtype.kind == "f":
                    np.testing.assert_allclose(a, b, atol=tolerance, rtol=0)
                else:
                    np.testing.assert_array_equal(a, b)


def both(name, folder, tolerance=0.0, **arguments):
    """What both loaders make of a folder, compared; ours comes back."""
    arguments = {"verbose": False, **arguments}
    ours, theirs = (getattr(library.utils, name)(folder, **arguments) for library in (lamina, keras))
    pairs = zip(ours, theirs) if isinstance(theirs, (list, tuple)) else [(ours, theirs)]
    for mine, other in pairs:
        same(mine, other, tolerance)
        assert mine.class_names == other.class_names
        if name.startswith("image"):
            assert mine.file_paths == other.file_paths
        assert mine.cardinality() == int(other.cardinality())
    assert type(ours) is type(theirs) or not isinstance(theirs, (list, tuple))
    return ours


SMALL = {"image_size": (8, 6), "batch_size": 4}
PAIR = {"class_names": ["dogs", "cats"], "label_mode": "binary"}
ASKED = [
    {},
    {"shuffle": False},
    {"seed": 3},
    {"seed": 3, "label_mode": "categorical", "batch_size": None},
    {"shuffle": False, **PAIR},
    {"labels": None, "seed": 1},
    {"label_mode": None, "seed": 1},
    {"labels": list(range(16, -2, -1)), "seed": 5},
    {"labels": [4, 7] * 9, "shuffle": False, "label_mode": "categorical"},
    {"labels": [0, 1] * 9, "shuffle": False, "label_mode": "binary"},
    {"class_names": ["dogs", "Owls"], "seed": 9},
    {"validation_split": 0.3, "subset": "training", "seed": 2},
    {"validation_split": 0.3, "subset": "validation", "seed": 2},
    {"validation_split": 0.3, "subset": "both", "seed": 2},
    {"validation_split": 0.25, "subset": "both", "shuffle": False},
    {"follow_links": True, "seed": 2},
    {"batch_size": 1, "seed": 11},
    {"image_size": 7, "seed": 12},
]


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_images_come_in_the_order_of_keras(images, asked):
    np.random.seed(5)  # for the seed that is not given
    arguments = {**SMALL, **asked, "verbose": False}
    if "seed" in asked or asked.get("shuffle") is False:
        both("image_dataset_from_directory", images, 1e-3, **arguments)
        return
    ours = lamina.utils.image_dataset_from_directory(images, **arguments)
    np.random.seed(5)
    same(ours, keras.utils.image_dataset_from_directory(images, **arguments), 1e-3)


def test_the_seed_of_the_program_is_a_part_of_the_order_as_in_keras(images):
    try:
        lamina.utils.set_random_seed(42)  # of TensorFlow too
        both("image_dataset_from_directory", images, 1e-3, seed=1, **SMALL)
    finally:
        lamina.random.seeds._global["seed"] = None
        tf.random.set_seed(None)


# How far bicubic weights of TensorFlow are rounded.
ROUNDED = {"bicubic": 0.25}


@pytest.mark.parametrize("size", [(8, 6), (50, 33), (13, 9)])
@pytest.mark.parametrize(
    "method", ["bilinear", "nearest", "bicubic", "area", "lanczos3", "lanczos5", "gaussian", "mitchellcubic"]
)
def test_images_are_resized_to_the_values_of_tensorflow(images, method, size):
    arguments = {"shuffle": False, "image_size": size, "interpolation": method, "batch_size": 16}
    both("image_dataset_from_directory", images, ROUNDED.get(method, 2e-3), **arguments)


@pytest.mark.parametrize("fit", ["crop_to_aspect_ratio", "pad_to_aspect_ratio"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("method", ["bilinear", "nearest"])
def test_the_proportions_are_kept_as_in_keras(images, fit, data_format, method):
    arguments = {fit: True, "shuffle": False, "image_size": (9, 14), "data_format": data_format}
    both("image_dataset_from_directory", images, 1e-3, interpolation=method, **arguments)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("color_mode", ["rgb", "rgba", "grayscale"])
def test_colors_become_those_of_keras(tmp_path, color_mode, data_format):
    rng = np.random.RandomState(1)
    (tmp_path / "a").mkdir()
    for mode in ("RGB", "RGBA", "L"):
        picture(rng, mode, (9, 7)).save(tmp_path / "a" / f"{mode}.png")
    picture(rng, "RGB", (9, 7)).convert("P").save(tmp_path / "a" / "P.png")
    Image.fromarray(rng.randint(0, 2**16, (9, 7)).astype("uint16")).save(tmp_path / "a" / "16.png")
    arguments = {"color_mode": color_mode, "data_format": data_format, "image_size": (9, 7), "shuffle": False}
    # Palettes go to gray through other weights there.
    both("image_dataset_from_directory", tmp_path, 1.001 if color_mode == "grayscale" else 1e-3, **arguments)


def test_jpegs_and_gifs_are_decoded_nearly_alike(tmp_path):
    ramp = np.linspace(0, 255, 40 * 30 * 3).reshape(40, 30, 3).astype("uint8")
    for name in ("a.jpg", "b.JPEG"):
        Image.fromarray(ramp).save(tmp_path / name)
    for color_mode in ("grayscale", "rgb"):
        Image.fromarray(ramp).save(tmp_path / ("c.gif" if color_mode == "rgb" else "c.png"))  # there without gray
        arguments = {"labels": None, "color_mode": color_mode, "image_size": (20, 20), "shuffle": False}
        both("image_dataset_from_directory", tmp_path, 4.0, **arguments)


TEXTS = [
    {"seed": 3, "batch_size": 2},
    {"shuffle": False, "max_length": 7, "label_mode": "binary"},
    {"seed": 3, "label_mode": "categorical", "batch_size": None},
    {"labels": None, "shuffle": False},
    {"validation_split": 0.4, "subset": "both", "seed": 2},
]


@pytest.mark.parametrize("asked", TEXTS, ids=str)
def test_texts_are_those_of_keras(texts, asked):
    both("text_dataset_from_directory", texts, **asked)


@pytest.mark.parametrize("batch_size", [3, None])
def test_texts_for_grain_are_strings(texts, batch_size):
    asked = {"format": "grain", "shuffle": False, "label_mode": None, "batch_size": batch_size, "max_length": 20}
    ours, theirs = (
        [*library.utils.text_dataset_from_directory(texts, verbose=False, **asked)] for library in (lamina, keras)
    )
    flat = [[x for batch in each for x in batch] if batch_size else each for each in (ours, theirs)]
    assert flat[0] == flat[1] and all(type(text) is str for text in flat[0])


SOUNDS = [
    {"seed": 3, "batch_size": 2},
    {"shuffle": False, "label_mode": "binary", "output_sequence_length": 40},
    {"seed": 3, "label_mode": "categorical", "batch_size": None},
    {"labels": None, "shuffle": False},
    {"validation_split": 0.4, "subset": "both", "seed": 2, "output_sequence_length": 33},
]


@pytest.mark.parametrize("asked", SOUNDS, ids=str)
def test_sounds_are_those_of_keras(sounds, asked):
    both("audio_dataset_from_directory", sounds, **asked)


@pytest.mark.parametrize("batch_size", [3, 1])
def test_ragged_sounds_have_the_lengths_of_keras(sounds, batch_size):
    arguments = {"shuffle": False, "ragged": True, "batch_size": batch_size, "verbose": False}
    ours, theirs = (lib.utils.audio_dataset_from_directory(sounds, **arguments) for lib in (lamina, keras))
    for (mine, labels), (other, expected) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(labels, expected)
        for a, b in zip(mine.numpy(), other):
            np.testing.assert_array_equal(a, b.to_tensor())


DATA = np.arange(60, dtype="float64").reshape(30, 2)
WINDOWS = [
    {},
    {"sequence_stride": 3, "sampling_rate": 2},
    {"start_index": 4, "end_index": 25, "batch_size": 4},
    {"sequence_stride": 2, "batch_size": None, "end_index": 20},
    {"shuffle": True, "seed": 4, "batch_size": 2},
    {"shuffle": True, "seed": 4, "batch_size": None, "sampling_rate": 3},
    {"sequence_length": 40},
]


@pytest.mark.parametrize("targets", [None, np.arange(30), np.ones((12, 3), "float32")], ids=["none", "all", "few"])
@pytest.mark.parametrize("asked", WINDOWS, ids=str)
def test_windows_over_time_are_those_of_keras(asked, targets):
    if "start_index" in asked and targets is not None:
        targets = np.arange(30)
    asked = {"sequence_length": 5, **asked}
    ours, theirs = (lib.utils.timeseries_dataset_from_array(DATA, targets, **asked) for lib in (lamina, keras))
    if asked["sequence_length"] == 40:
        assert list(ours) == list(theirs) == []
        return
    same(ours, theirs)


ROWS = np.arange(24.0).reshape(12, 2)
SPLITS = [
    {"left_size": 0.75},
    {"right_size": 3},
    {"left_size": 4, "right_size": 5},
    {"left_size": 0.3, "right_size": 0.3, "shuffle": True, "seed": 7},
]


@pytest.mark.parametrize("given", [ROWS, [ROWS, np.arange(12)], (ROWS, ROWS[:, :1], np.arange(12))], ids=type)
@pytest.mark.parametrize("asked", SPLITS, ids=str)
def test_arrays_are_split_as_by_keras(given, asked):
    for ours, theirs in zip(*(library.utils.split_dataset(given, **asked) for library in (lamina, keras))):
        same(ours, theirs)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("asked", SPLITS, ids=str)
def test_a_dataset_of_tensorflow_is_split_as_by_keras(batched, asked):
    given = tf.data.Dataset.from_tensor_slices((ROWS, np.arange(12)))
    given = given.batch(5) if batched else given
    for ours, theirs in zip(*(library.utils.split_dataset(given, **asked) for library in (lamina, keras))):
        assert isinstance(ours, tf.data.Dataset)
        same(ours, theirs)
        assert int(ours.cardinality()) == int(theirs.cardinality())


def test_a_dataset_of_torch_is_split_as_by_keras():
    torch = pytest.importorskip("torch")
    given = torch.utils.data.TensorDataset(torch.arange(12), torch.ones(12, 2))
    asked = {"left_size": 0.75, "shuffle": True, "seed": 3}
    for ours, theirs in zip(*(library.utils.split_dataset(given, **asked) for library in (lamina, keras))):
        assert [int(x) for x, _ in ours] == [int(x) for x, _ in theirs]
    loader = torch.utils.data.DataLoader(given, batch_size=4)
    left, right = lamina.utils.split_dataset(loader, right_size=0.5)
    assert [x.tolist() for x, _ in left] == [[0, 1, 2, 3], [4, 5]] and len(right) == 2
