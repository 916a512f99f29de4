"""What the stack's region sells, as the plan reads it from the catalogue, and what a node costs beside its machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from infra.catalog import Catalog
from infra.plan.bill import Bill
from infra.plan.facts import fact
from infra.plan.types import Pool
from infra.plan.zones import network_zones
from infra.spec import Spec
from infra.spec.accelerator import NAMES

HOURS = 730  # a month, as the clouds' calculators count it


@dataclass(frozen=True, kw_only=True)
class Sold:
    """A machine type as the stack's region sells it."""

    machine_type: str
    vcpus: float
    memory_gib: float
    arch: str
    zones: tuple[str, ...]
    on_demand: float | None  # USD an hour for host and accelerators; None: no price is known
    spot: float | None
    accelerator: str = "none"
    accelerator_count: int = 0  # GPUs, or chips of a TPU slice
    accelerator_memory_gib: float = 0.0  # of one
    tpu_topology: str | None = None


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What each node costs beside its machine, USD an hour: disk, its part of NAT, the image that each start pulls."""

    base: float  # a node that always runs
    burst: float  # one that runs at the mean load, and comes and goes
    worst: float  # one that runs at the peak alone, in the worst month


def beside(spec: Spec, bill_of: Callable[[Sequence[Pool]], Bill]) -> Beside:
    """Read off the bill itself: of a pool of unknown machines with one node more of each sort."""
    none = bill_of([])
    always, burst, peak = (bill_of([_node(spec, *counts)]) for counts in ((1, 1), (0, 1), (0, 0)))
    return Beside(
        base=(always.expected - none.expected) / HOURS,
        burst=(burst.expected - none.expected) / HOURS,
        worst=(peak.max - none.max) / HOURS,
    )


def _node(spec: Spec, least: int, expected: int) -> Pool:
    return Pool(
        role="serving",
        machine_type="any",
        capacity_type="on-demand",
        min_nodes=least,
        max_nodes=1,
        expected_nodes=expected,
        disk_gib=int(fact("boot_disk", spec)),
    )


def sold(spec: Spec, catalog: Catalog) -> list[Sold]:
    """Every machine of the region with its accelerators."""
    memory = {a.name: a.memory_gib for a in catalog.accelerators if a.name in NAMES}  # no server runs on the others
    ours = network_zones(spec, catalog)
    return [
        Sold(
            machine_type=sale.machine_type,
            vcpus=sale.vcpus or 0.0,
            memory_gib=sale.memory_gib or 0.0,
            arch=sale.arch,
            zones=tuple(z for z in sale.zones if z in ours),
            on_demand=None if sale.on_demand is None else float(sale.on_demand),
            spot=None if sale.spot is None else float(sale.spot),
            accelerator=sale.accelerator or "none",
            accelerator_count=sale.accelerator_count,
            accelerator_memory_gib=memory[sale.accelerator] if sale.accelerator else 0.0,
            tpu_topology=sale.tpu_topology,
        )
        for sale in catalog.sales(spec.cloud, spec.region)
        if sale.accelerator is None or sale.accelerator in memory
    ]
