"""The entry: a network load balancer in front of Envoy's node ports, declared here and by no controller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.clouds.aws.facts import text, whole
from infra.clouds.aws.filters import between, from_ranges, group, let_in
from infra.clouds.aws.here import Here
from infra.clouds.aws.network import Network
from infra.clouds.site import EntryAddress
from infra.plan.flows import flows

CLEAR, SECURE = {"http": 80, "grpc": 8001}, {"http": 443, "grpc": 8001}  # ports of the load balancer
ALPN = {"http": "HTTP2Optional", "grpc": "HTTP2Only"}  # a gRPC client asks for HTTP/2 within TLS


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Security groups of the flows that cross the cluster's edge."""

    nodes: aws.ec2.SecurityGroup  # on every node: others name it as where servers speak from
    system: aws.ec2.SecurityGroup  # on the nodes of Envoy and the autoscalers


def filters(here: Here, net: Network) -> Filters:
    """Without a rule of their own nodes speak within EKS's group alone."""
    return Filters(
        nodes=group(here, net, "nodes", "Nodes of the stack, as stores know them"),
        system=group(here, net, "system", "Nodes of the entry and the autoscalers"),
    )


def control_plane_rules(here: Here, mine: Filters, control_plane: pulumi.Output[str]) -> None:
    """Webhooks and metrics that the control plane asks for, by the table of flows."""
    for flow in flows("aws", "network"):
        if flow.source == "control_plane":
            name = f"{flow.source}-{flow.target}"
            let_in(here, name, flow.target, flow, int(flow.port), mine.system.id, source=control_plane)


def entry(
    here: Here, net: Network, mine: Filters, scaling_group: pulumi.Output[str], node_ports: Mapping[str, int]
) -> EntryAddress:
    """`scaling_group`: that of the system nodes. Another exposure is another load balancer beside the old."""
    spec = here.spec
    public = spec.exposure == "public"
    role = "entry-public" if public else "entry"
    ports = SECURE if spec.tls else CLEAR
    door = group(here, net, role, "Entry of the stack")
    callers = spec.allowed_cidrs if public else (net.cidr,)
    rules = [*_from_callers(here, role, door, callers, ports), *_to_envoy(here, role, door, mine.system, node_ports)]
    balancer = aws.lb.LoadBalancer(
        role,
        name=here.name("lb/loadBalancer:LoadBalancer", role),
        internal=not public,
        load_balancer_type="network",
        subnets=[s.id for s in (net.public if public else net.private).values()],
        security_groups=[door.id],
        enable_cross_zone_load_balancing=True,  # there are fewer Envoys than zones
        enable_deletion_protection=spec.protect,
        tags=here.tags(role),
        opts=here.on(*(net.public_routes if public else ()), slow_delete=True),
    )
    made: list[pulumi.Resource] = [balancer, *rules]
    for name, port in ports.items():
        target = _target(here, net, f"{role}-{name}", node_ports[name])
        made.append(
            aws.autoscaling.Attachment(
                f"{role}-{name}", autoscaling_group_name=scaling_group, lb_target_group_arn=target.arn, opts=here.on()
            )
        )
        made.append(_listener(here, f"{role}-{name}", balancer, port, ALPN[name], target))
    inside = f"from the stack's network ({net.cidr}) and what is joined to it"
    scheme = "https" if spec.tls else "http"
    return EntryAddress(
        http=balancer.dns_name.apply(lambda host: f"{scheme}://{host}"),  # on the scheme's own port
        grpc=balancer.dns_name.apply(lambda host: f"{host}:{ports['grpc']}"),
        reachable_from=f"from {', '.join(callers)}" if public else inside,
        after=tuple(made),
    )


def _target(here: Here, net: Network, role: str, node_port: int) -> aws.lb.TargetGroup:
    """Envoy's port on the nodes. A node whose Envoy does not answer is taken out."""
    interval, times = whole("health_interval"), whole("healthy_after")
    return aws.lb.TargetGroup(
        role,
        name=here.name("lb/targetGroup:TargetGroup", role),
        vpc_id=net.vpc.id,
        target_type="instance",
        protocol="TCP",
        port=node_port,
        # else a pod that calls the entry and is sent to its own node speaks to itself, and gets no answer
        preserve_client_ip="false",
        deregistration_delay=int(here.spec.max_request_s) + whole("drain_margin"),
        health_check=aws.lb.TargetGroupHealthCheckArgs(
            protocol="TCP",
            port="traffic-port",
            interval=interval,
            timeout=whole("health_timeout"),
            healthy_threshold=times,
            unhealthy_threshold=times,
        ),
        tags=here.tags(role),
        opts=here.on(),
    )


def _listener(
    here: Here, role: str, balancer: aws.lb.LoadBalancer, port: int, alpn: str, target: aws.lb.TargetGroup
) -> aws.lb.Listener:
    """TLS ends here where the configuration has a certificate."""
    tls = here.spec.tls
    return aws.lb.Listener(
        role,
        load_balancer_arn=balancer.arn,
        port=port,
        protocol="TLS" if tls else "TCP",
        certificate_arn=tls.certificate if tls else None,
        ssl_policy=text("tls_policy") if tls else None,
        alpn_policy=alpn if tls else None,
        default_actions=[aws.lb.ListenerDefaultActionArgs(type="forward", target_group_arn=target.arn)],
        tags=here.tags(role),
        opts=here.on(),
    )


def _from_callers(
    here: Here, role: str, door: aws.ec2.SecurityGroup, callers: tuple[str, ...], ports: Mapping[str, int]
) -> list[pulumi.Resource]:
    """Callers to the entry, by the table of flows."""
    return [
        rule
        for flow in flows("aws", "network")
        if (flow.source, flow.target) == ("clients", "envoy")
        for rule in from_ranges(here, role, flow, ports[flow.port], door, callers)
    ]


def _to_envoy(
    here: Here,
    role: str,
    door: aws.ec2.SecurityGroup,
    system: aws.ec2.SecurityGroup,
    node_ports: Mapping[str, int],
) -> list[pulumi.Resource]:
    """The entry to Envoy: requests and health checks come from the same group to the same port, by one rule."""
    return [
        rule
        for flow in flows("aws", "network")
        if (flow.source, flow.target) == ("health_checks", "envoy")
        for rule in between(here, role, flow, node_ports[flow.port], door, system, f"requests; {flow.why}")
    ]
