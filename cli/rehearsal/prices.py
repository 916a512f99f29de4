"""Prices of what stands in a rehearsal, from the catalogue's rows: machines with their disks, and fees by the hour."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from cli.rehearsal.standing import Machine
from infra import plan as planning
from infra.catalog import Catalog, Sale
from simulators.core.world import Thing

HOURS = 730  # of a month
DISKS = {"gcp": "persistent_disk_pd_balanced", "aws": "ebs_gp3_storage"}  # fee of the nodes' boot disks
BY_THE_HOUR = ("cluster-hour", "gateway-hour")  # of which a resource is one


@dataclass(frozen=True, kw_only=True)
class CatalogPrices:
    catalog: Catalog
    _sales: dict[tuple[str, str], tuple[Sale, ...]] = field(default_factory=dict)
    _fees: dict[str, float | None] = field(default_factory=dict)

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

    def thing(self, thing: Thing) -> float | None:
        if thing.token not in self._fees:
            self._fees[thing.token] = self._hourly(thing.token)
        return self._fees[thing.token]

    def _sold(self, cloud: str, region: str) -> tuple[Sale, ...]:
        if (cloud, region) not in self._sales:
            self._sales[cloud, region] = self.catalog.sales(cloud, region)
        return self._sales[cloud, region]

    def _hourly(self, token: str) -> float | None:
        """0.0 for what is free, billed by use, or billed as its machines."""
        row = _rows().get(token)
        if row is None or row["billed"] != "priced":
            return 0.0
        items = row["items"].split(";")
        cloud = token.partition(":")[0]
        fees = [f for f in self.catalog.fees if f.cloud == cloud and f.id in items and f.unit in BY_THE_HOUR]
        if fees:
            known = [float(f.usd) for f in fees if f.usd is not None]
            return sum(known) if len(known) == len(fees) else None
        return 0.0 if "machines" in items else None

    def _fee(self, cloud: str, id: str) -> float | None:
        usd = self.catalog.fee(cloud, id).usd
        return None if usd is None else float(usd)


def _same(accelerator: str | None, label: str) -> bool:
    """The catalogue's t4 is the cloud's nvidia-tesla-t4."""
    name = (accelerator or "").replace("-40", "").replace("-80", "-80gb")
    return bool(name) and label.endswith(name)


@cache
def _rows() -> dict[str, dict[str, str]]:
    """How each type is billed: the rows of the plan's bill."""
    file = Path(planning.__file__).with_name("cost_resources.csv")
    with file.open(newline="", encoding="utf-8") as handle:
        return {row["type"]: row for row in csv.DictReader(handle)}
