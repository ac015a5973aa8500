"""Loaders of folders: mistakes, broken files, sounds of all kinds, and training."""

import struct
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

import lamina
from lamina.utils import (
    audio_dataset_from_directory,
    image_dataset_from_directory,
    split_dataset,
    text_dataset_from_directory,
    timeseries_dataset_from_array,
)

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def images(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(5):
            Image.fromarray(np.full((6, 5, 3), 20 * i + 100 * (name == "b"), "uint8")).save(
                tmp_path / name / f"{i}.png"
            )
    return tmp_path


def test_a_model_trains_on_a_folder(images, capsys):
    training, validation = image_dataset_from_directory(
        images, image_size=(4, 4), batch_size=3, validation_split=0.2, subset="both", seed=1
    )
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "Found 10 files belonging to 2 classes.", "Using 8 files for training.", "Using 2 files for validation."
    ]  # fmt: skip
    assert training.class_names == ["a", "b"] and len(training.file_paths) == 8 and len(training) == 3
    model = lamina.Sequential(
        [lamina.Input((4, 4, 3)), lamina.layers.Rescaling(1 / 255), lamina.layers.Flatten(), lamina.layers.Dense(2)]
    )
    model.compile("adam", lamina.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    prepared = training.cache().shuffle(100).prefetch(buffer_size=lamina.data.AUTOTUNE)
    history = model.fit(prepared, validation_data=validation.cache(), epochs=2, verbose=0).history
    assert len(history["val_accuracy"]) == 2
    assert model.predict(validation, verbose=0).shape == (2, 2)
    for pictures, labels in training.take(1):
        assert pictures[0].numpy().astype("uint8").shape == (4, 4, 3)
        assert training.class_names[labels[0]] in ("a", "b")
    assert lamina.preprocessing.image_dataset_from_directory is image_dataset_from_directory


@pytest.mark.parametrize("form", ["tf", "grain"])
def test_a_model_of_texts_trains_on_a_folder(tmp_path, form):
    for name, text in (("bad", "awful film"), ("good", "nice film")):
        (tmp_path / name).mkdir()
        for i in range(4):
            (tmp_path / name / f"{i}.txt").write_text(text)
    dataset = text_dataset_from_directory(
        tmp_path, batch_size=2, seed=1, verbose=False, label_mode="binary", format=form
    )
    words = lamina.layers.TextVectorization(output_mode="multi_hot", max_tokens=4)
    words.adapt(dataset.map(lambda x, y: x))
    model = lamina.Sequential([lamina.Input((), dtype="string"), words, lamina.layers.Dense(1)])
    model.compile(lamina.optimizers.Adam(0.5), "mse")
    assert model.fit(dataset, epochs=40, verbose=0).history["loss"][-1] < 0.05
    vectors = dataset.map(lambda x, y: (words(x), y), num_parallel_calls=2)
    assert [x.shape for x, _ in vectors] == [(2, 4)] * 4


# Broken files ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def broken(images):
    (images / "a" / "2.png").write_bytes(b"no picture")
    whole = (images / "b" / "3.png").read_bytes()
    (images / "b" / "3.png").write_bytes(whole[:40])
    return images


def test_a_broken_file_names_itself(broken):
    dataset = image_dataset_from_directory(broken, image_size=(4, 4), batch_size=2, shuffle=False, verbose=False)
    read = iter(dataset)
    assert next(read)[1].tolist() == [0, 0]
    with pytest.raises(
        ValueError, match=r'^image_dataset.*a.2\.png" must hold image data that can be read.*"skip"'
    ) as e:
        next(read)
    assert "\n" not in str(e.value)


def test_broken_files_are_left_out_by_choice_with_a_warning_an_epoch(broken):
    dataset = image_dataset_from_directory(
        broken, image_size=(4, 4), batch_size=3, shuffle=False, verbose=False, on_error="skip"
    )
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"2 of 10 files cannot be read and are left out: .*a.2\.png") as met:
            batches = list(dataset.as_numpy_iterator())
        assert [len(y) for _, y in batches] == [3, 3, 2] and len(met) == 1
    assert dataset.cardinality() == -2


