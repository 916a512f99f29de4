"""From a specification to its plan."""

from __future__ import annotations

from functools import partial

from infra.plan.kinds import Kinds
from infra.plan.local import plan_local
from infra.plan.types import Plan
from infra.plan.versions import best_versions
from infra.spec import Spec, SpecError
from infra.spec.problems import problem


def make_plan(spec: Spec, kinds: Kinds, catalog: object) -> Plan:
    """The cheapest plan that keeps the SLO; raises Infeasible with what binds, or SpecError with what cannot be."""
    found = kinds.problems(spec)
    if found:
        raise SpecError(found)
    if spec.cloud == "local":
        return best_versions(spec, partial(plan_local, spec))
    raise SpecError([problem(("cloud",), f"{spec.cloud} cannot be planned yet", allowed=("local",))])
