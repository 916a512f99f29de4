"""The entry of machines: an application load balancer straight at them, per request, and what it lets through.

It speaks gRPC to clients over TLS alone. Without a certificate a network load balancer passes the gRPC port on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.clouds.aws import machine_routes
from infra.clouds.aws.facts import text, whole
from infra.clouds.aws.filters import between, from_ranges, group
from infra.clouds.aws.here import Here
from infra.clouds.aws.network import Network
from infra.clouds.site import EntryAddress
from infra.plan.flows import MACHINES, flows
from infra.plan.predictions import passes_unread

CLEAR, SECURE = {"http": 80, "grpc": 8001}, {"http": 443, "grpc": 8001}  # ports of the load balancers
STICK = (
    "gRPC without tls is passed on by connection: a client stays with one machine as long as it keeps its connection, "
    "and scaling does not count its requests. To have them balanced and counted: set tls"
)
NO_GRPC = (
    "without tls there is no gRPC entry: on that port this server also lets callers replace its configuration, and "
    "only a balancer that ends TLS reads what is asked. To have it: set tls"
)


@dataclass(frozen=True, kw_only=True)
class Door:
    """What groups join, and what their scaling looks at."""

    ports: Mapping[str, int]  # of the load balancers, by protocol
    targets: tuple[aws.lb.TargetGroup, ...]
    counted: tuple[tuple[aws.lb.LoadBalancer, aws.lb.TargetGroup], ...]  # these count requests
    hosts: Mapping[str, aws.lb.LoadBalancer]
    after: tuple[pulumi.Resource, ...]

    @property
    def all_counted(self) -> bool:
        return len(self.counted) == len(self.targets)


@dataclass(frozen=True, kw_only=True)
class Ask:
    """The entry as it is asked for."""

    ports: Mapping[str, int]  # of the servers
    ready_path: str
    longest_s: float

    @property
    def drain_s(self) -> int:
        return math.ceil(self.longest_s) + whole("drain_margin")


def prepare(here: Here, net: Network, servers: aws.ec2.SecurityGroup, ask: Ask) -> Door:
    """Another exposure is another load balancer beside the old."""
    spec = here.spec
    public = spec.exposure == "public"
    role = "entry-public" if public else "entry"
    ports = dict(SECURE if spec.tls else CLEAR)
    if not spec.tls:
        _warn_of_grpc(spec.server)
        if not passes_unread(spec.server):
            del ports["grpc"]
    door = group(here, net, role, "Entry of the stack")
    rules = _rules(here, net, role, door, servers, ports, ask.ports)
    balancer = _balancer(here, net, role, door, "application", ask)
    http = _target(here, net, f"{role}-http", ask, "http", "HTTP")
    made: list[pulumi.Resource] = [*rules, *machine_routes.listen(here, f"{role}-http", balancer, http, "http", ports)]
    targets, hosts = [http], {"http": balancer}
    counted = [(balancer, http)]
    if spec.tls:
        grpc = _target(here, net, f"{role}-grpc", ask, "grpc", "GRPC")
        made += machine_routes.listen(here, f"{role}-grpc", balancer, grpc, "grpc", ports)
        counted.append((balancer, grpc))
        targets.append(grpc)
        hosts["grpc"] = balancer
    elif "grpc" in ports:
        passing = _balancer(here, net, f"{role}-grpc", door, "network", ask)
        grpc = _target(here, net, f"{role}-grpc", ask, "grpc", "TCP")
        made += [passing, _pass_on(here, f"{role}-grpc", passing, grpc, ports["grpc"])]
        targets.append(grpc)
        hosts["grpc"] = passing
    return Door(ports=ports, targets=tuple(targets), counted=tuple(counted), hosts=hosts, after=(balancer, *made))


def _warn_of_grpc(server: str) -> None:
    pulumi.log.warn(STICK if passes_unread(server) else NO_GRPC)


def address(here: Here, net: Network, door: Door) -> EntryAddress:
    spec = here.spec
    callers = ", ".join(spec.allowed_cidrs)
    inside = f"from the stack's network ({net.cidr}) and what is joined to it"
    where = f"from {callers}" if spec.exposure == "public" else inside
    if not spec.tls:
        where += f"; {STICK if 'grpc' in door.hosts else NO_GRPC}"
    scheme = "https" if spec.tls else "http"
    grpc = door.hosts.get("grpc")
    return EntryAddress(
        http=door.hosts["http"].dns_name.apply(lambda host: f"{scheme}://{host}"),  # on the scheme's own port
        grpc=pulumi.Output.from_input("")
        if grpc is None
        else grpc.dns_name.apply(lambda host: f"{host}:{door.ports['grpc']}"),
        reachable_from=where,
        after=door.after,
    )


def _balancer(
    here: Here, net: Network, role: str, door: aws.ec2.SecurityGroup, kind: str, ask: Ask
) -> aws.lb.LoadBalancer:
    """Both kinds stand in every zone; the one of connections crosses zones as the other always does."""
    public = here.spec.exposure == "public"
    requests = kind == "application"
    return aws.lb.LoadBalancer(
        role,
        name=here.name("lb/loadBalancer:LoadBalancer", role),
        internal=not public,
        load_balancer_type=kind,
        subnets=[s.id for s in (net.public if public else net.private).values()],
        security_groups=[door.id],
        drop_invalid_header_fields=True if requests else None,
        # an answer may take as long as the longest allowed request, and nothing is heard until it comes
        idle_timeout=max(whole("idle_shortest"), ask.drain_s) if requests else None,
        enable_cross_zone_load_balancing=None if requests else True,
        enable_deletion_protection=here.spec.protect,
        tags=here.tags(role),
        opts=here.on(*(net.public_routes if public else ()), slow_delete=True),
    )


def _target(here: Here, net: Network, role: str, ask: Ask, port: str, protocol: str) -> aws.lb.TargetGroup:
    """A machine is in when its server answers the ready path. Over gRPC any answer will do: the port opens when the
    models are loaded, and the HTTP target group of the same machine asks for them."""
    interval, times = whole("health_interval"), whole("healthy_after")
    tcp, grpc = protocol == "TCP", protocol == "GRPC"
    return aws.lb.TargetGroup(
        role,
        name=here.name("lb/targetGroup:TargetGroup", role),
        vpc_id=net.vpc.id,
        target_type="instance",
        protocol="TCP" if tcp else "HTTP",
        protocol_version=None if tcp else "GRPC" if grpc else "HTTP1",
        port=ask.ports[port],
        load_balancing_algorithm_type=None if tcp else "least_outstanding_requests",
        preserve_client_ip="false" if tcp else None,  # the machines let in the load balancers, not their callers
        connection_termination=True if tcp else None,  # else a client keeps its connection to a machine that goes
        deregistration_delay=ask.drain_s,
        health_check=aws.lb.TargetGroupHealthCheckArgs(
            protocol="HTTP",
            port="traffic-port" if grpc else str(ask.ports["http"]),
            path=text("grpc_health_path") if grpc else ask.ready_path,
            matcher="0-99" if grpc else "200",
            interval=interval,
            timeout=whole("health_timeout"),
            healthy_threshold=times,
            unhealthy_threshold=times,
        ),
        tags=here.tags(role),
        opts=here.on(),
    )


def _pass_on(
    here: Here, role: str, balancer: aws.lb.LoadBalancer, target: aws.lb.TargetGroup, port: int
) -> aws.lb.Listener:
    return aws.lb.Listener(
        role,
        load_balancer_arn=balancer.arn,
        port=port,
        protocol="TCP",
        default_actions=[aws.lb.ListenerDefaultActionArgs(type="forward", target_group_arn=target.arn)],
        tags=here.tags(role),
        opts=here.on(),
    )


def _rules(
    here: Here,
    net: Network,
    role: str,
    door: aws.ec2.SecurityGroup,
    servers: aws.ec2.SecurityGroup,
    ports: Mapping[str, int],
    server_ports: Mapping[str, int],
) -> list[pulumi.Resource]:
    """Callers to the entry, and the entry to the servers, by the table of flows."""
    callers = here.spec.allowed_cidrs if here.spec.exposure == "public" else (net.cidr,)
    made: list[pulumi.Resource] = []
    for flow in flows("aws", MACHINES):
        if flow.port not in ports:
            continue
        if (flow.source, flow.target) == ("clients", "entry"):
            made += from_ranges(here, role, flow, ports[flow.port], door, callers)
        elif (flow.source, flow.target) == ("entry", "servers"):
            made += between(here, role, flow, server_ports[flow.port], door, servers)
    return made
