"""The table of charts."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One chart, as its repository has it."""

    name: str  # ours, and that of its release
    chart: str
    version: str
    repository: str
    app_version: str
    cloud: str  # * or the one cloud that does not bring it itself
    source: str
    as_of: str


@cache
def charts() -> tuple[Chart, ...]:
    with Path(__file__).with_name("charts.csv").open(newline="") as file:
        return tuple(Chart(**row) for row in csv.DictReader(file))


def chart(name: str) -> Chart:
    return next(c for c in charts() if c.name == name)
