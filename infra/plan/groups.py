"""How a group of machines scales: the bounds of its autoscaler, and the part of its capacity that it keeps in use."""

from __future__ import annotations

import math
from dataclasses import dataclass

from infra.plan.facts import fact, limit, startup_s
from infra.plan.modes import numbers
from infra.plan.types import Plan, Pool
from infra.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Scaling:
    least: int
    most: int
    start: int  # at creation; afterwards an autoscaler's
    target: float  # of the requests that its machines carry within the SLO
    awaited: bool = True  # an `up` ends when they answer; not: others stand in where there are none today


def scaling(plan: Plan, pool: Pool) -> Scaling:
    """What the pool says. Where spot machines may not come, the on-demand ones grow in their place: at a higher target,
    so that they do so only when spot has not."""
    spec, most = plan.spec, max(pool.max_nodes, 1)
    spot = [p for p in plan.pools if p.capacity_type == "spot"]
    stands_in = bool(spot) and numbers(spec).spot_fallback and _kind(pool) == _first_on_demand(plan)
    if not stands_in:
        own = fact("scale_target", spec)
        awaited = pool.capacity_type != "spot" or not numbers(spec).spot_fallback
        return Scaling(least=pool.min_nodes, most=most, start=pool.start_nodes, target=own, awaited=awaited)
    instead = sum(p.max_nodes * p.node_rps for p in spot) / pool.node_rps  # in a mix one carries more than another
    standing = fact("fallback_target", spec)
    return Scaling(
        least=pool.min_nodes, most=most + math.ceil(round(instead, 6)), start=pool.start_nodes, target=standing
    )


def prepares(spec: Spec, pool: Pool) -> bool:
    """Whether machines beyond those in service are made ready and stopped, where the cloud has such a thing: it pays
    where a start takes long and a machine costs many times what its disk does. Spot machines cannot be kept so."""
    long, dear = limit("prepare_from_s", spec), limit("prepare_from_usd", spec)
    if long is None or dear is None or pool.capacity_type == "spot" or pool.min_nodes >= pool.max_nodes:
        return False
    starts = startup_s(spec, accelerated=pool.accelerator != "none")
    return starts >= long and pool.usd_per_hour >= dear


def _first_on_demand(plan: Plan) -> tuple[str, int, str] | None:
    return next((_kind(p) for p in plan.pools if p.capacity_type != "spot"), None)


def _kind(pool: Pool) -> tuple[str, int, str]:
    """A plan has one pool of each kind; its role may have been made unique meanwhile."""
    return pool.machine_type, pool.accelerator_count, pool.capacity_type
