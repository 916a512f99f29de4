"""The plan's JSON is stable and documented."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.plan import Infeasible
from tests.plan.stacks import plan

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
    assert any("no spot machines" in w for w in plan("gke-cpu", max_request_s=30).warnings)
    assert any("one replica" in w for w in plan("gke-cpu", cost="economy").warnings)
    assert not any("replica" in w for w in plan("gke-cpu").warnings)
