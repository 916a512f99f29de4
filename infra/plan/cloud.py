"""The plan of a stack in a cloud: options, search, pools, latency, bill."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from infra.plan.bill import Bill
from infra.plan.facts import drain_s, fact, limit, spot_fits, spot_notice_s, startup_s
from infra.plan.generation import digest
from infra.plan.infeasible import over_budget, unplanned
from infra.plan.local import settings
from infra.plan.modes import Numbers, numbers
from infra.plan.options import Candidate, candidates
from infra.plan.search import Choice, Demand, Slice, cheapest_mix, cheapest_single, single
from infra.plan.sold import HOURS, Beside, Sold
from infra.plan.types import LatencyMs, Plan, Pool, Rejected, Replicas, UsdPerMonth
from infra.spec import Model, Spec

SHOWN = 12  # rejected candidates in a plan: the nearest ones, a reader's screen


@dataclass(frozen=True, kw_only=True)
class Region:
    """What the stack's region sells, and what a plan there costs."""

    machines: Sequence[Sold]
    beside: Beside
    bill_of: Callable[[Sequence[Pool]], Bill]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the search gave."""

    choice: Choice
    by_name: dict[str, Candidate]
    rejected: tuple[Rejected, ...]

    def of(self, part: Slice) -> Candidate:
        return self.by_name[part.option.name]


def demand(spec: Spec, n: Numbers, most_usd: float | None = None) -> Demand:
    """The load with the mode's headroom."""
    mean = spec.load.mean_rps * n.headroom
    return Demand(
        mean_rps=mean,
        peak_rps=spec.load.peak_rps * n.headroom,
        base_rps=mean * n.base_of_mean,
        least_replicas=n.least_replicas,
        most_replicas=None,
        least_on_demand=n.least_on_demand,
        elastic=n.elastic,
        most_usd=most_usd,
    )


def plan_cloud(spec: Spec, models: Sequence[Model], region: Region) -> Plan:
    """The cheapest plan for these models; raises Infeasible."""
    found = _found(spec, models, region, most_usd=None)
    plan = _plan(spec, models, found, region)
    budget = spec.budget_usd_per_month
    if budget is None or plan.usd_per_month.max <= budget:
        return plan
    # what does not depend on the machines is the same for every choice: the rest of the budget is theirs
    besides = plan.usd_per_month.max - found.choice.worst_usd * HOURS
    least = _found(spec, models, region, most_usd=None, worst_first=True)
    if least.choice.worst_usd * HOURS + besides > budget:
        raise over_budget(spec, least.choice.worst_usd * HOURS + besides, _plan(spec, models, least, region))
    return _plan(spec, models, _found(spec, models, region, most_usd=(budget - besides) / HOURS), region)


def _found(
    spec: Spec, models: Sequence[Model], region: Region, most_usd: float | None, worst_first: bool = False
) -> Found:
    n = numbers(spec)
    usable, rejected = candidates(spec, n, models, region.machines, region.beside)
    options = [replace(c.option, burst=c.option.worst) if worst_first else c.option for c in usable]
    mix = spec.accelerator.name == "auto" and n.elastic
    search = cheapest_mix if mix else cheapest_single
    choice, wanted = None, demand(spec, n, most_usd)
    for most in n.most_replicas[-1:] if worst_first else n.most_replicas:
        wanted = replace(wanted, most_replicas=most)
        if worst_first:  # the least worst month: every machine at its worst price, all of the time
            wanted = replace(wanted, mean_rps=wanted.peak_rps)
        choice = search(options, wanted)
        if choice is not None:
            break
    if choice is None:
        raise unplanned(spec, n, usable, rejected, region.machines)
    by_name = {c.option.name: c for c in usable}
    return Found(choice=choice, by_name=by_name, rejected=_not_taken(usable, choice, wanted, rejected))


def _not_taken(
    usable: Sequence[Candidate], choice: Choice, wanted: Demand, rejected: Sequence[Rejected]
) -> tuple[Rejected, ...]:
    """The candidates that could serve but cost more, cheapest first, then those that could not."""
    taken = {s.option.name for s in choice.slices}
    priced, few = [], []
    for c in usable:
        if c.option.name in taken:
            continue
        alone = single(c.option, wanted)
        if alone is None:
            reason = f"carries {c.option.rps:.0f} requests/s a machine, and {wanted.most_replicas} servers are allowed"
            few.append(Rejected(machine_type=c.option.name, reason=reason))
            continue
        nodes = sum(s.nodes for s in alone.slices)
        more = (alone.expected_usd - choice.expected_usd) * HOURS
        worst = (alone.worst_usd - choice.worst_usd) * HOURS
        when = f"{more:.2f} USD a month more at the mean load" if more > 0.005 else f"{worst:.2f} more at the peak"
        reason = f"{nodes} of it alone cost {when}"
        priced.append(
            Rejected(machine_type=c.option.name, reason=reason, usd_per_month=round(alone.expected_usd * HOURS, 2))
        )
    priced.sort(key=lambda r: (r.usd_per_month or 0.0, r.machine_type))
    return tuple([*priced, *few, *rejected][:SHOWN])


