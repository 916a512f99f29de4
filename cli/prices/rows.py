"""The catalogue's price rows as text: what is asked of a cloud, what its answers change, and the diff of it."""

from __future__ import annotations

import csv
import difflib
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from infra.catalog import Catalog

FIELDS = (
    "cloud",
    "machine_type",
    "accelerator",
    "accelerator_count",
    "region",
    "usd_per_hour",
    "spot_usd_per_hour",
    "source",
    "as_of",
)
PLACES = Decimal("0.000001")
JUMP = Decimal(2)  # a price that doubles or halves between two refreshes was misread more often than changed
Row = dict[str, str]


@dataclass(frozen=True, kw_only=True, order=True)
class Wanted:
    """One price row: a machine in a region, or on Google Cloud accelerators alone. Their order is the file's."""

    cloud: str
    machine_type: str
    accelerator: str
    accelerator_count: int
    region: str

    def __str__(self) -> str:
        what = self.machine_type or f"{self.accelerator_count} {self.accelerator}"
        return f"{self.cloud} {what} in {self.region}"


@dataclass(frozen=True, kw_only=True)
class Quote:
    """What a cloud asks now; None where it gave no figure."""

    on_demand: Decimal | None
    spot: Decimal | None
    source: str


@dataclass(frozen=True, kw_only=True)
class Refreshed:
    rows: tuple[Row, ...]
    doubts: tuple[str, ...]  # answers that were not taken, and why


def wanted(catalog: Catalog, cloud: str) -> list[Wanted]:
    """Each machine type of the catalogue in each of its regions, and each count of accelerators that has a row."""
    regions = catalog.regions(cloud)
    found = {
        Wanted(
            cloud=cloud,
            machine_type=m.machine_type,
            accelerator=m.accelerator or "",
            accelerator_count=m.accelerator_count,
            region=region,
        )
        for m in catalog.machines
        if m.cloud == cloud
        for region in regions
    }
    for p in catalog.prices:
        if p.cloud == cloud and p.machine_type is None:
            count = p.accelerator_count
            found |= {
                Wanted(cloud=cloud, machine_type="", accelerator=p.accelerator or "", accelerator_count=count, region=r)
                for r in regions
            }
    return sorted(found)


def read(path: Path) -> tuple[Row, ...]:
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


def key(row: Row) -> Wanted:
    return Wanted(
        cloud=row["cloud"],
        machine_type=row["machine_type"],
        accelerator=row["accelerator"],
        accelerator_count=int(row["accelerator_count"] or 0),
        region=row["region"],
    )


def refreshed(rows: Sequence[Row], quotes: Iterable[tuple[Wanted, Quote]], as_of: str) -> Refreshed:
    """The rows with the answers in them; a row that a cloud did not answer, or not believably, stays as it is."""
    found = {key(row): row for row in rows}
    doubts = []
    for what, quote in quotes:
        if quote.on_demand is None and quote.spot is None:
            continue
        old = found.get(what)
        doubt = _doubt(old, quote)
        if doubt:
            doubts.append(f"{what}: {doubt}; the row stays as it is")
            continue
        found[what] = _row(what, old, quote, as_of)
    ordered = sorted(found)
    return Refreshed(rows=tuple(found[w] for w in ordered), doubts=tuple(doubts))


def _doubt(old: Row | None, quote: Quote) -> str | None:
    """Why an answer is not believed: what public catalogues have been wrong about."""
    if any(p is not None and p <= 0 for p in (quote.on_demand, quote.spot)):
        return "a price of nothing"
    if quote.on_demand is not None and quote.spot is not None and quote.spot >= quote.on_demand:
        return f"spot {quote.spot} is not below on demand {quote.on_demand}"
    before = Decimal(old["usd_per_hour"]) if old and old["usd_per_hour"] else None
    if before is not None and quote.on_demand is not None:
        times = quote.on_demand / before
        if not 1 / JUMP < times < JUMP:
            return f"on demand {quote.on_demand} is {times:.2f} times the {before} of {old['as_of'] if old else ''}"
    return None


def _row(what: Wanted, old: Row | None, quote: Quote, as_of: str) -> Row:
    on_demand, spot = _text(quote.on_demand), _text(quote.spot)
    source = quote.source
    for name, new in (("usd_per_hour", on_demand), ("spot_usd_per_hour", spot)):
        if old and old[name] and not new:  # better an old figure that says so than none
            kept = "spot" if name.startswith("spot") else "on demand"
            source += f"; {kept} kept: {old['source']}, {old['as_of']}"
    on_demand = on_demand or (old["usd_per_hour"] if old else "")
    spot = spot or (old["spot_usd_per_hour"] if old else "")
    if old and Decimal(on_demand or 0) == Decimal(old["usd_per_hour"] or 0):
        on_demand = old["usd_per_hour"]  # 0.10 and 0.1 are one price
    values = (what.cloud, what.machine_type, what.accelerator, str(what.accelerator_count or ""), what.region)
    return dict(zip(FIELDS, (*values, on_demand, spot, source, as_of), strict=True))


def _text(price: Decimal | None) -> str:
    return "" if price is None else format(price.quantize(PLACES).normalize(), "f")


def lines(rows: Sequence[Row]) -> list[str]:
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().splitlines(keepends=True)


def diff(old: Sequence[Row], new: Sequence[Row], name: str) -> str:
    """Unified, without context: a changed row is a line that goes and a line that comes."""
    return "".join(difflib.unified_diff(lines(old), lines(new), f"a/{name}", f"b/{name}", n=0))


def write(path: Path, rows: Sequence[Row]) -> None:
    """All or nothing: a plan may read the file at any moment."""
    beside = path.with_suffix(".new")
    beside.write_text("".join(lines(rows)), encoding="utf-8")
    os.replace(beside, path)
