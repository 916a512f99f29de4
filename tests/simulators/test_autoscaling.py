"""Autoscalers act on a load within their bounds; what they moved is theirs, and a later `up` leaves it alone."""

from __future__ import annotations

import pytest
from cloud_driver import Made, Site, deployment, eks, gke, node_group

from simulators.core import autoscaling, scheduler
from simulators.core.edits import put
from simulators.core.values import Json, Properties
from simulators.core.world import Thing, World

for _package in ("pulumi_gcp", "pulumi_aws", "pulumi_kubernetes", "botocore"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (extra `simulators`)")

DEPLOYMENT = "kubernetes:apps/v1:Deployment"
REF: Json = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}


def pool(site: Site, least: int = 1, most: int = 4) -> Made:
    inputs: Properties = {
        "name": "p",
        "cluster": "c",
        "location": "us-central1-a",
        "initialNodeCount": 1,
        "autoscaling": {"minNodeCount": least, "maxNodeCount": most},
        "nodeConfig": {"machineType": "e2-standard-4"},
    }
    return site.cloud.create("gcp:container/nodePool:NodePool", "p", inputs)


def keda(site: Site, most: int = 9) -> Made:
    site.kubernetes.create(
        "kubernetes:helm.sh/v3:Release", "keda", {"chart": "keda", "name": "keda", "version": "2.20.2"}
    )
    prometheus: Properties = {"chart": "prometheus", "name": "prometheus", "version": "29.27.0"}
    site.kubernetes.create("kubernetes:helm.sh/v3:Release", "prometheus", prometheus)
    address = "http://prometheus-server.default.svc:9090"
    trigger: Json = {"type": "prometheus", "metadata": {"serverAddress": address, "query": "q", "threshold": "10"}}
    spec: Properties = {
        "scaleTargetRef": {"name": "d"},
        "minReplicaCount": 2,
        "maxReplicaCount": most,
        "triggers": [trigger],
    }
    return site.kubernetes.create(
        "kubernetes:keda.sh/v1alpha1:ScaledObject", "s", {"metadata": {"name": "s"}, "spec": spec}
    )


def opened(site: Site) -> None:
    rule: Properties = {
        "name": "keda", "network": site.network["selfLink"], "sourceRanges": ["10.0.0.0/8"],
        "allows": [{"protocol": "tcp", "ports": ["6443", "9443"]}],
    }  # fmt: skip
    site.cloud.create("gcp:compute/firewall:Firewall", "keda", rule)


def the(world: World, token: str) -> Thing:
    return next(t for t in world.things.values() if t.token == token)


def test_keda_moves_replicas_and_nodes_within_bounds() -> None:
    world = World()
    site = gke(world, removeDefaultNodePool=True)
    pool(site)
    opened(site)
    made = site.kubernetes.create(DEPLOYMENT, "d", deployment(replicas=2))
    keda(site)
    cluster = world.things[the(world, DEPLOYMENT).cluster]
    autoscaling.set_load(world, "d", 65)
    assert scheduler.replicas_of(the(world, DEPLOYMENT)) == 7
    assert autoscaling.pools(world, cluster) == {"p": 3}, "3 pods of 1 CPU a node beside the charts"
    autoscaling.set_load(world, "d", 1000)
    assert scheduler.replicas_of(the(world, DEPLOYMENT)) == 9
    autoscaling.set_load(world, "d", 92)
    assert scheduler.replicas_of(the(world, DEPLOYMENT)) == 9, "within a tenth of the target nothing moves"
    autoscaling.set_load(world, "d", 1)
    assert scheduler.replicas_of(the(world, DEPLOYMENT)) == 2
    assert autoscaling.pools(world, cluster) == {"p": 1}
    assert world.notices == []
    assert site.kubernetes.diff(made, deployment(replicas=2))[0] == "same", "the program's own number did not change"


def test_an_update_keeps_the_autoscalers_number_where_the_program_ignores_it() -> None:
    world = World()
    site = gke(world, removeDefaultNodePool=True)
    pool(site)
    opened(site)
    made = site.kubernetes.create(DEPLOYMENT, "d", deployment(replicas=2))
    keda(site)
    autoscaling.set_load(world, "d", 65)
    other = deployment(replicas=2)
    put(other, "spec.template.spec.containers[0].image", "i:2")
    made = site.kubernetes.update(made, other, ignored=("spec.replicas",))
    assert scheduler.replicas_of(the(world, DEPLOYMENT)) == 7
    site.kubernetes.update(made, other)
    assert scheduler.replicas_of(the(world, DEPLOYMENT)) == 2, "without it the program's number comes back"


