"""Data sets from small files in the real formats, in the cache of Keras: equal arrays, of equal dtypes."""

import gzip
import hashlib
import io
import json
import pickle
import tarfile

import keras
import numpy as np
import pytest
from keras.src.utils import file_utils

import lamina
from lamina.datasets import reading

TRUE_ORIGINS = dict(reading.ORIGINS)
rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A folder with the files of all data sets, as a program for Keras left them there."""
    folder = tmp_path_factory.mktemp("keras") / "datasets"
    (folder / "fashion-mnist").mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(autouse=True)
def both(cache, monkeypatch):
    """The hashes of these files instead of the real ones, in both libraries."""
    monkeypatch.setenv("KERAS_HOME", str(cache.parent))
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(cache.parent))
    monkeypatch.setattr(file_utils, "validate_file", lambda *args, **kwargs: True)
    for name, (url, _) in reading.ORIGINS.items():
        at = {"cifar-10-python.tar.gz": "cifar-10-batches-py-target_archive"}.get(name, name)
        at = {"cifar-100-python.tar.gz": "cifar-100-python-target_archive"}.get(name, at)
        at = f"fashion-mnist/{name}" if "ubyte" in name else at
        digits = hashlib.sha256(FILES[at]).hexdigest()
        monkeypatch.setitem(reading.ORIGINS, name, (url, digits))


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def idx(array):
    """As https://yann.lecun.com/exdb/mnist tells: zeros, the type, the number of axes, sizes, bytes."""
    head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return gzip.compress(head + array.tobytes())


def tar(**files):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def batch(count, **labels):
    """A pickle as those of CIFAR: a dict by bytes of an array and of lists."""
    pixels = rng.integers(0, 256, (count, 3072), dtype="uint8")
    lists = {name.encode(): rng.integers(0, top, count).tolist() for name, top in labels.items()}
    return pickle.dumps({b"data": pixels, b"batch_label": b"a batch", b"filenames": [b"a.png"] * count, **lists}, 3)


def texts(count):
    """Lists of numbers of words, the frequent ones more often; the longest has 29."""
    lists = [rng.zipf(1.5, rng.integers(1, 30)).clip(1, 400).tolist() for _ in range(count)]
    found = np.empty(count, dtype=object)
    found[:] = lists
    return found


def images(count):
    return rng.integers(0, 256, (count, 28, 28), dtype="uint8"), rng.integers(0, 10, count, dtype="uint8")


