"""A Google Cloud Storage of this machine for the scripts' tests: listing in pages, media, upload, tokens."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = 3
TOKEN = "token-of-the-pod"


class Storage(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[tuple[str, str], tuple[int, bytes]] = {}
        self.failures = 0  # so many answers are 503 before the next good one
        self.puts = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def put(self, bucket: str, key: str, content: bytes) -> None:
        generation = self.objects.get((bucket, key), (0, b""))[0] + 1
        self.objects[bucket, key] = (generation, content)

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        return sorted(k for b, k in self.objects if b == bucket and k.startswith(prefix))

    def content(self, bucket: str, key: str) -> bytes:
        return self.objects[bucket, key][1]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Storage

    def do_GET(self) -> None:
        path, query = self._asked()
        if path == "/computeMetadata/v1/instance/service-accounts/default/token":
            good = self.headers["Metadata-Flavor"] == "Google"
            return self._json(200 if good else 403, {"access_token": TOKEN, "expires_in": 3599})
        if self._refused():
            return None
        _, _, _, _, bucket, _, *rest = path.split("/")
        if not rest:
            return self._list(bucket, query)
        found = self.server.objects.get((bucket, unquote(rest[0])))
        if found is None:
            return self._json(404, {"error": {"code": 404}})
        return self._send(200, found[1])

    def do_POST(self) -> None:
        path, query = self._asked()
        body = self.rfile.read(int(self.headers["content-length"]))
        if self._refused():
            return
        self.server.puts += 1
        self.server.put(path.split("/")[5], query["name"], body)
        self._json(200, {"name": query["name"]})

    def _asked(self) -> tuple[str, dict[str, str]]:
        parts = urlsplit(self.path)
        return parts.path, {k: v[0] for k, v in parse_qs(parts.query).items()}

    def _refused(self) -> bool:
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._json(401, {"error": {"code": 401}})
            return True
        if self.server.failures:
            self.server.failures -= 1
            self._json(503, {"error": {"code": 503}})
            return True
        return False

    def _list(self, bucket: str, query: dict[str, str]) -> None:
        keys = self.server.keys(bucket, query.get("prefix", ""))
        start = int(query.get("pageToken", "0"))
        items = [
            {
                "name": k,
                "size": str(len(self.server.content(bucket, k))),
                "generation": str(self.server.objects[bucket, k][0]),
            }
            for k in keys[start : start + PAGE]
        ]
        more = {"nextPageToken": str(start + PAGE)} if start + PAGE < len(keys) else {}
        self._json(200, {**({"items": items} if items else {}), **more})

    def _json(self, status: int, body: object) -> None:
        self._send(status, json.dumps(body).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def storage() -> Iterator[Storage]:
    server = Storage()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
