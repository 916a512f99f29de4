"""From a specification to its plan."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from infra.catalog import Catalog
from infra.plan.cloud import Region, plan_cloud
from infra.plan.cost_stack import bill
from infra.plan.errors import Infeasible
from infra.plan.kinds import Kinds
from infra.plan.local import plan_local
from infra.plan.sold import beside, sold
from infra.plan.types import Plan
from infra.plan.versions import best_versions
from infra.spec import Fix, Spec, SpecError
from infra.spec.problems import nearest, problem


def make_plan(spec: Spec, kinds: Kinds, catalog: Catalog | None) -> Plan:
    """The cheapest plan that keeps the SLO; raises Infeasible with what binds, or SpecError with what cannot be.

    `catalog` is not looked at where the cloud is local.
    """
    found = kinds.problems(spec)
    if found:
        raise SpecError(found)
    if spec.cloud == "local":
        return _nearest_slo(spec, lambda s: best_versions(s, partial(plan_local, s)))
    if catalog is None:
        raise TypeError(f"a plan where cloud is {spec.cloud} needs a catalogue")
    _region(spec, catalog)
    bill_of = partial(bill, spec, catalog=catalog)
    region = Region(machines=sold(spec, catalog), beside=beside(spec, bill_of), bill_of=bill_of)
    return _nearest_slo(spec, lambda s: best_versions(s, lambda models: plan_cloud(s, models, region)))


def _nearest_slo(spec: Spec, plan_of: Callable[[Spec], Plan]) -> Plan:
    """The plan; where the SLO is what allows none, the error names the least p99 that does."""
    try:
        return plan_of(spec)
    except Infeasible as error:
        if error.binding_constraint != "slo.p99_ms":
            raise
        least = _least_p99(spec, error, plan_of)
        fix = None if least is None else Fix(steps=("slo", "p99_ms"), value=least)
        to_fix = None if fix else "a faster model, another accelerator or a smaller load"
        found = [
            problem(("slo", "p99_ms"), p.reason, fix=fix, to_fix=to_fix) if p.path == "slo.p99_ms" else p
            for p in error.problems
        ]
        raise Infeasible(found, error.binding_constraint, error.rejected) from None


def _least_p99(spec: Spec, error: Infeasible, plan_of: Callable[[Spec], Plan]) -> float | None:
    """The least p99 at which one of the rejected machines carries something, or a little more, if that gives a plan."""
    known = [r.least_p99_ms for r in error.rejected if r.least_p99_ms is not None]
    for more in (1.02, 1.1, 1.5, 2.0) if known else ():
        p99_ms = math.ceil(min(known) * more * 100) / 100
        try:
            plan_of(replace(spec, slo=replace(spec.slo, p99_ms=p99_ms)))
        except Infeasible:
            continue
        return p99_ms
    return None


def _region(spec: Spec, catalog: Catalog) -> None:
    regions = catalog.regions(spec.cloud)
    if spec.region in regions:
        return
    if not regions:
        reason = f"the catalogue has no machines of cloud {spec.cloud}: its machines are yours, and have no price"
        raise Infeasible([problem(("cloud",), reason, allowed=("gcp", "aws", "local"))], "cloud")
    near = nearest(spec.region, regions) or regions[0]
    fix = Fix(steps=("region",), value=near)
    reason = f"{spec.region} is not a region of cloud {spec.cloud} in the catalogue"
    raise Infeasible([problem(("region",), reason, allowed=regions, nearest=near, fix=fix)], "region")
