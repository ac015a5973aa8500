"""`get_file`: a file is whole, or it is not there; what broke off is gone on with, and never with another file."""

import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from lamina.callbacks.progress import disable_interactive_logging, enable_interactive_logging
from lamina.utils import downloads, get_file

BODY = np.random.default_rng(0).bytes(300_000)
OTHER = np.random.default_rng(1).bytes(300_000)
SHA = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def body(site):
    site.body = BODY


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_downloaded_once(site, cache):
    path = get_file(origin=f"{site.url}/a/b.bin?c=d")
    assert path == str(cache / "b.bin") and Path(path).read_bytes() == BODY
    assert get_file("b.bin", f"{site.url}/a/b.bin") == path
    assert site.asked == [None] and names(cache) == ["b.bin"]
    site.body = OTHER
    assert get_file("b.bin", f"{site.url}/a/b.bin", force_download=True) == path
    assert Path(path).read_bytes() == OTHER


@pytest.mark.parametrize(
    "arguments",
    [
        {"file_hash": SHA},
        {"file_hash": SHA.upper(), "hash_algorithm": "sha256"},
        {"md5_hash": hashlib.md5(BODY).hexdigest()},
        {"file_hash": hashlib.md5(BODY).hexdigest()},
    ],
)
def test_a_hash_refuses_another_file_and_heals_an_old_one(site, cache, arguments):
    cache.mkdir(parents=True)
    (cache / "b").write_bytes(b"old")
    site.body = OTHER
    with pytest.raises(
        ValueError, match=r'must have the (md5|sha256) hash \w+, got \w+, and was not kept; .*/b"'
    ) as error:
        get_file("b", f"{site.url}/b", **arguments)
    assert "\n" not in str(error.value) and f"{site.url}/b" in str(error.value)
    assert (cache / "b").read_bytes() == b"old" and names(cache) == ["b"]
    site.body = BODY
    assert Path(get_file("b", f"{site.url}/b", **arguments)).read_bytes() == BODY
    get_file("b", f"{site.url}/b", **arguments)
    assert len(site.asked) == 2


def failed(site, **arguments):
    with pytest.raises(OSError) as error:
        get_file("b", f"{site.url}/b", **arguments)
    assert "\n" not in str(error.value) and error.value.__cause__ is None
    return str(error.value)


@pytest.mark.parametrize("etag", ['"1"', 'W/"1"', None])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_download_that_broke_off_is_gone_on_with(site, cache, etag, chunked):
    site.etag, site.plans = etag, [{"cut": 100_000, "chunked": chunked}]
    said = failed(site)
    assert f'"{site.url}/b" must come to "{cache / "b"}", and did not: ' in said
    assert chunked or "the connection broke off after 100,000 of 300,000 bytes" in said
    assert not (cache / "b").exists()
    assert Path(get_file("b", f"{site.url}/b")).read_bytes() == BODY
    assert site.asked[:2] == [None, "bytes=100000-" if etag == '"1"' else "bytes=99984-"]
    assert len(site.asked) == (3 if chunked else 2)  # nobody knew how long it is
    assert names(cache) == ["b"]


@pytest.mark.parametrize(
    ("etag", "plan"),
    [
        ('"1"', {"etag": '"2"'}),
        (None, {}),
        ('"1"', {"ranges": False}),
        ('"1"', {"status": 416}),
        ('"1"', {"start": 50_000}),
    ],
)
def test_nothing_is_made_of_halves_of_two_files(site, cache, etag, plan):
    site.etag, site.plans = etag, [{"cut": 100_000}, plan, {"etag": plan.get("etag", etag)}]
    failed(site)
    site.body = OTHER
    assert Path(get_file("b", f"{site.url}/b")).read_bytes() == OTHER


def test_a_server_that_is_tired_costs_nothing(site):
    site.plans = [{"cut": 100_000}, {"status": 503}]
    failed(site)
    assert "503 Service Unavailable" in failed(site)
    assert Path(get_file("b", f"{site.url}/b")).read_bytes() == BODY
    assert site.asked == [None, "bytes=100000-", "bytes=100000-"]


