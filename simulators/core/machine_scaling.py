"""Autoscalers of groups of machines under a given load, within their bounds."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from fnmatch import fnmatchcase

from simulators.core import groups, health, machines, paths, rollout
from simulators.core.checks import number, text
from simulators.core.edits import put
from simulators.core.fitting import objects
from simulators.core.groups import Group
from simulators.core.peers import find
from simulators.core.values import Properties, plain_properties
from simulators.core.world import Thing, World

SCALERS = ("gcp:compute/regionAutoscaler:RegionAutoscaler", "gcp:compute/autoscaler:Autoscaler")
POLICY = "aws:autoscaling/policy:Policy"


def settle(world: World) -> None:
    """Every group as its autoscaler wants it under the world's load."""
    for group in groups.all_groups(world):
        wanted = _wanted(world, group)
        if wanted is not None:
            move(world, group.thing, wanted)


def bounds(world: World, thing: Thing) -> tuple[int, int] | None:
    """Between what an autoscaler may move a group; None: nothing moves it."""
    if thing.token == groups.ASG:
        given = plain_properties(thing.outputs)
        least, most = number(given.get("minSize")), number(given.get("maxSize"))
        return int(least or 0), int(most or 0)
    scaler = _scaler(world, thing)
    return None if scaler is None else _policy_bounds(scaler)


def _policy_bounds(scaler: Thing) -> tuple[int, int]:
    policy = _policy(scaler)
    return int(number(policy.get("minReplicas")) or 0), int(number(policy.get("maxReplicas")) or 0)


def _policy(scaler: Thing) -> Properties:
    policy = plain_properties(scaler.outputs).get("autoscalingPolicy")
    return policy if isinstance(policy, dict) else {}


def _scaler(world: World, thing: Thing) -> Thing | None:
    for one in world.things.values():
        if one.token in SCALERS and find(world, one.outputs.get("target"), thing.token) is thing:
            return one
    return None


def bounded(world: World, scaler: Thing, at_s: float) -> None:
    """An autoscaler that comes or changes brings its group within its bounds."""
    target = find(world, scaler.outputs.get("target"), "gcp:compute/*nstanceGroupManager:*")
    mode = text(_policy(scaler).get("mode")) or "ON"
    if target is None or mode == "OFF":
        return
    least, most = _policy_bounds(scaler)
    now = groups.size(target)
    wanted = max(least, now) if mode.startswith("ONLY") else max(least, min(most, now))
    if wanted != now:
        move(world, target, wanted, at_s=at_s, seq=len(world.operations))


def move(world: World, thing: Thing, count: int, at_s: float | None = None, seq: int | None = None) -> None:
    """Another number of machines, set by somebody who is not the program."""
    now = groups.size(thing)
    if count == now:
        return
    last = world.operations[-1] if world.operations else None
    when = at_s if at_s is not None else last.end_s - last.start_s if last is not None else 0.0
    at = seq if seq is not None else last.seq if last is not None else -1
    path = "desiredCapacity" if thing.token == groups.ASG else "targetSize"
    before = copy.deepcopy(thing)
    for properties in (thing.inputs, thing.outputs):
        if properties is thing.outputs or path in properties:
            put(properties, path, count)
    thing.state["size"] = count
    group = groups.of(world, thing)
    known = len(world.pods)
    if count > now:
        machines.grown(world, group, int(number(before.state.get("alive")) or 0), when)
    else:
        machines.shrink(world, group, now - count, when, why="scaled in")
    for index in range(known, len(world.pods)):
        world.pods[index] = rollout.moved(world.pods[index], at)
    if errors := thing.state.get("errors"):
        said = "; ".join(text(e) for e in errors) if isinstance(errors, list) else ""
        world.notices.append(f"{thing.name}: {count} machines are wanted: {said}")
    world.note(thing, seq=at)


def _wanted(world: World, group: Group) -> int | None:
    """Machines by the most demanding signal; None: no load was given for any."""
    found = [
        math.ceil(total / each - 1e-9)
        for metric, each in _signals(world, group)
        if each > 0 and (total := _load(world, group, metric)) is not None
    ]
    limits = bounds(world, group.thing)
    if not found or limits is None:
        return None
    return max(limits[0], min(limits[1], max(found)))


def _load(world: World, group: Group, metric: str) -> float | None:
    for key, total in world.load.items():
        name, _, wanted = key.rpartition("|")
        if fnmatchcase(group.name, name) and fnmatchcase(metric, wanted):
            return total
    return None


def _signals(world: World, group: Group) -> Iterator[tuple[str, float]]:
    """(signal, what one machine may have of it): `cpu` in cores, `rps` in requests a second, else the metric's own."""
    row = groups.shape(group.cloud, group.machine.type)
    cores = float((row or {}).get("vcpus") or 2)
    if group.thing.token == groups.ASG:
        yield from _tracked(world, group, cores)
        return
    scaler = _scaler(world, group.thing)
    policy = _policy(scaler) if scaler is not None else {}
    if (target := number(paths.get(policy, ("cpuUtilization", "target")))) is not None:
        yield "cpu", target * cores
    share = number(paths.get(policy, ("loadBalancingUtilization", "target")))
    rates = [a.max_rate for a in health.attached(world, group) if a.max_rate]
    if share is not None and rates:
        yield "rps", share * min(rates)
    for one in objects(policy.get("metrics")):
        each = number(one.get("target")) or number(one.get("singleInstanceAssignment")) or 0.0
        yield text(one.get("name")), each


def _tracked(world: World, group: Group, cores: float) -> Iterator[tuple[str, float]]:
    for thing in world.things.values():
        given = plain_properties(thing.outputs) if thing.token == POLICY else {}
        if not given or find(world, given.get("autoscalingGroupName"), groups.ASG) is not group.thing:
            continue
        tracking = given.get("targetTrackingConfiguration")
        said = tracking if isinstance(tracking, dict) else {}
        target = number(said.get("targetValue")) or 0.0
        kind = text(paths.get(said, ("predefinedMetricSpecification", "predefinedMetricType")))
        if kind.startswith("ASGAverageCPUUtilization"):
            yield "cpu", target / 100 * cores
        elif kind == "ALBRequestCountPerTarget":
            yield "rps", target / 60  # the metric counts a minute's requests
        elif kind or said:
            yield _custom(said, kind, target)


def _custom(said: Properties, kind: str, target: float) -> tuple[str, float]:
    """One metric, or an expression over several: requests that come by two target groups."""
    own = paths.parse("customizedMetricSpecification.metrics[*].metricStat.metric.metricName")
    names = {text(name) for _, name in paths.places(said, own) if name}
    if "RequestCountPerTarget" in names:
        return "rps", target / 60
    return text(paths.get(said, ("customizedMetricSpecification", "metricName"))) or kind, target
