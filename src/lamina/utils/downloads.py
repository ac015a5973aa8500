"""Files from the network, in a folder that keeps them: each is whole there, or it is not there."""

import contextlib
import hashlib
import http.client
import json
import os
import re
import tempfile
import urllib.error
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

from lamina.callbacks.progress import Progbar, say
from lamina.core import checks, errors, files
from lamina.core.budget import printable
from lamina.utils import archives

STALLED = 30.0  # seconds without a byte, after which a server is given up
_TWICE = 16  # bytes that are read again where a server does not say which version of a file it has
_DIGITS = {"md5": 32, "sha256": 64}


@errors.entry
def get_file(
    fname: Any = None, origin: str | None = None, untar: bool = False, md5_hash: str | None = None,
    file_hash: str | None = None, cache_subdir: Any = "datasets", hash_algorithm: str = "auto", extract: bool = False,
    archive_format: Any = "auto", cache_dir: Any = None, force_download: bool = False,
) -> str:  # fmt: skip
    """The path of the file at `origin`, or of what was in it; downloaded unless it is there.

    A download that broke off or was killed is gone on with by the next call, if the server has the same file still.

    Args:
        fname: its name in the cache; that in `origin` if not given.
        origin: a URL of http, https, ftp or file.
        untar, md5_hash: older names of `extract`, for tar archives only, and of `file_hash`.
        file_hash: the MD5 or SHA-256 of the file. One that has another is downloaded again, or refused.
        cache_subdir: a folder in the cache, or an absolute path.
        hash_algorithm: `"md5"`, `"sha256"`, or `"auto"`: by the number of digits.
        extract: whether to unpack it: `a.zip`, given as `fname`, into the folder `a_extracted`. The folder is named
            `fname` if that has no ending, or as in `origin`; the file itself is `..._archive` then.
        archive_format: `"tar"`, `"zip"`, a list of them to try, or `"auto"` for both.
        cache_dir: the cache, `$KERAS_HOME` or `~/.keras` if not given; a temporary folder if it cannot be written.
        force_download: whether to download what is there.

    Raises:
        ValueError: an argument is none of these, the file has another hash, or the archive is damaged or unsafe.
        OSError: the file did not come.
    """
    name, more = _name(fname, origin), extract or untar
    algorithm, digits = (hash_algorithm, file_hash) if md5_hash is None or file_hash else ("md5", md5_hash)
    expected = None if digits is None else _hash(str(digits).lower(), algorithm)
    given = archives.KINDS if archive_format == "auto" else archive_format or ()
    given = ["tar"] if untar else [given] if isinstance(given, str) else given
    kinds = [checks.one_of("get_file", "archive_format", kind, archives.KINDS) for kind in given]
    unpacked = f"{name.partition('.')[0]}_extracted" if fname and "." in name else name
    name = f"{name}_archive" if more and unpacked == name else name
    folder = _folder(cache_dir, cache_subdir, name)
    path, unpacked = os.path.join(folder, name), os.path.join(folder, unpacked)
    if os.path.isdir(path) or (more and os.path.isfile(unpacked)):
        raise ValueError(f'get_file: "{path}" must be a file, and "{unpacked}" a folder; remove it, or give a fname.')
    anew = force_download or not os.path.exists(path)
    if expected and not anew and _hash_of(path, expected[0]) != expected:
        say(f'"{path}" has not the {expected[0]} hash {expected[1]}, and is downloaded again.')
        anew = True
    if anew:
        _download(str(origin), path, expected)
    if more and not archives.extract(path, unpacked, kinds, anew):
        text = f'get_file: "{path}" must be an archive ({" or ".join(kinds) or "none was asked for"}), and is none'
        warnings.warn(f'{text}; "{unpacked}" was not made. To get the file as it is, leave extract out.', stacklevel=3)
    return unpacked if more else path


def _name(fname: Any, origin: Any) -> str:
    url = urlsplit(origin if isinstance(origin, str) else "")
    if url.scheme not in ("http", "https", "ftp", "file"):
        raise ValueError(f"get_file: origin must be a URL of http, https, ftp or file, got {origin!r}.")
    name = checks.path("get_file", "fname", fname) if fname else os.path.basename(url.path)
    if name in ("", ".", "..") or {os.sep, os.altsep, "\0"} & {*name}:
        raise ValueError(f"get_file: fname must be a name, and cache_dir its folder, got {name!r} for {origin!r}.")
    return name


