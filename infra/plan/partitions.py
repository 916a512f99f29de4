"""How one GPU is divided among pods: in parts of its own hardware (MIG), or by turns."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

MIG = "mig"
SLICES = 7  # of computing, on every GPU that has partitions


@dataclass(frozen=True, kw_only=True)
class Partition:
    """One of the equal parts into which a GPU is divided."""

    accelerator: str
    clients: int  # parts of a GPU
    profile: str  # as the driver names it
    slices: int
    memory_gib: float

    @property
    def slowdown(self) -> float:
        return SLICES / self.slices


@cache
def partitions() -> tuple[Partition, ...]:
    with Path(__file__).with_name("partitions.csv").open(newline="", encoding="utf-8") as file:
        return tuple(
            Partition(
                accelerator=r["accelerator"],
                clients=int(r["clients"]),
                profile=r["profile"],
                slices=int(r["slices"]),
                memory_gib=float(r["memory_gib"]),
            )
            for r in csv.DictReader(file)
        )


def partition(accelerator: str, clients: int) -> Partition | None:
    return next((p for p in partitions() if (p.accelerator, p.clients) == (accelerator, clients)), None)


def no_partition(accelerator: str, clients: int) -> str | None:
    """Why a GPU cannot be divided into so many parts, if it cannot."""
    known = sorted(p.clients for p in partitions() if p.accelerator == accelerator)
    if not known:
        return f"{accelerator} has no partitions (MIG)"
    if clients in known:
        return None
    return f"{accelerator} is divided into {', '.join(map(str, known))} parts, and gpu_sharing.clients is {clients}"
