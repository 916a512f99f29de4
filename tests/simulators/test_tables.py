"""The simulators' own copies of facts agree with the catalogue, which they may not import; every row has its source."""

from __future__ import annotations

import csv
from fnmatch import fnmatchcase
from pathlib import Path

import infra.catalog
from simulators.core import groups, tables
from simulators.core.groups import Machine

CATALOG = Path(infra.catalog.__file__).parent


def catalogue(name: str) -> list[dict[str, str]]:
    with (CATALOG / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_machine_types_bring_the_same_accelerators() -> None:
    """Of families that cannot be had without; those that take one or not are asked for it."""
    own = {r["type"]: (r["accelerator"].lower(), r["count"]) for r in tables.rows("attachments")}
    theirs = [r for r in catalogue("attachments") if r["machine_type"].partition("-")[0] in ("a2", "a3", "g2")]
    assert {r["machine_type"]: (r["accelerator"], r["accelerator_count"]) for r in theirs}.items() <= own.items()
    slices = [r for r in catalogue("tpu_slices") if r["hosts"] == "1"]
    assert {(r["machine_type"], r["accelerator"]) for r in slices} <= {(t, kind) for t, (kind, _) in own.items()}


def test_zones_sell_what_the_catalogue_says() -> None:
    sample = {"t4": ("n1-standard-4", "nvidia-tesla-t4"), "*": ("n2-standard-8", "")}
    types = {kind.lower(): r["type"] for r in tables.rows("attachments") for kind in (r["accelerator"],)}
    for row in catalogue("zones"):
        if row["cloud"] == "aws":
            continue
        type_, extra = sample.get(row["accelerator"], (types.get(row["accelerator"], ""), ""))
        kind, count = groups.brings("gcp", type_)
        machine = Machine(cloud="gcp", type=type_, accelerator=kind or extra, accelerators=count or int(bool(extra)))
        there = {z for z in _zones(row["region"]) if groups.sells(machine, z)}
        assert there == set(row["zones"].split()) & _zones(row["region"]), row


def _zones(region: str) -> set[str]:
    found = {z for r in catalogue("zones") if r["region"] == region for z in r["zones"].split()}
    return found | {f"{region}-x"}


def test_every_row_of_machines_has_a_source() -> None:
    known = {r["key"] for r in tables.rows("sources")}
    for name in ("attachments", "boots", "held", "limits", "servers", "zones"):
        rows = tables.rows(name)
        assert {r[c] for r in rows for c in r if c in ("source", "driver_source")} <= known, name
    assert all(
        any(fnmatchcase("x", r["image"]) for r in tables.rows("boots") if r["cloud"] == c) for c in ("gcp", "aws")
    )
