"""Why there is no plan: the constraint that binds, and the nearest change that would allow one."""

from __future__ import annotations

import math
from collections.abc import Sequence

from infra.plan.errors import Infeasible
from infra.plan.modes import Numbers
from infra.plan.options import Candidate
from infra.plan.sold import Sold
from infra.plan.types import Plan, Rejected
from infra.spec import Fix, Spec
from infra.spec.problems import Problem, nearest, problem

# words of a rejection -> the constraint, the most basic first
CONSTRAINTS = (
    ("server", ("no stock server", "arm64", "instance groups")),
    ("models[].profile", ("no profile",)),
    ("region", ("no on-demand price",)),
    ("zones", ("zones sell it",)),
    ("slo.accelerator_memory", ("slo.accelerator_memory",)),
    ("slo.p99_ms", ("slo.p99_ms",)),
)


def unplanned(
    spec: Spec, n: Numbers, usable: Sequence[Candidate], rejected: Sequence[Rejected], machines: Sequence[Sold]
) -> Infeasible:
    """Nothing carries the load: no such machine, none that can serve, or too few of them allowed."""
    if usable:
        return _too_much_load(spec, n, usable, rejected)
    if not rejected:
        return _not_sold(spec, machines)
    near = max(rejected, key=lambda r: _constraint(r.reason)[0])  # the one that got furthest
    _, binding = _constraint(near.reason)
    reasons = "; ".join(f"{r.machine_type}: {r.reason}" for r in list(rejected)[:3])
    p = _nearest_change(spec, n, binding, reasons)
    return Infeasible([p], binding, rejected)


def _constraint(reason: str) -> tuple[int, str]:
    for i, (name, words) in enumerate(CONSTRAINTS):
        if any(w in reason for w in words):
            return i, name
    return -1, "machine_type"


def _nearest_change(spec: Spec, n: Numbers, binding: str, reasons: str) -> Problem:
    steps: tuple[str, ...] = tuple(binding.replace("[]", "").split("."))
    fix: Fix | None = None
    to_fix: str | None = None
    if binding == "zones":
        steps, fix = (
            (("cost",), Fix(steps=("cost",), value="balanced"))
            if not spec.zones
            else (steps, Fix(steps=steps, op="remove"))
        )
    elif binding == "slo.accelerator_memory":
        to_fix = "ask for an accelerator or machine with more memory, or serve fewer models"
    else:
        to_fix = "ask for another accelerator or region"
    return problem(steps, f"no machine can serve: {reasons}", fix=fix, to_fix=to_fix)


def _not_sold(spec: Spec, machines: Sequence[Sold]) -> Infeasible:
    if spec.machine_type is not None:
        same = [m.machine_type for m in machines if spec.accelerator.name in (m.accelerator, "auto")]
        names = sorted(set(same))
        near = nearest(spec.machine_type, names) or (names[0] if names else None)
        fix = Fix(steps=("machine_type",), value=near) if near else Fix(steps=("machine_type",), op="remove")
        reason = f"{spec.machine_type} with accelerator {spec.accelerator} is not sold in region {spec.region}"
        return Infeasible([problem(("machine_type",), reason, allowed=names, nearest=near, fix=fix)], "machine_type")
    sold = sorted({m.accelerator for m in machines})
    counts = sorted({m.accelerator_count for m in machines if m.accelerator == spec.accelerator.name})
    if counts:
        reason = f"no machine in region {spec.region} carries {spec.accelerator.count} of {spec.accelerator.name}"
        allowed = [f"{spec.accelerator.name}{'-' if spec.accelerator.is_tpu else 'x'}{c}" for c in counts]
    else:
        reason, allowed = f"{spec.accelerator} is not sold in region {spec.region}", sold
    other = Fix(steps=("accelerator",), value=allowed[0]) if allowed else None
    to_fix = None if allowed else "choose a region of the catalogue"
    return Infeasible([problem(("accelerator",), reason, allowed=allowed, fix=other, to_fix=to_fix)], "accelerator")


def _too_much_load(spec: Spec, n: Numbers, usable: Sequence[Candidate], rejected: Sequence[Rejected]) -> Infeasible:
    """Only so many servers are allowed, and the best machine carries less with all of them."""
    most = n.most_replicas[-1] or 0

    def carried(c: Candidate) -> float:
        return c.option.rps * (most // c.option.replicas)

    best = max(usable, key=carried)
    reason = (
        f"{spec.load.peak_rps:g} requests/s is more than the {most} servers that scaling {spec.scaling} allows carry: "
        f"{carried(best) / n.headroom:.0f} on {best.option.name}"
    )
    fix = Fix(steps=("scaling",), value="horizontal")
    to_fix = f"{fix}, or load.peak_rps to {carried(best) / n.headroom:.0f}"
    return Infeasible([problem(("load", "peak_rps"), reason, fix=fix, to_fix=to_fix)], "load.peak_rps", rejected)


def over_budget(spec: Spec, least_usd: float, plan: Plan) -> Infeasible:
    """Even the plan with the least worst month costs more than the budget."""
    budget = spec.budget_usd_per_month
    path = "budget_usd_per_month"
    largest = max(plan.lines, key=lambda x: float(str(x["usd_max"])))
    reason = (
        f"{budget:.2f} USD is below the worst month of every plan; the least is {least_usd:.2f}, "
        f"of it {largest['usd_max']:.2f} for {largest['item']}"
    )
    fix = Fix(steps=(path,), value=math.ceil(least_usd))
    return Infeasible([problem((path,), reason, fix=fix)], path, plan.rejected)
