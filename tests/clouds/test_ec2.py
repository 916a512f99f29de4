"""The EC2 site: its life against the simulated cloud, and what its resources say about access, capacity and cost."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from infra.catalog import load
from infra.plan import Kinds, make_plan
from infra.spec import parse

for _package in ("pulumi_aws", "botocore"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (extras `aws`, `simulators`)")

import pulumi  # noqa: E402

from infra.clouds.aws.images import image  # noqa: E402
from infra.clouds.aws.machine_groups import packed  # noqa: E402
from infra.clouds.aws.machine_routes import Route, routes  # noqa: E402
from serving.envoy_routes import TF_SERVING, V2, Interface  # noqa: E402
from simulators.core import contents  # noqa: E402
from tests.clouds.scanned import unexplained  # noqa: E402
from tests.clouds.site_project import SiteProject, asked, changed, of, worked  # noqa: E402

PUBLIC: Mapping[str, object] = {
    "exposure": "public",
    "allowed_cidrs": ["198.51.100.0/24"],
    "tls": {"certificate": "arn:aws:acm:us-east-1:123456789012:certificate/0a1b"},
    "scaling": "horizontal",
}
GROUP, TEMPLATE, TARGET = "autoscaling/group:Group", "ec2/launchTemplate:LaunchTemplate", "lb/targetGroup:TargetGroup"
UNTAGGED = {  # types that take no tags, or are told them in a form of their own
    *("aws:autoscaling/group:Group", "aws:autoscaling/policy:Policy", "aws:iam/rolePolicy:RolePolicy"),
    *("aws:ec2/route:Route", "aws:ec2/routeTableAssociation:RouteTableAssociation", "aws:kms/alias:Alias"),
}
BEHIND = (  # a model
    *("", "/infer", "/ready", "/versions/3", "/versions/3/infer", "/config", "/stats", "/trace/setting", "/a/b/infer"),
    *(":predict", "/versions/3:predict", "/labels/a:classify", "/metadata", "/../../v2/repository/index"),
)
ELSEWHERE = (
    *("/", "/metrics", "/monitoring/prometheus/metrics", "/v1", "/v2", "/v2/health/ready", "/v2/logging"),
    *("/v2/models/stats", "/v2/repository/index", "/v2/repository/models/m/load", "/v2/systemsharedmemory/status"),
)


def project(folder: Path) -> SiteProject:
    return SiteProject(name="site_ec2", folder=folder)


@pytest.mark.slow
def test_whole_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A switch makes and deletes the generation alone; back is as before, also when AWS has newer images meanwhile;
    nothing is left; the names are free again."""
    site, tall, wide = project(tmp_path), worked("ec2-cpu"), worked("ec2-cpu", scaling="horizontal")
    assert set(changed(site.go("up", wide))) == {"create"}
    before = asked(site.resources())
    newer = {"aws:ssm/getParameter:getParameter": lambda *_: {"value": "ami-0123456789abcdef0", "id": "newer"}}
    monkeypatch.setattr("simulators.core.invokes._FUNCTIONS", {**_functions(), **newer})
    assert changed(site.go("up", wide)) == {}
    switched = site.go("up", tall)
    moved = {s.urn.split("::")[2] for s in switched.steps if s.op != "same"}
    assert moved == {f"aws:{GROUP}", f"aws:{TEMPLATE}", "aws:autoscaling/policy:Policy"}
    assert set(changed(switched)) == {"create", "delete"}
    assert set(changed(site.go("up", wide))) == {"create", "delete"}
    assert asked(site.resources()) == before
    assert set(changed(site.go("destroy", wide))) == {"delete"}
    assert site.world.leftovers() == ()


