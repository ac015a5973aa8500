"""Files that are changed by hand, and what opening them may take."""

import io
import json
import sys
import tracemalloc
import zipfile
from contextlib import contextmanager

import h5py

import lamina as keras

REFUSALS = (keras.saving.UnsafeFileError, keras.saving.CorruptFileError)


def parts(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def edit_config(path, change):
    members = parts(path)
    config = json.loads(members["config.json"])
    change(config)
    rewrite(path, members | {"config.json": json.dumps(config)})


def edit_weights(path, change):
    members = parts(path)
    buffer = io.BytesIO(members["model.weights.h5"])
    with h5py.File(buffer, "a") as file:
        change(file)
    rewrite(path, members | {"model.weights.h5": buffer.getvalue()})


@contextmanager
def bounded(calls=5_000_000, nbytes=256 * 2**20):
    """Inside, so many Python functions may be called, and so many bytes taken by Python and NumPy."""

    class TooMuchWork(BaseException):
        """Not an error of the file."""

    left = [calls]

    def count(frame, event, argument):
        if event == "call":
            left[0] -= 1
            if left[0] < 0:
                raise TooMuchWork

    tracemalloc.start()
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(before)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < nbytes
