"""A file is whole or it is the old one, whatever happens while it is written."""

import os
import signal
import stat
import subprocess
import sys
import textwrap

import pytest

from lamina.core.files import atomic_write, workplace, write_whole


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_writes_the_file_and_nothing_else(tmp_path):
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_old_file_is_there_until_the_end(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_error_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_killed_in_the_middle_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    code = f"""
        import os, signal
        from lamina.core.files import atomic_write, workplace
        with atomic_write({str(path)!r}) as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_everything_is_on_the_disk_before_the_rename(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (events.append("fsync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append("replace"), replace(a, b)))
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert events == ["fsync", "replace", "fsync"]


def test_keeps_the_permissions_and_writes_through_a_link(tmp_path):
    path, link = tmp_path / "a.txt", tmp_path / "link.txt"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(path)
    with atomic_write(link) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert link.is_symlink()


def test_replaces_a_folder(tmp_path):
    for text in ("old", "new"):
        with atomic_write(tmp_path / "f") as temporary:
            temporary.mkdir()
            (temporary / "a.txt").write_text(text)
    assert (tmp_path / "f" / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["f"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"), atomic_write(tmp_path / "missing" / "a.txt"):
        pass


def killed_writer(path):
    """A process that is killed while it writes."""
    code = f"""
        import os, signal
        from lamina.core.files import atomic_write, workplace
        with atomic_write({str(path)!r}) as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    killed_writer(tmp_path / "a.txt")
    killed_writer(tmp_path / "b.txt")
    assert len(names(tmp_path)) == 2
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    (left,) = (name for name in names(tmp_path) if name != "a.txt")
    assert left.startswith(".b.txt.")


def test_a_living_writer_is_left_alone(tmp_path):
    path = tmp_path / "a.txt"
    with atomic_write(path) as first:
        first.write_text("first")
        with atomic_write(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert names(tmp_path) == ["a.txt"]


def test_a_writer_on_another_host_is_left_alone(tmp_path, monkeypatch):
    killed_writer(tmp_path / "a.txt")
    monkeypatch.setattr("platform.node", lambda: "elsewhere")
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert len(names(tmp_path)) == 2


def test_without_locks_nothing_is_removed(tmp_path, monkeypatch):
    killed_writer(tmp_path / "a.txt")

    def flock(handle, operation):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", flock)
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert len(names(tmp_path)) == 2


def test_the_longest_of_names(tmp_path):
    path = tmp_path / ("é" * 125 + ".txt")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_work_that_failed_or_was_killed_may_be_gone_on_with(tmp_path, error):
    killed_writer(tmp_path / "a.txt")
    with pytest.raises(error), workplace(tmp_path / "a.txt", resume=True) as (folder, _):
        assert (folder / "a.txt").read_text() == "half"
        (folder / "a.txt").write_text("more")
        raise error
    with workplace(tmp_path / "a.txt", resume=True) as (folder, _):
        assert (folder / "a.txt").read_text() == "more"
        with workplace(tmp_path / "a.txt", resume=True) as (other, _):  # that of one who works is not taken
            assert names(other) == []
    assert names(tmp_path) == []
    with pytest.raises(error), workplace(tmp_path / "a.txt", resume=True):
        raise error
    assert names(tmp_path) == []


def test_a_file_is_not_put_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(IsADirectoryError, match=r'"\S+a.txt" must be a file, to be written anew, got a folder'):
        write_whole(tmp_path / "a.txt", b"new")
    assert names(tmp_path) == ["a.txt"]
