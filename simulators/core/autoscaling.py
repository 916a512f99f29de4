"""Autoscalers under a given load: HPA, KEDA and VPA move pods within their bounds, nodes follow within theirs."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from decimal import Decimal
from fnmatch import fnmatchcase

from simulators.core import (
    charts,
    drains,
    fitting,
    flows,
    machine_scaling,
    nodes,
    paths,
    rollout,
    scheduler,
    side_flows,
)
from simulators.core.checks import number, text
from simulators.core.diff import quantity
from simulators.core.drains import Loss
from simulators.core.edits import put
from simulators.core.effects import CLUSTERS
from simulators.core.fitting import objects
from simulators.core.values import Properties, plain_properties
from simulators.core.world import Thing, World

TOLERANCE = 0.1  # of the horizontal controller: nearer than that it does nothing (API-K8S)


def set_load(world: World, workload: str, total: float, metric: str = "*") -> None:
    """The whole load of a workload (glob of its name) in its metric's own unit, and what the autoscalers make of it."""
    with world.transaction():
        world.load[f"{workload}|{metric}"] = total
        for cluster in [t for t in world.things.values() if t.token in CLUSTERS]:
            settle(world, cluster)
        machine_scaling.settle(world)


def settle(world: World, cluster: Thing) -> None:
    for scaler in _of(world, cluster, ":HorizontalPodAutoscaler", ":ScaledObject"):
        target = _target(world, scaler, ("spec", "scaleTargetRef", "name"))
        if target is None:
            world.notices.append(f"{_kind(scaler)} {scaler.name}: its target does not exist")
        elif (wanted := _wanted(world, cluster, scaler, target)) is not None:
            move(world, cluster, target, wanted)
    for scaler in _of(world, cluster, ":VerticalPodAutoscaler"):
        target = _target(world, scaler, ("spec", "targetRef", "name"))
        if target is not None:
            _resize(world, cluster, scaler, target)
    shrink(world, cluster)


def move(world: World, cluster: Thing, target: Thing, replicas: int) -> None:
    """Another number of replicas, set by somebody who is not the program."""
    if replicas == scheduler.replicas_of(target):
        return
    before = copy.deepcopy(target)
    for properties in (target.inputs, target.outputs):
        put(properties, "spec.replicas", replicas)
    outcome = rollout.update(world, cluster, before, target)
    if outcome.reason:
        world.notices.append(f"{_kind(target)} {target.name}: {outcome.reason}")
    last = world.operations[-1] if world.operations else None
    offset, seq = (last.end_s - last.start_s, last.seq) if last is not None else (0.0, -1)
    rollout.record(world, target, outcome.changes, offset, seq)
    world.note(target, seq=seq)


def bounds(scaler: Thing) -> tuple[int, int]:
    spec = _spec(scaler)
    if _kind(scaler) == "ScaledObject":
        least, most = number(spec.get("minReplicaCount")), number(spec.get("maxReplicaCount"))
        return int(least or 0), int(most if most is not None else 100)
    least, most = number(spec.get("minReplicas")), number(spec.get("maxReplicas"))
    return int(least if least is not None else 1), int(most or 1)


def scaler_of(world: World, target: Thing) -> Thing | None:
    """The HPA or ScaledObject that owns a workload's number."""
    for one in world.things.values():
        mine = one.cluster == target.cluster and _kind(one) in ("HorizontalPodAutoscaler", "ScaledObject")
        if mine and _target(world, one, ("spec", "scaleTargetRef", "name")) is target:
            return one
    return None


def shrink(world: World, cluster: Thing) -> None:
    """Nodes that hold nothing but daemons go, down to the pool's minimum."""
    board = scheduler.board(world, cluster)
    used: dict[str, int] = {}
    for thing in scheduler.workloads(world, cluster):
        for name, _ in scheduler.pods_of(thing):
            placed = thing.state.get(name)
            daemon = scheduler.kind(thing) == "DaemonSet"
            for node in placed if isinstance(placed, list) and not daemon else ():
                home, _, index = str(node).rpartition("-")
                used[home] = max(used.get(home, 0), int(index) + 1)
    for pool in board.pools:
        if pool.most > pool.least:
            pool.nodes = max(pool.least + len(pool.lost), used.get(pool.name, 0))
    scheduler.keep_nodes(world, board.pools, len(world.operations) - 1)


def _wanted(world: World, cluster: Thing, scaler: Thing, target: Thing) -> int | None:
    """Replicas by the most demanding metric; None: no load was given for it, or no metric arrives."""
    now, found = scheduler.replicas_of(target), []
    for metric, per_replica in _metrics(scaler, target):
        total = _load(world, target, metric)
        if total is None or per_replica <= 0:
            continue
        if now and abs(total / (now * per_replica) - 1) <= TOLERANCE:
            found.append(now)
        else:
            found.append(math.ceil(total / per_replica - 1e-9))
    if not found or (why := _blind(world, cluster, scaler)):
        if found:
            world.notices.append(f"{_kind(scaler)} {scaler.name}: it gets no metric: {why}")
        return None
    least, most = bounds(scaler)
    return max(least, min(most, max(found)))


