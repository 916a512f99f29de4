"""The serving facts: rows of value, reason and source, read from the tables beside this file."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent


@cache
def rows(table: str) -> tuple[Mapping[str, str], ...]:
    """Every row of a table beside this file."""
    with (HERE / table).open(newline="") as f:
        return tuple(csv.DictReader(f))


@cache
def facts(server: str) -> Mapping[str, int]:
    """The numbers of one server, by name."""
    return {r["name"]: int(r["value"]) for r in rows("facts.csv") if r["server"] == server}
