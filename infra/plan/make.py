"""From a specification to its plan."""

from __future__ import annotations

from functools import partial

from infra.catalog import Catalog
from infra.plan.bill import price
from infra.plan.cloud import plan_cloud
from infra.plan.errors import Infeasible
from infra.plan.kinds import Kinds
from infra.plan.local import plan_local
from infra.plan.sold import sold
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
        return best_versions(spec, partial(plan_local, spec))
    if catalog is None:
        raise TypeError(f"a plan where cloud is {spec.cloud} needs a catalogue")
    _region(spec, catalog)
    machines = sold(spec, catalog)
    return best_versions(spec, lambda models: plan_cloud(spec, models, machines, price))


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
