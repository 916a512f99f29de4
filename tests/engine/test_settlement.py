"""Settling beyond open operations: what was made and did not become ready is waited for by the next update."""

from __future__ import annotations

from typing import Any

from engine.settlement import settle_deployment, unready

GROUP = "aws:autoscaling/group:Group"


def row(name: str, token: str = GROUP, **more: Any) -> dict[str, Any]:
    held = {"minSize": 2, "maxSize": 4}
    urn = f"urn:pulumi:dev::p::{token}::{name}"
    return {"urn": urn, "type": token, "custom": True, "id": name, "inputs": held, "outputs": held, **more}


def settled(*rows: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """No provider is asked: there is no open operation."""
    document, report = settle_deployment({"version": 3, "deployment": {"resources": list(rows)}}, _nobody)
    return document["deployment"]["resources"], [str(line) for line in report]


def _nobody(ref: str) -> Any:
    raise AssertionError(f"{ref} is asked")


def test_a_group_that_did_not_become_ready_is_waited_for_again() -> None:
    """The provider of AWS waits on an update where the least size changes: so another one is put on record, once."""
    failed = row("new", initErrors=["timeout while waiting for state to become 'ok'"])
    assert unready([failed])
    (made, old, other), said = settled(failed, row("old"), row("queue", "aws:sqs/queue:Queue", initErrors=["late"]))
    assert (made["inputs"]["minSize"], made["outputs"]["minSize"], made["inputs"]["maxSize"]) == (0, 0, 4)
    assert made["initErrors"]
    assert old["inputs"]["minSize"] == other["inputs"]["minSize"] == 2
    assert said == ["creating new: not ready (the next update waits for it)"]
    assert not unready([made, old, other])
    assert settled(made) == ([made], [])


def test_a_group_that_was_finished_once_is_left_to_its_autoscaler() -> None:
    """What scales it was made after it: an update that failed later is no reason to wait for the first number."""
    late = row("late", initErrors=["tags were throttled"])
    policy = row("policy", "aws:autoscaling/policy:Policy", dependencies=[late["urn"]])
    assert settled(late, policy) == ([late, policy], [])


def test_what_is_to_be_deleted_is_waited_for_by_nobody() -> None:
    (gone,), said = settled(row("gone", initErrors=["timeout"], delete=True))
    assert (gone["inputs"]["minSize"], said) == (2, [])
