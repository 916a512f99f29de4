"""Requests arrive only by declared ways, and none is lost while pods come and go as they should."""

from __future__ import annotations

import pytest
from serving_site import DEMAND, POLICY, firewall, policy, stack

from simulators.core import flows, side_flows
from simulators.core.traffic import Demand
from simulators.core.values import Json
from simulators.core.world import World

for _package in ("pulumi_gcp", "pulumi_aws", "pulumi_kubernetes", "botocore"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (extra `simulators`)")


def test_a_change_of_generations_loses_nothing() -> None:
    """Create the new one, delete the old one afterwards: discovery lets the old pods go before they stop."""
    s = stack(World())
    old = s.server("old")
    first = len(s.world.operations)
    s.server("new", replicas=4)
    s.site.kubernetes.delete(old)
    found = s.phase(first)
    assert found.losses == ()
    assert found.failed_requests == 0
    assert found.min_capacity_ratio == 1.0
    assert found.points[0].ready == 2
    assert max(p.ready for p in found.points) == 6
    assert found.points[-1].ready == 4


def test_the_other_way_round_loses_what_nobody_serves() -> None:
    s = stack(World())
    old = s.server("old")
    first = len(s.world.operations)
    s.site.kubernetes.delete(old)
    s.server("new")
    found = s.phase(first)
    assert found.min_capacity_ratio == 0.0
    lost = [one for one in found.losses if "0 ready backends serve 0 of 100 requests/s" in one.why]
    assert sum(one.end_s - one.start_s for one in lost) > 180, "as long as a new server pulls and starts"
    assert found.failed_requests > 18_000


@pytest.mark.parametrize(("prestop", "fails"), [(0, True), (20, True), (36, False)])
def test_a_pod_that_dies_before_discovery_lets_it_go(prestop: int, fails: bool) -> None:
    """kube-dns keeps a name for 30 s and this Envoy asks every 5 s."""
    s = stack(World())
    old = s.server("old", prestop=prestop)
    s.server("new", replicas=4)
    first = len(s.world.operations)
    s.site.kubernetes.delete(old)
    found = s.phase(first)
    assert bool(found.failed_requests) is fails
    if fails:
        lost = next(one for one in found.losses if "discovery" in one.why)
        assert f"stops answering {35 - prestop} s before discovery lets it go" in lost.why
        assert lost.requests == pytest.approx(100 * 2 / 6 * (35 - prestop), rel=0.01)


def test_too_few_replicas() -> None:
    s = stack(World())
    s.server("old")
    first = len(s.world.operations)
    s.site.namespace("other")
    found = s.phase(first, Demand(rps=150, rates={"server-*": 50}))
    assert found.min_capacity_ratio == pytest.approx(2 / 3)
    assert found.failed_requests > 0
    unknown = s.phase(first, Demand(rps=150, rates={}))
    assert "server-old: no rate was given for one backend of it, so it counts as none" in unknown.problems


def test_nothing_arrives_without_a_firewall_rule() -> None:
    s = stack(World(), allowed=False)
    s.server("old")
    first = len(s.world.operations)
    s.made["firewall"] = s.site.cloud.create("gcp:compute/firewall:Firewall", "allow", firewall(s.site, ["8080"]))
    found = s.phase(first)
    assert found.min_capacity_ratio == 0.0
    said = "no firewall rule allows the load balancer's proxies (10.9.0.0/24) to nodes of pool system"
    assert any(said in p and "tcp/30080" in p for p in found.problems)
    s.site.cloud.update(s.made["firewall"], firewall(s.site))
    assert all(f.arrives for f in flows.serving(s.world).flows)


def test_a_rule_that_goes_during_a_phase_cuts_from_then_on() -> None:
    s = stack(World())
    s.server("old")
    first = len(s.world.operations)
    s.server("new")
    s.site.cloud.delete(s.made["firewall"])
    s.site.namespace("later")
    found = s.phase(first)
    assert found.points[0].capacity_rps == 100
    assert found.points[-1].capacity_rps == 0


def test_policies_are_judged_where_somebody_enforces_them() -> None:
    deny = policy("deny", policyTypes=["Ingress", "Egress"])
    peer: Json = [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "envoy"}}}]
    ports: Json = [{"port": "http", "protocol": "TCP"}]
    for datapath, enforced in (("ADVANCED_DATAPATH", True), ("LEGACY_DATAPATH", False)):
        s = stack(World(), datapath=datapath)
        s.server("old")
        s.site.kubernetes.create(POLICY, "deny", deny)
        found = flows.serving(s.world)
        assert bool(found.cut) is enforced
        if not enforced:
            continue
        (why,) = found.cut.values()
        assert why == (
            "no NetworkPolicy of serving/server-old allows ingress from default/envoy on tcp/8000 (selecting it: deny)"
        )
        names = [f for f in side_flows.judge(s.world, found) if f.target == "names"]
        assert [f.arrives for f in names if f.source == "serving/server-old"] == [False]
        allow = policy("allow", policyTypes=["Ingress"], ingress=[{"from": peer, "ports": ports}])
        s.site.kubernetes.create(POLICY, "allow", allow)
        assert flows.serving(s.world).cut == {}
        elsewhere = policy("other", policyTypes=["Egress"], egress=[{"ports": [{"port": 53, "protocol": "UDP"}]}])
        s.site.kubernetes.create(POLICY, "other", elsewhere)
        names = [f for f in side_flows.judge(s.world, flows.serving(s.world)) if f.target == "names"]
        assert all(f.arrives for f in names)


def test_a_rollout_in_place_keeps_its_surge() -> None:
    """maxSurge 1, maxUnavailable 0: one pod more at a time, and never fewer than asked for."""
    s = stack(World())
    made = s.server("old", replicas=4)
    first = len(s.world.operations)
    changed = s.server_body(made, image="nvcr.io/nvidia/tritonserver:26.08-py3", surge=1, unavailable=0)
    s.site.kubernetes.update(made, changed, timeout=1800)
    found = s.phase(first, Demand(rps=200, rates=DEMAND.rates))
    assert found.failed_requests == 0
    took = s.world.operations[-1]
    assert took.end_s - took.start_s >= 4 * 225, "four pods, one after the other, 225 s each"
    s2 = stack(World())
    made = s2.server("old", replicas=4)
    first = len(s2.world.operations)
    s2.site.kubernetes.update(made, s2.server_body(made, image="triton:2", surge=0, unavailable=2))
    found = s2.phase(first, Demand(rps=200, rates=DEMAND.rates))
    assert found.min_capacity_ratio == 0.5


def test_health_checks_leave_out_a_dead_server_sooner() -> None:
    """Two checks of 2 s with a time-out of 1 s: 5 s instead of the 35 s of discovery."""
    s = stack(World(), health="health_checks: [{interval: 2s, timeout: 1s, unhealthy_threshold: 2}], ")
    old = s.server("old", prestop=0)
    s.server("new", replicas=4)
    first = len(s.world.operations)
    s.site.kubernetes.delete(old)
    (lost,) = s.phase(first).losses
    assert "stops answering 5 s before health checks leave it out" in lost.why
