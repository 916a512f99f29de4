"""What clients may ask of each server, as paths that a cloud's load balancer can match; everything else is refused."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# Servers whose gRPC port guards its control by itself: without TLS a cloud's balancer passes that port through unread.
# Triton restricts control by a key; TensorFlow Serving has ModelService there, which replaces its configuration.
GUARDED = ("triton",)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One kind of request; `*` in a path stands for one part, without a slash."""

    protocol: str  # http or grpc
    method: str
    path: str
    allowed: bool  # not: refused, although a later one has its form
    why: str


@cache
def _rows() -> tuple[tuple[str, Asked], ...]:
    with Path(__file__).with_name("predictions.csv").open(newline="", encoding="utf-8") as file:
        return tuple(
            (
                r["server"],
                Asked(**{k: r[k] for k in ("protocol", "method", "path", "why")}, allowed=r["allowed"] == "yes"),
            )
            for r in csv.DictReader(file)
        )


def asked(server: str, protocol: str) -> tuple[Asked, ...]:
    """In the order in which they are tried."""
    return tuple(a for name, a in _rows() if (name, a.protocol) == (server, protocol))


def passes_unread(server: str) -> bool:
    """Whether its gRPC port may be passed through by a balancer that does not read requests."""
    return server in GUARDED
