"""Feature look-up by entity id: one client over every store, with a deadline and a bounded cache.

Stands alone (numpy and the store's own client): it is also copied beside the Python model that runs inside the server.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

Array = npt.NDArray[np.generic]
CHUNK = 500  # keys in one round trip of a load: about 128 kB at 256 bytes a value

# V2 datatype -> numpy type, little endian as stored
DATATYPES: Mapping[str, str] = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}


class FeatureStoreError(Exception):
    """The store did not take or give what was asked of it."""


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The form of one entity's features: in the store they are the raw values, little endian, row by row."""

    datatype: str
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return np.dtype(DATATYPES[self.datatype])

    @property
    def nbytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)

    def encode(self, values: Array) -> bytes:
        if values.shape != self.shape:
            raise FeatureStoreError(f"features of shape {values.shape}, expected {self.shape}")
        return values.astype(self.dtype).tobytes()

    def decode(self, raw: bytes) -> Array:
        if len(raw) != self.nbytes:
            raise FeatureStoreError(f"{len(raw)} bytes in the store, expected {self.nbytes}")
        return np.frombuffer(raw, self.dtype).reshape(self.shape)

    def default(self) -> Array:
        return np.zeros(self.shape, self.dtype)


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """What a look-up found. An id in neither mapping is unknown, unless `error` says that the store did not answer."""

    features: Mapping[str, Array]
    faults: Mapping[str, str] = field(default_factory=dict)  # ids whose stored value cannot be read, and why
    error: str | None = None


@dataclass(kw_only=True)
class Counters:
    """What happened since the client was made."""

    hits: int = 0
    misses: int = 0
    unknown: int = 0
    store_errors: int = 0

    @property
    def hit_rate(self) -> float:
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0


class FeatureClient(Protocol):
    """What every store offers to prediction by id and to the load of features."""

    schema: Schema
    ttl_s: int | None  # how long the store keeps an entity; None: until it is overwritten
    counters: Counters

    def get_many(self, ids: Iterable[str]) -> Lookup:
        """One round trip for all that the cache does not hold; never raises and never waits past the deadline."""
        ...

    def put_many(self, values: Mapping[str, Array]) -> int:
        """Writes all in few round trips; raises FeatureStoreError."""
        ...

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


class RedisFeatures:
    """Features in Redis, one string value for each entity."""

    def __init__(
        self,
        url: str,
        key_prefix: str,
        schema: Schema,
        *,
        deadline_ms: float,
        pause_ms: float,
        cache_entries: int,
        cache_ttl_s: float,
        ttl_s: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.schema, self.ttl_s, self.counters = schema, ttl_s, Counters()
        self._prefix, self._pause_s, self._clock = key_prefix, pause_ms / 1000, clock
        self._left_alone_until = 0.0
        self._cache = Cache(cache_entries, cache_ttl_s, clock)
        timeout = deadline_ms / 1000
        self._redis = redis.Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),  # the library's own default waits and tries again, past any deadline
            protocol=2,
        )

    def get_many(self, ids: Iterable[str]) -> Lookup:
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
        if not missing:
            return Lookup(features=found)
        try:
            raw = self._mget(missing)
        except FeatureStoreError as e:
            self.counters.store_errors += 1
            return Lookup(features=found, error=str(e))
        faults: dict[str, str] = {}
        for key, value in zip(missing, raw, strict=True):
            if value is None:
                self.counters.unknown += 1
                continue
            try:
                found[key] = self.schema.decode(value)
            except FeatureStoreError as e:
                faults[key] = str(e)
            else:
                self._cache.put(key, found[key])
        return Lookup(features=found, faults=faults)

    def put_many(self, values: Mapping[str, Array]) -> int:
        encoded = [(self._prefix + key, self.schema.encode(value)) for key, value in values.items()]
        try:
            for start in range(0, len(encoded), CHUNK):
                with self._redis.pipeline(transaction=False) as pipeline:
                    for key, raw in encoded[start : start + CHUNK]:
                        pipeline.set(key, raw, ex=self.ttl_s)
                    pipeline.execute()
        except redis.RedisError as e:
            raise FeatureStoreError(f"the feature store did not take the features: {e}") from e
        self._cache.drop(values)
        return len(encoded)

    def close(self) -> None:
        self._redis.close()

    def _mget(self, ids: list[str]) -> list[bytes | None]:
        now = self._clock()
        if now < self._left_alone_until:
            raise FeatureStoreError("the feature store did not answer in time a moment ago and is left alone")
        keys = [self._prefix + i for i in ids]
        try:
            try:
                return self._read(keys)
            except redis.TimeoutError:
                raise
            except redis.ConnectionError:
                return self._read(keys)  # a kept connection that a restarted store closed; a second one is fresh
        except redis.TimeoutError as e:
            self._left_alone_until = self._clock() + self._pause_s
            raise FeatureStoreError("the feature store did not answer in time") from e
        except redis.RedisError as e:
            raise FeatureStoreError(f"the feature store cannot be read: {e}") from e

    def _read(self, keys: list[str]) -> list[bytes | None]:
        values = self._redis.mget(keys)
        if not isinstance(values, list):
            raise TypeError("mget of a client that waits gives a list")
        return [v.encode() if isinstance(v, str) else v for v in values]