def _hash(digits: str, algorithm: str) -> tuple[str, str]:
    checks.one_of("get_file", "hash_algorithm", algorithm, ("auto", *_DIGITS))
    for name, length in _DIGITS.items():
        if algorithm in ("auto", name) and re.fullmatch(f"[0-9a-f]{{{length}}}", digits):
            return name, digits
    raise ValueError(f"get_file: file_hash must have the hexadecimal digits of {_DIGITS}, got {digits!r}.")


def _hash_of(path: Any, algorithm: str) -> tuple[str, str]:
    with open(path, "rb") as file:
        return algorithm, hashlib.file_digest(file, algorithm).hexdigest()


def _folder(cache_dir: Any, cache_subdir: Any, name: str) -> str:
    """The folder of the cache that has the file `name`, or may be written."""
    home = cache_dir or os.environ.get("KERAS_HOME") or os.path.join("~", ".keras")
    home = os.path.expanduser(checks.path("get_file", "cache_dir", home))
    for base in (home, os.path.join(tempfile.gettempdir(), ".keras")):
        folder = os.path.join(base, cache_subdir)
        with contextlib.suppress(OSError):
            os.makedirs(folder, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK) or os.path.exists(os.path.join(folder, name)):
            return folder
    raise PermissionError(f'get_file: "{home}" must be a folder to write to, and is none; give another as cache_dir.')


def _download(origin: str, path: str, expected: tuple[str, str] | None) -> None:
    say(f"Downloading data from {origin}")
    try:
        with files.workplace(path, resume=True) as (folder, target):
            part = folder / "part"
            resumed = _fetch(origin, folder)
            if resumed and expected and _hash_of(part, expected[0]) != expected:  # perhaps halves of two files
                _fetch(origin, folder, resume=False)
            if not expected or (found := _hash_of(part, expected[0])) == expected:
                return files.put(part, target)
            part.unlink()
            (folder / "part.json").unlink()
            text = f'"{origin}" must have the {expected[0]} hash {expected[1]}, got {found[1]}, and was not kept'
            raise ValueError(f'get_file: {text}; put the right file at "{path}", or correct file_hash.')
    except (OSError, http.client.HTTPException) as error:
        text = f'get_file: "{origin}" must come to "{path}", and did not: {printable(" ".join(_reason(error).split()))}'
        raise OSError(f"{text}; call again to go on, or put the file there by hand.") from None


def _reason(error: Exception) -> str:
    reason: Any = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return f"nothing came for {STALLED:g} seconds"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection broke off"
    why = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return f"the server answers {error.code} {why}"
    return why


def _fetch(origin: str, folder: Path, resume: bool = True) -> bool:
    """Write what is at `origin`, or the rest of it, to the file `part` in `folder`; whether it was the rest."""
    part, record, known, first = folder / "part", folder / "part.json", {}, 0
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(record.read_text()) if resume else {}
        twice = _TWICE if (known.get("etag") or "W/").startswith("W/") else 0
        first = max(0, min(part.stat().st_size - twice, (known.get("length") or 2**63) - 1)) if known else 0
    headers = {"User-Agent": "lamina"} | ({"Range": f"bytes={first}-"} if first else {})
    try:
        response = urlopen(Request(quote(origin, "%/:=&?~#+!$,;'@()*[]"), headers=headers), timeout=STALLED)
    except urllib.error.HTTPError as error:
        if not first or error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        error.close()
        return _fetch(origin, folder, resume=False)
    with response, open(part, "a+b", buffering=0) as file:
        at, found = _described(response, origin)
        file.seek(first)
        if at and not (at == first and found == known and (again := file.read()) == response.read(len(again))):
            if not resume:
                raise OSError("the server sends another part than it was asked for")
            return _fetch(origin, folder, resume=False)
        if not at:
            file.truncate(0)
            record.write_text(json.dumps(found))
        size, length = file.seek(0, os.SEEK_END), found["length"]
        bar = Progbar(length and length - size, unit_name="byte")
        while chunk := response.read1(2**20):
            size += file.write(chunk)
            bar.add(len(chunk))
        if length and size != length:
            raise OSError(f"the connection broke off after {size:,} of {length:,} bytes")
        if not length:
            bar.update(size, finalize=True)
    return at > 0


def _described(response: Any, origin: str) -> tuple[int, dict[str, Any]]:
    """The place of the first byte that comes (-1: unknown), and what tells this version of the file from others."""
    span = re.match(r"bytes (\d+)-", response.headers.get("Content-Range") or "")
    at = 0 if response.status != http.client.PARTIAL_CONTENT else int(span[1]) if span else -1
    length = getattr(response, "length", None)
    etag, modified = response.headers.get("ETag"), response.headers.get("Last-Modified")
    return at, {"origin": origin, "etag": etag, "modified": modified, "length": length and length + at}