# Mistakes -------------------------------------------------------------------------------------------------------------

SPLIT = {"validation_split": 0.5, "subset": "training"}
WRONG = {
    "labels": ({"labels": "given"}, 'labels must be "inferred", None or a list'),
    "number of labels": ({"labels": [1, 2]}, "labels must have one for each of the 10 files, got 2"),
    "class_names with labels": ({"labels": [0] * 10, "class_names": ["a"]}, "class_names must only be given"),
    "class_names": ({"class_names": ["a", "c"]}, "names of folders in the directory, got c; there are a, b"),
    "label_mode": ({"label_mode": "one_hot"}, "label_mode must be one of 'int'"),
    "binary": ({"label_mode": "binary", "class_names": ["a"]}, "needs exactly 2 classes, got a"),
    "batch_size": ({"batch_size": 0}, "batch_size must be a positive integer"),
    "split": ({**SPLIT, "validation_split": 2, "seed": 1}, "validation_split must be between 0 and 1, got 2"),
    "split alone": ({"validation_split": 0.5}, "must be given together, got validation_split=0.5 and subset=None"),
    "subset alone": ({"subset": "training"}, "must be given together, got validation_split=None"),
    "subset": ({**SPLIT, "subset": "test"}, "subset must be one of 'training', 'validation', 'both'"),
    "no seed": (SPLIT, "seed must be given where shuffled files are split"),
    "nothing left": ({"validation_split": 0.05, "subset": "both", "seed": 1}, "hold validation image files"),
    "on_error": ({"on_error": "pass"}, "on_error must be 'raise' or 'skip'"),
    "format": ({"format": "torch"}, "format must be 'tf' or 'grain'"),
    "color_mode": ({"color_mode": "hsv"}, "color_mode must be one of 'rgb', 'rgba', 'grayscale'"),
    "image_size": ({"image_size": (1, 2, 3)}, "image_size must be a height and a width"),
    "interpolation": ({"interpolation": "cubic"}, "interpolation must be one of 'bilinear'"),
    "both fits": ({"crop_to_aspect_ratio": True, "pad_to_aspect_ratio": True}, "only one of crop_to_aspect_ratio"),
}


@pytest.mark.parametrize("name", WRONG)
def test_mistakes_are_named(images, name):
    arguments, message = WRONG[name]
    with pytest.raises(ValueError, match=message) as caught:
        image_dataset_from_directory(images, verbose=False, **arguments)
    assert str(caught.value).startswith("image_dataset_from_directory: ") and "\n" not in str(caught.value)


def test_a_folder_that_holds_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'directory must be a folder that exists, got ".*none"'):
        text_dataset_from_directory(tmp_path / "none")
    with pytest.raises(ValueError, match=r"hold any text files, whose names end with .txt, .* labels=None"):
        text_dataset_from_directory(tmp_path, verbose=False)
    with pytest.raises(ValueError, match=r"hold any WAV files, whose names end with .wav, got .* with 0\.$"):
        audio_dataset_from_directory(tmp_path, labels=None, verbose=False)


# Sounds ---------------------------------------------------------------------------------------------------------------