def test_a_hash_finds_halves_of_two_files_that_look_the_same(site):
    site.plans = [{"cut": 100_000}]
    failed(site)
    site.body = OTHER
    path = get_file("b", f"{site.url}/b", file_hash=hashlib.sha256(OTHER).hexdigest())
    assert Path(path).read_bytes() == OTHER and site.asked == [None, "bytes=100000-", None]


def test_another_origin_does_not_go_on_with_a_file(site):
    site.plans = [{"cut": 100_000}]
    failed(site)
    site.body = OTHER
    assert Path(get_file("b", f"{site.url}/elsewhere/b")).read_bytes() == OTHER


def test_a_full_disk_leaves_no_file_and_the_next_call_goes_on(site, cache, monkeypatch):
    def full(*paths):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("lamina.utils.downloads.files.put", full)
        assert "did not: No space left on device; call again" in failed(site)
    assert not (cache / "b").exists()
    assert Path(get_file("b", f"{site.url}/b")).read_bytes() == BODY
    assert site.asked == [None, "bytes=299999-"]


def test_a_server_that_sends_parts_nobody_asked_for(site):
    site.plans = [{"cut": 100_000}, {"status": 206}, {"status": 206}]
    failed(site)
    assert "the server sends another part than it was asked for" in failed(site)


@pytest.mark.parametrize("plan", [{"length": 400_000}, {"cut": 10}, {"cut": 0}])
def test_a_file_that_is_shorter_than_announced_is_refused(site, cache, plan):
    site.plans = [plan]
    assert "broke off" in failed(site)
    assert not (cache / "b").exists()


def test_a_file_of_unknown_or_no_length(site, cache):
    site.plans = [{"length": None}, {"chunked": True}]
    for name in ("b", "c"):
        assert Path(get_file(name, f"{site.url}/b")).read_bytes() == BODY
    site.body = b""
    assert Path(get_file("d", f"{site.url}/d")).read_bytes() == b""
    assert names(cache) == ["b", "c", "d"]


def test_a_server_that_stalls_is_given_up(site, monkeypatch):
    monkeypatch.setattr(downloads, "STALLED", 0.2)
    site.plans = [{"stall": 1000}]
    assert "did not: nothing came for 0.2 seconds; call again to go on, or put the file there by hand." in failed(site)
    assert Path(get_file("b", f"{site.url}/b")).read_bytes() == BODY
    assert site.asked == [None, "bytes=1000-"]


@pytest.mark.parametrize(("status", "why"), [(404, "404 Not Found"), (500, "500 Internal Server Error")])
def test_what_the_server_answers_is_said(site, cache, status, why):
    site.plans = [{"status": status}]
    assert f"did not: the server answers {why}; " in failed(site)
    assert names(cache) == []


def test_redirects_are_followed(site):
    site.plans = [{"status": 302, "to": "/there"}, {"status": 307, "to": f"{site.url}/b"}, {"cut": 5}]
    failed(site)
    site.plans = [{"status": 302, "to": "/there"}]
    assert Path(get_file("b", f"{site.url}/b")).read_bytes() == BODY
    site.plans = [{"status": 302, "to": "/b"}] * 20
    assert "302" in failed(site, force_download=True)


def test_a_redirect_leads_to_no_file_of_this_machine(site, tmp_path):
    (tmp_path / "secret").write_text("secret")
    site.plans = [{"status": 302, "to": f"file://{tmp_path}/secret"}]
    assert "302" in failed(site)


