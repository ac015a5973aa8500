"""A web server on this machine that does what a test says: breaks off, stalls, lies, redirects, ignores ranges."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Site:
    """What one server sends: `plans` holds, for each request to come, in what it differs from a good one.

    A plan may have: `status`; `to`, where it leads; `cut`, after how many bytes it breaks off; `stall`, after how many
    it waits for the end of the test; `length` or `etag`, instead of the true ones; `ranges=False`; `start`, of the part
    that it sends instead of the one that it was asked for; `chunked`.
    """

    def __init__(self):
        self.body, self.etag, self.plans, self.asked, self.over = b"", '"1"', [], [], threading.Event()
        self.lock = threading.Lock()

    def next_plan(self, handler):
        with self.lock:
            self.asked.append(handler.headers["Range"])
            return self.plans.pop(0) if self.plans else {}

    def answer(self, handler):
        plan = self.next_plan(handler)
        status = plan.get("status", 200)
        body, etag = self.body if status < 300 else b"", plan.get("etag", self.etag)
        start, ranged = 0, plan.get("ranges", True) and handler.headers["Range"]
        if ranged and status == 200:
            start = plan.get("start", int(ranged.removeprefix("bytes=").removesuffix("-")))
        handler.send_response(206 if ranged and status == 200 else status)
        if "to" in plan:
            handler.send_header("Location", plan["to"])
        if ranged and status == 200:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if etag:
            handler.send_header("ETag", etag)
        chunked = plan.get("chunked", False)
        if chunked:
            handler.send_header("Transfer-Encoding", "chunked")
        elif plan.get("length", 0) is not None:
            handler.send_header("Content-Length", str(plan.get("length", 0) or len(body) - start))
        handler.end_headers()
        sent = body[start:][: plan.get("cut", plan.get("stall"))]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(sent), sent) if chunked else sent)
        if chunked and "cut" not in plan:
            handler.wfile.write(b"0\r\n\r\n")
        if "stall" in plan:
            handler.wfile.flush()
            self.over.wait(60)


@pytest.fixture
def site(cache):
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            site.answer(self)
            self.close_connection = True

        def log_message(self, *args):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads, request_queue_size = True, 32

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    yield site
    site.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The cache of this test, as `KERAS_HOME` says; the folder for temporary files is another."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    return tmp_path / "home" / "datasets"
