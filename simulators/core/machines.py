"""Groups of machines behind a load balancer: how many serve, and how long one does when its group shrinks or goes."""

from __future__ import annotations

from simulators.core import entries, lifecycle, paths, rollout
from simulators.core.checks import number, text
from simulators.core.fitting import objects
from simulators.core.pods import Stop
from simulators.core.rollout import Change
from simulators.core.values import plain_properties
from simulators.core.world import Thing, World

GROUPS = entries.GROUPS


def changed(world: World, before: Thing | None, after: Thing | None, seconds: float) -> None:
    """Machines more are ready when the operation is; fewer are let go at its start and drained."""
    thing = after or before
    if thing is None or thing.token not in GROUPS:
        return
    was = rollout.ready_of(before) if before is not None else 0
    now = size(world, after) if after is not None else 0
    if now > was:
        rollout.record(world, thing, [Change(at_s=seconds, ready=now - was)])
    elif now < was:
        drain = _draining(world, thing)
        stop = Stop(lingers_s=drain, grace_s=drain, exit_s=0.0)
        rollout.record(world, thing, [Change(at_s=0.0, ready=now - was, stop=stop, why="deregistered")])
    if after is not None:
        after.state["ready"] = now


def size(world: World, group: Thing) -> int:
    """What the program asks for, else the least that an autoscaler keeps."""
    given = plain_properties(group.outputs)
    for path in ("targetSize", "desiredCapacity", "minSize"):
        if (asked := number(given.get(path))) is not None:
            return int(asked)
    for thing in world.things.values():
        if "utoscaler:" in thing.token and text(thing.outputs.get("target")).endswith(f"/{group.name}"):
            return int(number(paths.get(thing.outputs, paths.parse("autoscalingPolicy.minReplicas"))) or 0)
    return 0


def _draining(world: World, group: Thing) -> float:
    """Of the backend service or the target group that it stands behind."""
    for thing in world.things.values():
        given = plain_properties(thing.outputs) if thing.token.endswith(("ackendService", ":TargetGroup")) else {}
        if any(group.name in text(m.get("group")) for m in objects(given.get("backends"))):
            return number(given.get("connectionDrainingTimeoutSec")) or 0.0
        arns = group.outputs.get("targetGroupArns")
        if isinstance(arns, list) and given.get("arn") in arns:
            return number(given.get("deregistrationDelay")) or 300.0
    return lifecycle.limit("gcp", "machine_notice_s")
