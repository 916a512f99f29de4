"""Any sound configuration has a plan that keeps what it says, or an error that says why, and nothing else."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.catalog import load
from infra.plan import Kinds, Plan, make_plan
from infra.spec import Problem, SpecError, parse, to_values
from tests.plan.stacks import CLOUDS, worked

PROFILE = {p: {"base_ms": 2.0 if p == "vcpu" else 1.0, "per_item_ms": 2.0 if p == "vcpu" else 0.2} for p in
           ("vcpu", "t4", "l4", "a10g", "l40s", "a100-40", "a100-80", "h100", "v5e", "v6e")}  # fmt: skip
CHANGES: dict[str, list[Any]] = {
    "scaling": ["horizontal", "vertical"],
    "cost": ["economy", "balanced", "performance"],
    "accelerator": ["none", "t4", "l4", "l4x2", "a10g", "l40s", "a100-40x8", "h100", "v5e-4", "v6e", "auto"],
    "region": ["us-central1", "europe-west4", "us-east-1", "eu-west-1", "moon-1"],
    "load": [{"mean_rps": m, "peak_rps": 9 * m, "burst_cv": cv} for m in (0.01, 50, 3e5) for cv in (1, 4)],
    "slo": [{"p99_ms": p, "accelerator_utilization": u} for p in (0.1, 30, 5000) for u in (0.05, 0.9)],
    "gpu_sharing": [{"strategy": "mps", "clients": 48}],
    "machine_type": ["e2-standard-8", "g2-standard-24", "g5.12xlarge", "nothing-1"],
    "zones": [["us-central1-a"], ["us-east-1a", "us-east-1b"]],
    "max_request_s": [0.1, 600],
    "budget_usd_per_month": [0.01, 1e8],
    "models": [[{"name": f"m{i}", "storage_uri": "m", "size_mib": size, "profile": PROFILE} for i in range(n)]
               for n in (1, 5) for size in (0.1, 150_000)],
}  # fmt: skip


def planned(values: dict[str, Any]) -> tuple[Plan | None, tuple[Problem, ...]]:
    try:
        return make_plan(parse(values), Kinds(), load()), ()
    except SpecError as error:
        return None, error.problems


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(CLOUDS), st.fixed_dictionaries({}, optional={k: st.sampled_from(v) for k, v in CHANGES.items()}))
def test_plan_or_reason(name: str, changes: dict[str, Any]) -> None:
    plan, problems = planned({**to_values(worked(name)), **changes})
    assert (plan is None) == bool(problems)
    assert all(p.path and p.reason for p in problems)
    if plan is None:
        return
    assert plan.max_rps_within_slo >= plan.spec.load.peak_rps * (1 - 1e-6)
    assert plan.latency_ms.p99 <= plan.spec.slo.p99_ms
    assert plan.spec.budget_usd_per_month is None or plan.usd_per_month.max <= plan.spec.budget_usd_per_month
    assert all(len(p.models) == len(plan.models) for p in plan.pools)
