"""Firewall rules out of the table of allowed flows: nothing else is let in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pulumi_gcp import compute

from infra.clouds.gcp.facts import text
from infra.clouds.gcp.here import Here
from infra.plan.flows import Flow, flows

# Clients speak to the load balancer, which lets in whom it is told to; to a node speaks only its proxy.
BEHIND_THE_PROXY = ("clients",)


def sources(name: str) -> list[str]:
    ranges = {
        "proxy_subnet": "proxy_range",
        "health_checks": "health_check_ranges",
        "control_plane": "control_plane_range",
    }
    return text(ranges[name]).split()


def allow(
    here: Here, network: compute.Network, targets: Sequence[str], ports: Mapping[str, int]
) -> list[compute.Firewall]:
    """A rule for each source of flows to these targets. `ports`: numbers of the ports that the table names; all
    targets run on the system pool, whose tag the rules aim at."""
    groups: dict[tuple[str, str], list[Flow]] = {}
    for flow in flows("gcp", "network"):
        if flow.target in targets and flow.source not in BEHIND_THE_PROXY:
            groups.setdefault((flow.source, flow.target), []).append(flow)
    return [_rule(here, network, *key, group, ports) for key, group in groups.items()]


def _rule(
    here: Here,
    network: compute.Network,
    source: str,
    target: str,
    group: Sequence[Flow],
    ports: Mapping[str, int],
) -> compute.Firewall:
    role = f"{source}-{target}".replace("_", "-")
    numbers = sorted({str(ports.get(f.port, f.port)) for f in group}, key=int)
    return compute.Firewall(
        role,
        name=here.name("compute/firewall:Firewall", role),
        network=network.id,
        description="; ".join(dict.fromkeys(f.why for f in group)),
        direction="INGRESS",
        source_ranges=sources(source),
        target_tags=[here.tag("system")],
        allows=[compute.FirewallAllowArgs(protocol=group[0].protocol, ports=numbers)],
        log_config=compute.FirewallLogConfigArgs(metadata="INCLUDE_ALL_METADATA"),
        opts=here.on(),
    )
