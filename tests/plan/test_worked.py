"""Every worked stack in both scaling modes and all cost modes: what each mode promises holds in the plan."""

from __future__ import annotations

import json

import pytest

from infra.catalog import load
from infra.plan import Infeasible, Plan, compare, make_plan
from infra.plan.facts import drain_s, spot_notice_s
from stacks import registry
from tests.plan.stacks import CLOUDS, CONFIG, WORKED, planned, worked

MODES = [(s, c) for s in ("horizontal", "vertical") for c in ("economy", "balanced", "performance")]


def test_every_worked_stack_is_there() -> None:
    clouds = {f"{c}-{p}" for c in ("gke", "gce") for p in ("cpu", "gpu", "tpu")}
    assert set(WORKED) == {"local", *clouds, "eks-cpu", "eks-gpu", "ec2-cpu", "ec2-gpu"}


@pytest.mark.parametrize("name", WORKED)
def test_stack_is_planned_as_it_stands(name: str) -> None:
    check(planned(worked(name)))


@pytest.mark.parametrize(("scaling", "cost"), MODES)
@pytest.mark.parametrize("name", WORKED)
def test_every_mode(name: str, scaling: str, cost: str) -> None:
    spec = worked(name, scaling=scaling, cost=cost)
    p = planned(spec)
    check(p)
    if scaling == "vertical":
        assert p.replicas.min == p.replicas.max == p.replicas.start
        assert all(pool.min_nodes == pool.max_nodes for pool in p.pools)
    if cost == "economy" and name != "local":
        assert any(pool.capacity_type == "on-demand" and pool.min_nodes for pool in p.pools)
    if cost == "balanced":
        assert on_demand_rps(p) >= spec.load.mean_rps
        assert p.replicas.min >= 2 or name == "local"
    if cost == "performance":
        assert {pool.capacity_type for pool in p.pools} == {"on-demand"}
        assert p.max_rps_within_slo >= 1.25 * spec.load.peak_rps
        assert name == "local" or (p.replicas.min >= 2 and all(len(pool.zones) >= 2 for pool in p.pools))


def on_demand_rps(p: Plan) -> float:
    return sum(pool.min_nodes * pool.node_rps for pool in p.pools if pool.capacity_type == "on-demand")


def check(p: Plan) -> None:
    """What holds in every plan."""
    assert p.max_rps_within_slo >= p.spec.load.peak_rps
    assert p.latency_ms.mean <= p.latency_ms.p99 <= p.spec.slo.p99_ms
    assert p.usd_per_month.min <= p.usd_per_month.expected <= p.usd_per_month.max
    assert p.replicas.start == p.replicas.max == sum(pool.max_nodes * pool.replicas_per_node for pool in p.pools)
    assert all(0 <= pool.min_nodes <= pool.expected_nodes <= pool.max_nodes == pool.start_nodes for pool in p.pools)
    assert 1 <= len({pool.machine_type for pool in p.pools}) <= 2
    spot = any(pool.capacity_type == "spot" for pool in p.pools)
    assert not spot or drain_s(p.spec) <= spot_notice_s(p.spec)
    assert Plan.from_json(json.loads(json.dumps(p.to_json()))) == p


def test_two_zones_are_not_to_be_had_where_one_sells() -> None:
    """us-central1 sells v5e in one zone; performance wants two replicas in two zones."""
    with pytest.raises(Infeasible) as error:
        planned(worked("gke-tpu", region="us-central1", cost="performance"))
    assert error.value.binding_constraint == "zones"
    assert "1 of the stack's zones sell it, and cost performance needs 2" in str(error.value)


@pytest.mark.parametrize("name", CLOUDS)
def test_vertical_machines_are_no_smaller(name: str) -> None:
    """Vertical carries the same load with fewer, larger servers."""
    wide, tall = (planned(worked(name, scaling=s, cost="balanced")) for s in ("horizontal", "vertical"))
    assert tall.replicas.max <= wide.replicas.max
    largest = [max((x.accelerator_count, x.vcpus) for x in p.pools) for p in (wide, tall)]
    assert largest[1] >= largest[0]


def test_worked_clouds_say_that_they_are_not_built_yet() -> None:
    """Until its blueprint exists the program stops after the plan; the file says so, and only then."""
    for name in CLOUDS:
        said = "until a blueprint" in (CONFIG / f"Pulumi.{name}.yaml").read_text()
        assert said == (registry.unbuilt(worked(name)) is not None), name


def test_compare_puts_the_stack_first_and_has_every_pair() -> None:
    spec = worked("gke-gpu")
    variants = compare(spec, planned)
    assert (variants[0].scaling, variants[0].cost, variants[0].shape) == (spec.scaling, spec.cost, spec.shape)
    assert {(v.scaling, v.cost, v.shape) for v in variants} == {(*m, s) for m in MODES for s in ("kubernetes", "vm")}
    assert all((v.plan is None) != (v.infeasible is None) for v in variants)


@pytest.mark.parametrize("name", ["gke-cpu", "eks-cpu", "gce-cpu", "ec2-gpu"])
def test_compare_sets_machines_beside_a_cluster(name: str) -> None:
    """The same load and SLO in both shapes, each with its own bill and its own time to start."""
    own, other = compare(worked(name), planned)[:2]
    assert (own.scaling, own.cost) == (other.scaling, other.cost)
    assert own.plan is not None
    assert other.plan is not None
    assert {own.shape, other.shape} == {"kubernetes", "vm"}
    assert own.plan.spec.load == other.plan.spec.load
    assert own.plan.serving.startup_budget_s != other.plan.serving.startup_budget_s
    machines, cluster = sorted((own.plan, other.plan), key=lambda p: p.spec.shape == "kubernetes")
    fee = {"gcp": "gke_cluster", "aws": "eks_control_plane"}[machines.spec.cloud]
    assert any(fee in str(line["item"]).replace(" ", "_").lower() for line in cluster.lines)
    assert not any(fee in str(line["item"]).replace(" ", "_").lower() for line in machines.lines)


def test_compare_says_why_the_other_shape_cannot_serve_it() -> None:
    """v5e is not sold to groups of machines; this machine has but one shape."""
    *rest, last = compare(worked("gke-tpu"), planned)
    assert {v.shape for v in rest} == {"kubernetes"}
    assert (last.shape, last.plan) == ("vm", None)
    assert last.infeasible is not None
    assert last.infeasible.problems[0].path == "accelerator"
    assert {v.shape for v in compare(worked("local"), lambda s: make_plan(s, registry.kinds(), None))} == {"vm"}


def test_the_catalogue_sells_what_the_stacks_ask_for() -> None:
    catalog = load()
    for name in CLOUDS:
        spec = worked(name)
        assert spec.region in catalog.regions(spec.cloud)


@pytest.mark.parametrize("scaling", ["horizontal", "vertical"])
@pytest.mark.parametrize("name", CLOUDS)
def test_economy_is_cheapest_and_performance_dearest(name: str, scaling: str) -> None:
    """What economy may do includes what balanced may, and what balanced may includes what performance may."""
    months = [
        planned(worked(name, scaling=scaling, cost=c)).usd_per_month for c in ("economy", "balanced", "performance")
    ]
    assert [m.expected for m in months] == sorted(m.expected for m in months)
    assert months[0].max <= months[2].max
