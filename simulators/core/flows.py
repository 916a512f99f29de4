"""Which flows arrive: from the entry to the servers, between the pods, from the control plane, out of the cluster.

Only declared objects allow: firewall rules, security groups, Services, NetworkPolicies. What is missing is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from simulators.core import entries, firewalls, group_flows, policies
from simulators.core.effects import CLUSTERS
from simulators.core.entries import Entry
from simulators.core.peers import Pods, Upstream, behind, pods_in, pool_things, services, target_port, upstreams
from simulators.core.policies import Other
from simulators.core.references import means
from simulators.core.values import plain_properties
from simulators.core.world import Thing, World


@dataclass(frozen=True, kw_only=True)
class Flow:
    source: str
    target: str
    port: str
    arrives: bool
    why: str = ""

    def __str__(self) -> str:
        return f"{self.source} -> {self.target}:{self.port}" + ("" if self.arrives else f" does not arrive: {self.why}")


@dataclass(kw_only=True)
class Serving:
    """What stands behind the entries: doors (Envoy) and servers by workload key; a key with a reason is cut off."""

    doors: dict[str, Pods] = field(default_factory=dict)
    servers: dict[str, str] = field(default_factory=dict)  # key -> name
    cut: dict[str, str] = field(default_factory=dict)  # key of a server -> why nothing reaches it
    closed: str = ""  # why nothing gets in at all
    seen_s: dict[str, float] = field(default_factory=dict)  # key of a group of machines -> until a balancer uses one
    joins_s: dict[str, float] = field(default_factory=dict)  # ... and until it uses a group that it is given
    lost_s: dict[str, float] = field(default_factory=dict)  # ... and until it leaves out a dead one
    refused_s: dict[str, float] = field(default_factory=dict)  # ... and until it leaves out one that refuses its checks
    flows: list[Flow] = field(default_factory=list)

    def says(self, source: object, target: object, port: object, why: str) -> bool:
        flow = Flow(source=str(source), target=str(target), port=str(port), arrives=not why, why=why)
        if flow not in self.flows:
            self.flows.append(flow)
        return not why


@dataclass(frozen=True, kw_only=True)
class Site:
    """One cluster, looked at once."""

    world: World
    cluster: Thing
    pods: list[Pods]
    services: list[Thing]


def serving(world: World) -> Serving:
    """Follows every entry to the servers behind it."""
    found = Serving()
    sites = {c.key: _site(world, c) for c in world.things.values() if c.token in CLUSTERS}
    closed: list[str] = []
    open_ = False
    for entry in entries.entries(world):
        before = len(closed)
        for door, site in _into(world, sites, entry, found, closed):
            _from_door(site, door, found)
        for group in entry.groups if not entry.problem else ():
            group_flows.into(world, entry, group, found)
        open_ = open_ or len(closed) == before
    if closed and not open_:
        found.closed = closed[0]
    found.cut = {k: w for k, w in found.cut.items() if k in found.servers}
    return found


def _site(world: World, cluster: Thing) -> Site:
    return Site(world=world, cluster=cluster, pods=pods_in(world, cluster), services=services(world, cluster))


def _into(
    world: World, sites: dict[str, Site], entry: Entry, found: Serving, closed: list[str]
) -> list[tuple[Pods, Site]]:
    """Load balancer -> node port -> pods of its Service; what keeps a request out goes into `closed`."""
    name: str = f"entry {entry.name}"
    doors: list[tuple[Pods, Site]] = []
    if entry.problem:
        closed.append(entry.problem)
        found.says("clients", name, entry.port, entry.problem)
        return []
    for pool in entry.pools:
        site = next((s for s in sites.values() if _of(pool, s.cluster)), None)
        if site is None:
            continue
        for caller in entry.callers:
            why = _edge(site, caller, [pool], entry, entry.node_port)
            if not found.says(caller.what, f"nodes of {pool.name}", entry.node_port, why):
                closed.append(why)
        behind_port = [
            (p, port)
            for service in site.services
            for p in behind(service, site.pods)
            if (port := target_port(service, entry.node_port, p, by="nodePort")) is not None
        ]
        if not behind_port:
            why = f"no Service listens on node port {entry.node_port}"
            closed.append(why)
            found.says(name, f"nodes of {pool.name}", entry.node_port, why)
        for pods, port in behind_port:
            other = Other(addresses=entry.snat, what="the load balancer and the nodes")
            why = policies.refused(world, site.cluster, pods, "ingress", other, port, "TCP")
            if not found.says(name, pods, port, why):
                closed.append(why)
            doors.append((pods, site))
            found.doors[pods.key] = pods
    return doors


def _of(pool: Thing, cluster: Thing) -> bool:
    named = pool.outputs.get("cluster") or pool.outputs.get("clusterName")
    return means(named, cluster, cluster.token)


def _edge(site: Site, caller: firewalls.From, pools: list[Thing], entry: Entry | None, port: int) -> str:
    """The cloud's own filter in front of the nodes of these pools."""
    if site.cluster.cloud == "gcp":
        network = entry.network if entry is not None and entry.network else site.cluster.outputs.get("network")
        found = [firewalls.gcp_refused(site.world, network, firewalls.pool_aim(pool), caller, port) for pool in pools]
        return next((why for why in found if why), "")
    groups = firewalls.node_groups(site.world, site.cluster, pools)
    what = "nodes of " + ", ".join(sorted(p.name for p in pools))
    return firewalls.aws_refused(site.world, caller, groups, what, port)


