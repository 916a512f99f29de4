"""The whole plan against brute force: every count of every machine type, each billed in full, by code of its own."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from infra.catalog import Sale, load
from infra.plan import Infeasible, Pool, capacity
from infra.plan.cost_stack import bill
from infra.plan.zones import network_zones
from infra.spec import Spec
from tests.plan.stacks import planned, worked

FEW = 5  # machines of one type, at most
LEAST = {"economy": 1, "balanced": 2, "performance": 2}


@dataclass(frozen=True)
class Fleet:
    expected: float
    worst: float


def rate(spec: Spec, sale: Sale) -> float:
    """What one GPU carries: the largest rate over the batch sizes, within the SLO and nine tenths of its capacity."""
    measured = spec.models[0].profile[str(sale.accelerator)]
    p = capacity.Profile(base_ms=measured.base_ms, per_item_ms=measured.per_item_ms)
    chosen = capacity.best_batch(p, spec.slo.p99_ms, spec.models[0].max_batch, 1, spec.load.burst_cv).max_batch
    within = capacity.max_rps(p, spec.slo.p99_ms, chosen, 1, spec.load.burst_cv)
    return min(within, 0.9 * capacity.capacity_rps(p, chosen, 1))


def pool(spec: Spec, sale: Sale, role: str, spot: bool, least: int, most: int, mean: int) -> Pool:
    return Pool(
        role=role,
        machine_type=sale.machine_type,
        capacity_type="spot" if spot else "on-demand",
        min_nodes=least,
        max_nodes=most,
        expected_nodes=mean,
        accelerator=str(sale.accelerator),
        accelerator_count=sale.accelerator_count,
        zones=tuple(z for z in sale.zones if z in network_zones(spec, load())),
    )


def fleets(spec: Spec, sale: Sale) -> list[Fleet]:
    """Every horizontal fleet of one machine type that keeps what the cost mode promises."""
    assert sale.on_demand is not None
    head = 1.25 if spec.cost == "performance" else 1.0
    node = rate(spec, sale) * sale.accelerator_count
    per = sale.accelerator_count
    spot = spec.cost != "performance" and sale.spot is not None and sale.spot < sale.on_demand
    found = []
    for base in range(1, FEW + 1):
        if base * per < (2 if spec.cost == "performance" else 1):
            continue
        if spec.cost != "economy" and base * node < spec.load.mean_rps * head:
            continue
        for total in range(base, FEW + 1):
            if total * node < spec.load.peak_rps * head or total * per < LEAST[spec.cost]:
                continue
            for mean in range(base, total + 1):
                if mean * node < spec.load.mean_rps * head or mean * per < LEAST[spec.cost]:
                    continue
                kept = max(base, -(-LEAST[spec.cost] // per))
                if spot:
                    pools = [pool(spec, sale, "base", False, base, base, base)]
                    if total > base:
                        pools.append(pool(spec, sale, "burst", True, kept - base, total - base, mean - base))
                else:
                    pools = [pool(spec, sale, "serving", False, kept, total, mean)]
                month = bill(spec, pools, load())
                found.append(Fleet(month.expected, month.max))
    return found


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(s, marks=pytest.mark.slow) for s in range(2, 24))])
def test_expected_month_equals_brute_force(seed: int) -> None:
    rng = random.Random(seed)
    name, accelerator = rng.choice([("gke-gpu", "l4"), ("eks-gpu", "a10g")])
    mean = rng.uniform(20, 500)
    peak = mean * rng.uniform(1, 3)
    model = {
        "name": "m",
        "storage_uri": "models/m",
        "profile": {accelerator: {"base_ms": rng.uniform(1, 6), "per_item_ms": rng.uniform(0.5, 4)}},
    }
    spec = worked(
        name,
        models=[model],
        cost=rng.choice(["economy", "balanced", "performance"]),
        scaling="horizontal",
        load={"mean_rps": mean, "peak_rps": peak, "burst_cv": 1.0},
        slo={"p99_ms": rng.choice([40, 80, 200])},
        budget_usd_per_month=None,
    )
    sales = [s for s in load().sales(spec.cloud, spec.region) if s.accelerator == accelerator and s.on_demand]
    every = [f for sale in sales for f in fleets(spec, sale)]
    try:
        plan = planned(spec)
    except Infeasible:
        assert every == []
        return
    if max(p.max_nodes for p in plan.pools) > FEW:
        pytest.skip(f"more than {FEW} machines: too many to enumerate")
    best = min(f.expected for f in every)
    assert plan.usd_per_month.expected == pytest.approx(best, abs=0.03)  # lines are rounded to the cent
