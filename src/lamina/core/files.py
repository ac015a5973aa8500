"""Files that are whole or not there: written beside the target, flushed to the disk, and renamed."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_write(path: Any) -> Iterator[Path]:
    """`with atomic_write(path) as temporary:` what the block writes to `temporary` becomes `path` at its end.

    Until then an old file at `path` stays as it is. On an error, Ctrl-C included, the temporary file is removed.
    A folder may be written as well: the block makes `temporary` a folder.
    """
    target = Path(os.path.realpath(path))  # through a link, to the file that it stands for
    if not target.parent.is_dir():
        raise FileNotFoundError(f'The folder "{target.parent}" must exist, so that "{target.name}" can be written.')
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        if target.is_file():
            shutil.copymode(target, temporary)
        for file in [temporary, *temporary.rglob("*")]:
            _to_disk(file)
        if temporary.is_dir() and target.is_dir():
            _swap_folders(temporary, target)
        else:
            os.replace(temporary, target)
    except BaseException:
        _remove(temporary)
        raise
    _to_disk(target.parent)


def _swap_folders(new: Path, old: Path) -> None:
    """A folder is not replaced in one step: for a moment the old one has another name."""
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


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
