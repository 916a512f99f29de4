"""The EKS site: its whole life against the simulated cloud, and what its resources say about access and cost."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from infra.catalog import load
from infra.plan import Kinds, make_plan
from infra.spec import parse

for _package in ("pulumi_aws", "pulumi_kubernetes", "botocore"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (extras `aws`, `simulators`)")

from infra.clouds.aws.cluster import admins  # noqa: E402
from infra.clouds.aws.network import ranges  # noqa: E402
from infra.clouds.aws.nodes import placement, pool_shape  # noqa: E402
from simulators.core.faults import Fault  # noqa: E402
from tests.clouds.scanned import unexplained  # noqa: E402
from tests.clouds.site_project import SiteProject, asked, changed, of, worked  # noqa: E402

PUBLIC: Mapping[str, object] = {
    "exposure": "public",
    "allowed_cidrs": ["198.51.100.0/24", "203.0.113.0/24"],
    "tls": {"certificate": "arn:aws:acm:us-east-1:123456789012:certificate/0a1b"},
}
ASSOCIATION = "eks/podIdentityAssociation:PodIdentityAssociation"
UNTAGGED = {  # types that take no tags, or whose tags are another thing
    "aws:autoscaling/attachment:Attachment",
    "aws:autoscaling/tag:Tag",
    "aws:ec2/route:Route",
    "aws:ec2/routeTableAssociation:RouteTableAssociation",
    "aws:iam/rolePolicy:RolePolicy",
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
    "aws:kms/alias:Alias",
}


def project(tmp_path: Path) -> SiteProject:
    return SiteProject(name="site_aws", folder=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("stack", ["eks-cpu", "eks-gpu"])
def test_whole_life(stack: str, tmp_path: Path) -> None:
    """A switch makes and deletes the pool alone; back is as before; nothing is left; the names are free again."""
    site, wide, tall = project(tmp_path), worked(stack), worked(stack, scaling="vertical")
    assert set(changed(site.go("preview", wide))) == {"create"}
    assert set(changed(site.go("up", wide))) == {"create"}
    before = site.resources()
    assert changed(site.go("up", wide)) == {}
    switched = site.go("up", tall)
    moved = {s.urn.split("::")[2] for s in switched.steps if s.op != "same"}
    assert moved == {"aws:eks/nodeGroup:NodeGroup", "aws:ec2/launchTemplate:LaunchTemplate", "aws:autoscaling/tag:Tag"}
    assert set(changed(switched)) == {"create", "delete"}
    assert set(changed(site.go("up", wide))) == {"create", "delete"}
    assert asked(site.resources()) == asked(before)
    assert set(changed(site.go("destroy", wide))) == {"delete"}
    assert site.world.leftovers() == ()
    assert changed(site.go("destroy", wide)) == {}
    assert set(changed(site.go("up", wide))) == {"create"}
    assert set(changed(site.go("destroy", wide))) == {"delete"}
    assert site.world.leftovers() == ()


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """eks-gpu as configured, which is private, and protected."""
    site = project(tmp_path_factory.mktemp("private"))
    assert changed(site.go("up", worked("eks-gpu", protect=True, budget_usd_per_month=100000)))
    return site.resources()


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    site = project(tmp_path_factory.mktemp("public"))
    assert changed(site.go("up", worked("eks-cpu", **PUBLIC)))
    return site.resources()


def test_every_resource_has_a_stated_provider_and_tags(private: list[dict[str, Any]]) -> None:
    """No resource goes to whatever account or cluster is around; each can be found again by its stack and role."""
    for r in private:
        if r["type"].startswith("pulumi:providers"):
            assert not r["urn"].endswith(("default", "default_7_51_1")), r["urn"]
            continue
        assert "::default" not in r["provider"], r["urn"]
        if r["type"].startswith("aws:") and r["type"] not in UNTAGGED and "bucket" not in r["type"]:
            assert r["inputs"]["tags"]["slipway-stack"] == "dev", r["urn"]
            assert r["inputs"]["tags"]["slipway-role"], r["urn"]


def test_the_control_plane_is_closed_and_keeps_its_word(private: list[dict[str, Any]]) -> None:
    (cluster,) = of(private, "eks/cluster:Cluster").values()
    place = cluster["vpcConfig"]
    assert (place["endpointPrivateAccess"], place["publicAccessCidrs"]) == (True, ["203.0.113.0/24"])
    assert len(place["subnetIds"]) == 2, "one of the three zones takes no control plane in this account"
    assert cluster["deletionProtection"] is True, "protect"
    assert cluster["accessConfig"]["authenticationMode"] == "API"
    assert cluster["encryptionConfig"]["resources"] == ["secrets"]
    assert len(cluster["enabledClusterLogTypes"]) == 5
    groups = of(private, "cloudwatch/logGroup:LogGroup")
    assert groups["cluster"]["name"] == "/aws/eks/dev-cluster/cluster"
    assert all(g["retentionInDays"] >= 365 and g["kmsKeyId"] for g in groups.values())
    assert of(private, "s3/bucket:Bucket")["models"]["forceDestroy"] is False, "protect"
    assert all(b["enableDeletionProtection"] for b in of(private, "lb/loadBalancer:LoadBalancer").values())


def test_deletes_come_in_the_order_that_frees_everything(private: list[dict[str, Any]]) -> None:
    """Log group before the cluster, network add-on before the nodes: and so after them at the end."""
    needs = {r["urn"].split("$")[-1]: set(r.get("dependencies", ())) for r in private}

    def reaches(start: str, kind: str, name: str) -> bool:
        seen, todo = set(), [start]
        while todo:
            for urn in needs.get(todo.pop(), ()):
                if urn not in seen:
                    seen.add(urn)
                    todo.append(urn)
        return any(f"::{kind}::{name}" in urn for urn in seen)

    clusters = [u for u in needs if "::aws:eks/cluster:Cluster::" in u]
    nodes = [u for u in needs if "::aws:eks/nodeGroup:NodeGroup::" in u]
    assert len(nodes) == 2
    for cluster in clusters:
        assert reaches(cluster, "aws:cloudwatch/logGroup:LogGroup", "cluster")
        assert reaches(cluster, "aws:iam/rolePolicyAttachment:RolePolicyAttachment", "cluster")
    for node in nodes:
        assert reaches(node, "aws:eks/addon:Addon", "vpc-cni")
        assert reaches(node, "aws:ec2/route:Route", "private")
        assert reaches(node, "aws:iam/rolePolicyAttachment:RolePolicyAttachment", "nodes-AmazonEKSWorkerNodePolicy")
    for addon in ("coredns", "metrics-server"):
        assert reaches(next(u for u in needs if u.endswith(f"Addon::{addon}")), "aws:eks/nodeGroup:NodeGroup", "system")


def test_pools_are_the_plans_and_the_autoscalers_afterwards(private: list[dict[str, Any]]) -> None:
    """Least 0, because AWS refuses one above the size that the autoscaler left; what a group without nodes brings is
    told to the autoscaler; the system group is nobody's to scale."""
    groups = of(private, "eks/nodeGroup:NodeGroup")
    system, pool = (next(g for n, g in groups.items() if n.startswith(role)) for role in ("system", "serving"))
    assert system["scalingConfig"] == {"minSize": 2, "maxSize": 2, "desiredSize": 2}
    assert system["amiType"] == "AL2023_x86_64_STANDARD"
    assert not system.get("taints")
    assert pool["scalingConfig"]["minSize"] == 0
    assert pool["scalingConfig"]["desiredSize"] > 0
    assert pool["amiType"] == "AL2023_x86_64_NVIDIA"
    assert {t["key"] for t in pool["taints"]} == {"slipway-serving", "nvidia.com/gpu"}
    generation = pool["labels"]["slipway-generation"]
    assert pool["nodeGroupName"].endswith(generation)
    told = {t["tag"]["key"]: t["tag"]["value"] for t in of(private, "autoscaling/tag:Tag").values()}
    prefix = "k8s.io/cluster-autoscaler/node-template"
    assert told[f"{prefix}/resources/nvidia.com/gpu"] == "1"
    assert told[f"{prefix}/label/slipway-generation"] == generation
    assert told[f"{prefix}/taint/slipway-serving"] == "true:NoSchedule"
    for template in of(private, "ec2/launchTemplate:LaunchTemplate").values():
        assert template["metadataOptions"] == {
            "httpEndpoint": "enabled",
            "httpTokens": "required",
            "httpPutResponseHopLimit": 1,
        }
        assert template["blockDeviceMappings"][0]["ebs"]["encrypted"] == "true"


