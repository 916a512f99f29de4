"""Every resource type that a blueprint can emit is priced, priced by use, or free for a stated reason."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from infra.catalog import load
from infra.clouds.local.provider import KINDS

ROOT = Path(__file__).resolve().parents[2]
with (ROOT / "infra/plan/cost_resources.csv").open(newline="") as file:
    ROWS = list(csv.DictReader(file))
CLOUDS = {"gcp": ("gcp",), "aws": ("aws",), "kubernetes": ("gcp", "aws"), "slipway": ()}


def simulated(cloud: str) -> set[str]:
    with (ROOT / f"simulators/tables/types_{cloud}.csv").open(newline="") as file:
        return {r["type"] for r in csv.DictReader(file)}


def test_every_type_has_one_row() -> None:
    """The simulated clouds know exactly the types that Slipway may declare, the local provider its own."""
    known = simulated("gcp") | simulated("aws") | simulated("k8s") | {k.token for k in KINDS}
    assert {r["type"] for r in ROWS} == known
    assert len(ROWS) == len(known)


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r["type"])
def test_a_row_says_how_its_type_is_billed(row: dict[str, str]) -> None:
    """Items are fees of its cloud or machines; what is free has a reason and no item."""
    items = [i for i in row["items"].split(";") if i]
    assert row["billed"] in ("priced", "usage", "free")
    assert row["reason"].strip()
    assert bool(items) == (row["billed"] != "free")
    fees = {f.id for f in load().fees if f.cloud in CLOUDS[row["type"].split(":")[0]]}
    assert set(items) - fees <= {"machines"}
