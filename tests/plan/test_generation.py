"""The generation's digest and the transition between plans."""

from __future__ import annotations

import re
from typing import Any

import pytest

from infra.plan import Plan, transition
from tests.plan.stacks import CLOUDS, plan, worked

SAME: list[dict[str, Any]] = [
    {"protect": True},
    {"budget_usd_per_month": 60_000},
    {"features": {"keys": 3_000_000, "value_bytes": 512}},
    {"load": {"mean_rps": 3_900, "peak_rps": 12_000, "burst_cv": 1.5}},
    {"admin_cidrs": ["198.51.100.0/24"]},
]
OTHER: list[dict[str, Any]] = [
    {"scaling": "vertical"},
    {"image": "example/triton:1"},
    {"machine_type": "n2-standard-8"},
    {"max_request_s": 9},
    {"cost": "performance"},
    {"model_access": "sync"},
]


@pytest.mark.parametrize("changes", SAME, ids=str)
def test_digest_is_not_over_things_outside_a_generation(changes: dict[str, Any]) -> None:
    assert plan("gke-cpu", **changes).generation == plan("gke-cpu").generation


@pytest.mark.parametrize("changes", OTHER, ids=str)
def test_digest_is_over_every_capacity_field(changes: dict[str, Any]) -> None:
    assert plan("gke-cpu", **changes).generation != plan("gke-cpu").generation


def test_digest_is_eight_hex_digits() -> None:
    assert re.fullmatch("[0-9a-f]{8}", plan("gke-cpu").generation)


def test_there_and_back_is_the_same_generation() -> None:
    wide, tall, again = (plan("gke-gpu", scaling=s) for s in ("horizontal", "vertical", "horizontal"))
    assert wide == again
    assert wide.generation != tall.generation


def test_first_time_creates() -> None:
    t = transition(None, plan("gke-cpu"))
    assert (t.kind, t.from_generation, t.removed, t.surge, t.refused) == ("create", None, (), (), ())
    assert t.expected_minutes > 1


def test_nothing_to_do() -> None:
    p = plan("gke-cpu")
    t = transition(p, p)
    assert (t.kind, t.added, t.moved, t.removed, t.extra_usd, t.expected_minutes) == ("none", (), (), (), 0, 0)


def test_only_counts_move_in_a_resize() -> None:
    more = plan("gke-cpu", load={"mean_rps": 6_000, "peak_rps": 14_000, "burst_cv": 1.5})
    t = transition(plan("gke-cpu"), more)
    assert more.generation == plan("gke-cpu").generation
    assert (t.kind, t.moved, t.removed) == ("resize", ("replicas",), ())


def test_switch_stands_both_up() -> None:
    """Old and new stand together: quota for both, the old machines paid for the minutes that it takes. In cost mode
    balanced on-demand machines may have to stand in for each spot one, so each counts in both quotas."""
    wide, tall = plan("gke-gpu"), plan("gke-gpu", scaling="vertical")
    t = transition(wide, tall)
    assert t.kind == "generation"
    assert f"serving {tall.generation}" in t.added
    assert f"serving {wide.generation}" in t.removed
    gpus = {"on-demand": 0, "spot": 0}
    for pool in (*wide.pools, *tall.pools):
        gpus[pool.capacity_type] += pool.max_nodes * pool.accelerator_count
    assert dict(t.quota) == {"l4": gpus["on-demand"] + gpus["spot"], "spot l4": gpus["spot"]}
    economy = [
        plan("gke-gpu", scaling=s, cost="economy", budget_usd_per_month=90000) for s in ("horizontal", "vertical")
    ]
    alone = sum(p.max_nodes * p.accelerator_count for x in economy for p in x.pools if p.capacity_type == "on-demand")
    assert dict(transition(*economy).quota)["l4"] == alone, "there a burst waits for spot machines"
    hourly = sum(p.max_nodes * p.usd_per_hour for p in wide.pools)
    assert t.extra_usd == pytest.approx(hourly * t.expected_minutes / 60, rel=0.01)
    assert dict(t.surge) == {"g2-standard-4": sum(p.max_nodes for p in wide.pools)}


def test_quota_short_of_both_names_the_number() -> None:
    t = transition(plan("gke-gpu"), plan("gke-gpu", scaling="vertical"))
    needed = dict(t.quota)["l4"]
    (p,) = t.shortage({"l4": needed - 3})
    assert "raise the quota by 3" in str(p)
    assert t.shortage({"l4": needed}) == ()


def test_gce_takes_two_updates() -> None:
    assert transition(plan("gce-gpu"), plan("gce-gpu", scaling="horizontal")).updates == 2
    assert transition(plan("ec2-gpu"), plan("ec2-gpu", scaling="vertical")).updates == 1


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"region": "europe-west4"}, "region"),
        ({"feature_store": "none", "features": None}, "feature_store"),
        ({"feature_store": "bigtable"}, "feature_store"),
        ({"project": "another-project"}, "project"),
        ({"shape": "vm", "admin_cidrs": None}, "shape"),
        ({"exposure": "public", "tls": {"certificate": "c"}, "allowed_cidrs": ["198.51.100.0/24"]}, "exposure"),
    ],
)
def test_what_is_not_of_a_generation_is_refused(changes: dict[str, Any], path: str) -> None:
    t = transition(plan("gke-cpu"), plan("gke-cpu", **changes))
    (p,) = t.refused
    assert p.path == path
    assert "a second stack" in p.hint


def test_a_store_may_be_added() -> None:
    without = plan("gke-cpu", feature_store="none", features=None)
    assert transition(without, plan("gke-cpu")).refused == ()


def test_a_cluster_does_not_go_back() -> None:
    new, old = (plan("gke-cpu", kubernetes_version=v) for v in ("1.34", "1.35"))
    assert [p.path for p in transition(old, new).refused] == ["kubernetes_version"]
    assert transition(new, old).refused == ()


@pytest.mark.parametrize("name", CLOUDS)
def test_recorded_plan_gives_the_same_transition(name: str) -> None:
    """What the stack's outputs give back is the plan that was made."""
    p = plan(name)
    assert transition(Plan.from_json(p.to_json()), p).kind == "none"
    assert worked(name) == p.spec
