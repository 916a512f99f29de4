"""The declared entries: load balancers, followed to node ports of a cluster or to groups of machines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from simulators.core import paths
from simulators.core.checks import number, text
from simulators.core.firewalls import HEALTH_RANGES, From
from simulators.core.fitting import objects
from simulators.core.health import forwards
from simulators.core.peers import find
from simulators.core.values import Json, Properties, plain_properties
from simulators.core.world import Thing, World


@dataclass(kw_only=True)
class Entry:
    """One listening port. `node_port` of `pools` (a cluster) or `port` of `groups` (machines); `problem` in words."""

    name: str
    cloud: str
    port: str
    node_port: int = 0
    pools: list[Thing] = field(default_factory=list)
    groups: list[Thing] = field(default_factory=list)
    callers: list[From] = field(default_factory=list)  # who speaks to the nodes: proxy, health checks, clients
    network: Json = None
    service: Thing | None = None  # backend service or target group
    snat: tuple[str, ...] = ()  # addresses that a pod sees where the node passes the request on
    problem: str = ""


def entries(world: World) -> list[Entry]:
    found: list[Entry] = []
    for thing in world.things.values():
        if thing.token == "gcp:compute/forwardingRule:ForwardingRule" and thing.urn:
            found += _gcp(world, thing)
        elif thing.token == "aws:lb/listener:Listener":
            found += _aws(world, thing)
    return [e for e in found if e.pools or e.groups or e.problem]


def _gcp(world: World, rule: Thing) -> Iterator[Entry]:
    """One for each backend service that the rule leads to."""
    given = plain_properties(rule.outputs)
    ports = given.get("ports")
    port = text(given.get("portRange")) or (text(ports[0]) if isinstance(ports, list) and ports else "all")
    services, proxied = _backend_services(world, given)
    for backend in services:
        entry = Entry(name=rule.name, cloud="gcp", port=port.partition("-")[0], network=given.get("network"))
        _members(world, backend, entry)
        service = plain_properties(backend.outputs)
        entry.callers = [From(what="health checks", ranges=HEALTH_RANGES)] if service.get("healthChecks") else []
        if proxied and given.get("loadBalancingScheme") in ("INTERNAL_MANAGED", "EXTERNAL_MANAGED"):
            ranges = _proxy_ranges(world, given.get("network"))
            entry.callers.append(From(what="the load balancer's proxies", ranges=ranges))
            if not ranges:
                entry.problem = f"forwarding rule {rule.name}: its network has no proxy-only subnet"
        else:
            entry.callers.append(From(what="clients"))
        entry.snat = _node_ranges(world, entry)
        yield entry


def _members(world: World, backend: Thing, entry: Entry) -> None:
    """Pools of a cluster and groups of machines behind a backend service, and the port that it speaks to."""
    service = plain_properties(backend.outputs)
    entry.service = backend
    for member in objects(service.get("backends")):
        pool = _pool_of_group(world, member.get("group"))
        if pool is not None:
            entry.pools += [pool] if pool not in entry.pools else []
        elif (machines := find(world, member.get("group"), "gcp:compute/*nstanceGroupManager:*")) is not None:
            entry.groups.append(machines)
    named = text(service.get("portName"))
    entry.node_port = _named_port(world, named, entry) if named else int(number(entry.port) or 0)
    if not entry.node_port and entry.pools:
        entry.problem = f"backend service {backend.name}: no instance group has the named port '{named}'"


def _backend_services(world: World, rule: Properties) -> tuple[list[Thing], bool]:
    """(backend services, whether a proxy stands before them)."""
    direct = find(world, rule.get("backendService"), "gcp:compute/*ackendService:*")
    if direct is not None:
        return [direct], False
    proxy = find(world, rule.get("target"), "gcp:compute/*arget*Proxy:*")
    if proxy is None:
        return [], True
    given = plain_properties(proxy.outputs)
    routes = find(world, given.get("urlMap"), "gcp:compute/*rlMap:*") if given.get("urlMap") else None
    named = _routed(plain_properties(routes.outputs)) if routes is not None else [given.get("backendService")]
    found = [find(world, one, "gcp:compute/*ackendService:*") for one in named if one]
    return list({f.key: f for f in found if f is not None}.values()), True


_ROUTES = (
    "defaultService", "pathMatchers[*].defaultService", "pathMatchers[*].pathRules[*].service",
    "pathMatchers[*].routeRules[*].service", "**.weightedBackendServices[*].backendService",
)  # fmt: skip


def _routed(routes: Properties) -> list[Json]:
    """Backend services of a URL map: its default and those of its paths."""
    return [value for path in _ROUTES for _, value in paths.places(routes, paths.parse(path)) if value]


def _pool_of_group(world: World, group: Json) -> Thing | None:
    """Node pools name the groups that GKE made for them."""
    last = text(group).rpartition("/")[2]
    for thing in world.things.values():
        if thing.token == "gcp:container/nodePool:NodePool":
            for field_ in ("managedInstanceGroupUrls", "instanceGroupUrls"):
                urls = thing.outputs.get(field_)
                if isinstance(urls, list) and any(text(u).rpartition("/")[2] == last for u in urls):
                    return thing
    return None


def _named_port(world: World, name: str, entry: Entry) -> int:
    for thing in world.things.values():
        given = plain_properties(thing.outputs) if "amedPort" in thing.token or thing in entry.groups else {}
        if "amedPort" in thing.token and given.get("name") == name:
            return int(number(given.get("port")) or 0)
        for one in objects(given.get("namedPorts")):
            if one.get("name") == name:
                return int(number(one.get("port")) or 0)
    return 0


def _proxy_ranges(world: World, network: Json) -> tuple[str, ...]:
    home = find(world, network, "gcp:compute/network:Network")
    found = []
    for thing in _subnets(world, home):
        given = plain_properties(thing.outputs)
        if given.get("purpose") in ("REGIONAL_MANAGED_PROXY", "GLOBAL_MANAGED_PROXY"):
            found.append(text(given.get("ipCidrRange")))
    return tuple(found)


def _node_ranges(world: World, entry: Entry) -> tuple[str, ...]:
    """Addresses of the nodes: a node that passes a request on to another one's pod speaks with its own."""
    found = set()
    for pool in entry.pools:
        cluster = find(world, pool.outputs.get("cluster"), "gcp:container/cluster:Cluster")
        subnet = (
            find(world, cluster.outputs.get("subnetwork"), "gcp:compute/subnetwork:Subnetwork") if cluster else None
        )
        if subnet is not None:
            found.add(text(subnet.outputs.get("ipCidrRange")))
    return tuple(sorted(found))


