"""The watch starts a dead server again, and leaves an overloaded one alone."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from infra.clouds.local.root import Root
from infra.clouds.local.watch import FAILURES, GRACE_SECONDS, Watch

PROBE = {"name": "m", "path": "/v2/models/m/infer", "body": {}}


class Silent(BaseHTTPRequestHandler):
    """Gives no answer to an inference; says how many batches it has executed, `step` more each time."""

    step = 0
    executed = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.close_connection = True

    def do_GET(self) -> None:
        cls = type(self)
        cls.executed += cls.step
        known = self.path == "/v2/models/m/stats"
        body = json.dumps({"model_stats": [{"execution_count": cls.executed}]} if known else {}).encode()
        self.send_response(200 if known else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def port() -> Iterator[int]:
    Silent.step = Silent.executed = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def looks(port: int, folder: Path, count: int) -> list[str]:
    """What the watch finds of a grown-up server, look after look."""
    watch = Watch(Root(path=folder, stack="test"))
    watch.since[1] = time.monotonic() - 2 * GRACE_SECONDS
    return [watch.silent(1, {"name": "s", "ports": {"http": port}, "probes": [PROBE]}) for _ in range(count)]


def test_a_server_that_works_no_more_is_started_again(port: int, tmp_path: Path) -> None:
    found = looks(port, tmp_path, FAILURES)
    assert [bool(reason) for reason in found] == [False] * (FAILURES - 1) + [True]
    assert "gives no answer" in found[-1]


def test_an_overloaded_server_is_left_alone(port: int, tmp_path: Path) -> None:
    """Its probes wait in vain behind the others, and it executes: a new start would only lengthen the queue."""
    Silent.step = 5
    assert looks(port, tmp_path, 3 * FAILURES) == [""] * 3 * FAILURES


def test_one_that_stops_working_after_an_overload_is_started_again(port: int, tmp_path: Path) -> None:
    watch = Watch(Root(path=tmp_path, stack="test"))
    watch.since[1] = time.monotonic() - 2 * GRACE_SECONDS
    server: dict[str, object] = {"name": "s", "ports": {"http": port}, "probes": [PROBE]}
    Silent.step = 5
    assert [watch.silent(1, server) for _ in range(4)] == [""] * 4
    Silent.step = 0
    assert any(watch.silent(1, server) for _ in range(FAILURES + 1))
