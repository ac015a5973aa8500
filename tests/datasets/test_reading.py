"""Files of data sets are data: what is no array, list, dict or text in them is refused, and never run."""

import gzip
import hashlib
import io
import json
import os
import pickle
import tarfile
import zipfile

import numpy as np
import pytest

import lamina
from lamina.core.budget import CorruptFileError, UnsafeFileError
from lamina.datasets import reading


@pytest.fixture
def put(tmp_path, monkeypatch):
    """`put(name, content)` lays a file into the cache, as the one that the table tells of."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    def put(name, content, at=""):
        path = tmp_path / "datasets" / (at or name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        monkeypatch.setitem(reading.ORIGINS, name, ("http://127.0.0.1:9/x", hashlib.sha256(content).hexdigest()))
        return path

    return put


class Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def npy(value):
    """An array of one object, as `numpy.save` writes it."""
    array = np.empty(1, dtype=object)
    array[0] = value
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def npz(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def cifar(batch):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name in ("train", "test"):
            info = tarfile.TarInfo(f"cifar-100-python/{name}")
            info.size = len(batch)
            archive.addfile(info, io.BytesIO(batch))
    return file.getvalue()


def gadgets(marker):
    return {
        "posix.mkdir": Evil(os.mkdir, marker),
        "builtins.eval": Evil(eval, f"__import__('os').mkdir({marker!r})"),
        "numpy.load": Evil(np.load, marker),
        "numpy.ndarray.tofile": pickle.PROTO + b"\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
    }


@pytest.mark.parametrize("names", gadgets(""))
@pytest.mark.parametrize("kind", ["npz", "cifar"])
def test_a_file_runs_nothing(put, tmp_path, names, kind):
    evil = gadgets(str(tmp_path / "marker"))[names]
    if kind == "npz":
        member = npy(evil) if isinstance(evil, Evil) else npy([])[: -len(pickle.dumps([]))] + evil
        path = put("imdb.npz", npz(x_train=member, y_train=member, x_test=member, y_test=member))
        load = lamina.datasets.imdb.load_data
    else:
        batch = evil if isinstance(evil, bytes) else pickle.dumps({b"data": evil})
        put("cifar-100-python.tar.gz", cifar(batch), "cifar-100-python-target_archive")
        load, path = lamina.datasets.cifar100.load_data, tmp_path / "datasets" / "cifar-100-python-target"
    with pytest.raises((UnsafeFileError, CorruptFileError)) as error:
        load()
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)
    assert isinstance(evil, bytes) or f"and names {names}" in str(error.value)
    assert not (tmp_path / "marker").exists()


def test_damaged_files_are_named(put):
    one = npz(x_train=b"", y_train=b"", x_test=b"", y_test=b"")
    for name, content, load in [
        ("mnist.npz", b"no archive", lamina.datasets.mnist.load_data),
        ("mnist.npz", one, lamina.datasets.mnist.load_data),
        ("boston_housing.npz", npz(x=npy(1)), lamina.datasets.boston_housing.load_data),
        ("imdb_word_index.json", b"{", lamina.datasets.imdb.get_word_index),
    ]:
        path = put(name, content)
        with pytest.raises(CorruptFileError, match="download it again") as error:
            load()
        assert str(error.value).startswith(str(path))


CUT = {
    "cut": gzip.compress(bytes(800))[:-9],
    "one too long": gzip.compress(bytes(801)),
    "empty": b"",
    "other": b"no gzip",
}


@pytest.mark.parametrize("content", CUT.values(), ids=CUT)  # what is in them has the time in it
def test_a_truncated_file_without_a_hash_is_named(put, content):
    path = put("train-images-idx3-ubyte.gz", content, "fashion-mnist/train-images-idx3-ubyte.gz")
    with pytest.raises(CorruptFileError) as error:
        lamina.datasets.fashion_mnist.load_data()
    assert str(error.value).startswith(str(path))


def test_batches_of_python_2(put):
    """What `cPickle` wrote: protocol 2, with strings where Python 3 has bytes."""
    pixels = np.arange(2 * 3072, dtype="uint8").reshape(2, 3072)
    raw = pixels.tobytes()
    batch = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b"
        b"\x87Rq\x05(K\x01K\x02M\x00\x0c\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff"
        b"\xffJ\xff\xff\xff\xffK\x00tb\x89T" + len(raw).to_bytes(4, "little") + raw + b"tb"
        b"U\x0bfine_labels]q\x08(K\x07K\x63eu."
    )
    put("cifar-100-python.tar.gz", cifar(batch), "cifar-100-python-target_archive")
    (x, y), _ = lamina.datasets.cifar100.load_data()
    assert np.array_equal(x, pixels.reshape(2, 3, 32, 32).transpose(0, 2, 3, 1)) and y.tolist() == [[7], [99]]
    assert x.flags.c_contiguous and x.flags.writeable


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (lambda d: d.boston_housing.load_data(test_split=1), "boston_housing: test_split must be below 1"),
        (lambda d: d.boston_housing.load_data(test_split=-0.1), "boston_housing: test_split must be from 0 to 1"),
        (lambda d: d.california_housing.load_data("medium"), "california_housing: version must be 'large' or 'small'"),
        (lambda d: d.california_housing.load_data(test_split=2), "california_housing: test_split must be from 0 to 1"),
        (lambda d: d.reuters.load_data(test_split="a"), "reuters: test_split must be from 0 to 1"),
        (lambda d: d.cifar100.load_data("fin"), "cifar100: label_mode must be 'fine' or 'coarse'"),
        (lambda d: d.imdb.load_data(nb_words=5), "imdb.load_data: must not be given unknown arguments, got nb_words"),
        (lambda d: d.mnist.load_data("a/mnist.npz"), "get_file: fname must be a name, and cache_dir its folder"),
    ],
)
def test_mistakes_are_said_before_anything_is_downloaded(load, message):
    with pytest.raises(ValueError) as error:
        load(lamina.datasets)
    assert str(error.value).startswith(message)


def test_no_text_is_short_enough(put):
    put("reuters.npz", npz(x=npy([1, 2, 3]), y=npy(1)))
    with pytest.raises(ValueError, match="reuters: maxlen must be above the length of a text in each part, got 2"):
        lamina.datasets.reuters.load_data(maxlen=2)


def test_the_table_has_a_hash_of_all_but_what_keras_has_none_of():
    assert {name for name, (_, digits) in reading.ORIGINS.items() if digits is None} == {
        f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
    }
    assert json.dumps(reading.ORIGINS).count("https://") == len(reading.ORIGINS)