@pytest.mark.slow
def test_machines_that_do_not_start_leave_the_old_ones_serving(tmp_path: Path) -> None:
    """The update fails with the reason, and so does the next one; the groups of before are untouched; turning back
    removes the failed one."""
    site, wide, tall = project(tmp_path), worked("ec2-cpu", scaling="horizontal"), worked("ec2-cpu")
    assert changed(site.go("up", wide))
    before = asked(site.resources())
    site.settle = True  # else the provider takes the group that it has made for one that serves
    for _ in range(2):
        failed = site.go("up", tall, user_data="#cloud-config\nruncmd: []\n")
        assert not failed.ok
        assert any("names no container image" in e for e in failed.errors), failed.errors
        assert before.items() <= asked(site.resources()).items()
    assert changed(site.go("up", wide)).keys() <= {"delete"}
    assert asked(site.resources()) == before


@pytest.mark.slow
def test_other_counts_are_another_group(tmp_path: Path) -> None:
    """In place the provider would wait for the number that was first wanted, which the autoscaler has moved since, and
    AWS would refuse a most below the number that the group was started with, which stays in its inputs."""
    site, serving = project(tmp_path), {"cost": "performance", "scaling": "horizontal", "budget_usd_per_month": None}
    loads = ((3000, 9000), (3000, 12000), (6000, 12000), (3000, 9000))  # mean, peak
    specs = [worked("ec2-cpu", **serving, load={"mean_rps": m, "peak_rps": p, "burst_cv": 1.5}) for m, p in loads]
    plans = [make_plan(parse(s), Kinds(), load()) for s in specs]
    assert len({p.generation for p in plans}) == 1
    assert set(changed(site.go("up", specs[0]))) == {"create"}
    for spec, plan in zip(specs[1:], plans[1:], strict=True):
        moved = site.go("up", spec)
        assert {s.urn.split("::")[2] for s in moved.steps if s.op == "create"} >= {f"aws:{GROUP}"}
        assert f"aws:{GROUP}" not in {s.urn.split("::")[2] for s in moved.steps if s.op in ("update", "replace")}
        (group,) = of(site.resources(), GROUP).values()
        pool = plan.pools[0]
        found = (group["minSize"], group["desiredCapacity"], group["maxSize"])
        assert found == (pool.min_nodes, pool.start_nodes, pool.max_nodes)


def _functions() -> dict[str, Any]:
    from simulators.core import invokes

    return invokes._FUNCTIONS


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """ec2-cpu, elastic, with spot machines and protected: base and burst, HTTP and passed-on gRPC."""
    site = project(tmp_path_factory.mktemp("private"))
    spec = worked("ec2-cpu", scaling="horizontal", protect=True, budget_usd_per_month=None)
    assert changed(site.go("up", spec))
    return site.resources()


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    site = project(tmp_path_factory.mktemp("public"))
    assert changed(site.go("up", worked("ec2-gpu", **PUBLIC)))
    return site.resources()


def test_every_resource_has_a_stated_provider_and_tags(private: list[dict[str, Any]]) -> None:
    for r in private:
        if r["type"].startswith("pulumi:providers"):
            assert r["urn"].endswith("::aws"), "no provider but the site's own"
            continue
        assert "::default" not in r["provider"], r["urn"]
        if r["type"] not in UNTAGGED and "bucket" not in r["type"]:
            assert r["inputs"]["tags"]["slipway-stack"] == "dev", r["urn"]
    for group in of(private, GROUP).values():
        told = {t["key"]: t["value"] for t in group["tags"] if t["propagateAtLaunch"]}
        assert told["slipway-stack"] == "dev"
    for template in of(private, TEMPLATE).values():
        assert {s["resourceType"] for s in template["tagSpecifications"]} == {"instance", "volume", "network-interface"}


