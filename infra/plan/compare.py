"""The same stack in both scaling modes, all cost modes and both shapes, side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from infra.plan.errors import Infeasible
from infra.plan.modes import variants
from infra.plan.types import Plan
from infra.spec import Spec, SpecError, parse, to_values

SHAPES = {"kubernetes": "vm", "vm": "kubernetes"}
OF_A_CLUSTER = ("admin_cidrs", "kubernetes_version", "workload_identity")  # keys that mean nothing beside one
CALLERS = ["203.0.113.0/24"]  # documentation addresses: who may reach a control plane is no part of a plan


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One pair of modes in one shape: its plan, or why there is none."""

    scaling: str
    cost: str
    shape: str
    plan: Plan | None
    infeasible: Infeasible | None


def compare(spec: Spec, plan_of: Callable[[Spec], Plan]) -> list[Variant]:
    """The stack's own pair of modes first, each in its own shape and then in the other, where the cloud has another;
    `plan_of` is make_plan with the kinds and the catalogue."""
    other, refused = _in_other_shape(spec)
    found = []
    for scaling, cost in variants(spec):
        for shaped in (spec, *([other] if other is not None else [])):
            found.append(_variant(replace(shaped, scaling=scaling, cost=cost), plan_of))
    return [*found, *([refused] if refused is not None else [])]  # the reason is no mode's: once is enough


def _variant(spec: Spec, plan_of: Callable[[Spec], Plan]) -> Variant:
    plan, infeasible = None, None
    try:
        plan = plan_of(spec)
    except Infeasible as error:
        infeasible = error
    return Variant(scaling=spec.scaling, cost=spec.cost, shape=spec.shape, plan=plan, infeasible=infeasible)


def _in_other_shape(spec: Spec) -> tuple[Spec | None, Variant | None]:
    """The same wishes of the other shape, or why it cannot serve them; neither where the cloud has but one."""
    shape = SHAPES[spec.shape]
    values: dict[str, object] = {k: v for k, v in to_values(spec).items() if k not in OF_A_CLUSTER}
    values |= {"shape": shape, **({"admin_cidrs": CALLERS} if shape == "kubernetes" else {})}
    try:
        return parse(values), None
    except SpecError as error:
        if any(p.path == "shape" for p in error.problems):
            return None, None
        why = Infeasible(error.problems, "configuration")
        return None, Variant(scaling=spec.scaling, cost=spec.cost, shape=shape, plan=None, infeasible=why)
