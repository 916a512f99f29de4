"""What happens to the machines of a group from outside: taken back by the cloud, lost, moved by an autoscaler."""

from __future__ import annotations

from collections.abc import Sequence

from simulators.core import group_waits, groups, health, lifecycle, machine_scaling, machines, rollout
from simulators.core.groups import Group
from simulators.core.pods import Stop
from simulators.core.rollout import Change
from simulators.core.world import Thing, World


def _serving(world: World, things: Sequence[Thing]) -> list[Group]:
    found = [groups.of(world, t) for t in things if t.token in groups.GROUPS]
    return [g for g in found if rollout.ready_of(g.thing)]


def limits(world: World, thing: Thing) -> tuple[int, int] | None:
    return machine_scaling.bounds(world, thing) if thing.token in groups.GROUPS else None


def reclaimed(world: World, things: Sequence[Thing]) -> bool:
    """A spot machine goes with the cloud's notice, and the group makes another. On AWS the group tells the balancer;
    on Compute Engine the balancer's health check finds out, while the machine serves on for as long as it was told."""
    for group in _serving(world, things):
        if not group.spots:
            continue
        notice = lifecycle.limit(group.cloud, "spot_machine_notice_s")
        told = group.cloud == "aws"
        lingers = machines.draining(world, group) if told else group.machine.told.lingers_s
        stop = Stop(lingers_s=min(lingers, notice), grace_s=notice, exit_s=0.0)
        early = told and group.given.get("capacityRebalance") is True
        why = f"taken back as a spot machine ({notice:.0f} s notice)"
        _goes(world, group, Change(at_s=0.0, ready=-1, stop=stop, why=why, told=told), 0.0 if early else notice)
        return True
    return False


def lost(world: World, things: Sequence[Thing]) -> bool:
    """A machine dies: the balancer's health check leaves it out, the group's own makes another."""
    for group in _serving(world, things):
        _, check = health.healing(world, group)
        seen = check.misses_s if check is not None else lifecycle.limit(group.cloud, "machine_lost_seen_s")
        stop = Stop(lingers_s=0.0, grace_s=0.0, exit_s=0.0)
        _goes(world, group, Change(at_s=0.0, ready=-1, stop=stop, why="lost", told=False), seen)
        return True
    return False


def _goes(world: World, group: Group, change: Change, again_s: float) -> None:
    begin, never = group_waits.start(world, group)
    changes = [change]
    if never:
        world.notices.append(f"{group.name}: the machine that takes the place of one never serves: {never}")
        group.thing.state["ready"] = rollout.ready_of(group.thing) - 1
    else:
        changes.append(Change(at_s=again_s + begin.seconds, ready=1))
    rollout.record(world, group.thing, changes)
