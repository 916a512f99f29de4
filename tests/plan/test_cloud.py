"""Plans of single stacks: what is chosen, what is rejected and why, and what cannot be planned."""

from __future__ import annotations

import math
from typing import Any

import pytest

from infra.catalog import load
from infra.plan import Infeasible, Kind, Kinds, Plan, latency_at, make_plan
from infra.plan import curve as curve_of
from infra.spec import SpecError, apply_fix, parse, to_values
from tests.plan.stacks import plan, planned, worked


def test_cheapest_type_equals_planning_each_alone() -> None:
    """The choice among all machine types costs what the cheapest of them costs when it is the only one allowed."""
    for name, accelerator in (("gke-gpu", "l4"), ("eks-gpu", "a10g"), ("gce-gpu", "t4")):
        whole = plan(name)
        sales = load().sales(whole.spec.cloud, whole.spec.region)
        costs = []
        for machine_type in {s.machine_type for s in sales if s.accelerator == accelerator}:
            try:
                costs.append(plan(name, machine_type=machine_type).usd_per_month.expected)
            except Infeasible:
                continue
        assert len(costs) >= 3
        assert whole.usd_per_month.expected == pytest.approx(min(costs))


def test_auto_costs_no_more_than_any_accelerator() -> None:
    """`auto` may take every machine, so it is never dearer than one kind of them."""
    slo = {"p99_ms": 300}

    def expected(accelerator: str) -> float:
        p = plan("gke-gpu", accelerator=accelerator, slo=slo, budget_usd_per_month=None)
        return p.usd_per_month.expected

    assert expected("auto") <= min(expected(a) for a in ("none", "t4", "l4")) + 0.01


def test_rejected_have_reasons() -> None:
    p = plan("eks-cpu")
    reasons = {r.machine_type: r.reason for r in p.rejected}
    assert len(reasons) >= 5
    assert all("USD a month more" in r or r for r in reasons.values())
    assert p.pools[0].machine_type not in reasons


def test_burstable_machines_serve_no_steady_load() -> None:
    with pytest.raises(Infeasible, match="burstable"):
        plan("ec2-cpu", machine_type="t3.medium")


def test_arm_is_for_images_that_have_it() -> None:
    with pytest.raises(Infeasible, match="arm64"):
        plan("ec2-cpu", machine_type="c7g.xlarge")
    assert plan("ec2-cpu", machine_type="c7g.xlarge", image="example/triton-arm:1").pools[0].arch == "arm64"


def test_spot_only_where_the_drain_fits_the_notice() -> None:
    """A request may last 30 s: the 105 s of a GKE pool that asks for them suffice, the 15 s of GKE before 1.35 do not,
    and there the plan is on-demand."""
    asked = {"cost": "economy", "max_request_s": 30}
    assert "spot" in {p.capacity_type for p in plan("gke-cpu", **asked).pools}
    older = plan("gke-cpu", **asked, kubernetes_version="1.34")
    assert {p.capacity_type for p in older.pools} == {"on-demand"}
    assert any("15 s" in w for w in older.warnings)
    assert {p.capacity_type for p in plan("gke-cpu", cost="economy", max_request_s=120).pools} == {"on-demand"}
    long_on_eks = plan("eks-cpu", cost="economy", max_request_s=30, machine_type="c7i.2xlarge")
    assert "spot" in {p.capacity_type for p in long_on_eks.pools}


def test_sharing_makes_more_and_slower_servers() -> None:
    alone, shared = plan("gke-gpu"), plan("gke-gpu", gpu_sharing={"strategy": "mps", "clients": 3})
    assert shared.pools[0].replicas_per_node == 3 * alone.pools[0].replicas_per_node
    assert shared.pools[0].node_rps <= alone.pools[0].node_rps
    assert shared.serving.gpu_clients == 3


