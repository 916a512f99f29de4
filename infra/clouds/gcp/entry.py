"""The load balancer in front of Envoy's node ports: one address, declared here, touched by no switch.

Without a certificate it passes connections through (proxy network load balancer); with one it ends TLS (application
load balancer). A public one asks Cloud Armor who may come in: behind a proxy a firewall rule would see the proxy alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_gcp import compute, container

from infra.clouds.gcp.facts import text, whole
from infra.clouds.gcp.here import Here
from infra.clouds.gcp.network import Network
from infra.clouds.site import EntryAddress

H2C = {"http": "HTTP", "grpc": "H2C"}  # what the balancer speaks to Envoy where it ends TLS


@dataclass(frozen=True, kw_only=True)
class Balancer:
    """What the two ports of an entry share."""

    here: Here
    net: Network
    scheme: str
    address: compute.Address
    groups: pulumi.Output[list[str]]
    armor: compute.RegionSecurityPolicy | None
    tls: compute.RegionSslPolicy | None


def entry(here: Here, net: Network, system: container.NodePool, node_ports: Mapping[str, int]) -> EntryAddress:
    public = here.spec.exposure == "public"
    groups = system.managed_instance_group_urls.apply(list)
    balancer = Balancer(
        here=here,
        net=net,
        scheme="EXTERNAL_MANAGED" if public else "INTERNAL_MANAGED",
        address=_address(here, net, public),
        groups=groups,
        armor=_armor(here) if public else None,
        tls=_tls(here) if here.spec.tls else None,
    )
    rules = [_port(balancer, name, port) for name, port in sorted(node_ports.items())]
    scheme, port = ("https", "https_port") if here.spec.tls else ("http", "http_port")
    standard = {"http": 80, "https": 443}[scheme] == whole(port)
    http = pulumi.Output.concat(f"{scheme}://", balancer.address.address, "" if standard else f":{whole(port)}")
    grpc = pulumi.Output.concat(balancer.address.address, f":{whole('grpc_port')}")
    return EntryAddress(http=http, grpc=grpc, reachable_from=_reach(here, public), after=rules)


def _reach(here: Here, public: bool) -> str:
    if public:
        return f"the internet, from {', '.join(here.spec.allowed_cidrs)}"
    name = here.name("compute/network:Network", "network")
    return f"the network {name} and what is connected to it, in {here.spec.region}"


def _address(here: Here, net: Network, public: bool) -> compute.Address:
    return compute.Address(
        "entry",
        name=here.name("compute/address:Address", "entry"),
        region=here.spec.region,
        address_type="EXTERNAL" if public else "INTERNAL",
        network_tier="PREMIUM" if public else None,
        purpose=None if public else "SHARED_LOADBALANCER_VIP",  # two forwarding rules, one address
        subnetwork=None if public else net.nodes.id,
        labels=here.labels("entry"),
        opts=here.on(),
    )


def _armor(here: Here) -> compute.RegionSecurityPolicy:
    """The addresses that may come in; the last rule refuses the rest."""
    rule, match, config = (
        compute.RegionSecurityPolicyRuleArgs,
        compute.RegionSecurityPolicyRuleMatchArgs,
        compute.RegionSecurityPolicyRuleMatchConfigArgs,
    )
    most = 10  # ranges of one rule: cloud.google.com/armor/quotas
    cidrs = here.spec.allowed_cidrs
    blocks = [list(cidrs[i : i + most]) for i in range(0, len(cidrs), most)]
    allowed = [
        rule(
            action="allow",
            priority=1000 + i,
            description="allowed_cidrs",
            match=match(versioned_expr="SRC_IPS_V1", config=config(src_ip_ranges=block)),
        )
        for i, block in enumerate(blocks)
    ]
    rest = rule(
        action="deny(403)",
        priority=2147483647,
        description="everybody else",
        match=match(versioned_expr="SRC_IPS_V1", config=config(src_ip_ranges=["*"])),
    )
    return compute.RegionSecurityPolicy(
        "entry-callers",
        name=here.name("compute/regionSecurityPolicy:RegionSecurityPolicy", "entry-callers"),
        region=here.spec.region,
        type="CLOUD_ARMOR",
        rules=[*allowed, rest],
        opts=here.on(),
    )


def _tls(here: Here) -> compute.RegionSslPolicy:
    return compute.RegionSslPolicy(
        "entry-tls",
        name=here.name("compute/regionSslPolicy:RegionSslPolicy", "entry-tls"),
        region=here.spec.region,
        profile="MODERN",
        min_tls_version="TLS_1_2",
        opts=here.on(),
    )


def _zone(group: str) -> str:
    """Of an instance group's address."""
    return group.split("/zones/")[1].partition("/")[0]