def test_a_metric_that_does_not_arrive_moves_nothing() -> None:
    world = World()
    site = gke(world, removeDefaultNodePool=True)
    pool(site)
    site.kubernetes.create(DEPLOYMENT, "d", deployment(replicas=2))
    keda(site)
    autoscaling.set_load(world, "d", 65)
    assert scheduler.replicas_of(the(world, DEPLOYMENT)) == 2
    (said,) = {n for n in world.notices if "gets no metric" in n}
    assert "no firewall rule allows the control plane" in said
    assert "keda-operator-metrics-apiserver" in said


def test_an_hpa_by_utilization_and_a_pool_at_its_maximum() -> None:
    world = World()
    site = gke(world, removeDefaultNodePool=True)
    pool(site, most=2)
    site.kubernetes.create(DEPLOYMENT, "d", deployment(replicas=1))
    target: Properties = {"type": "Utilization", "averageUtilization": 50}
    metric: Json = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    spec: Properties = {"minReplicas": 1, "maxReplicas": 20, "scaleTargetRef": REF, "metrics": metric}
    hpa = "kubernetes:autoscaling/v2:HorizontalPodAutoscaler"
    site.kubernetes.create(hpa, "h", {"metadata": {"name": "h"}, "spec": spec})
    autoscaling.set_load(world, "d", 2.4, "cpu")
    assert scheduler.replicas_of(the(world, DEPLOYMENT)) == 5, "2.4 CPU at half a CPU each"
    autoscaling.set_load(world, "d", 6, "cpu")
    assert any("6 of 12 pods run" in n and "max node group size reached (p has 2 of 2)" in n for n in world.notices)


def test_vpa_within_its_bounds_and_the_room_of_the_node() -> None:
    world = World()
    site = gke(world, removeDefaultNodePool=True, verticalPodAutoscaling={"enabled": True})
    pool(site, most=4)
    site.kubernetes.create(DEPLOYMENT, "d", deployment(replicas=3))
    policy: Json = [{"containerName": "*", "controlledResources": ["cpu"], "maxAllowed": {"cpu": "2"}}]
    spec: Properties = {
        "targetRef": REF,
        "updatePolicy": {"updateMode": "InPlaceOrRecreate"},
        "resourcePolicy": {"containerPolicies": policy},
    }
    vpa = "kubernetes:autoscaling.k8s.io/v1:VerticalPodAutoscaler"
    site.kubernetes.create(vpa, "v", {"metadata": {"name": "v"}, "spec": spec})
    autoscaling.set_load(world, "d", 9, "cpu")
    thing = the(world, DEPLOYMENT)
    assert thing.state["vpa"] == {"cpu": "2"}, "3 CPU each, and at most 2 are allowed"
    assert any("have no room to grow on their node and are made anew" in n for n in world.notices)
    assert len(set(map(str, thing.state["pods"]))) == 3  # type: ignore[arg-type]


def test_eks_needs_its_autoscaler_and_tells_the_live_size() -> None:
    world = World()
    site = eks(world)
    group = node_group(site)
    with pytest.raises(Exception, match="nodes has 2 of 2"):
        site.kubernetes.create(DEPLOYMENT, "d", deployment(replicas=4))
    chart: Properties = {"chart": "cluster-autoscaler", "name": "ca", "version": "9.59.0"}
    site.kubernetes.create("kubernetes:helm.sh/v3:Release", "ca", chart)
    made = next(m for m in site.kubernetes.made.values() if m.token == DEPLOYMENT)
    site.kubernetes.update(made, deployment(replicas=3))
    live = site.cloud.read(group)
    assert live is not None
    assert live["scalingConfig"] == {"minSize": 1, "maxSize": 3, "desiredSize": 3}
    wanted = {**group.inputs, "labels": {"a": "b"}}
    site.cloud.update(group, wanted, ignored=("scalingConfig.desiredSize",))
    live = site.cloud.read(group)
    assert live is not None
    assert live["scalingConfig"] == {"minSize": 1, "maxSize": 3, "desiredSize": 3}