def test_a_shared_gpu_counts_as_its_shares() -> None:
    """A pod asks for one share, and the autoscaler is told of all of a node's: else it would start too many."""
    sharing = {"gpu_sharing": {"strategy": "time-slicing", "clients": 2}, "cost": "economy"}
    plan = make_plan(parse(worked("eks-gpu", **sharing)), Kinds(), load())
    pool = plan.pools[0]
    assert pool.replicas_per_node == 2 * pool.accelerator_count
    shape = pool_shape(plan, pool, plan.generation, pool.zones)
    assert (shape.gpus, shape.turns) == (pool.accelerator_count, 2)
    place = placement(shape, pool.replicas_per_node, ())
    assert (place.device, place.devices) == ("nvidia.com/gpu", 1)


def test_a_service_account_gets_what_it_was_granted_and_no_more(private: list[dict[str, Any]]) -> None:
    roles, policies = of(private, "iam/role:Role"), of(private, "iam/rolePolicy:RolePolicy")
    trust = json.loads(roles["serving-model-server"]["assumeRolePolicy"])["Statement"][0]
    subjects = [v for k, v in trust["Condition"]["StringEquals"].items() if k.endswith(":sub")]
    assert subjects == ["system:serviceaccount:serving:model-server"]
    granted = json.loads(policies["serving-model-server"]["policy"])["Statement"]
    on = {a: s["Resource"] for s in granted for a in s["Action"]}
    bucket = of(private, "s3/bucket:Bucket")["models"]["bucket"]
    objects = [s["Resource"] for s in granted if "s3:GetObject" in s["Action"]]
    assert objects == [f"arn:aws:s3:::{bucket}/*", "arn:aws:s3:::theirs/results/*"]
    assert on["s3:PutObject"] == "arn:aws:s3:::theirs/results/*"
    assert all(s["Resource"] != "*" for s in granted)
    for statement in json.loads(policies["slipway-system-cluster-autoscaler"]["policy"])["Statement"]:
        if any(not a.partition(":")[2].startswith(("Describe", "Get")) for a in statement["Action"]):
            assert "aws:ResourceTag/k8s.io/cluster-autoscaler/dev-cluster" in statement["Condition"]["StringEquals"]


