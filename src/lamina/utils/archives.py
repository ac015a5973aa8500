"""Archives from strangers: unpacked as a whole or not at all, and never outside of their folder."""

from __future__ import annotations

import contextlib
import os
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Any

from lamina.core.budget import CorruptFileError, UnsafeFileError
from lamina.core.files import workplace

KINDS: dict[str, Any] = {"tar": (tarfile.is_tarfile, tarfile.open), "zip": (zipfile.is_zipfile, zipfile.ZipFile)}


def extract(archive: str, folder: str, kinds: Iterable[str], anew: bool) -> bool:
    """Unpack `archive` beside `folder`, then move all into it; `False` if it is none of these kinds.

    Files of an old folder stay there. Nothing is done, unless `anew`, to a younger folder that has all members.
    """
    kind = next((kind for kind in kinds if KINDS[kind][0](archive)), None)
    if kind is None:
        return False
    try:
        with KINDS[kind][1](archive) as opened:
            if kind == "tar":
                members = [(member, member.name, member.size) for member in opened]
            else:
                members = [(member, member.filename, member.file_size) for member in opened.infolist()]
            if not anew and _is_done(folder, archive, members):
                return True
            _refuse_what_leads_elsewhere(members)
            with workplace(folder) as (place, target):
                opened.extractall(place / "new", **({"filter": "data"} if kind == "tar" else {}))
                _move(place / "new", target)
                os.utime(target)
    except (UnsafeFileError, tarfile.FilterError) as error:
        raise UnsafeFileError(
            f"an archive must stay in its folder, and {error}; nothing was unpacked.", archive
        ) from None
    except Exception as error:
        if getattr(error, "errno", None):  # of the disk
            raise
        rule = f"must be a whole archive without a password, and {str(error).rstrip('.')}; download it again."
        raise CorruptFileError(rule, archive) from error
    return True


def _is_done(folder: str, archive: str, members: list[tuple[Any, str, int]]) -> bool:
    if not os.path.isdir(folder) or os.stat(folder).st_mtime_ns < os.stat(archive).st_mtime_ns:
        return False
    paths = ((os.path.join(folder, name), size) for _, name, size in members)
    return all(os.path.lexists(path) and size in (0, os.path.getsize(path)) for path, size in paths)


def _refuse_what_leads_elsewhere(members: list[tuple[Any, str, int]]) -> None:
    """No name does, and none lies behind a link of the archive; where these lead is checked by `tarfile`."""
    tar = [member for member, _, _ in members if isinstance(member, tarfile.TarInfo)]
    links = {PurePath(member.name.casefold()) for member in tar if member.issym()}
    files = {member.name for member in tar if member.isreg()}
    for member, name, _ in members:
        path = PurePath(name.casefold())  # on some systems the same
        behind = links & {*path.parents} or (path in links and not member.issym())
        if (
            path.anchor
            or ".." in path.parts
            or behind
            or (member in tar and member.islnk() and member.linkname not in files)
        ):
            raise UnsafeFileError(f"{name!r} would not")


def _move(new: Path, target: Path) -> None:
    """Give an unpacked folder its name; into an old one its files go one by one."""
    with contextlib.suppress(OSError):
        return os.rename(new, target)
    for at, folders, names in os.walk(new):
        to = target / Path(at).relative_to(new)
        to.mkdir(exist_ok=True)
        for name in [*names, *(each for each in folders if (Path(at) / each).is_symlink())]:
            os.replace(Path(at) / name, to / name)
