"""The plan's JSON is stable and documented."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.plan import Infeasible, Plan, transition
from infra.spec import SpecError
from tests.plan.stacks import WORKED, plan

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "plan.md").read_text()
PROMISED = {
    "": {
        "feasible", "pools", "replicas", "serving", "latency_ms", "max_rps_within_slo", "usd_per_month",
        "usd_per_million_predictions", "lines", "unpriced", "rejected", "binding_constraint", "problems",
    },
    "pools": {"role", "machine_type", "accelerator", "accelerator_count", "capacity_type", "min_nodes", "max_nodes"},
    "replicas": {"min", "max"},
    "serving": {"instances", "max_batch", "queue_delay_us"},
    "latency_ms": {"mean", "p99"},
    "usd_per_month": {"min", "expected", "max"},
    "rejected": {"machine_type", "reason"},
    "model_versions": {"name", "version", "accuracy", "gates", "chosen"},
}  # fmt: skip


def test_promised_keys_are_there() -> None:
    whole = json.loads(json.dumps(plan("eks-gpu").to_json()))
    for name, keys in PROMISED.items():
        part = whole[name] if name else whole
        assert keys <= set(part[0] if isinstance(part, list) else part), name


def test_every_key_is_documented() -> None:
    whole = plan("eks-gpu").to_json()
    nested = [whole, whole["pools"][0], whole["serving"], whole["lines"][0], whole["rejected"][0]]  # type: ignore[index]
    missing = [k for part in nested for k in part if f"`{k}" not in DOCUMENT]  # type: ignore[attr-defined]
    assert missing == []


def test_infeasible_has_the_same_keys() -> None:
    with pytest.raises(Infeasible) as error:
        plan("gke-cpu", slo={"p99_ms": 1})
    said = json.loads(json.dumps(error.value.to_json()))
    assert set(said) == PROMISED[""]
    assert said["feasible"] is False
    assert set(said["problems"][0]) == {"path", "reason", "allowed", "hint"}


def test_bill_adds_up() -> None:
    """The total is the sum of its lines, each to the cent."""
    p = plan("gke-gpu")
    for total, key in (
        (p.usd_per_month.min, "usd_min"),
        (p.usd_per_month.expected, "usd"),
        (p.usd_per_month.max, "usd_max"),
    ):
        assert total == pytest.approx(sum(float(str(line[key])) for line in p.lines), abs=0.005)


def test_warnings_say_what_a_person_should_know() -> None:
    assert any("no spot machines" in w for w in plan("gke-cpu", max_request_s=30, kubernetes_version="1.34").warnings)
    assert not any(
        "no spot machines" in w for w in plan("gke-cpu", max_request_s=30).warnings
    )  # longer notice since 1.35
    assert any("one replica" in w for w in plan("gke-cpu", cost="economy").warnings)
    assert not any("replica" in w for w in plan("gke-cpu").warnings)


def as_pulumi(value: Any) -> Any:
    """What comes back from a stack's outputs: no nulls, and every number a float."""
    if isinstance(value, dict):
        return {k: as_pulumi(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [as_pulumi(v) for v in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


@pytest.mark.parametrize("name", WORKED)
def test_recorded_plan_reads_back(name: str) -> None:
    p = plan(name)
    back = Plan.from_json(as_pulumi(json.loads(json.dumps(p.to_json()))))
    assert back == p
    assert transition(back, p).kind == "none"
    assert ".0 " not in " ".join(transition(back, plan(name, scaling="vertical", cost="economy")).removed)


def test_plan_of_another_version_cannot_be_read() -> None:
    """A caller tells KeyError, TypeError and SpecError apart from a plan: it makes a new one."""
    for broken in ({}, {"spec": {"cloud": "moon"}}, {**plan("local").to_json(), "pools": [{"shape": "round"}]}):
        with pytest.raises((KeyError, TypeError, SpecError)):
            Plan.from_json(broken)