def test_a_group_waits_until_the_entry_calls_it_healthy(private: list[dict[str, Any]]) -> None:
    """As many as it starts with, no longer than its start-up budget allows; nobody judges a machine that starts."""
    for name, group in of(private, GROUP).items():
        assert group["waitForElbCapacity"] == group["desiredCapacity"] > 0
        assert group["healthCheckType"] == "ELB"
        grace, limit = group["healthCheckGracePeriod"], int(group["waitForCapacityTimeout"].removesuffix("s"))
        assert limit > grace == group["defaultInstanceWarmup"] > 360, "the image's pull alone"
        assert len(group["targetGroupArns"]) == len(of(private, TARGET)) == 2
        assert name.rpartition("-")[2] in group["name"]
        (hook,) = group["initialLifecycleHooks"]
        assert hook["heartbeatTimeout"] >= max(t["deregistrationDelay"] for t in of(private, TARGET).values())
    assert not of(private, "autoscaling/lifecycleHook:LifecycleHook"), "it would go before its group"


def test_spot_is_a_group_of_its_own_and_on_demand_stands_in(private: list[dict[str, Any]]) -> None:
    groups, policies = of(private, GROUP), of(private, "autoscaling/policy:Policy")
    base, burst = (next(g for n, g in groups.items() if n.startswith(role)) for role in ("base", "burst"))
    assert "mixedInstancesPolicy" not in base
    shared = burst["mixedInstancesPolicy"]["instancesDistribution"]
    assert shared["spotAllocationStrategy"] == "price-capacity-optimized"
    assert shared["onDemandBaseCapacity"] == shared["onDemandPercentageAboveBaseCapacity"] == 0
    assert (base["capacityRebalance"], burst["capacityRebalance"]) == (False, True)
    assert base["maxSize"] >= base["minSize"] + burst["maxSize"]
    target = {n[:13]: p["targetTrackingConfiguration"]["targetValue"] for n, p in policies.items()}
    assert target["base-requests"] > target["burst-request"], "it grows only where spot has not come"


def test_dear_machines_that_start_slowly_stand_by(private: list[dict[str, Any]], public: list[dict[str, Any]]) -> None:
    """GPUs are made ready and stopped: then their disks alone are billed. Not spot machines, nor small ones."""
    assert not [g for g in of(private, GROUP).values() if "warmPool" in g]
    (group,) = of(public, GROUP).values()
    assert group["warmPool"] == {"poolState": "Stopped", "minSize": 0, "maxGroupPreparedCapacity": group["maxSize"]}
    waits = {h["lifecycleTransition"].rpartition("_")[2]: h["heartbeatTimeout"] for h in group["initialLifecycleHooks"]}
    assert waits["LAUNCHING"] == group["healthCheckGracePeriod"], "it is not stopped before it has its image"
    plan = make_plan(parse(worked("ec2-gpu", **PUBLIC)), Kinds(), load())
    (disks,) = (line for line in plan.lines if line["item"] == "EBS gp3 storage")
    assert disks["quantity"] == 100 * plan.pools[0].max_nodes


def test_scaling_counts_what_each_machine_carries(private: list[dict[str, Any]], public: list[dict[str, Any]]) -> None:
    """By one target group's own metric; by the sum of two where gRPC has its own, and its requests are as dear."""
    plan = make_plan(parse(worked("ec2-gpu", **PUBLIC)), Kinds(), load())
    (policy,) = of(public, "autoscaling/policy:Policy").values()
    tracking = policy["targetTrackingConfiguration"]
    assert 0.5 * plan.pools[0].node_rps * 60 < tracking["targetValue"] < plan.pools[0].node_rps * 60
    *parts, total = tracking["customizedMetricSpecification"]["metrics"]
    assert total["returnData"]
    assert all(part["id"] in total["expression"] for part in parts)
    assert len({json.dumps(part["metricStat"]) for part in parts}) == 2
    kinds = [
        p["targetTrackingConfiguration"]["predefinedMetricSpecification"]["predefinedMetricType"]
        for p in of(private, "autoscaling/policy:Policy").values()
    ]
    assert set(kinds) == {"ALBRequestCountPerTarget", "ASGAverageCPUUtilization"}, "gRPC is not counted without tls"


