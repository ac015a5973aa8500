"""Files that are whole or not there: written in a folder beside the target, flushed to the disk, and renamed."""

import ctypes
import hashlib
import os
import platform
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lamina.core import placement

try:
    import fcntl
except ImportError:  # Windows: what a killed program leaves there stays
    fcntl = None

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextmanager
def atomic_write(path: Any, together: bool = False) -> Iterator[Path]:
    """`with atomic_write(path) as temporary:` what the block writes to `temporary` becomes `path` at its end.

    If processes write it `together`, the first one's becomes `path`, and none goes on before.

    Until then an old file at `path` stays as it is. On an error, Ctrl-C included, the temporary file is removed.
    A folder may be written as well: the block makes `temporary` a folder.
    """
    with workplace(path) as (folder, target):
        temporary = folder / target.name
        yield temporary
        if not together or placement.is_first():
            put(temporary, target)
    if together:
        placement.barrier()


def write_whole(path: Any, data: bytes) -> None:
    """Write a file, all or nothing."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def workplace(path: Any, resume: bool = False) -> Iterator[tuple[Path, Path]]:
    """(a folder to write in, beside the file that `path` stands for; that file). It is removed at the end.

    A killed program leaves its folder behind. The next one that writes to the same name removes it: the folder is
    locked for as long as its writer lives. Those of other hosts, whose locks may not be seen here, are left alone.
    With `resume` it takes the folder over, with what is in it, and a writer that fails leaves its folder, too.
    """
    target = Path(os.path.realpath(path))  # through a link, to the file that it stands for
    if not target.parent.is_dir():
        raise FileNotFoundError(f'The folder "{target.parent}" must exist, so that "{target.name}" can be written.')
    left = [each for each in leftovers(target) if each.name.startswith(_prefix(target, _host()))]
    held = [(each, lock) for each in left if (lock := _locked_if_left(each)) is not None]
    folder, lock = held.pop() if resume and held else _claimed(target)
    for each in held:
        _release(*each)
    done = False
    try:
        yield folder, target
        done = True
    finally:
        _release(folder, lock, keep=resume and not done and any(folder.glob("*")))


def put(new: Path, target: Path) -> None:
    """Flush a written file or folder to the disk and give it the name `target`, whose old content it replaces."""
    if target.is_dir() and not new.is_dir():
        raise IsADirectoryError(f'"{target}" must be a file, to be written anew, got a folder; choose another name.')
    if target.is_file():
        shutil.copymode(target, new)
    for each in [new, *new.rglob("*")]:
        _to_disk(each)
    if new.is_dir() and target.is_dir():
        _swap_folders(new, target)
    else:
        os.replace(new, target)
    _to_disk(target.parent)


def leftovers(target: Path) -> list[Path]:
    """The folders of writers to `target`, on any host, that work or were killed."""
    prefix = _prefix(target)
    return [p for p in target.parent.iterdir() if p.name.startswith(prefix) and p.suffix == ".tmp" and p.is_dir()]


def mark_of(folder: Path) -> str:
    """What tells one writing from all others: 16 digits in the name of its folder."""
    return folder.stem.rpartition("-")[2]


def _prefix(target: Path, host: str = "") -> str:
    short = os.fsdecode(os.fsencode(target.name)[:120])  # names of files have at most 255 bytes
    return f".{short}.writing-{host}"


def _host() -> str:
    known = Path("/etc/machine-id")
    identity = known.read_bytes() if known.is_file() else b""
    return hashlib.blake2b(platform.node().encode() + identity, digest_size=4).hexdigest()


def _claimed(target: Path) -> tuple[Path, int | None]:
    """A new folder, locked where the file system has locks."""
    while True:
        folder = target.with_name(f"{_prefix(target, _host())}-{secrets.token_hex(8)}.tmp")
        folder.mkdir()
        with suppress(BlockingIOError, FileNotFoundError):  # another took it for left behind before it was locked
            return folder, _locked(folder)


def _locked(folder: Path) -> int | None:
    """The handle of a lock on the folder, `None` where there are none; an `OSError` if its writer lives or it went."""
    if fcntl is None:
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.stat(folder)
    except OSError as error:
        os.close(handle)
        if isinstance(error, (BlockingIOError, FileNotFoundError)):
            raise
        return None
    return handle


def _locked_if_left(folder: Path) -> int | None:
    with suppress(OSError):
        return _locked(folder)


def _release(folder: Path, lock: int | None, keep: bool = False) -> None:
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
    if lock is not None:
        os.close(lock)


def _swap_folders(new: Path, old: Path) -> None:
    """In one step where the system can; elsewhere the old one has another name for a moment."""
    exchange = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    if exchange and exchange(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(old), _RENAME_EXCHANGE) == 0:
        return
    aside = old.with_name(f".{old.name}.{secrets.token_hex(4)}.old")
    os.rename(old, aside)
    try:
        os.rename(new, old)
    except BaseException:
        os.rename(aside, old)
        raise
    shutil.rmtree(aside)


def _to_disk(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
