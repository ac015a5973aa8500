"""What `get_file` returns, and the files that it leaves, beside Keras."""

import hashlib
import io
import tarfile
import warnings
import zipfile
from pathlib import Path

import keras
import pytest

import lamina


@pytest.fixture(scope="module")
def origins(tmp_path_factory):
    folder = tmp_path_factory.mktemp("origins")
    (folder / "plain.txt").write_text("plain")
    with zipfile.ZipFile(folder / "a.b.zip", "w") as archive:
        archive.writestr("x/y.txt", "zipped")
    with tarfile.open(folder / "t.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("x/y.txt")
        info.size = 6
        archive.addfile(info, io.BytesIO(b"tarred"))
    return folder


CASES = [
    ({}, "plain.txt"),
    ({"fname": "other"}, "plain.txt"),
    ({"fname": Path("other.x.y")}, "plain.txt"),
    ({"cache_subdir": "deep/er"}, "plain.txt"),
    ({"cache_subdir": ""}, "plain.txt"),
    ({"md5_hash": hashlib.md5(b"plain").hexdigest()}, "plain.txt"),
    ({"file_hash": hashlib.sha256(b"plain").hexdigest()}, "plain.txt"),
    ({"file_hash": hashlib.sha256(b"other").hexdigest()}, "plain.txt"),
    *(
        ({"fname": fname, **how}, origin)
        for fname in (None, "data", "data.zip", "data.tar.gz", "da.ta")
        for how in ({"extract": True}, {"untar": True}, {"extract": True, "archive_format": ["zip"]})
        for origin in ("a.b.zip", "t.tar.gz")
    ),
    ({"extract": True}, "plain.txt"),
    ({"extract": True, "archive_format": None}, "a.b.zip"),
    ({"fname": "a/b"}, "plain.txt"),
    ({"origin": None}, "plain.txt"),
]


def outcome(library, folder, arguments):
    """The path, all files in the cache, and whether there was a warning; or the class of the error."""
    folder.mkdir()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            path = library.utils.get_file(cache_dir=str(folder), **arguments)
        except ValueError as error:
            return type(error)
    files = {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}
    return str(Path(path).relative_to(folder)), type(path), files, [each.category for each in said]


@pytest.mark.parametrize(("arguments", "name"), CASES, ids=str)
def test_paths_and_files(tmp_path, origins, arguments, name):
    arguments = {"origin": (origins / name).as_uri()} | arguments
    assert outcome(lamina, tmp_path / "ours", arguments) == outcome(keras, tmp_path / "theirs", arguments)
