"""Archives from strangers: unpacked as a whole or not at all, and never outside of their folder."""

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
            tar = opened.getmembers() if kind == "tar" else []
            sizes = (
                {m.name: m.size for m in tar} if kind == "tar" else {m.filename: m.file_size for m in opened.infolist()}
            )
            if anew or not _is_done(folder, archive, sizes):
                _refuse_what_leads_elsewhere(sizes, tar)
                with workplace(folder) as (place, target):
                    opened.extractall(place / "new", **({"filter": "data"} if tar else {}))
                    _move(place / "new", target)
                    os.utime(target)
    except (UnsafeFileError, tarfile.FilterError) as error:
        rule = f"an archive must stay in its folder, and {error}; nothing was unpacked."
        raise UnsafeFileError(rule, archive) from None
    except Exception as error:
        if getattr(error, "errno", None):  # of the disk
            raise
        rule = f"must be a whole archive without a password, and {str(error).rstrip('.')}; download it again."
        raise CorruptFileError(rule, archive) from error
    return True


def _is_done(folder: str, archive: str, sizes: dict[str, int]) -> bool:
    if not os.path.isdir(folder) or os.stat(folder).st_mtime_ns < os.stat(archive).st_mtime_ns:
        return False
    paths = ((os.path.join(folder, name), size) for name, size in sizes.items())
    return all(os.path.lexists(path) and size in (0, os.path.getsize(path)) for path, size in paths)


def _refuse_what_leads_elsewhere(names: Iterable[str], tar: list[tarfile.TarInfo]) -> None:
    """No name does, and nothing is written through a link of the archive; `tarfile` checks where these lead."""
    files = {member.name for member in tar if member.isreg()}
    links = {PurePath(member.name.casefold()) for member in tar if member.issym()}  # on some systems case is none
    odd = {member.name for member in tar if member.islnk() and member.linkname not in files}
    odd |= {member.name for member in tar if not member.issym() and PurePath(member.name.casefold()) in links}
    for name in names:
        path = PurePath(name.casefold())
        if name in odd or path.anchor or ".." in path.parts or links & {*path.parents}:
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
