"""Numbers of the blueprint on Google Cloud and of the services that it uses: rows of facts.csv with their source."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path


@cache
def _rows() -> dict[str, str]:
    with Path(__file__).with_name("facts.csv").open(newline="", encoding="utf-8") as file:
        return {r["fact"]: r["value"] for r in csv.DictReader(file)}


def text(name: str) -> str:
    return _rows()[name]


def known(name: str) -> str | None:
    """A fact that only some things have."""
    return _rows().get(name)


def whole(name: str) -> int:
    return int(_rows()[name])
