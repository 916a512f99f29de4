"""The feature client: the form of a value, the cache's bounds, and a store that is slow, gone or wrong."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from serving.features import Cache, Features, FeatureStoreError, Schema, connect

SCHEMA = Schema(datatype="FP32", shape=(3,))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Script:
    """A Redis that answers each connection's commands as told; counts what it was asked."""

    def __init__(self, *, values: dict[bytes, bytes], hang: bool = False, close_after: int | None = None) -> None:
        self.values, self.hang, self.close_after = values, hang, close_after
        self.commands: list[list[bytes]] = []
        self.connections = 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self.socket.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        answered = 0
        with connection, connection.makefile("rb") as lines:
            while line := lines.readline():
                words = []
                for _ in range(int(line[1:])):
                    size = int(lines.readline()[1:])
                    words.append(lines.read(size + 2)[:-2])
                self.commands.append(words)
                if self.hang:
                    continue
                connection.sendall(self._answer(words))
                answered += words[0] == b"MGET"
                if answered == self.close_after:
                    return

    def _answer(self, words: list[bytes]) -> bytes:
        if words[0] != b"MGET":
            return b"+OK\r\n"
        parts = [self.values.get(key) for key in words[1:]]
        bulk = [b"$-1\r\n" if v is None else b"$%d\r\n%s\r\n" % (len(v), v) for v in parts]
        return b"*%d\r\n%s" % (len(parts), b"".join(bulk))

    @property
    def reads(self) -> list[list[bytes]]:
        return [c[1:] for c in self.commands if c[0] == b"MGET"]


VALUES = {f"p:{i}".encode(): SCHEMA.encode(np.full(3, i, np.float32)) for i in range(20)}


@pytest.fixture
def store() -> Iterator[Script]:
    script = Script(values=VALUES)
    yield script
    script.socket.close()


def client(url: str, clock: Clock | None = None, **options: float) -> Features:
    chosen = {"deadline_ms": 200.0, "pause_ms": 500.0, "cache_entries": 100, "cache_ttl_s": 30.0} | options
    extra = {"clock": clock} if clock else {}
    return connect(url, "p:", SCHEMA, **chosen, **extra)  # type: ignore[arg-type]


@pytest.mark.parametrize("datatype", ["FP32", "FP64", "FP16", "INT64", "UINT8"])
def test_a_value_comes_back_as_it_went(datatype: str) -> None:
    schema = Schema(datatype=datatype, shape=(2, 3))
    values = np.arange(6).reshape(2, 3).astype(schema.dtype)
    raw = schema.encode(values)
    assert len(raw) == schema.nbytes
    assert np.array_equal(schema.decode(raw), values)


def test_a_value_of_another_size_is_refused() -> None:
    with pytest.raises(FeatureStoreError, match="8 bytes in the store, expected 12"):
        SCHEMA.decode(b"\0" * 8)
    with pytest.raises(FeatureStoreError, match="shape"):
        SCHEMA.encode(np.zeros(4, np.float32))


def test_a_batch_is_one_round_trip(store: Script) -> None:
    found = client(store.url).get_many(str(i) for i in range(20))
    assert len(store.reads) == 1
    assert {k: v[0] for k, v in found.features.items()} == {str(i): float(i) for i in range(20)}


def test_an_id_is_asked_once_and_then_kept(store: Script) -> None:
    asked = client(store.url)
    asked.get_many(["1", "1", "2"])
    asked.get_many(["1", "2", "3"])
    assert store.reads == [[b"p:1", b"p:2"], [b"p:3"]]
    assert (asked.counters.hits, asked.counters.misses, asked.counters.hit_rate) == (2, 3, 0.4)


def test_a_kept_value_is_asked_again_when_its_time_is_over(store: Script) -> None:
    clock = Clock()
    asked = client(store.url, clock, cache_ttl_s=10)
    for now in (0, 9.9, 10, 10.1):
        clock.now = now
        asked.get_many(["1"])
    assert len(store.reads) == 2


def test_the_cache_holds_no_more_than_it_may() -> None:
    """The least recently used goes first."""
    cache = Cache(2, 10, Clock())
    one = np.ones(3, np.float32)
    cache.put("a", one)
    cache.put("b", one)
    cache.get("a")
    cache.put("c", one)
    assert (cache.get("a") is not None, cache.get("b"), len(cache)) == (True, None, 2)


def test_an_unknown_id_is_neither_found_nor_kept(store: Script) -> None:
    """It may be written a moment later."""
    asked = client(store.url)
    for _ in range(2):
        found = asked.get_many(["1", "nobody"])
        assert set(found.features) == {"1"}
        assert found.error is None
    assert asked.counters.unknown == 2
    store.values[b"p:nobody"] = SCHEMA.encode(np.zeros(3, np.float32))
    try:
        assert "nobody" in asked.get_many(["nobody"]).features
    finally:
        del store.values[b"p:nobody"]


def test_one_unreadable_value_does_not_take_the_others_with_it() -> None:
    store = Script(values={**VALUES, b"p:bad": b"short"})
    found = client(store.url).get_many(["1", "bad"])
    assert set(found.features) == {"1"}
    assert found.faults == {"bad": "5 bytes in the store, expected 12"}


def test_a_store_that_hangs_costs_its_deadline_once() -> None:
    """After a time-out the store is left alone for a while: else every batch would wait for the deadline."""
    store = Script(values=VALUES, hang=True)
    clock = Clock()
    asked = client(store.url, clock, deadline_ms=100, pause_ms=500)
    started = time.monotonic()
    first = asked.get_many(["1"])
    assert time.monotonic() - started < 1
    assert first.error is not None
    assert "in time" in first.error
    connections = store.connections
    assert asked.get_many(["1"]).error is not None
    assert store.connections == connections
    store.hang = False
    clock.now = 0.6
    assert "1" in asked.get_many(["1"]).features
    assert asked.counters.store_errors == 2


def test_what_is_kept_is_found_though_the_store_is_gone(store: Script) -> None:
    asked = client(store.url)
    asked.get_many(["1"])
    store.hang = True
    found = asked.get_many(["1", "2"])
    assert set(found.features) == {"1"}
    assert found.error is not None


def test_a_store_that_is_not_there_is_said_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"redis://127.0.0.1:{gone.getsockname()[1]}/0"
    started = time.monotonic()
    found = client(url, deadline_ms=2000).get_many(["1"])
    assert time.monotonic() - started < 1
    assert found.error is not None
    with pytest.raises(FeatureStoreError, match="did not take"):
        client(url, write_deadline_s=0.3).put_many({"1": np.zeros(3, np.float32)})


def test_a_restarted_store_does_not_fail_the_first_look_up() -> None:
    """The kept connection is dead, a fresh one is not."""
    store = Script(values=VALUES, close_after=1)
    asked = client(store.url)
    assert "1" in asked.get_many(["1"]).features
    time.sleep(0.05)
    assert "2" in asked.get_many(["2"]).features
    assert asked.counters.store_errors == 0
