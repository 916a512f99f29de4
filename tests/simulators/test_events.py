"""What happens from outside: each event by its name in a rule, and what the next `up` and the requests make of it."""

from __future__ import annotations

import pytest
from cloud_driver import node_pool
from serving_site import DEPLOYMENT, Stack, stack

from simulators.core import events, scheduler
from simulators.core.faults import EVENTS, KINDS, Fault, parse
from simulators.core.values import Json
from simulators.core.world import World

for _package in ("pulumi_gcp", "pulumi_aws", "pulumi_kubernetes", "botocore"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (extra `simulators`)")

POOL = "gcp:container/nodePool:NodePool"


def spot() -> Stack:
    s = stack(World())
    node_pool(s.site, "spot", machineType="e2-standard-16", spot=True)
    where: Json = {"cloud.google.com/gke-nodepool": "spot"}
    s.server("old", replicas=3, nodeSelector=where)
    return s


def after(s: Stack, fault: Fault, first: int) -> None:
    s.world.faults = (fault,)
    s.site.namespace("later")
    assert len(s.world.operations) == first + 1


def test_every_event_has_words_and_an_act() -> None:
    assert set(events._DO) == EVENTS
    assert set(KINDS) > EVENTS
    assert parse('[{"kind": "node-lost", "name": "spot", "skip": 2}]')[0].skip == 2


def test_a_spot_machine_taken_back_has_its_notice() -> None:
    """GKE gives ordinary pods 15 s, and discovery needs 35: the pods of that machine lose requests."""
    s = spot()
    first = len(s.world.operations)
    events.apply(s.world, Fault(kind="spot-reclaimed", type=POOL, name="spot"))
    s.site.namespace("later")
    found = s.phase(first)
    assert any("taken back with its spot machine (15 s notice)" in one.why for one in found.losses)
    assert 0 < found.failed_requests < 1000
    assert found.points[-1].ready == 3, "the pods came back on other nodes"
    thing = next(t for t in s.world.things.values() if t.token == POOL and t.name == "spot")
    assert thing.state["nodes"] == 7, "the group made another machine for the one that went"


def test_a_lost_node_is_seen_late() -> None:
    s = spot()
    first = len(s.world.operations)
    events.apply(s.world, Fault(kind="node-lost", type=POOL, name="spot"))
    s.site.namespace("later")
    found = s.phase(first)
    lost = next(one for one in found.losses if "lost with its node" in one.why)
    assert lost.end_s - lost.start_s == 75, "40 s until the control plane knows, 35 s of discovery"
    assert found.min_capacity_ratio == 1.0, "two of three servers carry it, once the entry knows"


def test_an_event_waits_for_its_operation() -> None:
    s = spot()
    s.world.faults = (Fault(kind="bucket-empty", name="models", operation="*", skip=2),)
    for index in range(4):
        s.site.namespace(f"n{index}")
        assert bool(s.world.emptied) is (index >= 2)
    assert s.world.emptied == ["models"], "once"


def test_an_event_without_a_number_comes_before_the_first_operation() -> None:
    """Also where a run has no operation: when the provider is configured."""
    s = spot()
    s.world.faults = (Fault(kind="bucket-absent", name="models"),)
    type(s.site.kubernetes)(cloud="kubernetes", world=s.world, config=s.site.kubernetes.config)
    assert s.world.absent == ["models"]


def test_an_autoscaler_moved_and_the_program_changes_nothing() -> None:
    s = spot()
    ref: Json = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "server-old"}
    hpa: Json = {"minReplicas": 1, "maxReplicas": 5, "scaleTargetRef": ref}
    body: dict[str, Json] = {"metadata": {"name": "h", "namespace": "serving"}, "spec": hpa}
    s.site.kubernetes.create("kubernetes:autoscaling/v2:HorizontalPodAutoscaler", "h", body)
    events.apply(s.world, Fault(kind="autoscaler-moved", type=DEPLOYMENT, name="server-*"))
    thing = next(t for t in s.world.things.values() if t.name == "server-old")
    assert scheduler.replicas_of(thing) == 4
    events.apply(s.world, Fault(kind="autoscaler-moved", type=DEPLOYMENT, name="server-*", message="9"))
    assert scheduler.replicas_of(thing) == 5, "not beyond its bounds"
    assert s.site.kubernetes.diff(s.made["old"], s.made["old"].inputs)[0] == "same"


def test_drift_is_seen_when_somebody_looks() -> None:
    s = spot()
    path = "allows[0].ports[0]"
    events.apply(s.world, Fault(kind="drift", type="gcp:compute/firewall:*", name="allow", message=f'{path}="1"'))
    live = s.site.cloud.read(s.made["firewall"])
    assert live is not None
    assert live["allows"] == [{"protocol": "tcp", "ports": ["1"]}]
    first = len(s.world.operations)
    s.site.namespace("later")
    assert s.phase(first).min_capacity_ratio == 0.0


def test_an_event_that_finds_nobody_says_so() -> None:
    s = spot()
    events.apply(s.world, Fault(kind="spot-reclaimed", type=POOL, name="none"))
    said = "spot-reclaimed: nothing of type gcp:container/nodePool:NodePool and name none is there for it"
    assert said in s.world.notices


def test_a_disruption_budget_paces_a_drain() -> None:
    """A pool that goes lets its pods leave one after the other where a budget says so."""
    s = spot()
    pool = next(m for m in s.site.cloud.made.values() if m.token == POOL and m.name == "spot")
    labels: Json = {"matchLabels": {"app": "model-server"}}
    budget: dict[str, Json] = {
        "metadata": {"name": "b", "namespace": "serving"},
        "spec": {"maxUnavailable": 1, "selector": labels},
    }
    s.site.kubernetes.create("kubernetes:policy/v1:PodDisruptionBudget", "b", budget)
    s.site.kubernetes.delete(s.made["old"])
    s.server("new", replicas=3)
    thing = next(t for t in s.world.things.values() if t.name == "server-new")
    thing.state["pods"] = ["spot-0", "spot-1", "spot-2"]
    first = len(s.world.operations)
    s.site.cloud.delete(pool)
    found = s.phase(first)
    took = s.world.operations[-1]
    assert took.end_s - took.start_s >= 3 * 225, "each pod waits for the one before it to be ready elsewhere"
    assert found.failed_requests == 0
    assert found.min_capacity_ratio == 1.0
