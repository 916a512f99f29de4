"""How the providers wait for the machines of a group, and what they say when these do not come."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from simulators.core import boot, lifecycle
from simulators.core.checks import number, text
from simulators.core.fitting import objects
from simulators.core.groups import Group
from simulators.core.health import attached, healing, why_unseen
from simulators.core.values import Properties, plain_properties
from simulators.core.world import Thing, World

_WANTS = "want exactly {} healthy instance(s) registered to Load Balancer"


@dataclass(frozen=True, kw_only=True)
class Settled:
    """`seconds` beyond the operation until the provider returns; `reason`: why what it waited for did not come."""

    seconds: float = 0.0
    reason: str = ""


@dataclass(kw_only=True)
class Fleet:
    """Machines more, or others, of one group."""

    made: int = 0
    missing: int = 0
    errors: list[str] = field(default_factory=list)
    running_s: float = 0.0  # until they run
    serves_s: float | None = None  # until their servers answer; None: never
    never: str = ""


def start(world: World, group: Group) -> tuple[boot.Start, str]:
    """(how a machine of it starts, why it never comes to serve)."""
    begin = boot.of(world, group.machine)
    if begin.never:
        return begin, f"the container restarts for ever (crash loop): {begin.never}"
    delay, check = healing(world, group)
    if check is not None and begin.seconds > delay:
        what = "initialDelaySec" if group.cloud == "gcp" else "healthCheckGracePeriod"
        return begin, (f"each machine is made anew before it serves: {what} is {delay:.0f} s and a start takes {begin}")
    return begin, ""


def waits_gce(world: World, group: Group, fleet: Fleet, timeout: float) -> Settled:
    if group.given.get("waitForInstances") is not True:
        return Settled()
    patience = timeout or lifecycle.limit("gcp", "group_wait_s")
    _, check = healing(world, group)
    reason = "; ".join(fleet.errors) if fleet.missing else ""
    seconds = fleet.running_s
    if check is not None and group.size:
        reason = reason or fleet.never or why_unseen(world, group, check)
        seconds = max(seconds, fleet.serves_s + check.sees_s) if fleet.serves_s is not None else seconds
        if not reason and seconds > patience:
            reason = f"a start takes {start(world, group)[0]}"
    if not reason and seconds <= patience:
        return Settled(seconds=seconds)
    said = f"timeout while waiting for state to become 'created' (last state: 'creating', timeout: {words(patience)})"
    return Settled(seconds=patience, reason=f"{said}{_last(reason)}")


def _last(reason: str) -> str:
    """What the provider does not say and the group's own list of errors does."""
    return f" [the group's last error: {reason}]" if reason else ""


def words(seconds: float) -> str:
    """A duration as the providers print it."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest}s"


def waits_ec2(
    world: World, before: Thing | None, group: Group, fleet: Fleet, base_s: float, asked: Properties
) -> Settled:
    given = group.given
    said = text(given.get("waitForCapacityTimeout")) or "10m"
    patience = span(said)
    counts = ("desiredCapacity", "minSize")
    changed = before is None or any(plain_properties(before.inputs).get(k) != given.get(k) for k in counts)
    if not patience or not changed:
        return Settled()
    name = f"waiting for Auto Scaling Group ({group.name}) capacity satisfied"
    if fleet.missing and given.get("ignoreFailedScalingActivities") is not True:
        why = "; ".join(fleet.errors)
        return Settled(seconds=30.0, reason=f"{name}: scaling activity ({group.name}): Failed: {why}")
    running = max(fleet.running_s, hook_s(world, group, "LAUNCHING"))
    wants, have, seconds = _balanced(world, group, fleet, before is None)
    seconds = max(seconds, running) - base_s
    reason = fleet.never or "; ".join(fleet.errors)
    counted = max(int(number(asked.get(k)) or 0) for k in counts)  # what the program says, not what an autoscaler did
    if before is not None and counted != group.size:
        wants, have = f"want exactly {counted} healthy instance(s) in Auto Scaling Group", group.size
        reason = "an autoscaler has moved it, and an update waits for the number that the program states"
    if running > patience:
        much = "at least" if before is None else "exactly"
        wants, have = f"want {much} {group.size} healthy instance(s) in Auto Scaling Group", 0
        reason = "a launching lifecycle hook is not completed"
    if not wants and seconds <= patience:
        return Settled(seconds=max(0.0, seconds))
    wants, have = (wants, have) if wants else (_WANTS.format(group.size), 0)
    reason = reason or _unseen(world, group) or f"a start takes {start(world, group)[0]}"
    last = f"last state: '{wants}, have {have}', timeout: {words(patience)}"
    state = f"timeout while waiting for state to become 'ok' ({last})"
    return Settled(seconds=patience, reason=f"{name}: {state}{_last(reason)}")


def _balanced(world: World, group: Group, fleet: Fleet, new: bool) -> tuple[str, int, float]:
    """(what is wanted of the balancer and does not come, how many there are, seconds until there are as many)."""
    exact, least = (int(number(group.given.get(k)) or 0) for k in ("waitForElbCapacity", "minElbCapacity"))
    if not exact and not (least and new):
        return "", 0, 0.0
    healthy = 0 if fleet.never or _unseen(world, group) else group.size - fleet.missing
    seen = max((a.check.sees_s for a in attached(world, group)), default=0.0)
    wanted = f"want exactly {exact}" if exact else f"want at least {least}"
    if (exact and healthy != exact) or (not exact and healthy < least):
        return f"{wanted} healthy instance(s) registered to Load Balancer", healthy, 0.0
    return "", healthy, (fleet.serves_s or 0.0) + seen


def _unseen(world: World, group: Group) -> str:
    return next((why for a in attached(world, group) if (why := why_unseen(world, group, a.check, a))), "")


def span(said: str) -> float:
    """Seconds of a Go duration: 10m, 1h30m, 0."""
    total, digits = 0.0, ""
    for mark in said:
        if mark.isdigit() or mark == ".":
            digits += mark
        elif digits:
            total += float(digits) * {"h": 3600, "m": 60, "s": 1}.get(mark, 0)
            digits = ""
    return total


def hook_s(world: World, group: Group, way: str) -> float:
    """What a lifecycle hook adds: until the machine completes it, else its whole heartbeat."""
    found = 0.0
    hooks = [
        plain_properties(t.outputs) for t in world.things.values() if t.token.endswith("lifecycleHook:LifecycleHook")
    ]
    mine = [h for h in hooks if h.get("autoscalingGroupName") == group.name]
    for hook in (*mine, *objects(group.given.get("initialLifecycleHooks"))):
        if text(hook.get("lifecycleTransition")).endswith(way):
            beat = number(hook.get("heartbeatTimeout")) or 3600.0
            done = re.search(r"(?i)complete.?lifecycle.?action", group.machine.told.text)
            takes = boot.of(world, group.machine).seconds if way == "LAUNCHING" else group.machine.told.lingers_s
            found = max(found, min(beat, takes) if done else beat)
    return found
