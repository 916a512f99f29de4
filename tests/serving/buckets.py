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
        self.metadata: dict[tuple[str, str], dict[str, str]] = {}
        self.sessions: dict[str, tuple[str, str, bytes]] = {}  # of uploads that are under way
        self.breaks_after: int | None = None  # chunks, then the connection is gone
        self.chunks = 0
        self.asked: list[tuple[str, str, dict[str, str], object]] = []  # method, path, query, the JSON of the answer
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
        place = (bucket, unquote(rest[0]))
        found = self.server.objects.get(place)
        if found is None:
            return self._json(404, {"error": {"code": 404}})
        if query.get("alt") != "media":
            return self._json(200, {"name": place[1], "metadata": self.server.metadata.get(place, {})})
        return self._send(200, found[1])

    def do_POST(self) -> None:
        path, query = self._asked()
        body = self.rfile.read(int(self.headers["content-length"]))
        if self._refused():
            return
        place = (path.split("/")[5], query["name"])
        if query["uploadType"] == "resumable":
            name = str(len(self.server.sessions))
            self.server.sessions[name] = (*place, b"")
            self.server.metadata[place] = json.loads(body)["metadata"]
            self.server.asked.append((self.command, path, query, {}))
            self.send_response(200)
            self.send_header("Location", f"{self.server.url}/session/{name}")
            self.send_header("content-length", "0")
            self.end_headers()
            return
        self.server.puts += 1
        self.server.put(*place, body)
        self._json(200, {"name": query["name"]})

    def do_PUT(self) -> None:
        """A chunk of a resumable upload, or with `bytes */size` the question how much is there."""
        body = self.rfile.read(int(self.headers["content-length"]))
        name = self.path.rpartition("/")[2]
        if name not in self.server.sessions:
            return self._json(404, {})
        if body and self.server.breaks_after is not None and self.server.chunks >= self.server.breaks_after:
            self.close_connection = True
            return None
        bucket, key, held = self.server.sessions[name]
        span, _, size = self.headers["Content-Range"].removeprefix("bytes ").partition("/")
        if body:
            assert int(span.split("-")[0]) == len(held), "a chunk that does not follow"
            assert len(body) % (256 << 10) == 0 or len(held) + len(body) == int(size)
            held += body
            self.server.chunks += 1
            self.server.sessions[name] = (bucket, key, held)
        if len(held) == int(size):
            self.server.put(bucket, key, held)
            del self.server.sessions[name]
            return self._json(200, {"name": key})
        self.send_response(308)
        if held:
            self.send_header("Range", f"bytes=0-{len(held) - 1}")
        self.send_header("content-length", "0")
        self.end_headers()
        return None

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
                "updated": "2026-11-25T10:00:00Z",
            }
            for k in keys[start : start + PAGE]
        ]
        more = {"nextPageToken": str(start + PAGE)} if start + PAGE < len(keys) else {}
        self._json(200, {**({"items": items} if items else {}), **more})

    def _json(self, status: int, body: object) -> None:
        self.server.asked.append((self.command, *self._asked(), body if status == 200 else {}))
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
