"""What a plan needs of a bill; infra/plan/cost.py writes it from the catalogue's rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.plan.sold import HOURS
from infra.plan.types import Pool
from infra.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Bill:
    """USD a month: at the least, at the mean load, and in the worst month; with each line and what has no price."""

    min: float
    expected: float
    max: float
    lines: tuple[Mapping[str, object], ...] = ()
    unpriced: tuple[Mapping[str, object], ...] = ()


def price(spec: Spec, pools: Sequence[Pool]) -> Bill:
    """The machines with their disks."""
    hours = {"min": "min_nodes", "expected": "expected_nodes", "max": "max_nodes"}
    totals = {k: sum(getattr(p, n) * p.usd_per_hour for p in pools) * HOURS for k, n in hours.items()}
    lines = tuple(
        {"item": f"{p.machine_type} {p.capacity_type}", "quantity": p.expected_nodes * HOURS, "usd": p.usd_per_hour}
        for p in pools
    )
    return Bill(**totals, lines=lines, unpriced=({"item": "everything beside the machines"},))