def wav(kind, bits, data, extensible=False):
    form = struct.pack("<HHIIHH", 0xFFFE if extensible else kind, 1, 16000, 2000 * bits, bits // 8, bits)
    if extensible:
        form += struct.pack("<HHIH14s", 22, bits, 0, kind, b"")
    chunks = b"WAVEjunk\3\0\0\0abc\0fmt " + struct.pack("<I", len(form)) + form
    chunks += b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


WAVE = np.array([-1.0, -0.5, 0.0, 0.25])
KINDS = {
    (1, 8): (WAVE * 128 + 128).astype("u1"),
    (1, 16): (WAVE * 2**15).astype("<i2"),
    (1, 24): (WAVE * 2**31).astype("<i4").view("u1").reshape(-1, 4)[:, 1:],
    (1, 32): (WAVE * 2**31).astype("<i4"),
    (3, 32): WAVE.astype("<f4"),
    (3, 64): WAVE,
}


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize("form", KINDS, ids=str)
def test_wavs_of_all_kinds_are_read(tmp_path, form, extensible):
    (tmp_path / "a.wav").write_bytes(wav(*form, KINDS[form].tobytes(), extensible))
    (sounds,) = audio_dataset_from_directory(tmp_path, labels=None, verbose=False)
    assert sounds.dtype == "float32" and sounds.tolist() == [WAVE[:, None].tolist()]


def test_sounds_get_one_rate(tmp_path):
    tone = np.sin(np.arange(16000) * 2 * np.pi * 100 / 16000)
    (tmp_path / "a.wav").write_bytes(wav(3, 32, tone.astype("<f4").tobytes()))
    (sounds,) = audio_dataset_from_directory(tmp_path, labels=None, sampling_rate=8000, verbose=False)
    assert sounds.shape == (1, 8000, 1)
    np.testing.assert_allclose(sounds[0, 100:-100, 0], tone[::2][100:-100], atol=2e-3)


@pytest.mark.parametrize("content", [b"", b"RIFF\0\0\0\0WAVE", wav(7, 8, b"1234"), wav(1, 12, b"1234")])
def test_what_is_no_wav_names_itself(tmp_path, content):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(ValueError, match=r'audio_dataset_from_directory: ".*a\.wav" must hold WAV data'):
        list(audio_dataset_from_directory(tmp_path, labels=None, verbose=False))


# Windows and parts ----------------------------------------------------------------------------------------------------

SERIES = {
    "sampling_rate": ({"sampling_rate": 9}, "sampling_rate must be less than the 9 steps of the data, got 9"),
    "stride": ({"sequence_stride": 0}, "sequence_stride must be a positive integer"),
    "start": ({"start_index": -1}, "start_index must be an integer of at least 0"),
    "end": ({"start_index": 4, "end_index": 3}, "end_index must be greater than start_index, 4, got 3"),
    "targets": ({"targets": range(4), "start_index": 3}, "targets must reach to step 6"),
}


@pytest.mark.parametrize("name", SERIES)
def test_windows_that_do_not_fit_are_an_error(name):
    arguments, message = SERIES[name]
    arguments = {"targets": None, "sequence_length": 3, **arguments}
    with pytest.raises(ValueError, match=f"^timeseries_dataset_from_array: {message}"):
        timeseries_dataset_from_array(np.arange(9), arguments.pop("targets"), **arguments)


def test_windows_take_no_memory_of_their_own():
    data = np.zeros((1_000_000, 4), "float32")
    dataset = timeseries_dataset_from_array(data, None, 1000, batch_size=2)  # 16 GB, were they copied
    assert len(dataset) == 499_501 and next(iter(dataset)).shape == (2, 1000, 4)


SIZES = {
    "none": ({}, "one of left_size and right_size must be given"),
    "share": ({"left_size": 1.5}, "left_size must be an integer from 1 to 9, or a share between 0 and 1, got 1.5"),
    "whole": ({"right_size": 10}, "right_size must be an integer from 1 to 9"),
    "sum": ({"left_size": 6, "right_size": 6}, "not more than all, got left_size=6 and right_size=6"),
    "empty": ({"left_size": 0.01}, "both parts of 10 elements must have some"),
    "kind": ({"dataset": {1}, "left_size": 1}, "dataset must be a Dataset, arrays, or a dataset of tf.data or torch"),
    "backend": ({"left_size": 1, "preferred_backend": "mxnet"}, "preferred_backend must be one of"),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_that_do_not_fit_are_an_error(name):
    arguments, message = SIZES[name]
    with pytest.raises(ValueError, match=f"^split_dataset: .*{message}"):
        split_dataset(arguments.pop("dataset", np.arange(10)), **arguments)


def test_a_folder_in_two_parts_decodes_only_what_is_read(images):
    dataset = image_dataset_from_directory(images, image_size=(4, 4), batch_size=2, seed=1, verbose=False)
    left, right = split_dataset(dataset, left_size=0.7, shuffle=True, seed=2)
    assert (len(left), len(right), left.class_names) == (4, 2, ["a", "b"])
    seen = [{float(x[0, 0, 0]) for part in each for x in part[0]} for each in (left, right)]
    assert list(map(len, seen)) == [7, 3] and not seen[0] & seen[1]


def test_dicts_lists_and_streams_are_split():
    for given in ({"a": np.arange(4), "b": np.ones(4)}, [np.arange(4), np.ones(4)]):
        left, right = split_dataset(given, right_size=1)
        assert len(left) == 3 and [
            float(np.asarray(leaf)) for e in right for leaf in ([*e.values()] if isinstance(e, dict) else e)
        ] == [3, 1]
    stream = lamina.data.Dataset.from_generator(lambda: range(6)).batch(2)
    assert [x.tolist() for x in split_dataset(stream, left_size=3)[1]] == [[3, 4], [5]]
    assert split_dataset([1, 2, 3], left_size=1, preferred_backend="torch")[1].dataset is not None


def test_a_program_that_ends_in_the_middle_of_a_pass_ends_quietly(images):
    script = (
        "import sys, lamina\n"
        "read = iter(lamina.utils.image_dataset_from_directory(sys.argv[1], image_size=(8, 8), batch_size=1))\n"
        "next(read)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, images], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_files_are_decoded_by_several_threads(images, monkeypatch):
    threads = set()

    def opened(*args, real=Image.open, **kwargs):
        threads.add(threading.current_thread().name)
        return real(*args, **kwargs)

    monkeypatch.setattr(Image, "open", opened)
    monkeypatch.setattr("lamina.data.flows.cores", lambda: 3)
    list(image_dataset_from_directory(images, image_size=(300, 300), batch_size=1, verbose=False))
    assert threads and all(name.startswith("lamina-data") for name in threads)


def test_parts_of_a_shuffled_dataset_have_no_element_in_common_in_any_epoch():
    dataset = lamina.data.Dataset.range(20).shuffle(20, seed=1).batch(4)
    left, right = split_dataset(dataset, left_size=0.5)
    passes = [{int(x) for _ in range(3) for batch in part for x in batch} for part in (left, right)]
    assert passes[0] | passes[1] == set(range(20)) and not passes[0] & passes[1]


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files that were decoded."""
    names = []

    def opened(path, *args, real=Image.open, **kwargs):
        names.append(Path(path).name)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Image, "open", opened)
    return names


def rows(dataset):
    return np.concatenate([x for x, _ in dataset])


def test_a_file_is_decoded_once_and_again_when_it_has_changed(images, decoded):
    dataset = image_dataset_from_directory(images, image_size=(4, 4), batch_size=3, shuffle=False, verbose=False)
    first = rows(dataset)
    np.testing.assert_array_equal(rows(dataset), first)
    assert len(decoded) == 10
    Image.fromarray(np.full((7, 7, 3), 9, "uint8")).save(images / "a" / "3.png")
    assert rows(dataset)[3, 0, 0, 0] == 9
    assert len(decoded) == 11


def test_what_does_not_fit_into_memory_is_decoded_again(images, decoded, monkeypatch):
    monkeypatch.setattr("lamina.data.caches.DECODED_BYTES", 4 * 4 * 4 * 3 * 4 + 1)
    monkeypatch.setattr("lamina.data.caches.Decoded._all", weakref.WeakSet())
    options = {"image_size": (4, 4), "shuffle": False, "verbose": False}
    dataset, other = (image_dataset_from_directory(images, **options) for _ in range(2))
    first = rows(dataset)
    np.testing.assert_array_equal(rows(dataset), first)
    assert len(decoded) == 10 + 6
    rows(other), rows(other)
    assert len(decoded) == 16 + 20
    del dataset
    rows(other), rows(other)
    assert len(decoded) == 36 + 10 + 6


def test_nobody_can_change_what_is_kept(images):
    dataset = image_dataset_from_directory(images, image_size=(4, 4), batch_size=None, shuffle=False, verbose=False)
    image, _ = next(dataset.as_numpy_iterator())
    with pytest.raises(ValueError, match="read-only"):
        image[:] = 1