def _subnets(world: World, home: Thing | None) -> Iterator[Thing]:
    for thing in world.things.values():
        if thing.token == "gcp:compute/subnetwork:Subnetwork" and home is not None:
            mine = find(world, thing.outputs.get("network"), "gcp:compute/network:Network") is home
            yield from [thing] if mine else []


def _aws(world: World, listener: Thing) -> Iterator[Entry]:
    """One for each target group that a listener, or a rule of it, leads to."""
    given = plain_properties(listener.outputs)
    balancer = find(world, given.get("loadBalancerArn"), "aws:lb/loadBalancer:LoadBalancer")
    if balancer is None:
        return
    facts = plain_properties(balancer.outputs)
    doors = facts.get("securityGroups")
    groups = frozenset(text(g) for g in doors) if isinstance(doors, list) else frozenset()
    ranges = subnet_ranges(world, facts.get("subnets"))
    for target in _targets(world, listener):
        asked = plain_properties(target.outputs)
        entry = Entry(name=balancer.name, cloud="aws", port=text(given.get("port")), snat=ranges, service=target)
        entry.node_port = int(number(asked.get("port")) or 0)
        keeps = text(asked.get("preserveClientIp")) != "false" and text(asked.get("protocol")) != "HTTP"
        if groups:
            entry.callers = [From(what="the load balancer", groups=groups, ranges=ranges)]
        else:
            client = From(what="clients") if keeps else From(what="the load balancer", ranges=ranges)
            entry.callers = [client, From(what="health checks", ranges=ranges)]
        _attached(world, target, entry)
        yield entry


def _targets(world: World, listener: Thing) -> list[Thing]:
    rules = [
        plain_properties(t.outputs)
        for t in world.things.values()
        if t.token == "aws:lb/listenerRule:ListenerRule"
        and find(world, t.outputs.get("listenerArn"), listener.token) is listener
    ]
    arns = [arn for given in (plain_properties(listener.outputs), *rules) for arn in forwards(given)]
    found = [find(world, arn, "aws:lb/targetGroup:TargetGroup") for arn in arns]
    return list({f.key: f for f in found if f is not None}.values())


def _attached(world: World, target: Thing, entry: Entry) -> None:
    """Auto scaling groups of the target group: attached, or named by the group itself; of node groups too."""
    names = set()
    for thing in world.things.values():
        if thing.token == "aws:autoscaling/attachment:Attachment":
            given = plain_properties(thing.outputs)
            if find(world, given.get("lbTargetGroupArn"), target.token) is target:
                names.add(text(given.get("autoscalingGroupName")))
    for thing in world.things.values():
        if thing.token == "aws:eks/nodeGroup:NodeGroup":
            made = paths.get(thing.outputs, paths.parse("resources[0].autoscalingGroups[0].name"))
            entry.pools += [thing] if text(made) in names else []
        elif thing.token == "aws:autoscaling/group:Group":
            arns = thing.outputs.get("targetGroupArns")
            own = isinstance(arns, list) and any(find(world, a, target.token) is target for a in arns)
            entry.groups += [thing] if own or thing.name in names else []


def subnet_ranges(world: World, ids: Json) -> tuple[str, ...]:
    wanted = [text(i) for i in ids] if isinstance(ids, list) else []
    return tuple(sorted({text(t.outputs.get("cidrBlock")) for t in world.things.values() if t.id in wanted}))
