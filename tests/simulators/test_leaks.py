"""The 16 ways in which a destroy leaks: a naive program leaves something, and the simulator says what and why."""

from __future__ import annotations

import pytest
from cloud_driver import (
    CallError,
    aws,
    deployment,
    eks,
    gcp,
    gke,
    node_group,
    service,
)

from simulators.core.faults import Fault
from simulators.core.world import Leftover, World

for _package in ("pulumi_gcp", "pulumi_aws", "pulumi_kubernetes", "botocore"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (extra `simulators`)")


BIGTABLE = {"name": "bigtable", "clusters": [{"clusterId": "c", "zone": "z"}]}
VALKEY = {"instanceId": "m", "shardCount": 1, "location": "us-central1"}


def left(world: World, leak: int) -> list[Leftover]:
    return [x for x in world.leftovers() if x.leak == leak]


@pytest.fixture
def world() -> World:
    return World()


def test_01_load_balancer_of_a_service_whose_cluster_went_first(world: World) -> None:
    """The controller that would remove it is gone; the network behind it cannot go."""
    site = eks(world)
    site.kubernetes.create("kubernetes:core/v1:Service", "s", service("s", "LoadBalancer"))
    failed = site.cloud.destroy()
    assert {x.type for x in left(world, 1)} == {
        "aws:lb/loadBalancer:LoadBalancer",
        "aws:ec2/securityGroup:SecurityGroup",
    }
    assert any("DependencyViolation" in f and "no controller was left" in f for f in failed)


def test_01_deleted_in_order_it_leaves_nothing(world: World) -> None:
    site = eks(world)
    site.kubernetes.create("kubernetes:core/v1:Service", "s", service("s", "LoadBalancer"))
    assert site.kubernetes.destroy() == []
    assert site.cloud.destroy() == []
    assert world.leftovers() == ()


def test_02_network_interfaces_of_pods_that_ran_when_the_nodes_went(world: World) -> None:
    site = eks(world)
    nodes = node_group(site)
    site.kubernetes.create("kubernetes:apps/v1:Deployment", "d", deployment())
    site.cloud.delete(nodes)
    failed = site.cloud.destroy()
    assert [x.type for x in left(world, 2)] == ["aws:ec2/networkInterface:NetworkInterface"]
    assert any("DependencyViolation" in f and "vpc-cni" in f for f in failed)


def test_03_security_group_of_eks_after_an_interrupted_destroy(world: World) -> None:
    site = eks(world)
    world.faults = (Fault(kind="hang", type="aws:eks/cluster:Cluster", operation="delete"),)
    with pytest.raises(CallError, match="timeout while waiting for delete"):
        site.cloud.delete(site.cluster)
    assert len(site.cloud.destroy()) == 1, "the network is held by the group; all else goes"
    assert [x.type for x in left(world, 3)] == ["aws:ec2/securityGroup:SecurityGroup"]


def test_04_disk_of_a_claim_whose_cluster_went_first(world: World) -> None:
    site = gke(world)
    claim = {
        "metadata": {"name": "p"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    site.kubernetes.create("kubernetes:core/v1:PersistentVolumeClaim", "p", claim)
    assert site.cloud.destroy() == []
    assert [(x.type, x.billable) for x in left(world, 4)] == [("gcp:compute/disk:Disk", True)]


def test_05_log_group_that_a_control_plane_writes_to(world: World) -> None:
    """Deleted before its cluster it comes back, and the next create of that name fails."""
    site = eks(world, enabledClusterLogTypes=["api"])
    assert site.cloud.destroy() == []
    assert [x.name for x in left(world, 5)] == ["/aws/eks/c/cluster"]
    with pytest.raises(CallError, match="already exists"):
        site.cloud.create("aws:cloudwatch/logGroup:LogGroup", "logs", {"name": "/aws/eks/c/cluster"})


def test_05_managed_before_and_deleted_after_the_cluster_it_leaves_nothing(world: World) -> None:
    cloud = aws(world)
    logs = cloud.create("aws:cloudwatch/logGroup:LogGroup", "logs", {"name": "/aws/eks/c/cluster"})
    site = eks(world, enabledClusterLogTypes=["api"])
    assert site.cloud.destroy() == []
    cloud.delete(logs)
    assert world.leftovers() == ()


def test_06_machines_that_karpenter_started(world: World) -> None:
    site = eks(world)
    release = {"chart": "karpenter", "name": "karpenter", "namespace": "kube-system"}
    site.kubernetes.create("kubernetes:helm.sh/v3:Release", "karpenter", release)
    pool = {"metadata": {"name": "default"}, "spec": {"template": {"spec": {}}}}
    site.kubernetes.create("kubernetes:karpenter.sh/v1:NodePool", "default", pool)
    failed = site.cloud.destroy()
    assert [(x.type, x.billable) for x in left(world, 6)] == [("aws:ec2/instance:Instance", True)]
    assert any("Karpenter" in f for f in failed)


def test_07_objects_in_a_cluster_that_is_gone(world: World) -> None:
    """Their deletes fail and they stay in the state, though nothing is left of them."""
    site = gke(world)
    made = site.namespace()
    site.cloud.delete(site.cluster)
    with pytest.raises(CallError, match="cluster is unreachable"):
        site.kubernetes.delete(made)


def test_08_namespace_that_waits_for_a_finalizer(world: World) -> None:
    """The controller's chart went before the object that only the controller can release."""
    site = gke(world)
    space = site.namespace()
    chart = site.kubernetes.create("kubernetes:helm.sh/v3:Release", "keda", {"chart": "keda", "namespace": "serving"})
    scaled = {"metadata": {"name": "s", "namespace": "serving"}, "spec": {"scaleTargetRef": {"name": "d"}}}
    site.kubernetes.create("kubernetes:keda.sh/v1alpha1:ScaledObject", "s", scaled)
    site.kubernetes.delete(chart)
    with pytest.raises(CallError, match=r"stays Terminating.*finalizer\.keda\.sh"):
        site.kubernetes.delete(space)
    assert any("stays Terminating" in x.why for x in world.leftovers())


def test_09_network_endpoint_groups_outlive_their_service_for_minutes(world: World) -> None:
    """The default patience of the provider is too short; a delete time-out of 20 minutes is enough."""
    site = gke(world)
    neg = {"cloud.google.com/neg": '{"exposed_ports": {"80": {}}}'}
    made = site.kubernetes.create("kubernetes:core/v1:Service", "s", service("s", "ClusterIP", **neg))
    site.kubernetes.delete(made)
    for one in (site.cluster, *site.subnets):
        site.cloud.delete(one)
    world.begin_phase()
    with pytest.raises(CallError, match="network endpoint group is removed minutes after"):
        site.cloud.delete(site.network)
    assert [x.leak for x in world.leftovers() if x.leak] == [9]
    site.cloud.delete(site.network, timeout=1200)
    assert world.leftovers() == ()


def test_10_firewall_rules_of_a_cluster_that_is_gone(world: World) -> None:
    site = gke(world)
    site.kubernetes.create("kubernetes:core/v1:Service", "s", service("s", "LoadBalancer"))
    failed = site.cloud.destroy()
    assert [x.name.startswith("k8s-fw-") for x in left(world, 10)] == [True]
    assert any("resourceInUseByAnotherResource" in f for f in failed)


def test_11_peering_that_was_abandoned_keeps_the_network(world: World) -> None:
    cloud = gcp(world)
    network = cloud.create("gcp:compute/network:Network", "net", {"name": "net"})
    space: dict[str, object] = {"name": "r", "network": network.id, "purpose": "VPC_PEERING", "prefixLength": 16}
    reserved = cloud.create("gcp:compute/globalAddress:GlobalAddress", "r", {**space, "addressType": "INTERNAL"})
    peering = {
        "network": network.id,
        "service": "servicenetworking.googleapis.com",
        "reservedPeeringRanges": [reserved["name"]],
        "deletionPolicy": "ABANDON",
    }
    cloud.create("gcp:servicenetworking/connection:Connection", "p", peering)
    failed = cloud.destroy()
    assert any("net is in use by" in f for f in failed)
    assert any("keeps the peering" in x.why for x in world.leftovers())


@pytest.mark.parametrize(
    ("token", "inputs", "release"),
    [
        ("gcp:container/cluster:Cluster", {"name": "c", "location": "r"}, "deletionProtection"),
        ("gcp:bigtable/instance:Instance", BIGTABLE, "deletionProtection"),
        ("gcp:redis/cluster:Cluster", {"name": "r", "shardCount": 1}, "deletionProtectionEnabled"),
        ("gcp:memorystore/instance:Instance", VALKEY, "deletionProtectionEnabled"),
    ],
)
def test_12_protected_unless_told_otherwise(world: World, token: str, inputs: dict[str, object], release: str) -> None:
    """Protection is on by default; an update releases it, then the delete goes."""
    cloud = gcp(world)
    made = cloud.create(token, "x", inputs)
    with pytest.raises(CallError, match="protect"):
        cloud.delete(made)
    assert len(world.leftovers()) == 1
    cloud.update(made, {**inputs, release: False})
    assert cloud.destroy() == []
    assert world.leftovers() == ()


def test_13_backups_keep_a_bigtable_instance(world: World) -> None:
    cloud = gcp(world)
    made = cloud.create("gcp:bigtable/instance:Instance", "b", {**BIGTABLE, "deletionProtection": False})
    world.change_by_hand("gcp", "bigtable", "backups", ["nightly"])
    assert len(cloud.destroy()) == 1
    assert "backups" in world.leftovers()[0].why
    assert made.urn in cloud.made


def test_14_bucket_and_repository_that_are_not_empty(world: World) -> None:
    cloud = gcp(world)
    bucket = cloud.create("gcp:storage/bucket:Bucket", "b", {"name": "models-1", "location": "US"})
    put = {"bucket": "models-1", "name": "m.onnx", "content": "x"}
    gcp(world).create("gcp:storage/bucketObject:BucketObject", "o", put)  # not of this state: pushed out of band
    with pytest.raises(CallError, match="not empty"):
        cloud.delete(bucket)
    registry = aws(world)
    repository = registry.create("aws:ecr/repository:Repository", "r", {"name": "triton"})
    world.change_by_hand("aws", "triton", "images", ["latest"])
    with pytest.raises(CallError, match="still has images"):
        registry.delete(repository)
    cloud.update(bucket, {"name": "models-1", "location": "US", "forceDestroy": True})
    assert cloud.destroy() == []


def test_15_what_an_interrupted_run_made_and_nobody_remembers(world: World) -> None:
    """The engine dies between the cloud's answer and its own note: the thing exists, no state has it."""
    cloud = aws(world)
    cloud.create(
        "aws:dynamodb/table:Table", "t", {"name": "t", "hashKey": "k", "attributes": [{"name": "k", "type": "S"}]}
    )
    cloud.made.clear()
    assert cloud.destroy() == []
    assert [x.name for x in world.leftovers()] == ["t"]
    assert "no delete was asked for" in world.leftovers()[0].why


def test_16_names_that_outlive_deletion(world: World) -> None:
    """A key ring for ever, a secret for 30 days: the same name cannot be made again."""
    cloud, other = gcp(world), aws(world)
    ring = cloud.create("gcp:kms/keyRing:KeyRing", "k", {"name": "ring", "location": "us-central1"})
    secret = other.create("aws:secretsmanager/secret:Secret", "s", {"name": "token"})
    cloud.delete(ring)
    other.delete(secret)
    with pytest.raises(CallError, match="never deleted"):
        cloud.create("gcp:kms/keyRing:KeyRing", "k", {"name": "ring", "location": "us-central1"})
    with pytest.raises(CallError, match="scheduled for deletion"):
        other.create("aws:secretsmanager/secret:Secret", "s", {"name": "token"})
    at_once = other.create("aws:secretsmanager/secret:Secret", "n", {"name": "now", "recoveryWindowInDays": 0})
    other.delete(at_once)
    other.create("aws:secretsmanager/secret:Secret", "n", {"name": "now", "recoveryWindowInDays": 0})