def test_partitions_make_servers_of_their_own_memory_and_part_of_the_computing() -> None:
    """MIG: 2 of 3/7 each, 3 of 2/7, 7 of 1/7; a part that the GPU has not, or a GPU without parts, is refused."""
    asked: dict[str, Any] = {"accelerator": "a100-40", "budget_usd_per_month": None, "zones": None}
    base = {"base_ms": 1.0, "per_item_ms": 0.3}
    models = [{**m, "profile": {"a100-40": base, "l4": base}} for m in models_of("gke-gpu")]
    alone = plan("gke-gpu", models=models, **asked)
    for clients, slowdown in ((2, 7 / 3), (3, 3.5), (7, 7)):
        divided = plan("gke-gpu", models=models, **asked, gpu_sharing={"strategy": "mig", "clients": clients})
        one, own = divided.pools[0], alone.pools[0]
        assert one.replicas_per_node / one.accelerator_count == clients * own.replicas_per_node / own.accelerator_count
        assert one.models[0].slowdown == pytest.approx(slowdown)
    with pytest.raises(Infeasible, match="a100-40 is divided into 2, 3, 7 parts"):
        plan("gke-gpu", models=models, **asked, gpu_sharing={"strategy": "mig", "clients": 4})
    with pytest.raises(Infeasible, match="l4 has no partitions"):
        plan("gke-gpu", models=models, gpu_sharing={"strategy": "mig", "clients": 7})
    large = [{**m, "memory_mib": 6000} for m in models]
    with pytest.raises(Infeasible, match=r"6000 MiB of memory of a 1g\.5gb of a100-40"):
        plan("gke-gpu", models=large, **asked, gpu_sharing={"strategy": "mig", "clients": 7})


def test_memory_gate_counts_every_model_on_an_accelerator() -> None:
    models = [{**m, "memory_mib": 14_000} for m in models_of("gke-gpu")]
    with pytest.raises(Infeasible) as error:
        plan("gke-gpu", models=[models[0], {**models[0], "name": "other"}])
    assert error.value.binding_constraint == "slo.accelerator_memory"
    assert "28000 MiB of memory of one l4" in str(error.value)


def test_models_divide_the_slots() -> None:
    """Two models on one machine: each has instances, and their parts of the load are the stated shares."""
    p = plan("gce-cpu")
    assert [m.part for m in p.serving.models] == [0.7, 0.3]
    assert sum(m.instances for m in p.serving.models) <= p.pools[0].vcpus


def test_slo_too_tight_names_the_least_service_time() -> None:
    spec = worked("gke-cpu", slo={"p99_ms": 2.5})
    with pytest.raises(Infeasible) as error:
        planned(spec)
    assert error.value.binding_constraint == "slo.p99_ms"
    (p,) = error.value.problems
    assert p.fix is not None
    assert isinstance(planned(parse(apply_fix(to_values(spec), p.fix))), Plan)


def test_vertical_beyond_its_few_servers_names_the_load() -> None:
    load_ = {"mean_rps": 100_000, "peak_rps": 1_000_000}
    with pytest.raises(Infeasible) as error:
        plan("ec2-cpu", load=load_, budget_usd_per_month=None)
    assert error.value.binding_constraint == "load.peak_rps"
    assert "scaling vertical allows" in str(error.value)
    (p,) = error.value.problems
    fixed = apply_fix(to_values(worked("ec2-cpu", load=load_, budget_usd_per_month=None)), p.fix)  # type: ignore[arg-type]
    assert planned(parse(fixed)).max_rps_within_slo >= 1_000_000


def test_budget_refuses_by_the_worst_month_and_its_fix_suffices() -> None:
    spec = worked("gke-gpu", budget_usd_per_month=100)
    with pytest.raises(Infeasible) as error:
        planned(spec)
    assert error.value.binding_constraint == "budget_usd_per_month"
    (p,) = error.value.problems
    assert p.fix is not None
    fixed = planned(parse(apply_fix(to_values(spec), p.fix)))
    assert 100 < fixed.usd_per_month.max <= float(str(p.fix.value))


def test_budget_may_choose_another_plan() -> None:
    """Cheapest at the mean is not cheapest at the peak: with a budget between both the other is taken."""
    free = plan("gke-gpu", accelerator="auto", budget_usd_per_month=None)
    least = math.inf
    budget = free.usd_per_month.max - 1
    try:
        other = plan("gke-gpu", accelerator="auto", budget_usd_per_month=budget)
        least = other.usd_per_month.max
        assert other.usd_per_month.expected >= free.usd_per_month.expected
    except Infeasible as error:
        least = float(str(error.problems[0].fix.value))  # type: ignore[union-attr]
        assert least > budget
    assert least


def test_unsold_accelerator_names_what_is_sold() -> None:
    with pytest.raises(Infeasible, match="l4 is not sold in region eu-west-1; allowed: a10g") as error:
        plan("ec2-gpu", region="eu-west-1", accelerator="l4")
    assert error.value.binding_constraint == "accelerator"


def test_unsold_count_names_the_counts() -> None:
    with pytest.raises(Infeasible, match="carries 8 of t4; allowed: t4x1, t4x2, t4x4"):
        plan("gce-gpu", accelerator="t4x8")


