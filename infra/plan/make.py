"""From a specification to its plan."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from infra.catalog import Catalog
from infra.plan import rules
from infra.plan.cloud import Region, plan_cloud
from infra.plan.cost_stack import bill
from infra.plan.errors import Infeasible
from infra.plan.kinds import Kinds
from infra.plan.local import plan_local
from infra.plan.sold import beside, sold
from infra.plan.types import Plan
from infra.plan.versions import best_versions
from infra.spec import Fix, Spec
from infra.spec.problems import problem


def make_plan(spec: Spec, kinds: Kinds, catalog: Catalog | None) -> Plan:
    """The cheapest plan that keeps the SLO; raises Infeasible with what binds, or with every rule that it breaks.

    `catalog` is not looked at where the cloud is local.
    """
    if spec.cloud != "local" and catalog is None:
        raise TypeError(f"a plan where cloud is {spec.cloud} needs a catalogue")
    found = kinds.problems(spec)
    if catalog is not None and spec.cloud != "local":
        found += rules.check(spec, catalog)
    if found:
        raise Infeasible(found, found[0].path)
    if catalog is None or spec.cloud == "local":
        return _nearest_slo(spec, lambda s: best_versions(s, partial(plan_local, s)))
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