def _pools(spec: Spec, found: Found) -> tuple[Pool, ...]:
    n, pools = numbers(spec), []
    # replicas that the mode keeps at any time, beyond those of the base
    missing = max(0, n.least_replicas - sum(s.base * s.option.replicas for s in found.choice.slices))
    for part in found.choice.slices:
        c = found.of(part)
        if part.base:
            pools.append(_pool(spec, c, "base", "on-demand", part.base, part.base, part.base))
        if part.burst:
            least = part.burst if not n.elastic else min(part.burst_at_mean, -(-missing // part.option.replicas))
            least = max(least, int(limit("least_group", spec) or 0))
            missing = max(0, missing - least * part.option.replicas)
            kind = "spot" if c.spot else "on-demand"
            expected = max(least, part.burst_at_mean)
            pools.append(_pool(spec, c, "burst", kind, least, part.burst, expected))
    return tuple(_merged(pools))


def _merged(pools: Sequence[Pool]) -> list[Pool]:
    """A burst of the same machines and capacity type as the base is the base with a larger maximum."""
    merged: dict[tuple[str, int, str], Pool] = {}
    for p in pools:
        key = (p.machine_type, p.accelerator_count, p.capacity_type)
        base = merged.get(key)
        merged[key] = (
            p
            if base is None
            else replace(
                base,
                role="serving",
                min_nodes=base.min_nodes + p.min_nodes,
                max_nodes=base.max_nodes + p.max_nodes,
                start_nodes=base.start_nodes + p.start_nodes,
                expected_nodes=base.expected_nodes + p.expected_nodes,
            )
        )
    return list(merged.values())


def _pool(spec: Spec, c: Candidate, role: str, capacity_type: str, least: int, most: int, expected: int) -> Pool:
    m = c.machine
    return Pool(
        role=role,
        machine_type=m.machine_type,
        capacity_type=capacity_type,
        min_nodes=least,
        max_nodes=most,
        start_nodes=most,
        expected_nodes=expected,
        accelerator=m.accelerator,
        accelerator_count=m.accelerator_count,
        tpu_topology=m.tpu_topology,
        vcpus=m.vcpus,
        memory_gib=m.memory_gib,
        arch=m.arch,
        usd_per_hour=c.usd_per_hour if role == "burst" else m.on_demand or 0.0,
        replicas_per_node=c.option.replicas,
        zones=c.zones,
        disk_gib=int(fact("boot_disk", spec)),
        node_rps=c.option.rps,
        models=settings(spec, c.server).models,
    )


def _latency(spec: Spec, found: Found) -> LatencyMs:
    """At the peak, each machine loaded in proportion to what it carries: the worst 99th percentile, the mean of all."""
    load = spec.load.peak_rps / found.choice.rps
    mean = p99 = 0.0
    for part in found.choice.slices:
        c = found.of(part)
        at = c.server.latency(load * c.server.max_rps, spec.load.burst_cv)
        mean += at.mean_ms * part.nodes * part.option.rps / found.choice.rps
        p99 = max(p99, at.p99_ms)
    return LatencyMs(mean=mean, p99=p99)


def _binding(spec: Spec, found: Found) -> str:
    """What a cheaper plan would break: the load within a limit of the SLO, or the mode's least number of replicas."""
    largest = max(found.choice.slices, key=lambda s: s.nodes)
    nodes = sum(s.nodes for s in found.choice.slices)
    spare = found.choice.rps - largest.option.rps
    if nodes > 1 and spare >= spec.load.peak_rps * numbers(spec).headroom:
        return "cost"
    return found.of(largest).server.binding


def _plan(spec: Spec, models: Sequence[Model], found: Found, region: Region) -> Plan:
    pools = _pools(spec, found)
    main = found.of(max(found.choice.slices, key=lambda s: s.nodes * s.option.rps))
    accelerated = any(p.accelerator != "none" for p in pools)
    serving = replace(settings(spec, main.server), startup_budget_s=startup_s(spec, accelerated=accelerated))
    costs = region.bill_of(pools)
    least = sum(p.min_nodes * p.replicas_per_node for p in pools)
    most = sum(p.max_nodes * p.replicas_per_node for p in pools)
    predictions = spec.load.mean_rps * HOURS * 3600 / 1e6
    return Plan(
        spec=spec,
        pools=pools,
        replicas=Replicas(min=least, max=most, start=most),
        serving=serving,
        latency_ms=_latency(spec, found),
        max_rps_within_slo=found.choice.rps,
        generation=digest(spec, pools, serving, models),
        usd_per_month=UsdPerMonth(min=costs.min, expected=costs.expected, max=costs.max),
        usd_per_million_predictions=costs.expected / predictions,
        lines=costs.lines,
        unpriced=costs.unpriced,
        rejected=found.rejected,
        binding_constraint=_binding(spec, found),
        warnings=tuple(_warnings(spec, pools)),
    )


def _warnings(spec: Spec, pools: Sequence[Pool]) -> Iterator[str]:
    if numbers(spec).spot and not spot_fits(spec):
        yield (
            f"no spot machines: a drain takes {drain_s(spec):g} s with max_request_s {spec.max_request_s:g}, and the "
            f"notice of a spot machine is {spot_notice_s(spec):g} s"
        )
    if sum(p.min_nodes * p.replicas_per_node for p in pools) == 1:
        yield "one replica: while its machine is replaced after a fault, nothing answers; cost balanced keeps two"
    if "@sha256:" not in (spec.image or "") and not any(v.startswith("sha256:") for v in spec.pins.values()):
        yield "unpinned: the images are tags, which their registries may move. To fix: slipway pin STACK"
