"""Feature look-up by entity id: one client over every store, with a deadline and a bounded cache.

Stands alone (numpy, the store's module beside it and its own client): the three files also stand, as a package of the
same name, beside the Python model that runs inside the server.
"""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol

from serving.features_types import (
    Array,
    Counters,
    FeatureStoreError,
    GoneError,
    Lookup,
    Schema,
    SlowError,
    ThrottledError,
)

__all__ = ["Cache", "Counters", "FeatureStoreError", "Features", "Lookup", "Schema", "connect"]
FIRST_PAUSE_S = 0.01  # after a store refused for being asked too much; doubled each time
LONGEST_PAUSE_S = 1.0
SCHEMES = {  # of an address -> the module that speaks to that store
    "redis": "features_redis",
    "rediss": "features_redis",
    "bigtable": "features_bigtable",
    "firestore": "features_firestore",
    "dynamodb": "features_dynamodb",
}


class RawStore(Protocol):
    """One store: raw values by key, in one round trip. Raises FeatureStoreErrors alone, and never waits longer."""

    batch: int  # most keys of a read in one round trip
    write_batch: int

    def read(self, keys: Sequence[str], seconds: float) -> Mapping[str, bytes | None]: ...

    def write(self, items: Mapping[str, bytes], ttl_s: int | None, seconds: float) -> None: ...

    def close(self) -> None: ...


class Cache:
    """The last used entries, each for a limited time."""

    def __init__(self, entries: int, ttl_s: float, clock: Callable[[], float]) -> None:
        self._entries, self._ttl_s, self._clock = entries, ttl_s, clock
        self._kept: OrderedDict[str, tuple[float, Array]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: str) -> Array | None:
        entry = self._kept.get(key)
        if entry is None:
            return None
        if entry[0] <= self._clock():
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return entry[1]

    def put(self, key: str, value: Array) -> None:
        if self._entries <= 0:
            return
        self._kept[key] = (self._clock() + self._ttl_s, value)
        self._kept.move_to_end(key)
        while len(self._kept) > self._entries:
            self._kept.popitem(last=False)

    def drop(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._kept.pop(key, None)


class Features:
    """Look-ups and loads over one store."""

    def __init__(
        self,
        store: RawStore,
        key_prefix: str,
        schema: Schema,
        *,
        deadline_ms: float,
        pause_ms: float,
        cache_entries: int,
        cache_ttl_s: float,
        ttl_s: int | None = None,
        write_deadline_s: float = 10,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.schema, self.ttl_s, self.counters = schema, ttl_s, Counters()
        self._store, self._prefix = store, key_prefix
        self._deadline_s, self._pause_s, self._write_s = deadline_ms / 1000, pause_ms / 1000, write_deadline_s
        self._clock = clock
        self._left_alone_until = 0.0
        self._cache = Cache(cache_entries, cache_ttl_s, clock)

    def get_many(self, ids: Iterable[str]) -> Lookup:
        """As few round trips as the store allows; never raises and never waits past the deadline."""
        found: dict[str, Array] = {}
        missing: list[str] = []
        for key in dict.fromkeys(ids):
            kept = self._cache.get(key)
            if kept is None:
                missing.append(key)
            else:
                found[key] = kept
        self.counters.hits += len(found)
        self.counters.misses += len(missing)
        raw: dict[str, bytes | None] = {}
        error = None
        try:
            self._read([self._prefix + key for key in missing], raw)
        except FeatureStoreError as e:
            self.counters.store_errors += 1
            error = str(e)
        faults: dict[str, str] = {}
        for key in missing:
            value = raw.get(self._prefix + key)
            if value is None:
                self.counters.unknown += error is None
                continue
            try:
                found[key] = self.schema.decode(value)
            except FeatureStoreError as e:
                faults[key] = str(e)
            else:
                self._cache.put(key, found[key])
        return Lookup(features=found, faults=faults, error=error)

    def put_many(self, values: Mapping[str, Array]) -> int:
        """Writes all in few round trips. A value is written whole, so that to write it again is safe."""
        encoded = [(self._prefix + key, self.schema.encode(value)) for key, value in values.items()]
        until = time.monotonic() + self._write_s
        for start in range(0, len(encoded), self._store.write_batch):
            left = dict(encoded[start : start + self._store.write_batch])

            def write(seconds: float, left: dict[str, bytes] = left) -> None:
                try:
                    self._store.write(left, self.ttl_s, seconds)
                except ThrottledError as e:
                    for key in e.done:
                        del left[key]
                    raise

            try:
                self._persist(write, until, patient=True)
            except FeatureStoreError as e:
                raise FeatureStoreError(f"the feature store did not take the features: {e}") from e
        self._cache.drop(values)
        return len(encoded)

    def close(self) -> None:
        self._store.close()

    def _read(self, keys: list[str], found: dict[str, bytes | None]) -> None:
        """Into `found`, chunk by chunk: what was read before a failure stays."""
        if not keys:
            return
        if self._clock() < self._left_alone_until:
            raise SlowError("the feature store did not answer in time a moment ago and is left alone")
        until = time.monotonic() + self._deadline_s
        try:
            for start in range(0, len(keys), self._store.batch):
                chunk = keys[start : start + self._store.batch]

                def read(seconds: float, chunk: list[str] = chunk) -> None:
                    asked = [key for key in chunk if key not in found]
                    try:
                        found.update(self._store.read(asked, seconds))
                    except ThrottledError as e:
                        found.update(e.done)
                        raise

                self._persist(read, until)
        except SlowError:
            self._left_alone_until = self._clock() + self._pause_s
            raise

    def _persist(self, ask: Callable[[float], None], until: float, *, patient: bool = False) -> None:
        """Once more over a fresh connection (a load: as long as there is time), and again after a pause where
        the store was asked too much. Never past `until`."""
        gone, pause = 0, FIRST_PAUSE_S
        while True:
            left = until - time.monotonic()
            if left <= 0:
                raise SlowError("the feature store did not answer in time")
            started = time.monotonic()
            self.counters.store_calls += 1
            try:
                return ask(left)
            except (GoneError, ThrottledError) as e:
                gone += isinstance(e, GoneError)
                self.counters.throttled += isinstance(e, ThrottledError)
                wait = 0.0 if gone == 1 else pause * random.uniform(0.5, 1)
                if (gone > 1 and not patient) or until - time.monotonic() <= wait:
                    raise
                time.sleep(wait)
                pause = min(2 * pause, LONGEST_PAUSE_S)
            finally:
                self.counters.store_seconds += time.monotonic() - started
            self.counters.retries += 1


def connect(
    url: str, key_prefix: str, schema: Schema, *, deadline_ms: float, secrets: Mapping[str, str] = {}, **options: Any
) -> Features:
    """The client of the store at that address. `secrets`: password and ca (PEM), where the store has them."""
    scheme = url.partition(":")[0]
    if scheme not in SCHEMES:
        raise FeatureStoreError(f"no client for {scheme}: there is one for {', '.join(SCHEMES)}")
    store: RawStore = import_module(f"serving.{SCHEMES[scheme]}").connect(url, deadline_s=deadline_ms / 1000, **secrets)
    return Features(store, key_prefix, schema, deadline_ms=deadline_ms, **options)
