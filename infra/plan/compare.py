"""The same stack in both scaling modes and all cost modes, side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from infra.plan.errors import Infeasible
from infra.plan.modes import variants
from infra.plan.types import Plan
from infra.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One pair of modes: its plan, or why there is none."""

    scaling: str
    cost: str
    plan: Plan | None
    infeasible: Infeasible | None


def compare(spec: Spec, plan_of: Callable[[Spec], Plan]) -> list[Variant]:
    """The stack's own pair of modes first; `plan_of` is make_plan with the kinds and the catalogue."""
    found = []
    for scaling, cost in variants(spec):
        try:
            plan = plan_of(replace(spec, scaling=scaling, cost=cost))
        except Infeasible as error:
            found.append(Variant(scaling=scaling, cost=cost, plan=None, infeasible=error))
        else:
            found.append(Variant(scaling=scaling, cost=cost, plan=plan, infeasible=None))
    return found
