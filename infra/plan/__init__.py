"""Pure: capacity model, the two modes, the search, cost, and the transition between two plans."""

from __future__ import annotations

from infra.plan.compare import Variant, compare
from infra.plan.curve import Point, curve, latency_at
from infra.plan.errors import Infeasible
from infra.plan.kinds import Kind, Kinds
from infra.plan.make import make_plan
from infra.plan.transition import Transition, transition
from infra.plan.types import LatencyMs, ModelServing, ModelVersion, Plan, Pool, Rejected, Replicas, Serving, UsdPerMonth

__all__ = [
    "Infeasible",
    "Kind",
    "Kinds",
    "LatencyMs",
    "ModelServing",
    "ModelVersion",
    "Plan",
    "Point",
    "Pool",
    "Rejected",
    "Replicas",
    "Serving",
    "Transition",
    "UsdPerMonth",
    "Variant",
    "compare",
    "curve",
    "latency_at",
    "make_plan",
    "transition",
]
