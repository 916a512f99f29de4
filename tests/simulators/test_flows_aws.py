"""On EKS security groups decide: a load balancer to its nodes, the control plane to pods."""

from __future__ import annotations

import pytest
from cloud_driver import Made, Site, eks

from simulators.core import flows, side_flows
from simulators.core.values import Json, Properties
from simulators.core.world import World

for _package in ("pulumi_gcp", "pulumi_aws", "pulumi_kubernetes", "botocore"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (extra `simulators`)")

RULE = "aws:vpc/securityGroup{}Rule:SecurityGroup{}Rule"


def group(site: Site, name: str) -> Made:
    return site.cloud.create("aws:ec2/securityGroup:SecurityGroup", name, {"name": name, "vpcId": site.network.id})


def rule(site: Site, way: str, mine: Made, other: str, port: int) -> Made:
    inputs: Properties = {
        "securityGroupId": mine.id, "referencedSecurityGroupId": other, "ipProtocol": "tcp", "fromPort": port,
        "toPort": port,
    }  # fmt: skip
    return site.cloud.create(RULE.format(way, way), f"{way}-{mine.name}-{port}", inputs)


def entry(site: Site) -> tuple[Made, Made]:
    """(group of the load balancer, group of the nodes)."""
    door, nodes = group(site, "door"), group(site, "nodes")
    template = site.cloud.create(
        "aws:ec2/launchTemplate:LaunchTemplate", "t", {"name": "nodes", "vpcSecurityGroupIds": [nodes.id]}
    )
    role = next(m for m in site.cloud.made.values() if m.token == "aws:iam/role:Role")
    made = site.cloud.create(
        "aws:eks/nodeGroup:NodeGroup",
        "system",
        {
            "clusterName": "c", "nodeGroupName": "system", "nodeRoleArn": role["arn"],
            "subnetIds": [s.id for s in site.subnets], "instanceTypes": ["m6i.large"],
            "scalingConfig": {"minSize": 2, "maxSize": 2, "desiredSize": 2},
            "launchTemplate": {"id": template.id, "version": "1"},
        },
    )  # fmt: skip
    balancer: Properties = {
        "name": "entry", "internal": True, "loadBalancerType": "network", "subnets": [s.id for s in site.subnets],
        "securityGroups": [door.id],
    }  # fmt: skip
    lb = site.cloud.create("aws:lb/loadBalancer:LoadBalancer", "lb", balancer)
    wanted: Properties = {
        "name": "entry",
        "port": 30080,
        "protocol": "TCP",
        "vpcId": site.network.id,
        "targetType": "instance",
    }
    target = site.cloud.create("aws:lb/targetGroup:TargetGroup", "tg", wanted)
    actions: Json = [{"type": "forward", "targetGroupArn": target["arn"]}]
    listener: Properties = {"loadBalancerArn": lb["arn"], "port": 80, "protocol": "TCP", "defaultActions": actions}
    site.cloud.create("aws:lb/listener:Listener", "l", listener)
    resources = made["resources"]
    assert isinstance(resources, list)
    asg: Json = resources[0]["autoscalingGroups"][0]["name"]  # type: ignore[index,call-overload]
    attached: Properties = {"autoscalingGroupName": asg, "lbTargetGroupArn": target["arn"]}
    site.cloud.create("aws:autoscaling/attachment:Attachment", "a", attached)
    return door, nodes


def server(site: Site) -> None:
    labels: Properties = {"app": "s"}
    container: Properties = {"name": "c", "image": "i:1", "ports": [{"name": "http", "containerPort": 8000}]}
    spec: Properties = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
    }
    site.kubernetes.create("kubernetes:apps/v1:Deployment", "s", {"metadata": {"name": "s"}, "spec": spec})
    ports: Json = [{"port": 80, "targetPort": "http", "nodePort": 30080}]
    site.kubernetes.create(
        "kubernetes:core/v1:Service",
        "s",
        {"metadata": {"name": "s"}, "spec": {"type": "NodePort", "selector": labels, "ports": ports}},
    )


def test_a_load_balancer_needs_a_rule_on_either_side() -> None:
    site = eks(World())
    door, nodes = entry(site)
    server(site)
    said = flows.serving(site.cloud.world).closed
    assert said == "no security group of nodes of system allows the load balancer on tcp/30080"
    rule(site, "Ingress", nodes, door.id, 30080)
    said = flows.serving(site.cloud.world).closed
    assert said == "no security group of the load balancer lets it out to nodes of system on tcp/30080", (
        "the provider takes the rule away that AWS gives to a new group"
    )
    rule(site, "Egress", door, nodes.id, 30080)
    found = flows.serving(site.cloud.world)
    assert found.closed == ""
    assert list(found.servers.values()) == ["s"]


def test_the_control_plane_reaches_webhooks_where_a_group_lets_it() -> None:
    site = eks(World())
    _, nodes = entry(site)
    release: Properties = {"chart": "keda", "name": "keda", "version": "2.20.2"}
    site.kubernetes.create("kubernetes:helm.sh/v3:Release", "keda", release)
    world = site.cloud.world

    def lost() -> list[str]:
        return [str(f) for f in side_flows.judge(world, flows.serving(world)) if not f.arrives]

    assert any("the control plane -> default/keda-admission-webhooks:9443 does not arrive" in f for f in lost())
    vpc = site.cluster["vpcConfig"]
    assert isinstance(vpc, dict)
    for port in (6443, 9443):
        rule(site, "Ingress", nodes, str(vpc["clusterSecurityGroupId"]), port)
    assert lost() == []
