"""What happens to the machines of a group when it is made, changed or deleted, and how long the provider waits."""

from __future__ import annotations

import math

from simulators.core import groups, lifecycle, rollout, supply
from simulators.core.checks import number, text
from simulators.core.group_waits import Fleet, Settled, hook_s, start, waits_ec2, waits_gce, words
from simulators.core.groups import Group
from simulators.core.health import attached, healing
from simulators.core.pods import Stop
from simulators.core.rollout import Change
from simulators.core.values import Properties
from simulators.core.world import Thing, World

_NOBODY_ASKS_S = 86400.0  # machines behind no balancer are missed by nobody when they go


def made(world: World, before: Thing | None, thing: Thing, base_s: float, timeout: float, asked: Properties) -> Settled:
    """After a create or an update: starts and stops machines, then waits as the provider does."""
    group = groups.of(world, thing)
    own_s, base_s = base_s, base_s if group.cloud == "gcp" else 0.0  # AWS starts machines as soon as the group is there
    was, fresh = _was(world, before, group)
    thing.state["size"] = group.size
    fleet = Fleet()
    if fresh:
        fleet = _renewed(world, group, was, base_s)
    elif group.size > was:
        fleet = grown(world, group, was, base_s)
    elif group.size < was:
        shrink(world, group, was - group.size)
    elif thing.state.get("never"):
        fleet = _again(world, group, base_s)
    if group.cloud == "gcp":
        return waits_gce(world, group, fleet, timeout)
    return waits_ec2(world, before, group, fleet, own_s, asked)


def _was(world: World, before: Thing | None, group: Group) -> tuple[int, bool]:
    """(machines before, whether they are made anew because of another template)."""
    if before is None:
        return 0, False
    alive = number(before.state.get("alive"))
    old = groups.of(world, before)
    policy = group.given.get("updatePolicy")
    proactive = isinstance(policy, dict) and policy.get("type") == "PROACTIVE"
    return int(alive or 0), proactive and old.machine.template != group.machine.template


def _again(world: World, group: Group, base_s: float) -> Fleet:
    """Machines that never came to serve go on trying: what was missing may be there now."""
    begin, never = start(world, group)
    ready = rollout.ready_of(group.thing)
    if never:
        return Fleet(never=never)
    seconds = begin.pull_s + begin.server_s
    rollout.record(world, group.thing, [Change(at_s=base_s + seconds, ready=group.alive - ready)])
    _keep(group, group.alive, group.alive, [], "")
    return Fleet(made=group.alive - ready, serves_s=seconds)


def grown(world: World, group: Group, was: int, base_s: float) -> Fleet:
    """Machines more than `was`, as far as the cloud has them."""
    wanted = group.size - was
    given, errors = supply.launched(world, group, wanted)
    begin, never = start(world, group)
    warm = begin.pull_s + begin.driver_s if was and _warm(group, wanted) else 0.0  # prepared: boot and server alone
    fleet = Fleet(made=given, missing=wanted - given, errors=errors, running_s=begin.running_s, never=never)
    if given and not never:
        fleet.serves_s = begin.seconds - warm
        rollout.record(world, group.thing, [Change(at_s=base_s + fleet.serves_s, ready=given)])
    _keep(group, was + given, rollout.ready_of(group.thing) + (given if not never else 0), errors, never)
    return fleet


def _warm(group: Group, wanted: int) -> bool:
    """Whether so many machines wait, prepared: by default as many as the group may still grow by."""
    pool = group.given.get("warmPool")
    if not isinstance(pool, dict):
        return False
    most = number(pool.get("maxGroupPreparedCapacity"))
    whole = most if most is not None and most >= 0 else number(group.given.get("maxSize")) or 0
    least = number(pool.get("minSize")) or 0
    return wanted <= max(least, whole - (group.size - wanted))


def _keep(group: Group, alive: int, ready: int, errors: list[str], never: str) -> None:
    group.thing.state |= {"alive": alive, "ready": max(0, ready), "errors": list(errors), "never": never}