def test_machines_are_closed(private: list[dict[str, Any]], public: list[dict[str, Any]]) -> None:
    """By range the entry alone is reached; the servers' ports from the entry alone; out go 443 and nothing else."""
    for resources, callers, ports in (
        (private, {"10.40.0.0/16"}, {80, 8001}),
        (public, {"198.51.100.0/24"}, {443, 8001}),
    ):
        rules = of(resources, "vpc/securityGroupIngressRule:SecurityGroupIngressRule").values()
        by_range = [r for r in rules if "cidrIpv4" in r]
        assert {r["cidrIpv4"] for r in by_range} == callers
        assert {r["fromPort"] for r in by_range} == ports
        assert {(r["fromPort"], r["toPort"]) for r in rules if "cidrIpv4" not in r} == {(8000, 8000), (8001, 8001)}
        out = of(resources, "vpc/securityGroupEgressRule:SecurityGroupEgressRule").values()
        assert {r["fromPort"] for r in out if "cidrIpv4" in r} == {443}
        for template in of(resources, TEMPLATE).values():
            assert template["metadataOptions"]["httpTokens"] == "required"
            assert template["metadataOptions"]["httpPutResponseHopLimit"] == 1
            assert template["blockDeviceMappings"][0]["ebs"]["encrypted"] == "true"
            assert "keyName" not in template


def test_the_entry_speaks_per_request_where_it_can(private: list[dict[str, Any]], public: list[dict[str, Any]]) -> None:
    kinds = {n: b["loadBalancerType"] for n, b in of(private, "lb/loadBalancer:LoadBalancer").items()}
    assert kinds == {"entry": "application", "entry-grpc": "network"}
    (outside,) = of(public, "lb/loadBalancer:LoadBalancer").values()
    assert (outside["internal"], outside["loadBalancerType"]) == (False, "application")
    assert outside["dropInvalidHeaderFields"]
    versions = {t["protocolVersion"]: t["port"] for t in of(public, TARGET).values()}
    assert versions == {"HTTP1": 8000, "GRPC": 8001}
    for listener in of(public, "lb/listener:Listener").values():
        assert (listener["protocol"], listener["certificateArn"]) == ("HTTPS", PUBLIC["tls"]["certificate"])  # type: ignore[index]
        assert listener["defaultActions"][0]["fixedResponse"]["statusCode"] == "403"
    assert all(b["enableDeletionProtection"] for b in of(private, "lb/loadBalancer:LoadBalancer").values())


@pytest.mark.parametrize(("server", "interface"), [("triton", V2), ("tf-serving", TF_SERVING)])
def test_it_lets_through_what_envoy_does(server: str, interface: Interface) -> None:
    """What a client asks on one shape it may ask on the other; control, statistics and the like on neither."""
    start = {"triton": "/v2/models/m", "tf-serving": "/v1/models/m"}[server]
    paths = [start + behind for behind in BEHIND] + list(ELSEWHERE)
    for path in paths:
        for method in ("GET", "POST", "DELETE"):
            wanted = path not in interface.http_refused and any(
                method == m and re.fullmatch(p, path) for m, p in interface.http
            )
            found = _passes(routes(server, "http"), method, path)
            assert found == wanted, f"{method} {path}"
    passed = {p for r in routes(server, "grpc") for p in r.paths}
    assert passed == {f"^{re.escape(f'{interface.grpc_service}/{m}')}$" for m in interface.grpc_methods}
    for protocol in ("http", "grpc"):
        for route in routes(server, protocol):
            assert 1 + len(route.paths) <= 5, "values that AWS takes in one rule"
            assert max(map(len, route.paths)) <= 128


def _passes(rules: list[Route], method: str, path: str) -> bool:
    first = next((r for r in rules if r.method == method and any(re.search(p, path) for p in r.paths)), None)
    return first is not None and first.allowed


