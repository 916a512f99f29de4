"""Queries over the catalogue's rows: what a region sells, whole machines with their accelerators, priced once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache

from infra.catalog import rows
from infra.catalog.rows import Accelerator, Attachment, Fee, Machine, Price, Slice, Zones


@dataclass(frozen=True, kw_only=True)
class Sale:
    """A machine with its accelerators as a region sells it.

    `vcpus` and `memory_gib` are None for TPU hosts, whose shape no source here gives. Prices: USD an hour, host and
    accelerators together, None where either part has no trusted figure. `prices` are the rows they come from.
    """

    cloud: str
    region: str
    zones: tuple[str, ...]
    machine_type: str
    vcpus: float | None
    memory_gib: float | None
    arch: str
    accelerator: str | None
    accelerator_count: int
    tpu_topology: str | None
    on_demand: Decimal | None
    spot: Decimal | None
    prices: tuple[Price, ...]


@dataclass(frozen=True, kw_only=True)
class Catalog:
    machines: tuple[Machine, ...]
    prices: tuple[Price, ...]
    accelerators: tuple[Accelerator, ...]
    attachments: tuple[Attachment, ...]
    slices: tuple[Slice, ...]
    zones: tuple[Zones, ...]
    fees: tuple[Fee, ...]

    def regions(self, cloud: str) -> tuple[str, ...]:
        return tuple(sorted({p.region for p in self.prices if p.cloud == cloud}))

    def accelerator(self, name: str) -> Accelerator:
        """Raises KeyError for a name that is not in the catalogue."""
        for row in self.accelerators:
            if row.name == name:
                return row
        raise KeyError(name)

    def fee(self, cloud: str, id: str) -> Fee:
        """Raises KeyError for an item that is not in the catalogue."""
        for row in self.fees:
            if (row.cloud, row.id) == (cloud, id):
                return row
        raise KeyError(f"{cloud} {id}")

    def zones_of(self, cloud: str, region: str, accelerator: str | None) -> tuple[str, ...]:
        """Zones that sell it; those of the region where the catalogue does not say more."""
        known = {z.accelerator: z.zones for z in self.zones if (z.cloud, z.region) == (cloud, region)}
        return known.get(accelerator or "*", known.get("*", ()))

    def sales(self, cloud: str, region: str) -> tuple[Sale, ...]:
        """Everything that the region sells, machines without accelerators first."""
        found = [*self._plain(cloud, region), *self._attached(cloud, region), *self._slices(cloud, region)]
        return tuple(sorted(found, key=lambda s: (s.accelerator or "", s.machine_type, s.accelerator_count)))

    def _here(self, cloud: str, region: str) -> Iterator[Price]:
        return (p for p in self.prices if (p.cloud, p.region) == (cloud, region))

    def _machine(self, cloud: str, machine_type: str) -> Machine:
        return next(m for m in self.machines if (m.cloud, m.machine_type) == (cloud, machine_type))

    def _plain(self, cloud: str, region: str) -> Iterator[Sale]:
        """Machines at the price of one row; a Google host that cannot go without its accelerators is left out."""
        bound = {a.machine_type for a in self.attachments if not a.machine_type.startswith("n1-")}
        for price in self._here(cloud, region):
            if price.machine_type is None or (cloud == "gcp" and price.machine_type in bound):
                continue
            m = self._machine(cloud, price.machine_type)
            yield self._sale(region, m, m.accelerator, m.accelerator_count, (price,))

    def _attached(self, cloud: str, region: str) -> Iterator[Sale]:
        if cloud != "gcp":
            return
        hosts = {p.machine_type: p for p in self._here(cloud, region) if p.machine_type}
        chips = {(p.accelerator, p.accelerator_count): p for p in self._here(cloud, region) if not p.machine_type}
        for a in self.attachments:
            host, accelerators = hosts.get(a.machine_type), chips.get((a.accelerator, a.accelerator_count))
            if host is not None and accelerators is not None:
                m = self._machine(cloud, a.machine_type)
                yield self._sale(region, m, a.accelerator, a.accelerator_count, (host, accelerators))

    def _slices(self, cloud: str, region: str) -> Iterator[Sale]:
        if cloud != "gcp":
            return
        chips = {(p.accelerator, p.accelerator_count): p for p in self._here(cloud, region) if not p.machine_type}
        for s in self.slices:
            price = chips.get((s.accelerator, s.chips))
            if price is not None:
                yield Sale(
                    cloud=cloud,
                    region=region,
                    zones=self.zones_of(cloud, region, s.accelerator),
                    machine_type=s.machine_type,
                    vcpus=None,
                    memory_gib=None,
                    arch="amd64",
                    accelerator=s.accelerator,
                    accelerator_count=s.chips,
                    tpu_topology=s.topology,
                    on_demand=price.on_demand,
                    spot=price.spot,
                    prices=(price,),
                )

    def _sale(self, region: str, m: Machine, accelerator: str | None, count: int, prices: tuple[Price, ...]) -> Sale:
        return Sale(
            cloud=m.cloud,
            region=region,
            zones=self.zones_of(m.cloud, region, accelerator),
            machine_type=m.machine_type,
            vcpus=m.vcpus,
            memory_gib=m.memory_gib,
            arch=m.arch,
            accelerator=accelerator,
            accelerator_count=count,
            tpu_topology=None,
            on_demand=_sum(p.on_demand for p in prices),
            spot=_sum(p.spot for p in prices),
            prices=prices,
        )


def _sum(parts: Iterator[Decimal | None]) -> Decimal | None:
    """None as soon as a part is not known: half a price is no price."""
    total = Decimal(0)
    for part in parts:
        if part is None:
            return None
        total += part
    return total


@cache
def load() -> Catalog:
    return Catalog(
        machines=rows.machines(),
        prices=rows.prices(),
        accelerators=rows.accelerators(),
        attachments=rows.attachments(),
        slices=rows.slices(),
        zones=rows.zones(),
        fees=rows.fees(),
    )