def test_no_network(cache, monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    for url, why in [("http://127.0.0.1:9/b", "Connection refused"), ("http://a.b/b", "Name or service not known")]:
        with pytest.raises(OSError, match=f'get_file: "{url}" must come to "{cache / "b"}", and did not: {why};'):
            get_file("b", url)
        monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert names(cache) == []


def test_files_of_this_machine(tmp_path, cache):
    (tmp_path / "ä b.txt").write_bytes(BODY)
    assert Path(get_file(origin=(tmp_path / "ä b.txt").as_uri())).read_bytes() == BODY
    assert Path(get_file("c", f"file://{tmp_path}/ä b.txt")).read_bytes() == BODY
    with pytest.raises(OSError, match="No such file or directory; call again"):
        get_file("d", (tmp_path / "missing").as_uri())


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({}, "origin must be a URL"),
        ({"origin": "b.txt"}, "origin must be a URL"),
        ({"origin": Path("b.txt")}, "origin must be a URL"),
        ({"origin": "gopher://a/b"}, "origin must be a URL"),
        ({"origin": "http://a/"}, "fname must be a name"),
        ({"origin": "http://a/.."}, "fname must be a name"),
        ({"fname": "a/b", "origin": "http://a/b"}, "fname must be a name, and cache_dir its folder"),
        ({"fname": 3, "origin": "http://a/b"}, "fname must be a path"),
        ({"origin": "http://a/b", "file_hash": "abc"}, "file_hash must have the hexadecimal digits"),
        ({"origin": "http://a/b", "file_hash": SHA, "hash_algorithm": "md5"}, "file_hash must have"),
        ({"origin": "http://a/b", "file_hash": SHA, "hash_algorithm": "sha1"}, "hash_algorithm must be one of"),
        ({"origin": "http://a/b", "archive_format": "rar"}, "archive_format must be 'tar' or 'zip'"),
        ({"origin": "http://a/b", "cache_dir": 3}, "cache_dir must be a path"),
    ],
)
def test_mistakes(arguments, rule):
    with pytest.raises(ValueError, match=f"^get_file: {re.escape(rule)}"):
        get_file(**arguments)


def test_places(site, tmp_path, monkeypatch):
    def place(**arguments):
        return get_file("b", f"{site.url}/b", **arguments)

    assert place(cache_subdir="x") == str(tmp_path / "home" / "x" / "b")
    assert place(cache_subdir=tmp_path / "y") == str(tmp_path / "y" / "b")
    assert place(cache_dir=tmp_path / "z") == str(tmp_path / "z" / "datasets" / "b")
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert place() == str(tmp_path / ".keras" / "datasets" / "b")
    assert place(cache_dir="~/w") == str(tmp_path / "w" / "datasets" / "b")


def test_a_cache_that_cannot_be_written_is_read_but_for_the_rest_there_is_another(site, tmp_path, monkeypatch):
    get_file("b", f"{site.url}/b")
    writable, home = os.access, str(tmp_path / "home")
    monkeypatch.setattr(os, "access", lambda path, mode: not path.startswith(home) and writable(path, mode))
    assert get_file("b", f"{site.url}/b") == str(tmp_path / "home" / "datasets" / "b")
    assert get_file("c", f"{site.url}/c") == str(tmp_path / "temporary" / ".keras" / "datasets" / "c")
    (tmp_path / "plain").touch()  # not even a folder
    assert get_file("c", f"{site.url}/c", cache_dir=tmp_path / "plain").startswith(str(tmp_path / "temporary"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="must be a folder to write to"):
        get_file("d", f"{site.url}/d")


PROGRAM = """
    import sys
    from lamina.utils import get_file
    print(get_file("b", sys.argv[1] + "/b"))
"""


def program(site, cache):
    environment = os.environ | {"KERAS_HOME": str(cache.parent)}
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), site.url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)


def test_what_a_killed_program_has_is_gone_on_with(site, cache):
    site.plans = [{"stall": 200_000}]
    process = program(site, cache)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size == 200_000 for path in cache.glob(".b.*/part")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    # One that works is left alone by another, which does all by itself.
    assert Path(get_file("b", f"{site.url}/b")).read_bytes() == BODY
    (cache / "b").unlink()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert Path(get_file("b", f"{site.url}/b")).read_bytes() == BODY
    assert site.asked == [None, None, "bytes=200000-"]
    assert names(cache) == ["b"]


def test_many_at_once(site, cache):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(Path(get_file("b", f"{site.url}/b", file_hash=SHA)).read_bytes()))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [BODY] * 8 and names(cache) == ["b"]


def test_progress_in_a_file(site, capsys):
    site.body = bytes(3_000_000)
    get_file("b", f"{site.url}/b")
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"Downloading data from {site.url}/b"
    assert re.fullmatch(r"3\.0/3\.0 MB ━{20} 0s \d+\.\d MB/s", said[1]) and len(said) == 2
    site.plans = [{"length": None}]
    get_file("c", f"{site.url}/b")
    assert re.fullmatch(r"3\.0 MB 0s \d+\.\d MB/s", capsys.readouterr().out.splitlines()[1])
    disable_interactive_logging()
    get_file("d", f"{site.url}/b")
    enable_interactive_logging()
    assert capsys.readouterr().out == ""
