"""Serving capacity over simulated time: which backends are ready and reachable, what they serve, and what is lost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from simulators.core import flows, kubernetes, lags, lifecycle, paths, peers, side_flows
from simulators.core.effects import CLUSTERS
from simulators.core.flows import Flow, Serving
from simulators.core.lags import Delays
from simulators.core.values import plain_properties
from simulators.core.world import Entry, Operation, PodEvent, Thing, World

# Types on which the path of a request depends; a step on any other changes no flow.
_PATH = (
    "*irewall*", "*ecurityGroup*", "*NetworkPolicy", "*:Service", "*orwardingRule*", "*arget*", "*ackendService*",
    "*:ConfigMap", "*:Namespace", "*istener*", "*ttachment*", "*nodeP*", "*nodeG*", "*:Deployment", "*:StatefulSet",
    "*oadBalancer*", "*roupManager*", "*autoscaling/group*", "*ddon*", "*amedPort*", "*rlMap*", "*ubnet*",
    "*/cluster:Cluster", "*:Release", "*:DaemonSet", "*aunchTemplate*", "*nstanceTemplate*", "*ealthCheck*",
)  # fmt: skip


_WORKLOADS = (":Deployment", ":StatefulSet", ":DaemonSet", "GroupManager", ":Group")


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What is asked for, and what one ready backend serves: `rates` by glob of the workload's name, first match."""

    rps: float
    rates: Mapping[str, float] = field(default_factory=dict)

    def rate(self, name: str) -> float | None:
        return next((r for pattern, r in self.rates.items() if fnmatchcase(name, pattern)), None)


@dataclass(frozen=True, kw_only=True)
class Point:
    at_s: float
    ready: int
    capacity_rps: float
    demand_rps: float