@pytest.mark.slow
def test_rights_by_the_agent_of_the_nodes(tmp_path: Path) -> None:
    """pod-identity: EKS's service takes the role for the one service account; the agent comes once, as an add-on."""
    site = project(tmp_path)
    assert changed(site.go("up", worked("eks-cpu", workload_identity="pod-identity", model_access="sync")))
    made = site.resources()
    bound = {(a["namespace"], a["serviceAccount"]) for a in of(made, ASSOCIATION).values()}
    assert bound == {("serving", "model-server"), ("slipway-system", "cluster-autoscaler")}
    trust = json.loads(of(made, "iam/role:Role")["serving-model-server"]["assumeRolePolicy"])["Statement"][0]
    assert trust["Principal"] == {"Service": "pods.eks.amazonaws.com"}
    assert set(trust["Action"]) == {"sts:AssumeRole", "sts:TagSession"}
    assert [a["addonName"] for a in of(made, "eks/addon:Addon").values()].count("eks-pod-identity-agent") == 1


def test_only_the_table_of_flows_is_let_in(private: list[dict[str, Any]], public: list[dict[str, Any]]) -> None:
    """By CIDR the entry alone is reached, from the network or from allowed_cidrs; node ports only from the entry."""
    for resources, callers, ports in (
        (private, {"10.40.0.0/16"}, {80, 8001}),
        (public, {"198.51.100.0/24", "203.0.113.0/24"}, {443, 8001}),
    ):
        rules = of(resources, "vpc/securityGroupIngressRule:SecurityGroupIngressRule").values()
        by_range = [r for r in rules if "cidrIpv4" in r]
        assert {r["cidrIpv4"] for r in by_range} == callers
        assert {r["fromPort"] for r in by_range} == ports
        inner = {(r["fromPort"], r["toPort"]) for r in rules if "cidrIpv4" not in r}
        assert inner == {(p, p) for p in (30080, 30081, 6443, 9443, 8000, 10251)}
        (default,) = of(resources, "ec2/defaultSecurityGroup:DefaultSecurityGroup").values()
        assert not default.get("ingress")
        assert not default.get("egress")