def _renewed(world: World, group: Group, was: int, base_s: float) -> Fleet:
    """A rolling update: as many at once as surge and unavailability allow; a template that never serves stops it."""
    begin, never = start(world, group)
    policy = group.given.get("updatePolicy")
    given = policy if isinstance(policy, dict) else {}
    surge = _share(given.get("maxSurgeFixed"), given.get("maxSurgePercent"), group)
    spare = _share(given.get("maxUnavailableFixed"), given.get("maxUnavailablePercent"), group)
    step, count = max(1, surge + spare), max(group.size, was)
    got, errors = supply.launched(world, group, min(step, count)) if surge else (min(step, count), [])
    if never or not got:
        lost = min(spare, rollout.ready_of(group.thing))
        if lost:
            rollout.record(
                world, group.thing, [Change(at_s=base_s, ready=-lost, stop=_stop(world, group), why="replaced")]
            )
        _keep(group, was, rollout.ready_of(group.thing) - lost, errors, never)
        return Fleet(missing=count, errors=errors, running_s=begin.running_s, never=never or "; ".join(errors))
    changes: list[Change] = []
    rounds, (_, check) = math.ceil(count / step), healing(world, group)
    each = begin.seconds + (check.sees_s if check is not None else 0.0) + (number(given.get("minReadySec")) or 0.0)
    for index in range(rounds):
        part = min(step, count - index * step)
        before_s = base_s + index * each
        out = before_s if spare else before_s + each
        changes.append(Change(at_s=before_s + begin.seconds, ready=part))
        changes.append(Change(at_s=out, ready=-min(part, was), stop=_stop(world, group), why="replaced"))
    rollout.record(world, group.thing, changes)
    _keep(group, group.size, group.size, errors, "")
    return Fleet(made=count, running_s=rounds * each, serves_s=(rounds - 1) * each + begin.seconds, errors=errors)


def _share(fixed: object, percent: object, group: Group) -> int:
    if isinstance(percent, int | float) and percent:
        return math.ceil(group.size * percent / 100)
    return int(fixed) if isinstance(fixed, int | float) else 0


def shrink(
    world: World, group: Group, count: int, at_s: float = 0.0, seq: int | None = None, why: str = "deregistered"
) -> None:
    """Machines fewer: the balancer lets them go first, for as long as it drains."""
    thing = group.thing
    gone = min(count, rollout.ready_of(thing))
    if gone:
        stop = _stop(world, group)
        rollout.record(world, thing, [Change(at_s=at_s, ready=-gone, stop=stop, why=why)], 0.0, seq)
    _keep(group, group.size, rollout.ready_of(thing) - gone, [], text(thing.state.get("never")))


def _stop(world: World, group: Group) -> Stop:
    drain = draining(world, group) if attached(world, group) else _NOBODY_ASKS_S
    return Stop(lingers_s=drain, grace_s=drain, exit_s=0.0)


def draining(world: World, group: Group) -> float:
    """How long the balancer lets requests end; without one, as long as the machine itself goes on."""
    found = [a.drain_s for a in attached(world, group)]
    return max(found) if found else group.machine.told.lingers_s


# --- the end


def before_delete(world: World, thing: Thing, timeout: float) -> float:
    """How long its machines take to go; refuses where the provider gives up before."""
    group = groups.of(world, thing)
    alive = number(thing.state.get("alive")) or 0
    if thing.token != groups.ASG or not alive or group.given.get("forceDelete") is True:
        return 0.0
    seconds = draining(world, group) + hook_s(world, group, "TERMINATING") + lifecycle.limit("aws", "terminating_s")
    patience = timeout or lifecycle.limit("aws", "group_delete_s")
    if seconds > patience:
        said = f"timeout while waiting for state to become '0' (last state: '{alive:.0f}', timeout: {words(patience)})"
        raise lifecycle.CloudError(f"waiting for Auto Scaling Group ({group.name}) drain: {said}", seconds=patience)
    return seconds


def gone(world: World, thing: Thing, stop: Stop) -> None:
    """A deleted group's machines leave; the balancer was told, or not."""
    if ready := rollout.ready_of(thing):
        rollout.record(world, thing, [Change(at_s=0.0, ready=-ready, stop=stop, why="deleted with its group")])
    group = groups.of(world, thing)
    token = "gcp:compute/disk:Disk" if group.cloud == "gcp" else "aws:ebs/volume:Volume"
    for index in range(group.alive if group.machine.keeps_disk else 0):
        name = f"{group.name}-{index}"
        why = f"a disk of a machine of {group.name}: its template does not delete it with the machine"
        left = Thing(cloud=group.cloud, token=token, id=name, name=name, leak=4, billable=True, why=why)
        world.things[left.key] = left


def last_stop(world: World, thing: Thing) -> Stop:
    """How the machines of a group go that is deleted: drained, or at once where the delete is forced."""
    group = groups.of(world, thing)
    if group.given.get("forceDelete") is True:
        return Stop(lingers_s=0.0, grace_s=0.0, exit_s=0.0)
    return _stop(world, group)
