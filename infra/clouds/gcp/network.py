"""The stack's own network: nodes and pods in one subnet, the control plane's and the load balancer's own, NAT."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
from pulumi_gcp import compute

from infra.clouds.gcp.facts import text, whole
from infra.clouds.gcp.here import Here

PODS, SERVICES = "pods", "services"  # secondary ranges


@dataclass(frozen=True, kw_only=True)
class Network:
    network: compute.Network
    nodes: compute.Subnetwork
    control_plane: compute.Subnetwork
    proxies: compute.Subnetwork  # the load balancer's: without it a forwarding rule is refused
    nat: pulumi.Resource  # without it a node pulls no image


def network(here: Here) -> Network:
    made = compute.Network(
        "network",
        name=here.name("compute/network:Network", "network"),
        auto_create_subnetworks=False,
        routing_mode="REGIONAL",
        opts=here.on(slow=True),
    )
    nodes = _nodes(here, made)
    control_plane = compute.Subnetwork(
        "control-plane",
        name=here.name("compute/subnetwork:Subnetwork", "control-plane"),
        region=here.spec.region,
        network=made.id,
        ip_cidr_range=text("control_plane_range"),
        private_ip_google_access=True,
        log_config=_logged(),
        opts=here.on(slow=True),
    )
    proxies = compute.Subnetwork(
        "proxies",
        name=here.name("compute/subnetwork:Subnetwork", "proxies"),
        region=here.spec.region,
        network=made.id,
        ip_cidr_range=text("proxy_range"),
        purpose="REGIONAL_MANAGED_PROXY",
        role="ACTIVE",
        opts=here.on(slow=True),
    )
    return Network(network=made, nodes=nodes, control_plane=control_plane, proxies=proxies, nat=_nat(here, made, nodes))


def _logged() -> compute.SubnetworkLogConfigArgs:
    """Flow logs, sampled: who spoke to whom stays answerable, at a fraction of the volume."""
    return compute.SubnetworkLogConfigArgs(
        aggregation_interval="INTERVAL_10_MIN", flow_sampling=0.1, metadata="INCLUDE_ALL_METADATA"
    )


def _nodes(here: Here, made: compute.Network) -> compute.Subnetwork:
    return compute.Subnetwork(
        "nodes",
        name=here.name("compute/subnetwork:Subnetwork", "nodes"),
        region=here.spec.region,
        network=made.id,
        ip_cidr_range=text("node_range"),
        secondary_ip_ranges=[
            compute.SubnetworkSecondaryIpRangeArgs(range_name=PODS, ip_cidr_range=text("pod_range")),
            compute.SubnetworkSecondaryIpRangeArgs(range_name=SERVICES, ip_cidr_range=text("service_range")),
        ],
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
