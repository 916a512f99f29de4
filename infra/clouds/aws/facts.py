"""Numbers of Slipway's blueprint on AWS and of the services that it uses: rows of facts.csv with their source."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path


@cache
def _rows() -> dict[str, str]:
    with Path(__file__).with_name("facts.csv").open(newline="", encoding="utf-8") as file:
        return {r["fact"]: r["value"] for r in csv.DictReader(file)}


@cache
def without_control_plane() -> frozenset[str]:
    """Ids of zones in which no control plane stands; which name has that id differs by account."""
    with Path(__file__).with_name("zones.csv").open(newline="", encoding="utf-8") as file:
        return frozenset(r["zone_id"] for r in csv.DictReader(file))


def text(name: str) -> str:
    return _rows()[name]


def whole(name: str) -> int:
    return int(_rows()[name])
