"""The catalogue's CSV files read into typed rows; each row carries its source and date."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

HERE = Path(__file__).resolve().parent
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine type's shape. `accelerator` only where it is part of the type (AWS)."""

    cloud: str
    machine_type: str
    vcpus: float
    memory_gib: float
    arch: str  # amd64 | arm64
    accelerator: str | None
    accelerator_count: int
    source: str
    as_of: str


@dataclass(frozen=True, kw_only=True)
class Price:
    """USD an hour in a region, on demand and spot; None where no figure is known or trusted.

    On Google Cloud a row with a machine type is the host alone and a row without is the accelerators alone (a TPU
    slice includes its host); on AWS a row is the whole machine.
    """

    cloud: str
    machine_type: str | None
    accelerator: str | None
    accelerator_count: int  # GPUs, or chips of a TPU slice
    region: str
    on_demand: Decimal | None
    spot: Decimal | None
    source: str
    as_of: str


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """One chip. Memory in GiB, tera-operations a second at 16 bits without sparsity, GB/s."""

    name: str
    kind: str  # gpu | tpu
    label: str
    memory_gib: float
    fp16_tflops: float | None
    memory_bandwidth_gb_s: float
    compute_capability: str | None
    gke_label: str | None  # on Compute Engine the accelerator type
    sharing: tuple[str, ...]  # ways in which pods may share one: k8s-device-plugin docs; T4, L4 and A10G have no MIG
    source: str
    as_of: str


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """How many accelerators a Google host takes."""

    machine_type: str
    accelerator: str
    accelerator_count: int
    source: str
    as_of: str


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A TPU slice on one host."""

    accelerator: str
    chips: int
    topology: str
    machine_type: str
    hosts: int
    source: str
    as_of: str


@dataclass(frozen=True, kw_only=True)
class Zones:
    """Zones of a region that sell an accelerator; `*` stands for machines without one."""

    cloud: str
    region: str
    accelerator: str
    zones: tuple[str, ...]
    source: str
    as_of: str


@dataclass(frozen=True, kw_only=True)
class Fee:
    """What is billed beside machines; `usd` is None where no source gave a figure."""

    cloud: str
    id: str
    item: str
    unit: str
    usd: Decimal | None
    region: str
    source: str
    as_of: str
    note: str


def _read(name: str) -> Iterator[dict[str, str]]:
    with (HERE / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def _money(text: str) -> Decimal | None:
    return Decimal(text) if text else None


def _number(text: str) -> float | None:
    return float(text) if text else None


def _load(name: str, build: Callable[[dict[str, str]], T]) -> tuple[T, ...]:
    return tuple(build(row) for row in _read(name))


def machines() -> tuple[Machine, ...]:
    return _load(
        "machines",
        lambda r: Machine(
            cloud=r["cloud"],
            machine_type=r["machine_type"],
            vcpus=float(r["vcpus"]),
            memory_gib=float(r["memory_gib"]),
            arch=r["arch"],
            accelerator=r["accelerator"] or None,
            accelerator_count=int(r["accelerator_count"] or 0),
            source=r["source"],
            as_of=r["as_of"],
        ),
    )


def prices() -> tuple[Price, ...]:
    return _load(
        "prices",
        lambda r: Price(
            cloud=r["cloud"],
            machine_type=r["machine_type"] or None,
            accelerator=r["accelerator"] or None,
            accelerator_count=int(r["accelerator_count"] or 0),
            region=r["region"],
            on_demand=_money(r["usd_per_hour"]),
            spot=_money(r["spot_usd_per_hour"]),
            source=r["source"],
            as_of=r["as_of"],
        ),
    )


def accelerators() -> tuple[Accelerator, ...]:
    return _load(
        "accelerators",
        lambda r: Accelerator(
            name=r["name"],
            kind=r["kind"],
            label=r["label"],
            memory_gib=float(r["memory_gib"]),
            fp16_tflops=_number(r["fp16_tflops"]),
            memory_bandwidth_gb_s=float(r["memory_bandwidth_gb_s"]),
            compute_capability=r["compute_capability"] or None,
            gke_label=r["gke_label"] or None,
            sharing=tuple(r["sharing"].split()),
            source=r["source"],
            as_of=r["as_of"],
        ),
    )


def attachments() -> tuple[Attachment, ...]:
    return _load(
        "attachments",
        lambda r: Attachment(
            machine_type=r["machine_type"],
            accelerator=r["accelerator"],
            accelerator_count=int(r["accelerator_count"]),
            source=r["source"],
            as_of=r["as_of"],
        ),
    )


def slices() -> tuple[Slice, ...]:
    return _load(
        "tpu_slices",
        lambda r: Slice(
            accelerator=r["accelerator"],
            chips=int(r["chips"]),
            topology=r["topology"],
            machine_type=r["machine_type"],
            hosts=int(r["hosts"]),
            source=r["source"],
            as_of=r["as_of"],
        ),
    )


def zones() -> tuple[Zones, ...]:
    return _load(
        "zones",
        lambda r: Zones(
            cloud=r["cloud"],
            region=r["region"],
            accelerator=r["accelerator"],
            zones=tuple(r["zones"].split()),
            source=r["source"],
            as_of=r["as_of"],
        ),
    )


def fees() -> tuple[Fee, ...]:
    return _load(
        "fees",
        lambda r: Fee(
            cloud=r["cloud"],
            id=r["id"],
            item=r["item"],
            unit=r["unit"],
            usd=_money(r["usd"]),
            region=r["region"],
            source=r["source"],
            as_of=r["as_of"],
            note=r["note"],
        ),
    )