(x1, y1), (x2, y2) = images(30), images(20)
f1, f2 = images(30), images(20)
FILES = {
    "mnist.npz": npz(x_train=x1, y_train=y1, x_test=x2, y_test=y2),
    "fashion-mnist/train-images-idx3-ubyte.gz": idx(f1[0]),
    "fashion-mnist/train-labels-idx1-ubyte.gz": idx(f1[1]),
    "fashion-mnist/t10k-images-idx3-ubyte.gz": idx(f2[0]),
    "fashion-mnist/t10k-labels-idx1-ubyte.gz": idx(f2[1]),
    "cifar-10-batches-py-target_archive": tar(
        **{f"cifar-10-batches-py/data_batch_{i}": batch(1, labels=10) for i in range(1, 6)},
        **{"cifar-10-batches-py/test_batch": batch(1, labels=10)},
    ),
    "cifar-100-python-target_archive": tar(
        **{"cifar-100-python/train": batch(50, fine_labels=100, coarse_labels=20)},
        **{"cifar-100-python/test": batch(20, fine_labels=100, coarse_labels=20)},
    ),
    "imdb.npz": npz(x_train=texts(60), y_train=np.arange(60) % 2, x_test=texts(50), y_test=np.arange(50) % 2),
    "imdb_word_index.json": json.dumps({"the": 1, "naïve": 2}).encode(),
    "reuters.npz": npz(x=texts(80), y=np.arange(80) % 46),
    "reuters_word_index.json": json.dumps({"mln": 1, "dlrs": 2}).encode(),
    "boston_housing.npz": npz(x=rng.normal(size=(53, 13)), y=rng.normal(size=53)),
    "california_housing.npz": npz(x=rng.normal(size=(900, 8)).astype("float32"), y=rng.normal(size=900).astype("f4")),
}
WORDS = [
    {},
    {"num_words": 50},
    {"num_words": 50, "skip_top": 3},
    {"num_words": 50, "skip_top": 3, "oov_char": None},
    {"maxlen": 12, "seed": 7},
    {"start_char": None},
    {"start_char": None, "index_from": 0},
    {"start_char": None, "index_from": 0, "oov_char": None, "num_words": 9},
    {"start_char": 5, "oov_char": 6, "index_from": 10},
    {"num_words": 0, "maxlen": 0},
]
CALLS = [
    ("mnist.load_data", {}),
    ("fashion_mnist.load_data", {}),
    ("cifar10.load_data", {}),
    ("cifar100.load_data", {}),
    ("cifar100.load_data", {"label_mode": "coarse"}),
    *(("boston_housing.load_data", more) for more in ({}, {"test_split": 0.3, "seed": 1}, {"test_split": 0})),
    *(("california_housing.load_data", more) for more in ({}, {"version": "small", "seed": 5}, {"test_split": 0.5})),
    *(("imdb.load_data", more) for more in WORDS),
    *(("reuters.load_data", more) for more in [*WORDS, {"test_split": 0.5}, {"test_split": 0}, {"test_split": 1}]),
    ("imdb.get_word_index", {}),
    ("reuters.get_word_index", {}),
    ("reuters.get_label_names", {}),
]


def same(ours, theirs):
    """Whether two results are of equal types, dtypes, shapes and values."""
    if isinstance(theirs, np.ndarray):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert ours.tolist() == theirs.tolist() if ours.dtype == object else ours.tobytes() == theirs.tobytes()
    elif isinstance(theirs, tuple) and not isinstance(theirs[0], str):
        assert len(ours) == len(theirs)
        for pair in zip(ours, theirs):
            same(*pair)
    else:
        assert type(ours) is type(theirs) and ours == theirs


def called(library, name, arguments):
    module, function = name.split(".")
    return getattr(getattr(library.datasets, module), function)(**arguments)


@pytest.mark.parametrize(("name", "arguments"), CALLS, ids=str)
def test_load(name, arguments):
    ours, theirs = called(lamina, name, arguments), called(keras, name, arguments)
    if name == "cifar10.load_data":  # where Keras has room for batches of 10,000, and repeats the one image of these
        theirs = tuple(array[::10_000] for array in theirs[0]), theirs[1]
    same(ours, theirs)


def test_channels_first():
    for library in (lamina, keras):
        library.config.set_image_data_format("channels_first")
    try:
        same(lamina.datasets.cifar100.load_data(), keras.datasets.cifar100.load_data())
    finally:
        for library in (lamina, keras):
            library.config.set_image_data_format("channels_last")


MODULES = sorted({name.partition(".")[0] for name, _ in CALLS})


@pytest.mark.parametrize("module", MODULES)
def test_files_urls_and_hashes_are_those_of_keras(monkeypatch, module):
    asked = {lamina: set(), keras: set()}

    def listening(library):
        def get_file(fname=None, origin=None, **more):
            asked[library].add((fname, origin, *sorted(pair for pair in more.items() if pair[1] is not None)))
            return file_utils.get_file(fname, origin, **more)

        return get_file

    for name, url in TRUE_ORIGINS.items():
        monkeypatch.setitem(reading.ORIGINS, name, url)
    monkeypatch.setattr(reading, "get_file", listening(lamina))
    monkeypatch.setattr(f"keras.src.datasets.{module}.get_file", listening(keras))
    for name, arguments in CALLS:
        if name.startswith(f"{module}.") and not arguments:
            for library in asked:
                called(library, name, arguments)
    assert asked[lamina] == asked[keras] and asked[keras]