def _port(b: Balancer, name: str, node_port: int) -> compute.ForwardingRule:
    """One port of the entry: named port on each group, health check, backend service, proxy, forwarding rule."""
    here = b.here
    role = f"entry-{name}"
    named = [
        compute.InstanceGroupNamedPort(
            f"{role}-{zone}",
            group=b.groups[i],
            zone=b.groups[i].apply(_zone),
            name=role,
            port=node_port,
            opts=here.on(),
        )
        for i, zone in enumerate(here.zones)
    ]
    backend = _backend(b, name, role, named)
    target = _tls_proxy(b, role, backend) if b.tls else _tcp_proxy(b, role, backend)
    ports = {"http": "https_port" if b.tls else "http_port", "grpc": "grpc_port"}
    public = b.scheme == "EXTERNAL_MANAGED"
    return compute.ForwardingRule(
        role,
        name=here.name("compute/forwardingRule:ForwardingRule", role),
        region=here.spec.region,
        load_balancing_scheme=b.scheme,
        network_tier="PREMIUM" if public else None,
        network=b.net.network.id,
        subnetwork=None if public else b.net.nodes.id,
        ip_address=b.address.id,
        ip_protocol="TCP",
        port_range=text(ports[name]),
        target=target,
        labels=here.labels(role),
        opts=here.on(b.net.proxies),
    )


def _backend(
    b: Balancer, name: str, role: str, named: list[compute.InstanceGroupNamedPort]
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
    longest = int(here.spec.max_request_s) + whole("backend_timeout_margin")
    return compute.RegionBackendService(
        role,
        name=here.name("compute/regionBackendService:RegionBackendService", role),
        region=here.spec.region,
        load_balancing_scheme=b.scheme,
        protocol=H2C[name] if b.tls else "TCP",
        port_name=role,
        timeout_sec=longest if b.tls else None,
        connection_draining_timeout_sec=longest,
        health_checks=check.id,
        security_policy=b.armor.self_link if b.armor else None,
        backends=b.groups.apply(
            lambda urls: [member(group=u, balancing_mode="UTILIZATION", capacity_scaler=1.0) for u in urls]
        ),
        log_config=compute.RegionBackendServiceLogConfigArgs(enable=True, sample_rate=0.01),
        opts=here.on(*named),
    )


def _tcp_proxy(b: Balancer, role: str, backend: compute.RegionBackendService) -> pulumi.Output[str]:
    here = b.here
    return compute.RegionTargetTcpProxy(
        role,
        name=here.name("compute/regionTargetTcpProxy:RegionTargetTcpProxy", role),
        region=here.spec.region,
        backend_service=backend.id,
        opts=here.on(),
    ).id


def _tls_proxy(b: Balancer, role: str, backend: compute.RegionBackendService) -> pulumi.Output[str]:
    here, tls = b.here, b.here.spec.tls
    assert tls is not None
    assert b.tls is not None
    certificate = tls.certificate
    if "/" not in certificate:  # a name alone is a regional certificate of the project
        certificate = f"projects/{here.project}/regions/{here.spec.region}/sslCertificates/{certificate}"
    routes = compute.RegionUrlMap(
        role,
        name=here.name("compute/regionUrlMap:RegionUrlMap", role),
        region=here.spec.region,
        default_service=backend.id,
        opts=here.on(),
    )
    return compute.RegionTargetHttpsProxy(
        role,
        name=here.name("compute/regionTargetHttpsProxy:RegionTargetHttpsProxy", role),
        region=here.spec.region,
        url_map=routes.id,
        ssl_certificates=[certificate],
        ssl_policy=b.tls.id,
        opts=here.on(),
    ).id
