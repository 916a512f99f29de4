"""Loader of the tables: CSV rows with a source each, picked by cloud and by resource type."""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import resources

CLOUD_FILES = {"gcp": "gcp", "aws": "aws", "kubernetes": "k8s"}


@functools.cache
def rows(name: str) -> tuple[dict[str, str], ...]:
    """All rows of tables/<name>.csv."""
    text = resources.files("simulators.tables").joinpath(f"{name}.csv").read_text(encoding="utf-8")
    return tuple({k: v or "" for k, v in row.items()} for row in csv.DictReader(text.splitlines()))


def exists(name: str) -> bool:
    return resources.files("simulators.tables").joinpath(f"{name}.csv").is_file()


def cloud_of(token: str) -> str:
    """The package of a type token, which is the name of the simulated cloud."""
    return token.split(":", 1)[0]


@functools.cache
def of_type(table: str, token: str) -> tuple[tuple[dict[str, str], ...], tuple[dict[str, str], ...]]:
    """(rows of exactly this type, rows of a wildcard that includes it) of a table split by cloud."""
    found = rows(f"{table}_{CLOUD_FILES[cloud_of(token)]}")
    exact = tuple(r for r in found if r["type"] == token)
    wild = tuple(r for r in found if "*" in r["type"] and fnmatchcase(token, r["type"]))
    return exact, wild


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A resource type that a simulator knows: how it is named, found again and timed."""

    token: str
    name: str
    autoname: int
    separator: str
    prefix: str
    identity: str
    scope: str
    create_s: float
    update_s: float
    delete_s: float
    samples: int
    billable: bool
    source: str


@functools.cache
def kinds(cloud: str) -> dict[str, Kind]:
    return {k.token: k for k in _kinds(cloud)}


def _kinds(cloud: str) -> Iterator[Kind]:
    for row in rows(f"types_{CLOUD_FILES[cloud]}"):
        yield Kind(
            token=row["type"],
            name=row["name"],
            autoname=int(row["autoname"] or 0),
            separator=row["separator"] or "-",
            prefix=row["prefix"],
            identity=row["id"],
            scope=row["scope"],
            create_s=float(row["create_s"]),
            update_s=float(row["update_s"]),
            delete_s=float(row["delete_s"]),
            samples=int(row["n"] or 0),
            billable=row["billable"] == "yes",
            source=row["source"],
        )
