"""`RemoteMonitor` against a server of its own."""

import http.server
import json
import threading
import urllib.parse

import numpy as np
import pytest

from lamina.callbacks import RemoteMonitor


@pytest.fixture
def server():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self.server.met.append((self.path, dict(self.headers), body))
            self.send_response(500 if self.path == "/broken" else 200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.met = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def root(server):
    return f"http://127.0.0.1:{server.server_port}"


LOGS = {"loss": 0.5, "acc": np.float32(0.25), "each": np.array([1.0, 2.0])}
SENT = {"epoch": 3, "loss": 0.5, "acc": 0.25, "each": [1.0, 2.0]}


def test_a_form(server):
    RemoteMonitor(root(server), field="f", headers={"X-Run": "7"}).on_epoch_end(3, LOGS)
    ((path, headers, body),) = server.met
    assert path == "/publish/epoch/end/" and headers["X-Run"] == "7"
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert json.loads(urllib.parse.parse_qs(body)["f"][0]) == SENT


def test_json(server):
    RemoteMonitor(root(server), path="/in", send_as_json=True).on_epoch_end(3, LOGS)
    ((path, headers, body),) = server.met
    assert (path, headers["Content-Type"], json.loads(body)) == ("/in", "application/json", SENT)


def test_a_server_that_is_away(server):
    server.server_close()
    with pytest.warns(UserWarning, match="Could not reach RemoteMonitor root server at http"):
        RemoteMonitor(root(server)).on_epoch_end(0, LOGS)


def test_a_server_that_is_broken(server):
    with pytest.warns(UserWarning, match="500"):
        RemoteMonitor(root(server), path="/broken").on_epoch_end(0, LOGS)


def test_an_address_of_another_kind():
    with pytest.raises(ValueError, match="root must start with http"):
        RemoteMonitor("file:///etc")
