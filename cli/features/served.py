"""What the look-ups of the servers counted: their metrics, read from where they are published."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence

LINE = re.compile(r"^slipway_feature_(\w+)_total(?:\{[^}]*\})? ([0-9.eE+]+)$", re.MULTILINE)
TIMEOUT_S = 5


def counters(addresses: Sequence[str]) -> dict[str, float]:
    """Sums over all servers, with the hit rate of their caches; nothing where no server predicts by id."""
    found: dict[str, float] = {}
    for address in addresses:
        try:
            with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:
                text = answer.read().decode()
        except (urllib.error.URLError, OSError):
            continue  # a server that is away: `slipway status` says so
        for name, value in LINE.findall(text):
            found[name] = found.get(name, 0.0) + float(value)
    return rated(found)


def rated(found: Mapping[str, float]) -> dict[str, float]:
    """With the hit rate of the servers' caches, where they were asked."""
    hits = found.get("cache_hits", 0.0)
    asked = hits + found.get("cache_misses", 0.0)
    return {**found, "hit_rate": round(hits / asked, 4)} if asked else dict(found)
