"""What look-ups speak of: the form of a value, what was found, what went wrong; also copied beside the Python model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]

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


class SlowError(FeatureStoreError):
    """No answer within the deadline."""


class GoneError(FeatureStoreError):
    """The connection failed or broke: a fresh one may not."""


class ThrottledError(FeatureStoreError):
    """The store refused for now: too much was asked of it. `done`: what it gave or took of it all the same."""

    def __init__(self, text: str, done: Mapping[str, bytes | None] | None = None) -> None:
        super().__init__(text)
        self.done: Mapping[str, bytes | None] = done or {}


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
    throttled: int = 0
    retries: int = 0
    store_calls: int = 0
    store_seconds: float = 0.0

    @property
    def hit_rate(self) -> float:
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0
