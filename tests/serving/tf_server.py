"""A server with TensorFlow Serving's REST interface in this process; its predictions are the sums of the rows."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def metadata(**inputs: tuple[str, list[int]]) -> dict[str, object]:
    """As the server gives it: sizes are text."""
    given = {
        name: {
            "dtype": dtype,
            "tensor_shape": {"dim": [{"size": str(d), "name": ""} for d in dims], "unknown_rank": False},
            "name": f"serving_default_{name}:0",
        }
        for name, (dtype, dims) in inputs.items()
    }
    signature = {"inputs": given, "outputs": {}, "method_name": "tensorflow/serving/predict"}
    return {
        "model_spec": {"name": "m", "signature_name": "", "version": "1"},
        "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
    }


class TensorFlow(ThreadingHTTPServer):
    daemon_threads, block_on_close = True, False

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.models: dict[str, dict[str, object]] = {}
        self.asked: list[tuple[str, dict[str, object]]] = []
        self.connections = 0
        self.pause_s = 0.0
        self.closes = False  # each connection behind its answer, without a word

    @property
    def port(self) -> int:
        return int(self.server_port)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: TensorFlow

    def setup(self) -> None:
        self.server.connections += 1
        super().setup()

    def do_GET(self) -> None:
        name = self.path.removeprefix("/v1/models/").removesuffix("/metadata")
        found = self.server.models.get(name)
        self._answer(*((404, {"error": "not found"}) if found is None else (200, found)))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append((self.path, body))
        time.sleep(self.server.pause_s)
        if body.get("signature_name") == "none":
            return self._answer(400, {"error": "Serving signature name: none not found"})
        return self._answer(200, {"predictions": [round(sum(row), 3) for row in body["instances"]]})

    def _answer(self, status: int, body: object) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)
        self.close_connection = self.server.closes

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def tensorflow() -> Iterator[TensorFlow]:
    server = TensorFlow()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":  # in the place of tensorflow_model_server
    flags = dict(w.removeprefix("--").split("=", 1) for w in sys.argv[1:])
    alone = TensorFlow(int(flags["rest_api_port"]))
    alone.models["digits"] = metadata(pixels=("DT_FLOAT", [-1, 64]))
    alone.serve_forever()
