"""What a phase amounts to beyond its steps: quota at its peak, extra cost, and the requests that were served."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from cli.rehearsal.report import Phase, Served
from cli.rehearsal.standing import Machine, Moment, moments, quotas, units
from simulators.core import traffic
from simulators.core.timeline import Timeline
from simulators.core.traffic import Demand
from simulators.core.world import Thing, World

if TYPE_CHECKING:
    from infra.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Case:
    """One phase that has run. `served`: requests were asked for before it began and are during it."""

    world: World
    timeline: Timeline
    phase: Phase
    outputs: Mapping[str, Any]
    config: Mapping[str, str]
    served: bool
    destroys: bool


Judgement = tuple[Phase, tuple[str, ...]]
Judge = Callable[[Case], Judgement]


class Prices(Protocol):
    """USD an hour; None where no figure is known."""

    def machine(self, machine: Machine) -> float | None: ...

    def thing(self, thing: Thing, beside: Moment) -> float | None:
        """Without its machines; 0.0 for what costs nothing by the hour."""
        ...


def quota(case: Case) -> Judgement:
    """The most that is counted at once, old and new together."""
    peak: dict[str, float] = {}
    for moment in moments(case.world, case.timeline.steps, case.timeline.makespan_s):
        for name, used in {**quotas(moment.things), **units(moment.machines)}.items():
            if used:
                peak[name] = max(peak.get(name, 0), used)
    return replace(case.phase, quota_peak=dict(sorted(peak.items()))), ()


@dataclass(frozen=True, kw_only=True)
class Money:
    """Extra cost: what runs during the phase beyond what runs after it, for as long as it does."""

    prices: Prices

    def __call__(self, case: Case) -> Judgement:
        curve = list(moments(case.world, case.timeline.steps, case.timeline.makespan_s))
        unknown: set[str] = set()
        rates = [self._rate(m, unknown) for m in curve]
        ends = [*(m.at_s for m in curve[1:]), case.timeline.makespan_s]
        extra = sum(max(0.0, r - rates[-1]) * (end - m.at_s) for m, r, end in zip(curve, rates, ends, strict=True))
        steady = self._of(curve[0]) & self._of(curve[-1])
        return replace(case.phase, extra_cost_usd=round(extra / 3600, 4), unpriced=tuple(sorted(unknown - steady))), ()

    def _rate(self, moment: Moment, unknown: set[str]) -> float:
        total = 0.0
        for machine, count in moment.machines.items():
            price = self.prices.machine(machine)
            if price is None:
                unknown.add(f"{machine.type} in {machine.region}{' spot' if machine.spot else ''}")
            total += (price or 0.0) * count
        for thing in moment.things.values():
            fee = self.prices.thing(thing, moment)
            if fee is None:
                unknown.add(thing.token)
            total += fee or 0.0
        return total

    def _of(self, moment: Moment) -> set[str]:
        """Types that stand there all the time change nothing, whatever they cost."""
        return {t.token for t in moment.things.values()}


@dataclass(kw_only=True)
class Traffic:
    """Requests at the planned peak against what the generations serve that stand; rates by Deployment, or by group."""

    planned: Callable[[Mapping[str, str]], Plan | None]
    read: Callable[[Mapping[str, Any]], Plan | None]
    parts: Callable[[Plan], list[str]]
    rates: dict[str, float] = field(default_factory=dict)
    demand_rps: float = 0.0

    def __call__(self, case: Case) -> Judgement:
        plan = self.read(case.outputs)
        generation = str(case.outputs.get("generation") or "*")
        if plan is None and not case.destroys:  # it failed: what it was building serves as its plan says
            plan, generation = self.planned(case.config), "*"
        if plan is not None:
            for part, pool in zip(self.parts(plan), plan.pools, strict=True):
                name = f"server-{part}-{generation}" if plan.spec.shape == "kubernetes" else f"*-{part}-{generation}*"
                self.rates.setdefault(name, pool.node_rps / pool.replicas_per_node)
            self.demand_rps = plan.spec.load.peak_rps
        asked = self.demand_rps if case.served else 0.0
        exact_first = dict(sorted(self.rates.items(), key=lambda r: "*" in r[0]))
        found = traffic.capacity(case.world, case.timeline.steps, Demand(rps=asked, rates=exact_first))
        curve = tuple(Served(at_s=p.at_s, capacity_rps=p.capacity_rps, demand_rps=p.demand_rps) for p in found.points)
        phase = replace(
            case.phase,
            failed_requests=found.failed_requests,
            min_capacity_ratio=round(found.min_capacity_ratio, 4) if case.served else None,
            served=curve,
        )
        lost = [
            f"{x.requests:,.0f} requests fail from {x.start_s:.0f} s to {x.end_s:.0f} s: {x.why}" for x in found.losses
        ]
        return phase, () if case.destroys else (*found.problems, *lost)
