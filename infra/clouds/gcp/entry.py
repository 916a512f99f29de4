"""The load balancer in front of Envoy's node ports: one address, declared here, touched by no switch.

Without a certificate it passes connections through (proxy network load balancer); with one it ends TLS (application
load balancer).
"""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
from pulumi_gcp import compute, container

from infra.clouds.gcp.balancer import Balancer, log
from infra.clouds.gcp.facts import whole
from infra.clouds.gcp.here import Here
from infra.clouds.gcp.network import Network
from infra.clouds.site import EntryAddress

H2C = {"http": "HTTP", "grpc": "H2C"}  # what the balancer speaks to Envoy where it ends TLS


def entry(here: Here, net: Network, system: container.NodePool, node_ports: Mapping[str, int]) -> EntryAddress:
    balancer = Balancer(here, net, here.spec.max_request_s)
    groups = system.managed_instance_group_urls.apply(list)
    rules = [_port(balancer, groups, name, port) for name, port in sorted(node_ports.items())]
    return EntryAddress(
        http=balancer.http(), grpc=balancer.grpc(), reachable_from=balancer.reachable_from(), after=rules
    )


def _zone(group: str) -> str:
    """Of an instance group's address."""
    return group.split("/zones/")[1].partition("/")[0]


def _port(b: Balancer, groups: pulumi.Output[list[str]], name: str, node_port: int) -> compute.ForwardingRule:
    """One port of the entry: named port on each group, health check, backend service, proxy, forwarding rule."""
    here = b.here
    role = f"entry-{name}"
    named = [
        compute.InstanceGroupNamedPort(
            f"{role}-{zone}",
            group=groups[i],
            zone=groups[i].apply(_zone),
            name=role,
            port=node_port,
            opts=here.on(),
        )
        for i, zone in enumerate(here.zones)
    ]
    backend = _backend(b, groups, name, role, named)
    if b.tls is None:
        return b.forward(name, b.tcp_proxy(role, backend))
    routes = compute.RegionUrlMap(
        role,
        name=here.name("compute/regionUrlMap:RegionUrlMap", role),
        region=here.spec.region,
        default_service=backend.id,
        opts=here.on(),
    )
    return b.forward(name, b.web_proxy(role, routes))


def _backend(
    b: Balancer,
    groups: pulumi.Output[list[str]],
    name: str,
    role: str,
    named: list[compute.InstanceGroupNamedPort],
) -> compute.RegionBackendService:
    here = b.here
    interval = whole("health_interval")
    check = compute.RegionHealthCheck(
        role,
        name=here.name("compute/regionHealthCheck:RegionHealthCheck", role),
        region=here.spec.region,
        check_interval_sec=interval,
        timeout_sec=interval,
        healthy_threshold=whole("healthy_after"),
        unhealthy_threshold=whole("healthy_after"),
        tcp_health_check=compute.RegionHealthCheckTcpHealthCheckArgs(port_specification="USE_SERVING_PORT"),
        log_config=compute.RegionHealthCheckLogConfigArgs(enable=True),
        opts=here.on(),
    )
    member = compute.RegionBackendServiceBackendArgs
    return compute.RegionBackendService(
        role,
        name=here.name("compute/regionBackendService:RegionBackendService", role),
        region=here.spec.region,
        load_balancing_scheme=b.scheme,
        protocol=H2C[name] if b.tls else "TCP",
        port_name=role,
        timeout_sec=b.longest_s if b.tls else None,
        connection_draining_timeout_sec=b.longest_s,
        health_checks=check.id,
        security_policy=b.armor.self_link if b.armor else None,
        backends=groups.apply(
            lambda urls: [member(group=u, balancing_mode="UTILIZATION", capacity_scaler=1.0) for u in urls]
        ),
        log_config=log(),
        opts=here.on(*named),
    )
