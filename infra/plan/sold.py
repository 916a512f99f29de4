"""What the stack's region sells, as the plan reads it from the catalogue: one row a machine, priced with its disk."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from infra.catalog import Catalog
from infra.plan.facts import fact
from infra.spec import Spec
from infra.spec.accelerator import NAMES

HOURS = 730  # a month, as the clouds' calculators count it
BOOT_DISK = {"gcp": "persistent_disk_pd_balanced", "aws": "ebs_gp3_storage"}  # fees of the catalogue, GB-month


@dataclass(frozen=True, kw_only=True)
class Sold:
    """A machine type as the stack's region sells it."""

    machine_type: str
    vcpus: float
    memory_gib: float
    arch: str
    zones: tuple[str, ...]
    on_demand: float | None  # USD an hour for host and accelerators, disk included; None: no price is known
    spot: float | None
    accelerator: str = "none"
    accelerator_count: int = 0  # GPUs, or chips of a TPU slice
    accelerator_memory_gib: float = 0.0  # of one
    tpu_topology: str | None = None


def sold(spec: Spec, catalog: Catalog) -> list[Sold]:
    """Every machine of the region with its accelerators."""
    disk = _disk_usd_per_hour(spec, catalog)
    memory = {a.name: a.memory_gib for a in catalog.accelerators if a.name in NAMES}  # no server runs on the others
    return [
        Sold(
            machine_type=sale.machine_type,
            vcpus=sale.vcpus or 0.0,
            memory_gib=sale.memory_gib or 0.0,
            arch=sale.arch,
            zones=sale.zones,
            on_demand=_with(sale.on_demand, disk),
            spot=_with(sale.spot, disk),
            accelerator=sale.accelerator or "none",
            accelerator_count=sale.accelerator_count,
            accelerator_memory_gib=memory[sale.accelerator] if sale.accelerator else 0.0,
            tpu_topology=sale.tpu_topology,
        )
        for sale in catalog.sales(spec.cloud, spec.region)
        if sale.accelerator is None or sale.accelerator in memory
    ]


def _disk_usd_per_hour(spec: Spec, catalog: Catalog) -> float:
    usd = catalog.fee(spec.cloud, BOOT_DISK[spec.cloud]).usd
    return fact("boot_disk", spec) * float(usd or 0) / HOURS


def _with(price: Decimal | None, disk: float) -> float | None:
    return None if price is None else float(price) + disk
