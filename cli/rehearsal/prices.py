"""Prices of what stands in a rehearsal, from the catalogue's rows: machines with their disks, and fees by the hour."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from cli.rehearsal.standing import Machine, Moment
from infra import plan as planning
from infra.catalog import Catalog, Sale
from simulators.core.values import Properties, plain_properties
from simulators.core.world import Thing

HOURS = 730  # of a month
DISKS = {"gcp": "persistent_disk_pd_balanced", "aws": "ebs_gp3_storage"}  # fee of the nodes' boot disks
TOGETHER = 5  # forwarding rules that Google Cloud bills as one
NAT_MACHINES = 32  # more of them cost no more


@dataclass(frozen=True, kw_only=True)
class CatalogPrices:
    catalog: Catalog
    _sales: dict[tuple[str, str], tuple[Sale, ...]] = field(default_factory=dict)

    def machine(self, machine: Machine) -> float | None:
        found = [s for s in self._sold(machine.cloud, machine.region) if s.machine_type == machine.type]
        if machine.accelerator:
            kind = machine.accelerator.lower()
            found = [s for s in found if s.accelerator_count == machine.accelerators and _same(s.accelerator, kind)]
        elif len(found) > 1:
            found = [s for s in found if s.accelerator is None]
        price = next((s.spot if machine.spot else s.on_demand for s in found), None)
        if price is None:
            return None
        disk = self._fee(machine.cloud, DISKS[machine.cloud]) if machine.disk_gib else 0.0
        return float(price) + (disk or 0.0) * machine.disk_gib / HOURS

    def thing(self, thing: Thing, beside: Moment) -> float | None:
        """0.0 for what is free, billed by use, or billed as its machines."""
        billed = _bills().get(thing.token)
        if billed is None or billed["billed"] != "priced" or "machines" in billed["items"].split(";"):
            return 0.0
        properties = plain_properties(thing.outputs)
        rows = [r for r in _hourly().get(thing.token, ()) if _applies(r["when"], properties)]
        parts = [self._part(row, thing, properties, beside) for row in rows]
        known = [p for p in parts if p is not None]
        return sum(known) if parts and len(known) == len(parts) else None

    def _part(self, row: dict[str, str], thing: Thing, properties: Properties, beside: Moment) -> float | None:
        if not row["fee"]:
            return 0.0
        fee = self.catalog.fee(thing.cloud, row["fee"])
        quantity = _quantity(row["quantity"], thing, properties, beside)
        if fee.usd is None or quantity is None:
            return None
        return float(fee.usd) * quantity / (HOURS if fee.unit.endswith("-month") else 1)

    def _sold(self, cloud: str, region: str) -> tuple[Sale, ...]:
        if (cloud, region) not in self._sales:
            self._sales[cloud, region] = self.catalog.sales(cloud, region)
        return self._sales[cloud, region]

    def _fee(self, cloud: str, id: str) -> float | None:
        usd = self.catalog.fee(cloud, id).usd
        return None if usd is None else float(usd)


def _same(accelerator: str | None, label: str) -> bool:
    """The catalogue's t4 is the cloud's nvidia-tesla-t4."""
    name = (accelerator or "").replace("-40", "").replace("-80", "-80gb")
    return bool(name) and label.endswith(name)


def _applies(when: str, properties: Properties) -> bool:
    """`path=value` or `path=least..most`, several with `;`."""
    for test in filter(None, when.split(";")):
        path, _, wanted = test.partition("=")
        value = properties.get(path)
        least, dots, most = wanted.partition("..")
        if dots:
            if not isinstance(value, int | float) or not float(least) <= value <= float(most):
                return False
        elif value != wanted:
            return False
    return True


def _quantity(said: str, thing: Thing, properties: Properties, beside: Moment) -> float | None:
    """A number, a property, or a count of what stands beside it."""
    if said.isdigit():
        return float(said)
    alike = sum(1 for t in beside.things.values() if t.token == thing.token)
    counted = {
        "machines": float(min(sum(beside.machines.values()), NAT_MACHINES)),
        "first_five": 1 / max(alike, 1),
        "further": max(0, alike - TOGETHER) / max(alike, 1),
    }
    value = properties.get(said)
    return counted.get(said, float(value) if isinstance(value, int | float) else None)


@cache
def _bills() -> dict[str, dict[str, str]]:
    """How each type is billed: the rows of the plan's bill."""
    return {row["type"]: row for row in _read(Path(planning.__file__).with_name("cost_resources.csv"))}


@cache
def _hourly() -> dict[str, list[dict[str, str]]]:
    """What of a type's fees runs by the clock, and how much of it one resource is."""
    found: dict[str, list[dict[str, str]]] = {}
    for row in _read(Path(__file__).with_name("hourly.csv")):
        found.setdefault(row["type"], []).append(row)
    return found


def _read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))
