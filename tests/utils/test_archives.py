"""`get_file(extract=True)`: all of an archive is in its folder, or nothing is; and nothing is anywhere else."""

import io
import os
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lamina.core.budget import CorruptFileError, UnsafeFileError
from lamina.utils import get_file

FILES = {"a.txt": b"first", "deep/er/b.txt": b"second", "empty": b""}


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(members, mode="w:gz"):
    """An archive of members: names, and contents or other attributes of a `TarInfo`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in members:
            info, data = tarfile.TarInfo(name), content if isinstance(content, bytes) else b""
            attributes = {"size": len(data)} if isinstance(content, bytes) else content
            for key, value in attributes.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def link(to):
    return {"type": tarfile.SYMTYPE, "linkname": to}


def hard_link(to):
    return {"type": tarfile.LNKTYPE, "linkname": to}


def found_in(folder):
    paths = (path for path in Path(folder).rglob("*") if not path.is_dir())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


ARCHIVES = {"zip": zipped(FILES), **{kind: tarred(FILES.items(), f"w:{kind}") for kind in ("", "gz", "bz2", "xz")}}


@pytest.mark.parametrize("kind", ARCHIVES)
@pytest.mark.parametrize(
    ("fname", "folder", "archive"),
    [
        ("data.tar.gz", "data_extracted", "data.tar.gz"),
        ("data", "data", "data_archive"),
        (None, "x.tgz", "x.tgz_archive"),
    ],
)
def test_all_is_in_the_folder(site, cache, kind, fname, folder, archive):
    site.body = ARCHIVES[kind]
    path = get_file(fname, f"{site.url}/x.tgz", extract=True)
    assert path == str(cache / folder) and found_in(path) == FILES
    assert names(cache) == sorted([folder, archive])


def test_untar_and_formats(site, cache):
    site.body = ARCHIVES["gz"]
    for arguments in ({"untar": True}, {"extract": True, "archive_format": ["zip", "tar"]}):
        assert found_in(get_file(f"{len(arguments)}", f"{site.url}/x", **arguments)) == FILES
    site.body = ARCHIVES["zip"]
    for i, arguments in enumerate(
        [{"untar": True}, {"extract": True, "archive_format": "tar"}, {"extract": True, "archive_format": None}]
    ):
        with pytest.warns(UserWarning, match=r"get_file: .*_archive\" must be an archive .*, and is none"):
            path = get_file(f"none{i}", f"{site.url}/x", **arguments)
        assert path == str(cache / f"none{i}") and not os.path.exists(path)


def test_what_is_there_is_not_unpacked_again(site):
    site.body = ARCHIVES["gz"]
    path = Path(get_file("data", f"{site.url}/x", extract=True))
    (path / "a.txt").write_bytes(b"FIRST")  # as long
    get_file("data", f"{site.url}/x", extract=True)
    assert found_in(path) == FILES | {"a.txt": b"FIRST"} and len(site.asked) == 1


@pytest.mark.parametrize("damage", [lambda p: (p / "a.txt").unlink(), lambda p: (p / "a.txt").write_bytes(b"f")])
def test_a_folder_that_lacks_something_is_filled_again_and_own_files_stay(site, damage):
    site.body = ARCHIVES["zip"]
    path = Path(get_file("data", f"{site.url}/x", extract=True))
    (path / "deep" / "mine").write_bytes(b"mine")
    damage(path)
    get_file("data", f"{site.url}/x", extract=True)
    assert found_in(path) == FILES | {"deep/mine": b"mine"} and len(site.asked) == 1


@pytest.mark.parametrize("kind", ["zip", "gz"])
def test_a_new_archive_takes_the_place_of_an_old_one(site, kind):
    site.body = ARCHIVES[kind]
    path = get_file("data", f"{site.url}/x", extract=True)
    new = FILES | {"a.txt": b"other"}
    site.body = zipped(new) if kind == "zip" else tarred(new.items())
    assert found_in(get_file("data", f"{site.url}/x", extract=True, force_download=True)) == new
    later = os.stat(path).st_mtime + 10  # an archive that came after the folder, from a program that was killed then
    Path(f"{path}_archive").write_bytes(ARCHIVES[kind])
    os.utime(f"{path}_archive", (later, later))
    assert found_in(get_file("data", f"{site.url}/x", extract=True)) == FILES


def test_links_inside_of_the_folder(site):
    members = [("d/a", b"1"), ("d/s", link("a")), ("h", hard_link("d/a")), ("up", link("d"))]
    site.body = tarred(members)
    for _ in range(2):
        path = Path(get_file("data", f"{site.url}/x", extract=True, force_download=True))
        assert found_in(path) == {"d/a": b"1", "d/s": b"1", "h": b"1"}
        assert os.readlink(path / "up") == "d" and os.readlink(path / "d" / "s") == "a"


BAD = {
    "up": [("ok", b"1"), ("../evil", b"evil")],
    "up inside": [("a/../../evil", b"evil")],
    "absolute": [("{outside}/evil", b"evil")],
    "link up": [("l", link("..")), ("l/evil", b"evil")],
    "link elsewhere": [("l", link("{outside}")), ("l/evil", b"evil")],
    "a lone link elsewhere": [("l", link("../../../secret"))],
    "a link in the place of a file": [("d/x", b"1"), ("l", link("d/x")), ("l", b"evil")],
    "behind a link inside": [("d", {"type": tarfile.DIRTYPE, "mode": 0o755}), ("l", link("d")), ("l/evil", b"evil")],
    "behind a link in another case": [("L", link(".")), ("l/evil", b"evil")],
    "hard link elsewhere": [("h", hard_link("{outside}/secret"))],
    "hard link up": [("h", hard_link("../../secret"))],
    "hard link to a link": [("l", link("a")), ("a", b"1"), ("h", hard_link("l"))],
    "device": [("d", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3})],
    "pipe": [("p", {"type": tarfile.FIFOTYPE})],
}


@pytest.mark.parametrize("members", BAD.values(), ids=BAD)
def test_an_archive_that_leads_elsewhere_is_refused(site, cache, tmp_path, members):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")

    def placed(value):
        if isinstance(value, dict):
            return {key: placed(each) for key, each in value.items()}
        return value.format(outside=outside) if isinstance(value, str) else value

    site.body = tarred([(placed(name), placed(content)) for name, content in members])
    with pytest.raises(UnsafeFileError, match=r"data_archive: an archive must stay in its folder") as error:
        get_file("data", f"{site.url}/x", extract=True)
    assert "\n" not in str(error.value)
    assert names(cache) == ["data_archive"] and names(outside) == ["secret"]
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil"])
def test_a_zip_that_leads_elsewhere_is_refused(site, cache, tmp_path, name):
    site.body = zipped(FILES | {name: b"evil"})
    with pytest.raises(UnsafeFileError, match="an archive must stay in its folder"):
        get_file("data", f"{site.url}/x", extract=True)
    assert names(cache) == ["data_archive"] and not list(tmp_path.rglob("evil"))


def test_a_link_in_a_zip_is_a_file(site):
    info = zipfile.ZipInfo("l")
    info.external_attr = 0o120777 << 16
    site.body = zipped({info: b"/etc/passwd"})
    assert not (Path(get_file("data", f"{site.url}/x", extract=True)) / "l").is_symlink()


LARGE = {"a": np.random.default_rng(0).bytes(100_000), "b": np.random.default_rng(1).bytes(100_000)}
LOCKED = zipped({"a": b"1"})
FLAGS = LOCKED.index(b"PK\1\2") + 8
LOCKED = LOCKED[:FLAGS] + b"\1" + LOCKED[FLAGS + 1 :]


@pytest.mark.parametrize(
    "body",
    [
        *(tarred(LARGE.items(), f"w:{kind}")[:-50_000] for kind in ("", "gz", "xz")),
        zipped(LARGE).replace(LARGE["a"][:9], LARGE["b"][:9]),
        LOCKED,
    ],
    ids=["tar", "gz", "xz", "zip", "password"],
)
def test_a_damaged_archive_is_refused_and_the_old_folder_stays(site, cache, body):
    site.body = ARCHIVES["gz"]
    path = get_file("data", f"{site.url}/x", extract=True)
    site.body = body
    with pytest.raises(CorruptFileError, match="data_archive: must be a whole archive") as error:
        get_file("data", f"{site.url}/x", extract=True, force_download=True)
    assert "\n" not in str(error.value)
    assert found_in(path) == FILES and names(cache) == ["data", "data_archive"]


@pytest.mark.parametrize("kind", ["zip", "gz"])
def test_a_full_disk_leaves_no_folder(site, cache, monkeypatch, kind):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    site.body = ARCHIVES[kind]
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr("shutil.copyfileobj" if kind == "zip" else "tarfile.copyfileobj", full)
        get_file("data", f"{site.url}/x", extract=True)
    assert names(cache) == ["data_archive"]
    assert found_in(get_file("data", f"{site.url}/x", extract=True)) == FILES and len(site.asked) == 1


def test_a_file_in_the_place_of_the_folder(site, cache):
    site.body = ARCHIVES["zip"]
    get_file("data", f"{site.url}/x")
    with pytest.raises(ValueError, match=r'data_archive" must be a file, and ".*/data" a folder; remove it'):
        get_file("data", f"{site.url}/x", extract=True)
    assert (cache / "data").read_bytes() == site.body


def test_many_at_once(site, cache):
    site.body, found = ARCHIVES["gz"], []
    threads = [
        threading.Thread(target=lambda: found.append(found_in(get_file("data", f"{site.url}/x", extract=True))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [FILES] * 8 and names(cache) == ["data", "data_archive"]