def test_a_machine_may_what_it_was_granted_and_take_its_leave(private: list[dict[str, Any]]) -> None:
    granted = json.loads(of(private, "iam/rolePolicy:RolePolicy")["servers"]["policy"])["Statement"]
    bucket = of(private, "s3/bucket:Bucket")["models"]["bucket"]
    objects = [s["Resource"] for s in granted if "s3:GetObject" in s["Action"]]
    assert objects == [f"arn:aws:s3:::{bucket}/*", "arn:aws:s3:::theirs/results/*"]
    for statement in granted:
        if any(a.startswith(("autoscaling:Complete", "elasticloadbalancing:")) for a in statement["Action"]):
            assert statement["Condition"]["StringEquals"] == {"aws:ResourceTag/slipway-stack": "dev"}
        everywhere = {a for a in statement["Action"] if statement["Resource"] == "*"}
        assert all(a.startswith(("autoscaling:Describe", "ssm:UpdateInstance", "ssmmessages:")) for a in everywhere)


def test_the_bill_counts_what_the_stack_makes(private: list[dict[str, Any]]) -> None:
    assert len(of(private, "ec2/natGateway:NatGateway")) == 1
    assert len(of(private, "kms/key:Key")) == 1
    plan = make_plan(parse(worked("ec2-cpu", scaling="horizontal", budget_usd_per_month=None)), Kinds(), load())
    billed = {str(line["item"]) for line in plan.lines}
    assert {"Application load balancer", "Network load balancer", "KMS customer managed key"} <= billed, sorted(billed)


@pytest.mark.slow
def test_the_scanner_finds_nothing_that_is_not_explained(
    private: list[dict[str, Any]], public: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Every failed check of the cloud's resources stands in docs/security.md with its reason."""
    assert not unexplained(tmp_path, "aws", private, public)


def test_start_up_data_is_readable_as_long_as_it_fits() -> None:
    assert base64.b64decode(packed("#cloud-config\n")) == b"#cloud-config\n"
    long = "#cloud-config\n" + "- a line of settings\n" * 2000
    assert gzip.decompress(base64.b64decode(packed(long))) == long.encode()
    assert packed(long) == packed(long)
    with pytest.raises(pulumi.RunError, match=r"EC2 takes 16384\. To fix: divide the models"):
        packed("".join(f"{i * 7919 % 104729:x}" for i in range(20000)))


def test_the_boot_image_is_that_of_the_machine() -> None:
    cpu, gpu = (make_plan(parse(worked(s)), Kinds(), load()).pools[0] for s in ("ec2-cpu", "ec2-gpu"))
    assert "ecs/optimized-ami" in image(cpu).parameter
    assert "nvidia-driver" in image(gpu).parameter
    assert contents.FUNCTIONS, "the simulated cloud answers both by name"


def test_without_tls_a_port_that_takes_control_is_not_passed_on(tmp_path: Path) -> None:
    """TensorFlow Serving takes another configuration on its gRPC port: only a balancer that reads may stand before.
    And a group of a fixed size is scaled by nobody."""
    site = project(tmp_path)
    digits = {"name": "digits", "storage_uri": "s3://models/digits", "format": "savedmodel", "size_mib": 1}
    spec = worked("ec2-cpu", server="tf-serving", cost="performance", model_access="sync", budget_usd_per_month=None)
    result = site.go("up", spec | {"models": [digits | {"profile": {"vcpu": {"base_ms": 2, "per_item_ms": 1}}}]})
    assert changed(result)
    assert result.outputs["grpc"] == ""
    assert "set tls" in str(result.outputs["from"])
    assert len(of(site.resources(), TARGET)) == 1
    (group,) = of(site.resources(), GROUP).values()
    assert group["minSize"] == group["maxSize"] == group["desiredCapacity"]
    assert not of(site.resources(), "autoscaling/policy:Policy")


@pytest.mark.slow
def test_one_zone_is_refused_with_the_way_out(tmp_path: Path) -> None:
    refused = project(tmp_path).go("preview", worked("ec2-cpu", zones=["us-east-1a"]))
    assert any("zones: us-east-1a is one zone" in e and "To fix: set zones" in e for e in refused.errors), (
        refused.errors
    )
