"""What crosses a cluster's edge: firewall rules of a network, security groups of nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from simulators.core import paths
from simulators.core.checks import number, text
from simulators.core.fitting import objects
from simulators.core.peers import find
from simulators.core.policies import inside
from simulators.core.references import identifiers, means
from simulators.core.values import Json, Properties, plain_properties
from simulators.core.world import Thing, World

HEALTH_RANGES = ("35.191.0.0/16", "130.211.0.0/22")  # GCP's health checks (API-GCE)
OPEN_TO_GKE = (443, 10250)  # what GKE's own rule gke-*-master lets the control plane reach on nodes


@dataclass(frozen=True, kw_only=True)
class From:
    """The near end: address ranges (none: any), and on AWS the security groups that it bears."""

    what: str
    ranges: tuple[str, ...] = ()
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Aim:
    """The far end on GCP: machines with these tags and this service account."""

    what: str
    tags: frozenset[str] = frozenset()
    account: str = ""


# --- GCP


def pool_aim(pool: Thing) -> Aim:
    """The nodes of a pool."""
    config = plain_properties(pool.outputs).get("nodeConfig")
    given = config if isinstance(config, dict) else {}
    tags = given.get("tags")
    mine = frozenset(text(t) for t in tags) if isinstance(tags, list) else frozenset()
    return Aim(what=f"nodes of pool {pool.name}", tags=mine, account=text(given.get("serviceAccount")))


def gcp_refused(world: World, network: Json, aim: Aim, source: From, port: int, protocol: str = "tcp") -> str:
    """Why no firewall rule of the network lets it in there; the first rule by priority decides."""
    rules = sorted(_rules(world, network), key=lambda r: (number(r.get("priority")) or 1000, "denies" not in r))
    for every in source.ranges or ("",):
        verdict = False
        for rule in rules:
            if _aims(rule, aim) and _from(rule, every) and (word := _action(rule, port, protocol)):
                verdict = word == "allow"
                break
        if not verdict:
            where = f" ({every})" if every else ""
            there = aim.what + (f" (tags {', '.join(sorted(aim.tags))})" if aim.tags else "")
            return f"no firewall rule allows {source.what}{where} to {there} on {protocol}/{port}"
    return ""


def gcp_kept(world: World, network: Json, aim: Aim, to: tuple[str, ...], port: int, protocol: str = "tcp") -> str:
    """Why a rule of the network keeps it from leaving; without one that denies everything may."""
    rules = sorted(
        _rules(world, network, "EGRESS"), key=lambda r: (number(r.get("priority")) or 1000, "denies" not in r)
    )
    for every in to:
        for rule in rules:
            if _aims(rule, aim) and _to(rule, every) and (word := _action(rule, port, protocol)):
                if word == "deny":
                    return f"firewall rule {text(rule.get('name'))} keeps {aim.what} from {every} on {protocol}/{port}"
                break
    return ""


def _to(rule: Properties, destination: str) -> bool:
    ranges = rule.get("destinationRanges")
    return not (isinstance(ranges, list) and ranges) or any(inside(destination, text(r)) for r in ranges)


def _rules(world: World, network: Json, way: str = "INGRESS") -> Iterator[Properties]:
    home = find(world, network, "gcp:compute/network:Network")
    for thing in world.things.values():
        if thing.token != "gcp:compute/firewall:Firewall" or thing.why:
            continue
        rule = plain_properties(thing.outputs)
        if rule.get("disabled") is True:
            continue
        same = home is not None and means(rule.get("network"), home, home.token)
        if same and (text(rule.get("direction")) or "INGRESS") == way:
            yield rule


def _aims(rule: Properties, aim: Aim) -> bool:
    wanted, accounts = rule.get("targetTags"), rule.get("targetServiceAccounts")
    if isinstance(wanted, list) and wanted:
        return bool(aim.tags & {text(t) for t in wanted})
    return not (isinstance(accounts, list) and accounts) or aim.account in accounts


def _from(rule: Properties, source: str) -> bool:
    ranges = rule.get("sourceRanges")
    if isinstance(ranges, list) and ranges:
        return not source or any(inside(source, text(r)) for r in ranges)
    return not rule.get("sourceTags") and not rule.get("sourceServiceAccounts")


def _action(rule: Properties, port: int, protocol: str) -> str:
    for word, field in (("deny", "denies"), ("allow", "allows")):
        for one in objects(rule.get(field)):
            ports = one.get("ports")
            named = text(one.get("protocol")).lower() in (protocol, "all")
            if named and (not isinstance(ports, list) or not ports or any(_spans(text(p), port) for p in ports)):
                return word
    return ""


def _spans(given: str, port: int) -> bool:
    first, _, last = given.partition("-")
    return first.isdigit() and int(first) <= port <= int(last or first)


# --- AWS


def node_groups(world: World, cluster: Thing, pools: Sequence[Thing]) -> frozenset[str]:
    """Security groups of the nodes: those of the launch template, else the one that EKS made for the cluster."""
    found: set[str] = set()
    for pool in pools:
        named = paths.get(plain_properties(pool.outputs), ("launchTemplate", "id"))
        template = find(world, named, "aws:ec2/launchTemplate:LaunchTemplate") if named else None
        given = plain_properties(template.outputs) if template is not None else {}
        own = _texts(given.get("vpcSecurityGroupIds"))
        for interface in objects(given.get("networkInterfaces")):
            own |= _texts(interface.get("securityGroups"))
        found |= own or {cluster_group(cluster)}
    return frozenset(found)


def cluster_group(cluster: Thing) -> str:
    return text(paths.get(plain_properties(cluster.outputs), ("vpcConfig", "clusterSecurityGroupId")))


def aws_refused(
    world: World, source: From, targets: frozenset[str], what: str, port: int, protocol: str = "tcp"
) -> str:
    """Why no rule lets it in: one of the target's groups must allow, and where groups are known one of the source's
    must let it out. The group that EKS makes lets its members speak to each other and to everybody."""
    made_by_eks = {cluster_group(t) for t in world.things.values() if t.token == "aws:eks/cluster:Cluster"}
    if not source.groups & targets & made_by_eks and not any(
        _lets(rule, source, port, protocol) for group in targets for rule in _group_rules(world, group, "ingress")
    ):
        return f"no security group of {what} allows {source.what} on {protocol}/{port}"
    out = From(what=what, groups=targets)
    if source.groups and not source.groups & made_by_eks:
        rules = [rule for group in source.groups for rule in _group_rules(world, group, "egress")]
        if not any(_lets(rule, out, port, protocol) for rule in rules):
            return f"no security group of {source.what} lets it out to {what} on {protocol}/{port}"
    return ""


def aws_kept(world: World, source: From, out: From, port: int, protocol: str = "tcp") -> str:
    """Why no group of the source lets it out."""
    rules = [rule for group in source.groups for rule in _group_rules(world, group, "egress")]
    if any(_lets(rule, out, port, protocol) for rule in rules):
        return ""
    return f"no security group of {source.what} lets it out to {out.what} on {protocol}/{port}"


def _group_rules(world: World, group: str, way: str) -> Iterator[Properties]:
    """Rules of a group, inline or apart; each as {from, to, protocol, ranges, groups}."""
    for thing in world.things.values():
        if not thing.token.startswith(("aws:ec2/securityGroup", "aws:vpc/securityGroup")):
            continue
        given = plain_properties(thing.outputs)
        if thing.token == "aws:ec2/securityGroup:SecurityGroup" and group in identifiers(thing):
            for one in objects(given.get(way)):
                own: Properties = {"groups": [group]} if one.get("self") is True else {}
                yield {**_plain(one, "protocol"), **own}
        elif given.get("securityGroupId") != group:
            continue
        elif thing.token == "aws:ec2/securityGroupRule:SecurityGroupRule" and given.get("type") == way:
            peer = group if given.get("self") is True else given.get("sourceSecurityGroupId")
            yield {**_plain(given, "protocol"), "groups": [peer] if peer else []}
        elif fnmatchcase(thing.token, f"aws:vpc/securityGroup{way.capitalize()}Rule:*"):
            peer, cidr = given.get("referencedSecurityGroupId"), given.get("cidrIpv4")
            lists: Properties = {"groups": [peer] if peer else [], "ranges": [cidr] if cidr else []}
            yield {**_plain(given, "ipProtocol"), **lists}


def _plain(rule: Properties, protocol: str) -> Properties:
    return {
        "from": rule.get("fromPort"), "to": rule.get("toPort"), "protocol": rule.get(protocol),
        "ranges": rule.get("cidrBlocks") or [], "groups": rule.get("securityGroups") or [],
    }  # fmt: skip


def _lets(rule: Properties, peer: From, port: int, protocol: str) -> bool:
    named = text(rule.get("protocol")).lower()
    if named not in ("-1", "all", protocol):
        return False
    first, last = number(rule.get("from")), number(rule.get("to"))
    if named not in ("-1", "all") and first is not None and last is not None and not first <= port <= last:
        return False
    if _texts(rule.get("groups")) & peer.groups:
        return True
    ranges = _texts(rule.get("ranges"))
    if not peer.ranges:
        return bool(ranges) if not peer.groups else any(r in ("0.0.0.0/0", "10.0.0.0/8") or _private(r) for r in ranges)
    return any(inside(r, mine) for r in peer.ranges for mine in ranges)


def _private(cidr: str) -> bool:
    """A range of a private network takes in members of groups there."""
    return any(inside(cidr, net) for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))


def _texts(value: Json) -> set[str]:
    return {text(v) for v in value if v} if isinstance(value, list) else set()
