"""Firewall rules out of the table of allowed flows: nothing else is let in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pulumi_gcp import compute

from infra.clouds.gcp.facts import text, whole
from infra.clouds.gcp.here import Here
from infra.plan.flows import Flow, flows

# Google always lets a machine ask its metadata server, which also answers for names.
ALWAYS = ("metadata", "dns")
# Clients speak to the load balancer, which lets in whom it is told to; to a node speaks only its proxy.
BEHIND_THE_PROXY = ("clients",)


def sources(name: str) -> list[str]:
    """Address ranges of an end of a flow."""
    ranges = {
        "proxy_subnet": "proxy_range",
        "health_checks": "health_check_ranges",
        "control_plane": "control_plane_range",
        "operators": "tunnel_range",
        "storage": "anywhere",
        "packages": "anywhere",
        "store": "private_ranges",
    }
    return text(ranges[name]).split()


@dataclass(frozen=True, kw_only=True)
class Aim:
    """Whom rules let traffic in to: a layer of the table, the machines by their tag, the numbers of named ports."""

    layer: str = "network"
    tag: str = "system"  # all targets of a cluster's edge run on the system pool
    ports: Mapping[str, int] = field(default_factory=dict)
    digest: str | None = None  # in the rules' names


def allow(here: Here, network: compute.Network, targets: Sequence[str], aim: Aim) -> list[compute.Firewall]:
    """A rule for each source of flows to these targets."""
    groups: dict[tuple[str, str], list[Flow]] = {}
    for flow in flows("gcp", aim.layer):
        if flow.target in targets and flow.source not in BEHIND_THE_PROXY:
            groups.setdefault((flow.source, flow.target), []).append(flow)
    return [_rule(here, network, *key, group, aim) for key, group in groups.items()]


def _rule(
    here: Here,
    network: compute.Network,
    source: str,
    target: str,
    group: Sequence[Flow],
    aim: Aim,
) -> compute.Firewall:
    role = f"{source}-{target}".replace("_", "-")
    numbers = sorted({str(aim.ports.get(f.port, f.port)) for f in group}, key=int)
    return compute.Firewall(
        role if aim.digest is None else f"{role}-{aim.digest}",
        name=here.name("compute/firewall:Firewall", role, aim.digest),
        network=network.id,
        description="; ".join(dict.fromkeys(f.why for f in group)),
        direction="INGRESS",
        source_ranges=sources(source),
        target_tags=[here.tag(aim.tag)],
        allows=[compute.FirewallAllowArgs(protocol=group[0].protocol, ports=numbers)],
        log_config=compute.FirewallLogConfigArgs(metadata="INCLUDE_ALL_METADATA"),
        opts=here.on(),
    )


def let_out(here: Here, network: compute.Network, source: str, aim: Aim) -> list[compute.Firewall]:
    """A rule for each target of flows from these machines, and one that refuses the rest."""
    found = [f for f in flows("gcp", aim.layer) if f.source == source and f.target not in ALWAYS]
    rest = compute.Firewall(
        f"{source}-elsewhere",
        name=here.name("compute/firewall:Firewall", f"{source}-elsewhere"),
        network=network.id,
        description="nobody else is spoken to",
        direction="EGRESS",
        priority=whole("last_priority"),
        destination_ranges=sources("storage"),
        target_tags=[here.tag(aim.tag)],
        denies=[compute.FirewallDenyArgs(protocol="all")],
        log_config=compute.FirewallLogConfigArgs(metadata="INCLUDE_ALL_METADATA"),
        opts=here.on(),
    )
    return [*(_outward(here, network, flow, aim) for flow in found), rest]


def _outward(here: Here, network: compute.Network, flow: Flow, aim: Aim) -> compute.Firewall:
    """The store's port is its own affair: every port of the private ranges, where nothing else of the stack listens."""
    role = f"{flow.source}-{flow.target}".replace("_", "-")
    ports = [str(aim.ports.get(flow.port, flow.port))] if flow.port != "store" else None
    return compute.Firewall(
        role,
        name=here.name("compute/firewall:Firewall", role),
        network=network.id,
        description=flow.why,
        direction="EGRESS",
        destination_ranges=sources(flow.target),
        target_tags=[here.tag(aim.tag)],
        allows=[compute.FirewallAllowArgs(protocol=flow.protocol, ports=ports)],
        log_config=compute.FirewallLogConfigArgs(metadata="INCLUDE_ALL_METADATA"),
        opts=here.on(),
    )
