"""The work of by_id.py, without its server: which models take ids, the look-up, the question to the model server."""

from __future__ import annotations

import http.client
import json
import os
import queue
import re
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SUFFIX = "_by_id"
ASKED = re.compile(
    rf"/v1/models/([A-Za-z0-9_][A-Za-z0-9_.-]*){SUFFIX}((?:/(?:versions|labels)/[A-Za-z0-9_]+)?):predict"
)
STATUS = re.compile(rf"/v1/models/([A-Za-z0-9_][A-Za-z0-9_.-]*){SUFFIX}")
SECRETS = {"password": "SLIPWAY_STORE_PASSWORD", "ca": "SLIPWAY_STORE_CA"}
DATATYPES = {f"DT_{n}": n for n in ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64")}
DATATYPES |= {"DT_FLOAT": "FP32", "DT_DOUBLE": "FP64"}
COUNTERS = {  # the same names as beside Triton
    "hits": "feature_cache_hits_total",
    "misses": "feature_cache_misses_total",
    "unknown": "feature_unknown_total",
    "store_errors": "feature_store_errors_total",
    "throttled": "feature_store_throttled_total",
    "retries": "feature_store_retries_total",
    "store_calls": "feature_store_requests_total",
    "store_seconds": "feature_store_request_seconds_total",
}
PAUSE_S = 0.5


class Refused(Exception):  # noqa: N818  -- an answer, not a fault of ours
    """Why a request is answered with an error."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def fitting(metadata: dict[str, Any], value_bytes: int, schema: Callable[..., Any]) -> Any:
    """The form of the model's only input, where the store's values are just that; Refused says why they are not."""
    signature = metadata["metadata"]["signature_def"]["signature_def"].get("serving_default")
    if signature is None:
        raise Refused(404, "the model has no signature serving_default")
    inputs = signature["inputs"]
    if len(inputs) != 1:
        raise Refused(404, f"the model has {len(inputs)} inputs")
    ((name, given),) = inputs.items()
    shape = given["tensor_shape"]
    sizes = [int(d["size"]) for d in shape.get("dim", ())]
    if shape.get("unknown_rank") or not sizes or sizes[0] != -1 or any(s < 1 for s in sizes[1:]):
        raise Refused(404, f"input {name} is not a batch of items of a known form")
    if given["dtype"] not in DATATYPES:
        raise Refused(404, f"input {name} is {given['dtype']}, which no stored value is")
    made = schema(datatype=DATATYPES[given["dtype"]], shape=tuple(sizes[1:]))
    if made.nbytes != value_bytes:
        raise Refused(
            404, f"an item of input {name} has {made.nbytes} bytes, and features.value_bytes is {value_bytes}"
        )
    return made


class Worker:
    """One connection to the server, and one client of the store for each model: used by one request at a time."""

    def __init__(self, settings: dict[str, Any], connect: Callable[..., Any]) -> None:
        self._settings, self._connect = settings, connect
        self._upstream: http.client.HTTPConnection | None = None
        self.clients: dict[str, Any] = {}

    def look_up(self, model: str, schema: Any, ids: list[str]) -> Any:
        said = self._settings
        if model not in self.clients:
            self.clients[model] = self._connect(
                os.path.expandvars(said["store_url"]),
                said["key_prefix"],
                schema,
                secrets={name: os.environ[key] for name, key in SECRETS.items() if key in os.environ},
                **{k: said[k] for k in ("deadline_ms", "pause_ms", "cache_entries", "cache_ttl_s")},
            )
        return self.clients[model].get_many(ids)

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """A kept connection may have been closed meanwhile: once more over a fresh one."""
        for fresh in (self._upstream is None, True):
            if self._upstream is None or fresh:
                address = urllib.parse.urlsplit(self._settings["upstream"]).netloc
                self._upstream = http.client.HTTPConnection(address, timeout=self._settings["request_s"])
            try:
                self._upstream.request(method, path, body, {"Content-Type": "application/json"})
                answer = self._upstream.getresponse()
                return answer.status, answer.read()
            except TimeoutError:
                self._upstream = None
                raise
            except (OSError, http.client.HTTPException):
                self._upstream = None
                if fresh:
                    raise
        raise AssertionError("the second try returns or raises")


class ById:
    """What this process knows, and what it does with a request."""

    def __init__(self, settings: dict[str, Any], features: Any) -> None:
        self.settings, self._features = settings, features
        self.schemas: dict[str, Any] = {}
        self.unfit: dict[str, str] = {}
        self._all = [Worker(settings, features.connect) for _ in range(settings["workers"])]
        self._idle: queue.LifoQueue[Worker] = queue.LifoQueue()
        for worker in self._all:
            self._idle.put(worker)

    @property
    def ready(self) -> bool:
        return len(self.schemas) + len(self.unfit) == len(self.settings["models"])

    def learn(self) -> None:
        """From the server, as soon as it has loaded each model."""
        worker = Worker(self.settings, self._features.connect)
        for model in self.settings["models"]:
            while True:
                try:
                    status, body = worker.ask("GET", f"/v1/models/{model}/metadata")
                    if status == 200:
                        break
                except (OSError, http.client.HTTPException):
                    pass  # it does not listen yet
                time.sleep(PAUSE_S)
            try:
                self.schemas[model] = fitting(json.loads(body), self.settings["value_bytes"], self._features.Schema)
            except Refused as e:
                self.unfit[model] = str(e)
                print(f"{model}{SUFFIX} is not served: {e}", flush=True)
            else:
                print(f"{model}{SUFFIX} is served", flush=True)

    def predict(self, path: str, raw: bytes) -> tuple[int, bytes]:
        found = ASKED.fullmatch(path)
        if found is None:
            raise Refused(404, f"nothing at {path}")
        model, rest = found.groups()
        schema = self._schema(model)
        ids, asked = _ids(raw)
        with self._worker() as worker:
            lookup = worker.look_up(model, schema, ids)
            missing = [i for i in ids if i not in lookup.features]
            if missing and self.settings["on_failure"] != "default":
                raise _missing(missing, lookup)
            default = schema.default()
            rows = [lookup.features.get(i, default).tolist() for i in ids]
            body = json.dumps({**asked, "instances": rows}).encode()
            try:
                return worker.ask("POST", f"/v1/models/{model}{rest}:predict", body)
            except (OSError, http.client.HTTPException) as e:
                raise Refused(503, f"the model server does not answer: {type(e).__name__}") from e

    def _schema(self, model: str) -> Any:
        if model in self.schemas:
            return self.schemas[model]
        if model in self.unfit:
            raise Refused(404, f"{model}{SUFFIX} is not served: {self.unfit[model]}")
        if model in self.settings["models"]:
            raise Refused(503, f"{model} is not loaded yet")
        raise Refused(404, f"there is no model {model}")

    @contextmanager
    def _worker(self) -> Iterator[Worker]:
        try:
            worker = self._idle.get(timeout=self.settings["request_s"])
        except queue.Empty:
            raise Refused(503, "too many requests at once") from None
        try:
            yield worker
        finally:
            self._idle.put(worker)

    def status(self, path: str) -> tuple[int, bytes]:
        found = STATUS.fullmatch(path)
        if path == "/ready":
            return (200, b"ready\n") if self.ready else (503, b"models are not loaded yet\n")
        if path == "/metrics":
            return 200, self._metrics().encode()
        if found is None:
            raise Refused(404, f"nothing at {path}")
        schema = self._schema(found[1])
        return 200, json.dumps({"datatype": schema.datatype, "shape": list(schema.shape)}).encode()

    def _metrics(self) -> str:
        lines = []
        for counter, name in COUNTERS.items():
            lines.append(f"# TYPE slipway_{name} counter\n")
            for model in self.schemas:
                clients = [w.clients[model] for w in self._all if model in w.clients]
                total = sum(getattr(c.counters, counter) for c in clients)
                lines.append(f'slipway_{name}{{model="{model}{SUFFIX}"}} {total}\n')
        return "".join(lines)


def _ids(raw: bytes) -> tuple[list[str], dict[str, object]]:
    """The ids of a request, and what else of it is the server's."""
    try:
        asked = json.loads(raw)
    except ValueError:
        raise Refused(400, "the body is not JSON") from None
    ids = asked.get("ids") if isinstance(asked, dict) else None
    if not isinstance(ids, list) or not ids or not all(isinstance(i, str | int) and i is not True for i in ids):
        raise Refused(400, 'the body is {"ids": [...]} with at least one id: text, or a whole number')
    named = [str(i) for i in ids]
    if not all(named):
        raise Refused(400, "empty id")
    return named, {k: v for k, v in asked.items() if k == "signature_name"}


def _missing(missing: list[str], lookup: Any) -> Refused:
    named = ", ".join(repr(i) for i in missing[:5]) + (" ..." if len(missing) > 5 else "")
    if lookup.error:
        return Refused(503, f"{lookup.error} (id {named})")
    faults = [lookup.faults[i] for i in missing if i in lookup.faults]
    if faults:
        return Refused(500, f"unreadable features of id {named}: {faults[0]}")
    return Refused(404, f"unknown id {named}")
