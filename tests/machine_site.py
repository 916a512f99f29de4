"""A serving stack of groups of machines in a simulated cloud, as a program makes it."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from cloud_driver import Driver, Made, aws, gcp

from simulators.core.timeline import schedule
from simulators.core.traffic import Capacity, Demand, capacity
from simulators.core.values import Json, Properties
from simulators.core.world import World

TRITON = "nvcr.io/nvidia/tritonserver:26.07-py3"
READY = "/v2/health/ready"
COS = "projects/cos-cloud/global/images/family/cos-121-lts"
DRIVER = "cos-extensions install gpu"
MIG = "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager"
ASG = "aws:autoscaling/group:Group"
HEALTH: Json = ["35.191.0.0/16", "130.211.0.0/22"]
DEMAND = Demand(rps=100, rates={"server-*": 50})


def user_data(image: str = TRITON, flags: str = "-p 8000:8000 -p 8001:8001", before: str = "", stop: str = "") -> str:
    """cloud-config as a renderer writes it: one unit that runs the container."""
    lines = [
        "#cloud-config",
        "write_files:",
        "  - path: /etc/systemd/system/server.service",
        "    content: |",
        "      [Service]",
        *([f"      ExecStartPre={before}"] if before else []),
        f"      ExecStart=/usr/bin/docker run --rm --name server {flags} {image} tritonserver",
        *([f"      ExecStop={stop}"] if stop else []),
        "runcmd:",
        "  - systemctl start server",
    ]
    return "\n".join(lines)


@dataclass(kw_only=True)
class Gce:
    world: World
    cloud: Driver
    network: Made
    subnet: Made
    check: Made
    made: dict[str, Made] = field(default_factory=dict)

    def template(self, name: str, told: str | None = None, **more: Json) -> Made:
        inputs: Properties = {
            "name": f"t-{name}", "machineType": "n2-standard-8", "region": "us-central1", "tags": ["server"],
            "disks": [{"boot": True, "sourceImage": COS, "diskSizeGb": 50}],
            "networkInterfaces": [{"subnetwork": self.subnet["selfLink"]}],
            "metadata": {"user-data": user_data() if told is None else told},
        }  # fmt: skip
        return self.cloud.create(
            "gcp:compute/regionInstanceTemplate:RegionInstanceTemplate", f"t-{name}", {**inputs, **more}
        )

    def group_inputs(self, name: str, template: Made, count: int = 2, delay: int = 600, **more: Json) -> Properties:
        policy: Properties = {
            "type": "PROACTIVE", "minimalAction": "REPLACE", "maxSurgeFixed": 3, "maxUnavailableFixed": 0,
            "replacementMethod": "SUBSTITUTE",
        }  # fmt: skip
        return {
            "name": f"server-{name}", "baseInstanceName": f"server-{name}", "region": "us-central1",
            "targetSize": count,
            "versions": [{"instanceTemplate": template["selfLink"]}], "updatePolicy": policy, "waitForInstances": True,
            "autoHealingPolicies": {"healthCheck": self.check["selfLink"], "initialDelaySec": delay},
            "namedPorts": [{"name": "http", "port": 8000}, {"name": "grpc", "port": 8001}],
            "distributionPolicyZones": ["us-central1-a", "us-central1-b", "us-central1-c"], **more,
        }  # fmt: skip

    def group(self, name: str, template: Made | None = None, count: int = 2, delay: int = 600, **more: Json) -> Made:
        inputs = self.group_inputs(name, template or self.template(name), count, delay, **more)
        return self.cloud.create(MIG, f"server-{name}", inputs)

    def service_inputs(self, *groups: Made) -> Properties:
        members: Json = [
            {"group": g["instanceGroup"], "balancingMode": "RATE", "maxRatePerInstance": 50, "capacityScaler": 1}
            for g in groups
        ]
        return {
            "name": "http", "region": "us-central1", "protocol": "HTTP", "loadBalancingScheme": "INTERNAL_MANAGED",
            "portName": "http", "healthChecks": self.check["selfLink"], "connectionDrainingTimeoutSec": 30,
            "backends": members,
        }  # fmt: skip

    def enter(self, *groups: Made) -> Made:
        """Backend service, URL map that routes predictions alone, proxy, forwarding rule."""
        region: Properties = {"region": "us-central1"}
        service = self.cloud.create(
            "gcp:compute/regionBackendService:RegionBackendService", "http", self.service_inputs(*groups)
        )
        matcher: Json = {
            "name": "p", "defaultUrlRedirect": {"hostRedirect": "invalid", "stripQuery": True},
            "pathRules": [{"paths": ["/v2/*"], "service": service["selfLink"]}],
        }  # fmt: skip
        routes = self.cloud.create(
            "gcp:compute/regionUrlMap:RegionUrlMap", "routes",
            {"name": "routes", **region, "pathMatchers": [matcher], "hostRules": [{"hosts": ["*"], "pathMatcher": "p"}],
             "defaultUrlRedirect": {"hostRedirect": "invalid", "stripQuery": True}},
        )  # fmt: skip
        proxy = self.cloud.create(
            "gcp:compute/regionTargetHttpProxy:RegionTargetHttpProxy", "proxy",
            {"name": "proxy", **region, "urlMap": routes["selfLink"]},
        )  # fmt: skip
        self.cloud.create(
            "gcp:compute/forwardingRule:ForwardingRule", "rule",
            {"name": "rule", **region, "network": self.network["selfLink"], "subnetwork": self.subnet["selfLink"],
             "target": proxy["selfLink"], "portRange": "80", "loadBalancingScheme": "INTERNAL_MANAGED"},
        )  # fmt: skip
        return service

    def scaler(self, group: Made, least: int = 1, most: int = 6) -> Made:
        policy: Json = {"minReplicas": least, "maxReplicas": most, "loadBalancingUtilization": {"target": 0.8}}
        return self.cloud.create(
            "gcp:compute/regionAutoscaler:RegionAutoscaler", "scaler",
            {"name": "scaler", "region": "us-central1", "target": group["selfLink"], "autoscalingPolicy": policy},
        )  # fmt: skip


def gce(world: World, health: bool = True, proxies: bool = True) -> Gce:
    """A network that lets health checks and the proxies in."""
    cloud = gcp(world)
    network = cloud.create("gcp:compute/network:Network", "net", {"name": "net", "autoCreateSubnetworks": False})
    where: Properties = {"network": network["selfLink"], "region": "us-central1"}
    subnet = cloud.create(
        "gcp:compute/subnetwork:Subnetwork", "sub", {"name": "sub", "ipCidrRange": "10.0.0.0/20", **where}
    )
    cloud.create(
        "gcp:compute/subnetwork:Subnetwork", "proxies",
        {"name": "proxies", "ipCidrRange": "10.9.0.0/24", "purpose": "REGIONAL_MANAGED_PROXY", "role": "ACTIVE",
         **where},
    )  # fmt: skip
    for name, ranges, wanted in (("health", HEALTH, health), ("proxy", ["10.9.0.0/24"], proxies)):
        if wanted:
            allow: Json = [{"protocol": "tcp", "ports": ["8000", "8001"]}]
            cloud.create(
                "gcp:compute/firewall:Firewall", name,
                {"name": name, "network": network["selfLink"], "sourceRanges": ranges, "allows": allow,
                 "targetTags": ["server"]},
            )  # fmt: skip
    http: Json = {"port": 8000, "requestPath": READY}
    check = cloud.create(
        "gcp:compute/regionHealthCheck:RegionHealthCheck", "ready",
        {"name": "ready", "region": "us-central1", "httpHealthCheck": http, "checkIntervalSec": 5},
    )  # fmt: skip
    return Gce(world=world, cloud=cloud, network=network, subnet=subnet, check=check)


@dataclass(kw_only=True)
class Ec2:
    world: World
    cloud: Driver
    subnets: list[Made]
    doors: Made
    servers: Made
    target: Made

    def template(self, name: str, told: str | None = None, **more: Json) -> Made:
        packed = base64.b64encode((user_data() if told is None else told).encode()).decode()
        inputs: Properties = {
            "name": f"t-{name}", "imageId": "ami-0123456789abcdef0", "instanceType": "m6i.2xlarge", "userData": packed,
            "vpcSecurityGroupIds": [self.servers.id],
        }  # fmt: skip
        return self.cloud.create("aws:ec2/launchTemplate:LaunchTemplate", f"t-{name}", {**inputs, **more})

    def group(self, name: str, template: Made | None = None, count: int = 2, **more: Json) -> Made:
        template = template or self.template(name)
        inputs: Properties = {
            "name": f"server-{name}", "minSize": 1, "maxSize": 6, "desiredCapacity": count,
            "vpcZoneIdentifiers": [s.id for s in self.subnets], "targetGroupArns": [self.target["arn"]],
            "launchTemplate": {"id": template.id, "version": "1"}, "healthCheckType": "ELB",
            "healthCheckGracePeriod": 900, "waitForElbCapacity": count, "waitForCapacityTimeout": "20m",
        }  # fmt: skip
        return self.cloud.create(ASG, f"server-{name}", {**inputs, **more})


def ec2(world: World, allowed: bool = True) -> Ec2:
    """A network, a load balancer that routes predictions to one target group, and who may speak to the servers."""
    cloud = aws(world)
    vpc = cloud.create("aws:ec2/vpc:Vpc", "vpc", {"cidrBlock": "10.40.0.0/16"})
    subnets = [
        cloud.create(
            "aws:ec2/subnet:Subnet", zone,
            {"vpcId": vpc.id, "cidrBlock": f"10.40.{16 * i}.0/20", "availabilityZone": f"us-east-1{zone}"},
        )
        for i, zone in enumerate("ab")
    ]  # fmt: skip
    doors, servers = (
        cloud.create("aws:ec2/securityGroup:SecurityGroup", n, {"name": n, "vpcId": vpc.id}) for n in ("door", "server")
    )
    for way, mine, other in (("Ingress", servers, doors), ("Egress", doors, servers)):
        if allowed or way == "Egress":
            cloud.create(
                f"aws:vpc/securityGroup{way}Rule:SecurityGroup{way}Rule", way,
                {"securityGroupId": mine.id, "referencedSecurityGroupId": other.id, "ipProtocol": "tcp",
                 "fromPort": 8000, "toPort": 8001},
            )  # fmt: skip
    check: Json = {"path": READY, "interval": 10, "healthyThreshold": 2, "unhealthyThreshold": 2, "timeout": 5}
    target = cloud.create(
        "aws:lb/targetGroup:TargetGroup", "http",
        {"name": "http", "port": 8000, "protocol": "HTTP", "vpcId": vpc.id, "deregistrationDelay": 60,
         "healthCheck": check},
    )  # fmt: skip
    balancer = cloud.create(
        "aws:lb/loadBalancer:LoadBalancer", "lb",
        {"name": "entry", "subnets": [s.id for s in subnets], "securityGroups": [doors.id]},
    )  # fmt: skip
    nothing: Json = {"type": "fixed-response", "fixedResponse": {"contentType": "text/plain", "statusCode": "404"}}
    listener = cloud.create(
        "aws:lb/listener:Listener", "l",
        {"loadBalancerArn": balancer["arn"], "port": 80, "protocol": "HTTP", "defaultActions": [nothing]},
    )  # fmt: skip
    cloud.create(
        "aws:lb/listenerRule:ListenerRule", "predictions",
        {"listenerArn": listener["arn"], "priority": 1, "conditions": [{"pathPattern": {"values": ["/v2/*"]}}],
         "actions": [{"type": "forward", "targetGroupArn": target["arn"]}]},
    )  # fmt: skip
    return Ec2(world=world, cloud=cloud, subnets=subnets, doors=doors, servers=servers, target=target)


def phase(world: World, first: int, demand: Demand = DEMAND) -> Capacity:
    """What was served while the operations from `first` on ran, one after the other."""
    operations = world.operations[first:]
    return capacity(world, schedule(operations, {}, 1).steps, demand)