def test_unknown_region_names_the_nearest() -> None:
    with pytest.raises(Infeasible) as error:
        plan("gke-cpu", region="us-centrl1")
    assert "Did you mean 'us-central1'?" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"region": "us-centrl1", "machine_type": "e2-standrd-4"},
            ["Did you mean 'us-central1'", "Did you mean 'e2-standard-4'"],
        ),
        ({"zones": ["us-central1-z"]}, ["us-central1-z is not a zone of region us-central1"]),
        ({"shape": "vm", "admin_cidrs": None, "models": "huge"}, ["waits 3600 s before it replaces a machine"]),
        ({"shape": "vm", "admin_cidrs": None, "max_request_s": 120.0}, ["ends a machine 90 s after it was told to go"]),
    ],
)
def test_rules_with_the_catalogue_come_together(changes: dict[str, Any], words: list[str]) -> None:
    if changes.get("models") == "huge":
        huge = {**models_of("gke-cpu")[0], "size_mib": 190_000}
        changes = {**changes, "models": [huge]}
    with pytest.raises(Infeasible) as error:
        plan("gke-cpu", **changes)
    assert len(error.value.problems) == len(words)
    assert all(w in str(error.value) for w in words)


def models_of(name: str) -> list[dict[str, Any]]:
    models = to_values(worked(name))["models"]
    assert isinstance(models, list)
    return models


def test_on_prem_has_no_catalogue() -> None:
    values = {
        **to_values(worked("gke-cpu")),
        "cloud": "on-prem",
        "project": None,
        "feature_store": "none",
        "features": None,
    }
    values["models"] = [{**m, "storage_uri": "models/churn"} for m in values["models"]]  # type: ignore[attr-defined]
    with pytest.raises(Infeasible, match="no machines of cloud on-prem"):
        planned(parse(values))


def test_kinds_refuse_with_their_reason() -> None:
    kinds = Kinds(stores={"memorystore": Kind(name="memorystore", unsupported={"gcp": "it is closed today."})})
    with pytest.raises(SpecError, match="it is closed today"):
        make_plan(worked("gke-cpu"), kinds, load())


def test_most_accurate_version_that_passes_is_served() -> None:
    """Version 2 is more accurate; with an SLO that only version 1 keeps, version 1 is served, and the gate is named."""
    p = plan("eks-gpu")
    assert [(v.version, v.chosen) for v in p.model_versions] == [(2, True), (1, False)]
    assert [m.version for m in p.models] == [2]
    large, small_one = sorted(models_of("eks-gpu"), key=lambda m: float(m["accuracy"]), reverse=True)
    fast = {**small_one, "profile": {"a10g": {"base_ms": 0.5, "per_item_ms": 0.1}}}
    tight = plan("eks-gpu", models=[large, fast], slo={"p99_ms": 9.9})  # one item of version 2 takes 10 ms
    assert [(v.version, v.chosen, v.gates["p99_ms"]) for v in tight.model_versions] == [
        (2, False, False),
        (1, True, True),
    ]
    small = plan("eks-gpu", slo={"p99_ms": 150, "model_mib": 100})
    assert [(v.version, v.chosen, v.gates["model_mib"]) for v in small.model_versions] == [
        (2, False, False),
        (1, True, True),
    ]


def test_labelled_versions_are_all_served() -> None:
    """A label is a promise to callers: its version is loaded whatever its accuracy, and planned for."""
    models = [{**m, "labels": {"stable": 1, "canary": 2}} for m in models_of("eks-gpu")]
    p = plan("eks-gpu", models=models)
    assert [(v.version, v.chosen) for v in p.model_versions] == [(1, True), (2, True)]
    assert [(m.version, m.part) for m in p.serving.models] == [(1, 0.5), (2, 0.5)]


def test_no_version_passes() -> None:
    with pytest.raises(Infeasible) as error:
        plan("eks-gpu", slo={"p99_ms": 150, "model_mib": 10})
    assert error.value.binding_constraint == "slo.model_mib"


def test_curve_ends_where_the_slo_does() -> None:
    p = plan("gke-gpu")
    points = curve_of(p)
    assert [x.p99_ms for x in points] == sorted(x.p99_ms for x in points)
    assert latency_at(p, p.max_rps_within_slo).p99_ms <= p.spec.slo.p99_ms * 1.001
    at_peak = latency_at(p, p.spec.load.peak_rps)
    assert (at_peak.mean_ms, at_peak.p99_ms) == pytest.approx((p.latency_ms.mean, p.latency_ms.p99))


def test_same_input_same_plan() -> None:
    assert plan("gke-gpu").to_json() == plan("gke-gpu").to_json()
