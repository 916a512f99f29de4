"""NetworkPolicies: whether one lets pods speak to each other or to an address, and whether anybody enforces them."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass

from simulators.core import fitting, paths, scheduler
from simulators.core.checks import number, text
from simulators.core.fitting import objects
from simulators.core.peers import Pods
from simulators.core.values import Json, Properties, plain_properties
from simulators.core.world import Thing, World

POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy"


@dataclass(frozen=True, kw_only=True)
class Other:
    """The far end: pods, or addresses outside (any one of them; none known: any address will do)."""

    pods: Pods | None = None
    addresses: tuple[str, ...] = ()
    what: str = ""


def enforced(world: World, cluster: Thing) -> bool:
    """GKE with Dataplane V2 or its network policy add-on; EKS where vpc-cni was told to."""
    outputs = plain_properties(cluster.outputs)
    if cluster.cloud == "gcp":
        return outputs.get("datapathProvider") == "ADVANCED_DATAPATH" or (
            paths.get(outputs, ("networkPolicy", "enabled")) is True
        )
    for thing in world.things.values():
        given = plain_properties(thing.outputs) if thing.token == "aws:eks/addon:Addon" else {}
        if given.get("addonName") == "vpc-cni":
            try:
                values = json.loads(text(given.get("configurationValues")) or "{}")
            except ValueError:
                return False
            return text(values.get("enableNetworkPolicy")) == "true"
    return False


def refused(world: World, cluster: Thing, mine: Pods, way: str, other: Other, port: int, protocol: str) -> str:
    """Why a policy keeps these pods from it; `way`: ingress or egress. Nothing: it may pass."""
    if not enforced(world, cluster):
        return ""
    policies = list(_selecting(world, cluster, mine, way))
    if not policies or any(_allows(world, cluster, p, mine, way, other, port, protocol) for p in policies):
        return ""
    names = ", ".join(sorted(p.name.rpartition("/")[2] for p in policies))
    direction = "from" if way == "ingress" else "to"
    whom = str(other.pods) if other.pods is not None else other.what or ", ".join(other.addresses)
    on = f"{protocol.lower()}/{port}"
    return f"no NetworkPolicy of {mine} allows {way} {direction} {whom} on {on} (selecting it: {names})"


def _selecting(world: World, cluster: Thing, mine: Pods, way: str) -> list[Thing]:
    found = []
    for thing in world.things.values():
        if thing.token != POLICY or thing.cluster != cluster.key or scheduler.namespace_of(thing) != mine.namespace:
            continue
        spec = _spec(thing)
        types = spec.get("policyTypes")
        kinds = types if isinstance(types, list) else ["Ingress", *(["Egress"] if "egress" in spec else [])]
        if way.capitalize() in kinds and fitting.matches(spec.get("podSelector") or {}, mine.labels):
            found.append(thing)
    return found


def _spec(policy: Thing) -> Properties:
    spec = plain_properties(policy.inputs).get("spec")
    return spec if isinstance(spec, dict) else {}


def _allows(
    world: World, cluster: Thing, policy: Thing, mine: Pods, way: str, other: Other, port: int, protocol: str
) -> bool:
    receiver = mine if way == "ingress" else other.pods
    for rule in objects(_spec(policy).get(way)):
        ports, peers = rule.get("ports"), rule.get("from" if way == "ingress" else "to")
        if isinstance(ports, list) and ports and not any(_port(p, port, protocol, receiver) for p in objects(ports)):
            continue
        if not isinstance(peers, list) or not peers:
            return True
        if any(_peer(world, cluster, p, mine, other) for p in objects(peers)):
            return True
    return False


def _port(rule: Properties, port: int, protocol: str, receiver: Pods | None) -> bool:
    if (text(rule.get("protocol")) or "TCP").upper() != protocol.upper():
        return False
    given, last = rule.get("port"), number(rule.get("endPort"))
    if given is None:
        return True
    first = number(given)
    if first is None:
        return receiver is not None and receiver.ports.get(text(given)) == port
    return first <= port <= (last if last is not None else first)


def _peer(world: World, cluster: Thing, rule: Properties, mine: Pods, other: Other) -> bool:
    block = rule.get("ipBlock")
    if isinstance(block, dict):
        return other.pods is None and _in_block(block, other.addresses)
    if other.pods is None:
        return False
    spaces, labels = rule.get("namespaceSelector"), rule.get("podSelector")
    if isinstance(spaces, dict):
        if not fitting.matches(spaces, _namespace_labels(world, cluster, other.pods.namespace)):
            return False
    elif other.pods.namespace != mine.namespace:
        return False
    return labels is None or fitting.matches(labels, other.pods.labels)


def _in_block(block: Properties, addresses: Sequence[str]) -> bool:
    if not addresses:
        return True
    excepted = block.get("except")
    holes = [text(e) for e in excepted] if isinstance(excepted, list) else []
    return any(inside(a, text(block.get("cidr"))) and not any(inside(a, h) for h in holes) for a in addresses)


def inside(inner: str, outer: str) -> bool:
    """Whether a range lies in another; what is no range (an unknown, a host name) lies in every one."""
    try:
        a, b = ipaddress.ip_network(inner, strict=False), ipaddress.ip_network(outer, strict=False)
    except ValueError:
        return True
    if isinstance(a, ipaddress.IPv4Network) and isinstance(b, ipaddress.IPv4Network):
        return a.subnet_of(b)
    return isinstance(a, ipaddress.IPv6Network) and isinstance(b, ipaddress.IPv6Network) and a.subnet_of(b)


def _namespace_labels(world: World, cluster: Thing, name: str) -> dict[str, str]:
    labels: Json = None
    for thing in world.things.values():
        if thing.token.endswith(":Namespace") and thing.cluster == cluster.key and thing.name == name:
            labels = paths.get(plain_properties(thing.inputs), ("metadata", "labels"))
    own = {k: text(v) for k, v in labels.items()} if isinstance(labels, dict) else {}
    return {**own, "kubernetes.io/metadata.name": name}