def _blind(world: World, cluster: Thing, scaler: Thing) -> str:
    """Why the numbers do not reach a ScaledObject."""
    if _kind(scaler) != "ScaledObject":
        return ""
    if not any(
        charts.name(plain_properties(t.inputs)) == "keda" for t in world.things.values() if t.token == charts.RELEASE
    ):
        return "KEDA does not run"
    lost = [f for f in side_flows.judge(world, flows.serving(world)) if not f.arrives and "webhook" not in f.target]
    asked = [f for f in lost if any(who in f"{f.source} {f.target}" for who in ("keda", "prometheus"))]
    return str(asked[0]) if asked else ""


def _metrics(scaler: Thing, target: Thing) -> Iterator[tuple[str, float]]:
    """(name of the metric, what one replica may have of it)."""
    spec = _spec(scaler)
    for one in objects(spec.get("metrics")):
        source = next((v for k, v in one.items() if isinstance(v, dict) and k != "type"), {})
        given = source if isinstance(source, dict) else {}
        name = text(given.get("name")) or text(paths.get(given, ("metric", "name")))
        aim = given.get("target")
        yield name, _per_replica(aim if isinstance(aim, dict) else {}, name, target)
    for one in objects(spec.get("triggers")):
        metadata = one.get("metadata")
        given = metadata if isinstance(metadata, dict) else {}
        name, value = text(one.get("type")), given.get("threshold") or given.get("value")
        if name in ("cpu", "memory") and text(one.get("metricType")) != "AverageValue":
            yield name, (number(value) or 0) / 100 * float(_request(target, name))
        else:
            yield text(one.get("name")) or name, number(value) or 0.0


def _per_replica(aim: Properties, name: str, target: Thing) -> float:
    if aim.get("averageUtilization") is not None:
        return (number(aim.get("averageUtilization")) or 0) / 100 * float(_request(target, name))
    amount = quantity(aim.get("averageValue") if aim.get("averageValue") is not None else aim.get("value"))
    return float(amount or 0)


def _request(target: Thing, name: str) -> Decimal:
    return fitting.needs(scheduler.pod_of(target)).get(name, Decimal(0))


def _load(world: World, target: Thing, metric: str) -> float | None:
    for key, total in world.load.items():
        workload, _, wanted = key.rpartition("|")
        if fnmatchcase(target.name.rpartition("/")[2], workload) and fnmatchcase(metric, wanted):
            return total
    return None


def _resize(world: World, cluster: Thing, scaler: Thing, target: Thing) -> None:
    """VPA's recommendation is the usage of one pod, within its bounds; a pod without room on its node is made anew."""
    spec = _spec(scaler)
    if text(paths.get(spec, ("updatePolicy", "updateMode"))) in ("Off", "Initial"):
        return
    asked: dict[str, str] = {}
    policies = objects(paths.get(spec, ("resourcePolicy", "containerPolicies")))
    policy = policies[0] if policies else {}
    named = policy.get("controlledResources")
    for resource in named if isinstance(named, list) else ["cpu", "memory"]:
        total, replicas = _load(world, target, text(resource)), max(1, rollout.ready_of(target))
        if total is not None:
            least = quantity(paths.get(policy, ("minAllowed", text(resource)))) or Decimal(0)
            most = quantity(paths.get(policy, ("maxAllowed", text(resource)))) or Decimal("Infinity")
            asked[text(resource)] = str(max(least, min(most, Decimal(str(total)) / replicas)))
    if not asked or asked == target.state.get("vpa"):
        return
    target.state["vpa"] = dict(asked)
    board = scheduler.board(world, cluster)
    full = [n for n in board.found.get(f"{target.key}#pods", []) if any(v < 0 for v in board.nodes[n].free.values())]
    if full:
        world.notices.append(
            f"VerticalPodAutoscaler {scaler.name}: {len(full)} pods of {target.name} have no room to grow on their "
            f"node and are made anew"
        )
        drains.after_loss(world, cluster, Loss(asked=True, why=f"resized by {scaler.name}"), {target.key: full})


def _of(world: World, cluster: Thing, *kinds: str) -> list[Thing]:
    return [t for t in world.things.values() if t.cluster == cluster.key and t.token.endswith(kinds)]


def _target(world: World, scaler: Thing, at: tuple[str, ...]) -> Thing | None:
    name = text(paths.get(plain_properties(scaler.inputs), at))
    for thing in world.things.values():
        same = thing.cluster == scaler.cluster and thing.name.rpartition("/")[2] == name
        scaled = same and thing.token.endswith((":Deployment", ":StatefulSet"))
        if scaled and scheduler.namespace_of(thing) == scheduler.namespace_of(scaler):
            return thing
    return None


def _kind(thing: Thing) -> str:
    return thing.token.rpartition(":")[2]


def _spec(thing: Thing) -> Properties:
    spec = plain_properties(thing.inputs).get("spec")
    return spec if isinstance(spec, dict) else {}


def pools(world: World, cluster: Thing) -> dict[str, int]:
    """Nodes of each pool now."""
    return {p.name: p.nodes - len(p.lost) for p in nodes.pools(world, cluster)}
