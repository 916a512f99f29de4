"""The stack's own network: a subnet of machines (with pods beside a control plane), the proxies', NAT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi_gcp import compute

from infra.clouds.gcp.facts import text, whole
from infra.clouds.gcp.here import Here

PODS, SERVICES = "pods", "services"  # secondary ranges


@dataclass(frozen=True, kw_only=True)
class Network:
    network: compute.Network
    nodes: compute.Subnetwork  # of all machines
    proxies: compute.Subnetwork  # the load balancer's: without it a forwarding rule is refused
    nat: pulumi.Resource  # without it a machine pulls no image


@dataclass(frozen=True, kw_only=True)
class ClusterNetwork(Network):
    control_plane: compute.Subnetwork


def cluster_network(here: Here) -> ClusterNetwork:
    made = _network(here)
    nodes = _subnet(
        here,
        made,
        "nodes",
        text("node_range"),
        [
            compute.SubnetworkSecondaryIpRangeArgs(range_name=PODS, ip_cidr_range=text("pod_range")),
            compute.SubnetworkSecondaryIpRangeArgs(range_name=SERVICES, ip_cidr_range=text("service_range")),
        ],
    )
    return ClusterNetwork(
        network=made,
        nodes=nodes,
        control_plane=_subnet(here, made, "control-plane", text("control_plane_range")),
        proxies=_proxies(here, made),
        nat=_nat(here, made, nodes),
    )


def machine_network(here: Here) -> Network:
    """No pods, no services, no control plane: one subnet of machines."""
    made = _network(here)
    machines = _subnet(here, made, "machines", text("node_range"))
    return Network(network=made, nodes=machines, proxies=_proxies(here, made), nat=_nat(here, made, machines))


def _network(here: Here) -> compute.Network:
    return compute.Network(
        "network",
        name=here.name("compute/network:Network", "network"),
        auto_create_subnetworks=False,
        routing_mode="REGIONAL",
        opts=here.on(slow=True),
    )


def _proxies(here: Here, made: compute.Network) -> compute.Subnetwork:
    return compute.Subnetwork(
        "proxies",
        name=here.name("compute/subnetwork:Subnetwork", "proxies"),
        region=here.spec.region,
        network=made.id,
        ip_cidr_range=text("proxy_range"),
        purpose="REGIONAL_MANAGED_PROXY",
        role="ACTIVE",
        opts=here.on(slow=True),
    )


def _logged() -> compute.SubnetworkLogConfigArgs:
    """Flow logs, sampled: who spoke to whom stays answerable, at a fraction of the volume."""
    return compute.SubnetworkLogConfigArgs(
        aggregation_interval="INTERVAL_10_MIN", flow_sampling=0.1, metadata="INCLUDE_ALL_METADATA"
    )


def _subnet(
    here: Here,
    made: compute.Network,
    role: str,
    cidr: str,
    secondary: Sequence[compute.SubnetworkSecondaryIpRangeArgs] = (),
) -> compute.Subnetwork:
    return compute.Subnetwork(
        role,
        name=here.name("compute/subnetwork:Subnetwork", role),
        region=here.spec.region,
        network=made.id,
        ip_cidr_range=cidr,
        secondary_ip_ranges=list(secondary) or None,
        private_ip_google_access=True,  # storage, logs and keys are reached without NAT
        log_config=_logged(),
        opts=here.on(slow=True),
    )


def _nat(here: Here, made: compute.Network, nodes: compute.Subnetwork) -> compute.RouterNat:
    router = compute.Router(
        "router",
        name=here.name("compute/router:Router", "router"),
        region=here.spec.region,
        network=made.id,
        bgp=compute.RouterBgpArgs(asn=whole("router_asn")),
        opts=here.on(slow=True),
    )
    return compute.RouterNat(
        "nat",
        name=here.name("compute/routerNat:RouterNat", "nat"),
        region=here.spec.region,
        router=router.name,
        nat_ip_allocate_option="AUTO_ONLY",
        source_subnetwork_ip_ranges_to_nat="LIST_OF_SUBNETWORKS",
        subnetworks=[
            compute.RouterNatSubnetworkArgs(name=nodes.id, source_ip_ranges_to_nats=["ALL_IP_RANGES"]),
        ],
        log_config=compute.RouterNatLogConfigArgs(enable=True, filter="ERRORS_ONLY"),
        opts=here.on(slow=True),
    )
