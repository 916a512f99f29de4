"""The catalogue's rows hold together: joins, positive figures, sources, and nothing priced twice."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from math import prod
from typing import Any

import pytest

from infra.catalog import Catalog, load
from infra.catalog.catalog import Sale

CATALOG = load()
PLACES = [(cloud, region) for cloud in ("gcp", "aws") for region in CATALOG.regions(cloud)]
SALES = [sale for place in PLACES for sale in CATALOG.sales(*place)]


def ids(sale: Sale) -> str:
    return f"{sale.region}-{sale.machine_type}-{sale.accelerator}x{sale.accelerator_count}"


def test_every_row_says_where_it_comes_from() -> None:
    """A figure without source and date cannot be checked by anybody."""
    tables: list[tuple[Any, ...]] = [CATALOG.machines, CATALOG.prices, CATALOG.accelerators, CATALOG.attachments]
    tables += [CATALOG.slices, CATALOG.zones, tuple(f for f in CATALOG.fees if f.usd is not None)]
    assert [row for table in tables for row in table if not (row.source.strip() and row.as_of.strip())] == []


def test_what_has_no_price_says_why() -> None:
    """A fee without a figure is there so that a bill can list it as unpriced."""
    assert [f for f in CATALOG.fees if f.usd is None and not f.note.strip()] == []


@pytest.mark.parametrize(
    "keys",
    [
        [(m.cloud, m.machine_type) for m in CATALOG.machines],
        [(p.cloud, p.machine_type, p.accelerator, p.accelerator_count, p.region) for p in CATALOG.prices],
        [a.name for a in CATALOG.accelerators],
        [(a.machine_type, a.accelerator, a.accelerator_count) for a in CATALOG.attachments],
        [(s.accelerator, s.chips) for s in CATALOG.slices],
        [(f.cloud, f.id) for f in CATALOG.fees],
    ],
    ids=["machines", "prices", "accelerators", "attachments", "slices", "fees"],
)
def test_no_duplicates(keys: list[object]) -> None:
    """Two rows of one key are two truths."""
    assert [key for key, count in Counter(keys).items() if count > 1] == []


def test_joins() -> None:
    """A row that names a machine or an accelerator names one that is there, or one outside Slipway's list."""
    machines = {(m.cloud, m.machine_type) for m in CATALOG.machines}
    names = {a.name for a in CATALOG.accelerators}
    assert {(p.cloud, p.machine_type) for p in CATALOG.prices if p.machine_type} <= machines
    assert {("gcp", a.machine_type) for a in CATALOG.attachments} <= machines
    assert {a.accelerator for a in CATALOG.attachments} | {s.accelerator for s in CATALOG.slices} <= names
    outside = {"inferentia2"}  # priced for comparison; no key of the configuration asks for it
    assert {p.accelerator for p in CATALOG.prices if p.accelerator} <= names | outside


def test_figures_are_positive() -> None:
    """A price of nothing is a missing price."""
    assert [p for p in CATALOG.prices for usd in (p.on_demand, p.spot) if usd is not None and usd <= 0] == []
    assert [m for m in CATALOG.machines if m.vcpus <= 0 or m.memory_gib <= 0] == []
    assert [f for f in CATALOG.fees if f.usd is not None and f.usd <= 0] == []


def test_spot_costs_less() -> None:
    """A spot price at or above the on-demand price is a wrong row (seen in public catalogues)."""
    wrong = [p for p in CATALOG.prices if p.on_demand is not None and p.spot is not None and p.spot >= p.on_demand]
    assert wrong == []


def test_tpu_topologies_multiply_to_their_chips() -> None:
    """2x4 is eight chips, and the machine type names as many on one host."""
    for s in CATALOG.slices:
        assert prod(int(n) for n in s.topology.split("x")) == s.chips, s
        assert int(s.machine_type.rsplit("-", 1)[1].rstrip("t")) * s.hosts == s.chips, s


@pytest.mark.parametrize("sale", [s for s in SALES if s.accelerator and s.cloud == "gcp"], ids=ids)
def test_google_host_and_accelerator_are_priced_once_each(sale: Sale) -> None:
    """The machine costs host plus accelerators; a TPU slice is one row that includes its host."""
    hosts = [p for p in sale.prices if p.machine_type]
    chips = [p for p in sale.prices if p.accelerator]
    assert (len(hosts), len(chips)) == ((0, 1) if sale.tpu_topology else (1, 1))
    assert chips[0].accelerator_count == sale.accelerator_count


def test_a_known_machine_costs_what_its_parts_do() -> None:
    """g2-standard-4 in us-central1: 0.14679 for the host and 0.56004 for its L4 (skypilot catalogue v8)."""
    (sale,) = [s for s in CATALOG.sales("gcp", "us-central1") if s.machine_type == "g2-standard-4"]
    assert sale.on_demand == Decimal("0.70683")


def test_half_a_price_is_no_price() -> None:
    """Where the accelerator has no trusted figure the whole machine has none."""
    unpriced = {s.accelerator for s in CATALOG.sales("gcp", "us-central1") if s.on_demand is None}
    assert unpriced == {"a100-80", "h100"}


@pytest.mark.parametrize("place", PLACES, ids="-".join)
def test_sales_have_zones_of_their_region(place: tuple[str, str]) -> None:
    """A plan states its zones, so a machine that is sold is sold somewhere."""
    catalog: Catalog = CATALOG
    sales = catalog.sales(*place)
    assert len(sales) > 10
    assert [s for s in sales if not s.zones or any(not z.startswith(place[1]) for z in s.zones)] == []


def test_accelerators_are_shared_only_in_known_ways() -> None:
    """GPUs by time and MPS, the largest by MIG too; a pod takes all chips of a TPU host."""
    for a in CATALOG.accelerators:
        assert set(a.sharing) <= {"time-slicing", "mps", "mig"}
        assert bool(a.sharing) == (a.kind == "gpu")
    assert {a.name for a in CATALOG.accelerators if "mig" in a.sharing} == {"a100-40", "a100-80", "h100"}


def test_accelerators_cost_by_the_piece() -> None:
    """Google prices accelerators by the piece: a row of eight that is not eight times the row of one was misread."""
    one = {(p.accelerator, p.region): p for p in CATALOG.prices if p.machine_type is None and p.accelerator_count == 1}
    compared = 0
    for p in CATALOG.prices:
        single = one.get((p.accelerator, p.region)) if p.machine_type is None else None
        for mine, its in ((p.on_demand, single and single.on_demand), (p.spot, single and single.spot)):
            if mine is not None and its is not None:
                assert abs(mine / p.accelerator_count - its) / its < Decimal("0.001"), p
                compared += 1
    assert compared > 50


def test_aws_families_cost_in_proportion() -> None:
    """c7i.4xlarge costs twice c7i.2xlarge on demand: within a family without accelerators AWS prices by size."""
    shapes = {m.machine_type: m for m in CATALOG.machines if m.cloud == "aws" and m.accelerator is None}
    rates: dict[tuple[str, str], set[Decimal]] = {}
    for p in CATALOG.prices:
        m = shapes.get(p.machine_type or "")
        if p.cloud == "aws" and m and p.on_demand is not None and not m.machine_type.startswith("t3"):
            rates.setdefault((m.machine_type.split(".")[0], p.region), set()).add(p.on_demand / Decimal(m.vcpus))
    assert len(rates) >= 8
    assert {k: v for k, v in rates.items() if max(v) - min(v) > Decimal("0.0001")} == {}
