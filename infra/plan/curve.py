"""Latency of a plan over the load: what a person looks at to see where the SLO ends."""

from __future__ import annotations

from dataclasses import dataclass

from infra.plan import capacity
from infra.plan.types import Plan, Pool


@dataclass(frozen=True, kw_only=True)
class Point:
    rps: float
    mean_ms: float
    p99_ms: float


def curve(plan: Plan, points: int = 40, beyond: float = 1.1) -> list[Point]:
    """Latency with every planned server running, from a small load to a little beyond the largest within the SLO."""
    steps = [plan.max_rps_within_slo * beyond * (i + 1) / points for i in range(points)]
    return [latency_at(plan, rps) for rps in steps]


def latency_at(plan: Plan, rps: float) -> Point:
    """Each pool takes its part of the load in proportion to what it carries; the worst 99th percentile counts."""
    rates = [_rate(plan, p) for p in plan.pools]
    total = sum(rates)
    mean = p99 = 0.0
    for pool, rate in zip(plan.pools, rates, strict=True):
        servers = pool.max_nodes * pool.replicas_per_node
        for m in pool.models:
            model = next(x for x in plan.spec.models if (x.name, x.version) == (m.name, m.version))
            measured = model.profile["vcpu" if pool.accelerator == "none" else pool.accelerator]
            profile = capacity.Profile(
                base_ms=measured.base_ms * m.slowdown, per_item_ms=measured.per_item_ms * m.slowdown
            )
            each = rps * rate / total / servers * m.part
            at = capacity.latency(profile, each, m.max_batch, m.instances, plan.spec.load.burst_cv)
            mean += at.mean_ms * m.part * rate / total
            p99 = max(p99, at.p99_ms)
    return Point(rps=rps, mean_ms=mean, p99_ms=p99)


def _rate(plan: Plan, pool: Pool) -> float:
    """What a pool is given of the load: in proportion to what it carries within the SLO."""
    return pool.max_nodes * pool.node_rps