def test_a_public_entry_speaks_tls(private: list[dict[str, Any]], public: list[dict[str, Any]]) -> None:
    (inside,), (outside,) = (of(r, "lb/loadBalancer:LoadBalancer").values() for r in (private, public))
    assert (inside["internal"], outside["internal"]) == (True, False)
    assert {x["protocol"] for x in of(private, "lb/listener:Listener").values()} == {"TCP"}
    for listener in of(public, "lb/listener:Listener").values():
        assert listener["protocol"] == "TLS"
        assert listener["certificateArn"] == PUBLIC["tls"]["certificate"]  # type: ignore[index]
    groups = {a["autoscalingGroupName"] for a in of(public, "autoscaling/attachment:Attachment").values()}
    assert len(groups) == 1
    assert "system" in groups.pop()


def test_the_bill_counts_what_the_stack_makes(private: list[dict[str, Any]]) -> None:
    """One NAT gateway, one key, one load balancer, and gateway endpoints only, which are free."""
    assert len(of(private, "ec2/natGateway:NatGateway")) == 1
    assert len(of(private, "ec2/eip:Eip")) == 1
    assert len(of(private, "kms/key:Key")) == 1
    assert {e["vpcEndpointType"] for e in of(private, "ec2/vpcEndpoint:VpcEndpoint").values()} == {"Gateway"}


@pytest.mark.slow
def test_the_scanner_finds_nothing_that_is_not_explained(
    private: list[dict[str, Any]], public: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Every failed check of the cloud's resources stands in docs/security.md with its reason."""
    assert not unexplained(tmp_path, "aws", private, public)


def test_the_state_holds_no_credentials(private: list[dict[str, Any]]) -> None:
    """The kubeconfig names a command, so that nothing in it changes from run to run."""
    provider = of(private, "providers:kubernetes")["kubernetes"]
    assert provider["clusterIdentifier"].endswith(":cluster/dev-cluster"), "else a new kubeconfig replaces every object"
    user = json.loads(provider["kubeconfig"])["users"][0]["user"]
    assert set(user) == {"exec"}
    assert user["exec"]["command"] == "aws"
    assert "get-token" in user["exec"]["args"]


def test_administrators_of_private_ranges_come_through_the_network() -> None:
    """EKS refuses private ranges at its public endpoint; without any other there is none."""
    assert admins(("203.0.113.0/24", "10.0.0.0/8")) == (["203.0.113.0/24"], ["10.0.0.0/8"])
    assert admins(("172.16.5.0/24",)) == ([], ["172.16.5.0/24"])
    assert admins(("172.32.0.0/16", "100.128.0.0/10")) == (["172.32.0.0/16", "100.128.0.0/10"], [])


def test_ranges_of_zones_never_overlap_nor_move() -> None:
    """By the zone's letter: zones that join or leave keep the others where they are."""
    every = [ipaddress.ip_network(r) for z in "abcdef" for r in ranges(f"us-east-1{z}")]
    assert all(r.subnet_of(ipaddress.ip_network("10.40.0.0/16")) for r in every)  # type: ignore[arg-type]
    assert not any(a.overlaps(b) for i, a in enumerate(every) for b in every[:i])
    with pytest.raises(ValueError, match="no range is planned"):
        ranges("us-east-1g")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("events", "uri", "reason"),
    [
        ((), "s3://weights/team/digits", None),
        (("bucket-empty",), "s3://weights/team/digits", "s3://weights/team/digits is empty"),
        (("bucket-absent",), "s3://weights/team/digits", "bucket weights cannot be read"),
        ((), "gs://weights/digits", "no address of S3"),
    ],
)
def test_a_model_that_is_not_there_is_said_before_anything_is_made(
    events: tuple[str, ...], uri: str, reason: str | None, tmp_path: Path
) -> None:
    """In preview as well, by asking the cloud; then nothing is declared but the provider that asked."""
    site = project(tmp_path)
    site.world.faults = tuple(Fault(kind=e) for e in events)  # type: ignore[arg-type]
    result = site.go("preview", worked("eks-cpu"), model=uri)
    if reason is None:
        assert result.ok, result.errors
    else:
        assert any(reason in e for e in result.errors), result.errors
        assert set(result.changes) <= {"create", "same"}
        assert sum(result.changes.values()) <= 2, "the stack and the provider"