def _from_door(site: Site, door: Pods, found: Serving) -> None:
    """A proxy speaks to the Services of its configuration; pods without one are the servers themselves."""
    named = upstreams(door)
    if not named:
        found.servers[door.key] = door.name
        return
    for upstream in named:
        service = _service(site, upstream)
        if service is None:
            where = f"{upstream.namespace}/{upstream.service}"
            found.says(door, where, upstream.port or "", f"there is no Service {where}")
            continue
        for pods in behind(service, site.pods):
            port = target_port(service, upstream.port, pods) if upstream.port else next(iter(pods.ports.values()), None)
            if port is None:
                continue
            found.servers[pods.key] = pods.name
            why = between(site, door, pods, port)
            if found.says(door, pods, port, why):
                found.cut.pop(pods.key, None)
            elif not any(f.arrives and f.target == str(pods) and f.source == str(door) for f in found.flows):
                found.cut[pods.key] = why


def _service(site: Site, upstream: Upstream) -> Thing | None:
    for service in site.services:
        metadata = plain_properties(service.inputs).get("metadata")
        space = str(metadata.get("namespace") or "default") if isinstance(metadata, dict) else "default"
        if service.name.rpartition("/")[2] == upstream.service and space == upstream.namespace:
            return service
    return None


def between(site: Site, source: Pods, target: Pods, port: int, protocol: str = "TCP") -> str:
    """Pod to pod: policies at both ends, and on AWS the groups of the nodes, which pods bear too."""
    world, cluster = site.world, site.cluster
    why = policies.refused(world, cluster, source, "egress", Other(pods=target), port, protocol)
    why = why or policies.refused(world, cluster, target, "ingress", Other(pods=source), port, protocol)
    if why or cluster.cloud != "aws":
        return why
    mine = firewalls.node_groups(world, cluster, pool_things(world, cluster, source.pools))
    theirs = firewalls.node_groups(world, cluster, pool_things(world, cluster, target.pools))
    caller = firewalls.From(what=f"nodes of {source}", groups=mine)
    return firewalls.aws_refused(world, caller, theirs, f"nodes of {target}", port, protocol.lower())


def sites(world: World) -> Iterator[Site]:
    for cluster in list(world.things.values()):
        if cluster.token in CLUSTERS:
            yield _site(world, cluster)


def edge(site: Site, caller: firewalls.From, pods: Pods, port: int) -> str:
    """From outside the cluster, straight to pods: filter of the nodes, then policies."""
    if site.cluster.cloud == "gcp" and caller.what == "the control plane" and port in firewalls.OPEN_TO_GKE:
        why = ""
    else:
        why = _edge(site, caller, pool_things(site.world, site.cluster, pods.pools), None, port)
    other = Other(addresses=caller.ranges, what=caller.what)
    return why or policies.refused(site.world, site.cluster, pods, "ingress", other, port, "TCP")
