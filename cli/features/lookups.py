"""Look-ups of given ids: what each entity's features are, and how a stream of ids fares."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from serving.features import Features, FeatureStoreError

Tell = Callable[[Mapping[str, Any]], None]
BATCH = 32  # ids of one look-up of `stats`, as a server's batch
SOME = 5


def get(client: Features, wanted: Sequence[str], tell: Tell) -> dict[str, Any]:
    """Values as they are stored; what is not there, or cannot be read in this form, is named."""
    found = client.get_many(wanted)
    if found.error is not None:
        raise FeatureStoreError(found.error)
    return {
        "schema": _schema(client),
        "features": {k: v.tolist() for k, v in found.features.items()},
        "missing": [k for k in dict.fromkeys(wanted) if k not in found.features and k not in found.faults],
        "unreadable": dict(found.faults),
    }


def stats(client: Features, wanted: Sequence[str], tell: Tell) -> dict[str, Any]:
    """The ids in their order, in batches, through a cache as the servers have one: repeated ids are its hits."""
    missing: dict[str, None] = {}
    faults: dict[str, str] = {}
    times: list[float] = []
    for start in range(0, len(wanted), BATCH):
        began = time.monotonic()
        asked = wanted[start : start + BATCH]
        found = client.get_many(asked)
        times.append(time.monotonic() - began)
        if found.error is not None:
            raise FeatureStoreError(found.error)
        faults |= found.faults
        missing |= {k: None for k in asked if k not in found.features and k not in found.faults}
        tell({"done": start + len(asked), "of": len(wanted)})
    counters = client.counters
    p50, p99 = np.percentile(times, [50, 99]) * 1000 if times else (0.0, 0.0)
    return {
        "schema": _schema(client),
        "asked": len(wanted),
        "different": len(set(wanted)),
        "missing": len(missing),
        "unreadable": len(faults),
        "some": [*missing, *faults][:SOME],
        "hit_rate": round(counters.hit_rate, 4),
        "round_trips": counters.store_calls,
        "retries": counters.retries,
        "p50_ms": round(float(p50), 3),
        "p99_ms": round(float(p99), 3),
    }


def _schema(client: Features) -> dict[str, Any]:
    its = client.schema
    return {"datatype": its.datatype, "shape": list(its.shape), "bytes": its.nbytes, "ttl_s": client.ttl_s}
