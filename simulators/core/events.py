"""What happens to a stack from outside: spot machines taken back, nodes lost, autoscalers, hands, emptied buckets."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase

from simulators.core import (
    autoscaling,
    drains,
    groups,
    kubernetes,
    lifecycle,
    machine_events,
    machine_scaling,
    nodes,
    paths,
    scheduler,
)
from simulators.core.checks import number
from simulators.core.drains import Loss
from simulators.core.edits import put
from simulators.core.faults import EVENTS, Fault
from simulators.core.nodes import Pool
from simulators.core.scheduler import NODE_START_S
from simulators.core.values import plain_properties
from simulators.core.world import Thing, World


def at_start(world: World) -> None:
    """Events that wait for no operation; each acts once."""
    _strike(world, lambda fault: fault.skip == 0 and fault.seen == 0)


def before_operation(world: World) -> None:
    """An event acts before the operation that its rule names by number; until then it counts them."""
    _strike(world, lambda fault: fault.seen == fault.skip and fault.skip > 0)
    world.faults = tuple(
        replace(f, seen=f.seen + 1) if f.kind in EVENTS and f.seen < f.skip else f for f in world.faults
    )


def _strike(world: World, due: Callable[[Fault], bool]) -> None:
    after: list[Fault] = []
    for fault in world.faults:
        if fault.kind in EVENTS and due(fault):
            apply(world, fault)
            fault = replace(fault, seen=fault.seen + 1)
        after.append(fault)
    world.faults = tuple(after)


def apply(world: World, fault: Fault) -> None:
    """Does it now. `type` and `name` say to whom; `message` how: `path=value` (drift), a number (autoscaler-moved)."""
    done = _DO[fault.kind](world, fault)
    if not done:
        world.notices.append(f"{fault.kind}: nothing of type {fault.type} and name {fault.name} is there for it")


def _matching(world: World, fault: Fault) -> list[Thing]:
    return [
        t
        for t in world.things.values()
        if fnmatchcase(t.token, fault.type) and fnmatchcase(t.name.rpartition("/")[2], fault.name)
    ]


def _spot(world: World, fault: Fault) -> bool:
    if machine_events.reclaimed(world, _matching(world, fault)):
        return True
    for thing, pool, cluster in _pools(world, fault):
        if pool.spot and pool.nodes > len(pool.lost):
            notice = _notice(thing, cluster)
            why = f"taken back with its spot machine ({notice:.0f} s notice)"
            _lose(world, thing, pool, cluster, Loss(asked=False, why=why, notice_s=notice, again_after_s=NODE_START_S))
            return True
    return False


def _notice(pool: Thing, cluster: Thing) -> float:
    """What ordinary pods get: on GKE as the pool's kubelet configuration says, else the cloud's own."""
    kubelet = paths.get(plain_properties(pool.outputs), ("nodeConfig", "kubeletConfig"))
    given = kubelet if isinstance(kubelet, dict) else {}
    whole = number(given.get("shutdownGracePeriodSeconds"))
    if whole is None:
        return lifecycle.limit(cluster.cloud, "notice_s")
    return whole - (number(given.get("shutdownGracePeriodCriticalPodsSeconds")) or 0.0)


def _node(world: World, fault: Fault) -> bool:
    if machine_events.lost(world, _matching(world, fault)):
        return True
    seen, again = (lifecycle.limit("kubernetes", n) for n in ("node_lost_seen_s", "node_lost_evicted_s"))
    for thing, pool, cluster in _pools(world, fault):
        if pool.nodes > len(pool.lost):
            loss = Loss(asked=False, why="lost with its node", seen_after_s=seen, again_after_s=again)
            _lose(world, thing, pool, cluster, loss)
            return True
    return False


def _pools(world: World, fault: Fault) -> list[tuple[Thing, Pool, Thing]]:
    """Pools that match, those with pods on them first."""
    found = []
    for thing in _matching(world, fault):
        cluster = kubernetes.cluster_of_pool(world, thing) if thing.token in nodes.POOLS else None
        for pool in nodes.pools(world, cluster) if cluster is not None else ():
            if pool.key == thing.key and cluster is not None:
                found.append((thing, pool, cluster))
    return sorted(found, key=lambda f: f[1].name not in _busy(world, f[2]))


def _busy(world: World, cluster: Thing) -> set[str]:
    return {node.rpartition("-")[0] for node in _used(world, cluster)}


def _used(world: World, cluster: Thing) -> list[str]:
    found: list[str] = []
    for thing in scheduler.workloads(world, cluster):
        placed = thing.state.get("pods")
        if scheduler.kind(thing) != "DaemonSet" and isinstance(placed, list):
            found += [str(n) for n in placed]
    return found


def _lose(world: World, thing: Thing, pool: Pool, cluster: Thing, loss: Loss) -> None:
    """One node goes, one with pods if there is one; the group makes another in its place."""
    alive = [i for i in range(pool.nodes) if i not in pool.lost]
    used = [i for i in alive if f"{pool.name}-{i}" in _used(world, cluster)]
    gone = (used or alive)[0]
    thing.state["lost"] = [*pool.lost, gone]
    thing.state["nodes"] = pool.nodes + 1
    drains.after_loss(world, cluster, loss)


def _moved(world: World, fault: Fault) -> bool:
    """One replica more than now, or the number that the message says; within the scaler's bounds."""
    for target in _matching(world, fault):
        if (limits := machine_events.limits(world, target)) is not None:
            now = groups.size(target)
            wanted = int(fault.message) if fault.message.isdigit() else now + 1 if now < limits[1] else now - 1
            machine_scaling.move(world, target, max(limits[0], min(limits[1], wanted)))
            return True
        scaler = autoscaling.scaler_of(world, target)
        cluster = world.things.get(target.cluster)
        if scaler is None or cluster is None:
            continue
        least, most = autoscaling.bounds(scaler)
        now = scheduler.replicas_of(target)
        other = now + 1 if now < most else now - 1
        wanted = int(fault.message) if fault.message.isdigit() else other
        autoscaling.move(world, cluster, target, max(least, min(most, wanted)))
        autoscaling.shrink(world, cluster)
        return True
    return False


def _drift(world: World, fault: Fault) -> bool:
    """By hand: the property of the message has another value than the program gave it."""
    path, _, given = fault.message.partition("=")
    found = _matching(world, fault)
    for thing in found[:1]:
        try:
            value = json.loads(given)
        except ValueError:
            value = given
        for properties in (thing.inputs, thing.outputs):
            put(properties, path, value)
        world.note(thing)
    return bool(found and path)


def _emptied(world: World, fault: Fault) -> bool:
    world.emptied.append(fault.name)
    return True


def _absent(world: World, fault: Fault) -> bool:
    world.absent.append(fault.name)
    return True


def _no_image(world: World, fault: Fault) -> bool:
    world.no_images.append(fault.name)
    return True


def _sold_out(world: World, fault: Fault) -> bool:
    world.stockouts.append(f"{fault.name}|{fault.message or '*'}")
    return True


def _short(world: World, fault: Fault) -> bool:
    if not fault.message.isdigit():
        return False
    world.quotas[fault.name] = int(fault.message)
    return True


_DO: dict[str, Callable[[World, Fault], bool]] = {
    "spot-reclaimed": _spot,
    "node-lost": _node,
    "autoscaler-moved": _moved,
    "drift": _drift,
    "bucket-empty": _emptied,
    "bucket-absent": _absent,
    "image-missing": _no_image,
    "stockout": _sold_out,
    "quota-short": _short,
}
