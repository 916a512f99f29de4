"""Predictions by entity id beside TensorFlow Serving: features from the store, then the model in the server next door.

Stands alone with by_id_work.py, the package `serving` (the look-up client) and wheels.zip beside it, in a stock Python
image. POST /v1/models/NAME_by_id:predict {"ids": [...]} (a version or a label may follow the name) answers as the
server does for NAME. GET /ready: 200 when it is known which models take ids; GET /metrics. SLIPWAY_BY_ID says: address,
port, upstream, models, value_bytes, store_url ($NAME is read from the environment), key_prefix, on_failure (error, or
default: zeros), deadline_ms, pause_ms, cache_entries, cache_ttl_s, request_s, workers. Nothing waits longer than
request_s for its turn, deadline_ms for the store and request_s for the server.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path

from by_id_work import ById, Refused  # beside this file

MOST_BYTES, IDLE_S = 8 << 20, 30


def unpacked(bundle: Path) -> str:
    """The clients out of their wheels; a restarted container finds them unpacked."""
    with zipfile.ZipFile(bundle) as wheels:
        digest = hashlib.sha256(repr(sorted(wheels.namelist())).encode()).hexdigest()[:12]
        target = Path(tempfile.gettempdir()) / f"slipway-{digest}"
        if not target.is_dir():
            part = Path(tempfile.mkdtemp(prefix="slipway-"))
            for name in wheels.namelist():
                with wheels.open(name) as wheel, zipfile.ZipFile(wheel) as files:
                    files.extractall(part)
            try:
                part.rename(target)
            except OSError:
                shutil.rmtree(part)  # somebody was faster
    return str(target)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S
    server: Server

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        if length > MOST_BYTES:
            self.close_connection = True
            return self._answer(413, json.dumps({"error": f"more than {MOST_BYTES} bytes"}).encode())
        body = self.rfile.read(length)
        return self._tried(lambda: self.server.by_id.predict(self.path, body))

    def do_GET(self) -> None:
        self._tried(lambda: self.server.by_id.status(self.path))

    def _tried(self, what: Callable[[], tuple[int, bytes]]) -> None:
        with self.server.counted():
            try:
                status, body = what()
            except Refused as e:
                status, body = e.status, json.dumps({"error": str(e)}).encode()
            self._answer(status, body)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if self.path == "/metrics" else "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.server.stopping:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are counted, not told."""


class Server(ThreadingHTTPServer):
    daemon_threads, block_on_close, request_queue_size = True, False, 128

    def __init__(self, by_id: ById) -> None:
        super().__init__((by_id.settings["address"], by_id.settings["port"]), Handler)
        self.by_id, self.stopping, self._running, self._lock = by_id, False, 0, threading.Lock()

    @contextmanager
    def counted(self) -> Iterator[None]:
        with self._lock:
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1

    def drain(self) -> None:
        """Nothing new; what is under way is answered."""
        self.stopping = True
        self.shutdown()
        end = time.monotonic() + float(self.by_id.settings["request_s"])
        while self._running and time.monotonic() < end:
            time.sleep(0.02)


def main() -> int:
    here = Path(__file__).resolve().parent
    sys.path[:0] = [str(here), *([unpacked(here / "wheels.zip")] if (here / "wheels.zip").exists() else [])]
    by_id = ById(json.loads(os.environ["SLIPWAY_BY_ID"]), import_module("serving.features"))
    server = Server(by_id)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    for target in (by_id.learn, server.serve_forever):
        threading.Thread(target=target, daemon=True).start()
    stopped.wait()
    server.drain()
    return 0


if __name__ == "__main__":
    sys.exit(main())