@dataclass(frozen=True, kw_only=True)
class Loss:
    start_s: float
    end_s: float
    requests: float
    why: str


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """A step curve, what was lost on the way, and the flows at the end."""

    points: tuple[Point, ...]
    failed_requests: int
    min_capacity_ratio: float
    losses: tuple[Loss, ...]
    flows: tuple[Flow, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Shift:
    """At a moment: backends more or fewer as the entry sees them, or another way for the requests."""

    at_s: float
    key: str = ""
    ready: int = 0
    path: Serving | None = None
    leaves: str = ""  # name of a workload that is deleted: its pods serve until they are let go


@dataclass(frozen=True, kw_only=True)
class _Blind:
    """Requests that go to pods which are gone and not yet forgotten."""

    start_s: float
    end_s: float
    key: str
    pods: int
    why: str


def capacity(world: World, steps: Sequence[Operation], demand: Demand) -> Capacity:
    """Of one phase, from its scheduled steps. What was ready before them is ready at their start."""
    first = min((s.seq for s in steps), default=len(world.operations))
    start = min((s.start_s for s in steps), default=0.0)
    end = max((s.end_s for s in steps), default=0.0)
    begins = {s.seq: s for s in steps}
    there = world.past(first - 1)
    before, after = _judged(there), flows.serving(world)
    names = {**before.servers, **after.servers}
    shifts: list[_Shift] = [_Shift(at_s=start, path=before)]
    blind: list[_Blind] = []
    ready: dict[str, int] = {}
    changed = world.changes()
    delays = Delays()
    delays.learn(before)
    for step in sorted(steps, key=lambda s: s.start_s if s.op == "delete" else s.end_s):
        _replay(there, changed.get(step.seq, ()))
        if any(fnmatchcase(step.token, p) for p in _PATH):
            path = _judged(there)
            names |= path.servers
            gone = step.op == "delete"
            leaves = step.name.rpartition("/")[2] if gone and step.token.endswith(_WORKLOADS) else ""
            at = step.start_s if gone else step.end_s
            shifts.append(_Shift(at_s=at, path=path, leaves=leaves))
            if not step.token.endswith(_WORKLOADS):  # what joins by itself was looked at from its start on
                shifts += [_Shift(at_s=at + s) for s in delays.joined(path, at)]
            delays.learn(path)
    for event in world.pods:
        if event.seq < first:
            ready[event.workload] = ready.get(event.workload, 0) + event.ready
        elif event.seq in begins:
            _pod(world, event, begins[event.seq].start_s + event.offset_s, delays, shifts, blind)
    curve = _Curve(demand=demand, ready=ready, names=names, since=delays.since)
    points, losses = curve.run(sorted(shifts, key=lambda s: s.at_s), end)
    losses += [one for one in (curve.blind(b, points) for b in blind) if one.requests > 0] if demand.rps else []
    judged = (*after.flows, *side_flows.judge(world, after))
    return Capacity(
        points=tuple(points),
        failed_requests=math.ceil(sum(one.requests for one in losses) - 1e-9),
        min_capacity_ratio=min((min(1.0, p.capacity_rps / p.demand_rps) for p in points if p.demand_rps), default=1.0),
        losses=tuple(sorted(losses, key=lambda one: one.start_s)),
        flows=judged,
        problems=_problems(world, judged, curve.unknown),
    )


def _replay(there: dict[str, Thing], entries: Sequence[Entry]) -> None:
    for entry in entries:
        if entry.thing is None:
            there.pop(entry.key, None)
        else:
            there[entry.key] = entry.thing


def _judged(there: Mapping[str, Thing]) -> Serving:
    """The way of a request among what existed at a moment."""
    return flows.serving(World(things=dict(there))) if there else Serving()


def lag_s(world: World, workload: str) -> tuple[float, float]:
    """(how long old addresses are used, how long a dead one is): TTL of the name plus the proxy's refresh, or its own
    health checks where they are faster; behind a Service alone, seconds."""
    near = lifecycle.limit("kubernetes", "proxy_lag_s")
    home = workload.partition("|kubernetes:")[0]
    cluster = next((t for t in world.things.values() if t.key == home and t.token in CLUSTERS), None)
    proxies = [p for p in peers.pods_in(world, cluster) if peers.upstreams(p)] if cluster is not None else []
    if cluster is None or not proxies or workload in {p.key for p in proxies}:
        return near, near
    dns = paths.get(plain_properties(cluster.outputs), ("dnsConfig", "clusterDns"))
    ttl = lifecycle.limit(cluster.cloud, "cloud_dns_ttl_s" if dns == "CLOUD_DNS" else "dns_ttl_s")
    refresh = max((r for p in proxies if (r := peers.refresh_s(p)) is not None), default=None)
    lag = ttl + (refresh if refresh is not None else lifecycle.limit("kubernetes", "dns_refresh_s"))
    return lag, max(d if (d := peers.detects_s(p)) is not None else float("inf") for p in proxies)


def _pod(world: World, event: PodEvent, at: float, delays: Delays, shifts: list[_Shift], blind: list[_Blind]) -> None:
    lag, detected = lag_s(world, event.workload)
    detected = delays.lost_s.get(event.workload, detected)
    if event.ready > 0:
        used = delays.seen_s.get(event.workload, lag)
        shifts.append(_Shift(at_s=at + used, key=event.workload, ready=event.ready))
        return
    if not event.told:  # one that is to go refuses checks while it serves on; a dead one says nothing
        lag = delays.refused_s.get(event.workload, detected) if event.grace_s > 0 else detected
    alive = at + min(event.lingers_s, event.grace_s)  # a negative one: it died before anybody saw it
    shifts.append(_Shift(at_s=min(at + lag, alive), key=event.workload, ready=event.ready))
    name, left_out = event.workload.rpartition("|")[2], min(at + lag, alive + detected)
    if alive < left_out:
        why = lags.why(event, name, left_out - alive, left_out == at + lag, event.workload in delays.seen_s)
        blind.append(_Blind(start_s=alive, end_s=left_out, key=event.workload, pods=-event.ready, why=why))
    if event.exit_s and event.grace_s < event.lingers_s + event.exit_s:
        told = (
            f"{name}: its grace of {event.grace_s:.0f} s is shorter than preStop ({event.lingers_s:.0f} s) and the "
            f"server's exit time-out ({event.exit_s:.0f} s): requests in flight may be cut off"
        )
        if told not in world.notices:
            world.notices.append(told)


@dataclass(kw_only=True)
class _Curve:
    """Walks through the phase; `ready` backends by workload, as the entry sees them."""

    demand: Demand
    ready: dict[str, int]
    names: dict[str, str]
    path: Serving = field(default_factory=Serving)
    leaving: dict[str, str] = field(default_factory=dict)  # key -> name of workloads whose pods still serve
    since: dict[str, float] = field(default_factory=dict)  # key -> from when on a balancer uses it
    unknown: set[str] = field(default_factory=set)
    at_s: float = 0.0

    def run(self, shifts: list[_Shift], end: float) -> tuple[list[Point], list[Loss]]:
        points: list[Point] = []
        losses: list[Loss] = []
        for index, shift in enumerate(shifts):
            self.at_s = shift.at_s
            if shift.path is not None:
                self._leave(shift.leaves)
                self.path = shift.path
            if shift.key:
                self.ready[shift.key] = max(0, self.ready.get(shift.key, 0) + shift.ready)
            until = shifts[index + 1].at_s if index + 1 < len(shifts) else max(end, shift.at_s)
            if until <= shift.at_s and index + 1 < len(shifts):
                continue  # several at one moment
            serving, rps = self.now()
            points.append(Point(at_s=shift.at_s, ready=serving, capacity_rps=rps, demand_rps=self.demand.rps))
            missing = (self.demand.rps - rps) * (until - shift.at_s)
            if missing > 1e-9:
                losses.append(Loss(start_s=shift.at_s, end_s=until, requests=missing, why=self.why(serving, rps)))
        return points, losses

    def now(self) -> tuple[int, float]:
        """(backends that requests reach, requests/s that they serve)."""
        if self.path.closed or (self.path.doors and not any(self._counts(k) for k in self.path.doors)):
            return 0, 0.0
        serving, rps = 0, 0.0
        for key, name in {**self.leaving, **self.path.servers}.items():
            count = self._counts(key) if key not in self.path.cut else 0
            rate = self.demand.rate(name)
            if rate is None and count:
                self.unknown.add(name)
            serving += count
            rps += count * (rate or 0.0)
        return serving, rps

    def _leave(self, name: str) -> None:
        """The pods of a deleted workload go on serving; where nothing reached them, nothing does now."""
        for key, known in self.path.servers.items():
            if name and known == name and key not in self.path.cut:
                self.leaving[key] = known

    def _counts(self, key: str) -> int:
        return self.ready.get(key, 0) if self.at_s >= self.since.get(key, self.at_s) - 1e-9 else 0

    def why(self, serving: int, rps: float) -> str:
        if self.path.closed:
            return self.path.closed
        if self.path.doors and not any(self._counts(k) for k in self.path.doors):
            return "no proxy of the entry is ready"
        cut = next(iter(self.path.cut.values()), "")
        return cut or f"{serving} ready backends serve {rps:.0f} of {self.demand.rps:.0f} requests/s"

    def blind(self, one: _Blind, points: list[Point]) -> Loss:
        """The share of the requests that a pod which is gone still gets."""
        seen = next((p.ready for p in reversed(points) if p.at_s <= one.start_s + 1e-9), 0)
        relevant = one.key in self.names
        share = one.pods / max(seen + one.pods, 1) if relevant else 0.0
        lost = self.demand.rps * share * (one.end_s - one.start_s)
        return Loss(start_s=one.start_s, end_s=one.end_s, requests=lost, why=one.why)


def _problems(world: World, judged: Sequence[Flow], unknown: set[str]) -> tuple[str, ...]:
    found = [str(f) for f in judged if not f.arrives]
    found += kubernetes.conflicts(world)
    found += [f"{name}: no rate was given for one backend of it, so it counts as none" for name in sorted(unknown)]
    return tuple(dict.fromkeys([*found, *world.notices]))
