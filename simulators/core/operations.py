"""One operation on the world: faults, the cloud's answer, the clock and the log, under one lock."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from simulators.core import (
    configuration,
    events,
    faults,
    kubernetes,
    lifecycle,
    machine_rules,
    machine_scaling,
    machines,
    paths,
    references,
    tables,
)
from simulators.core.checks import text
from simulators.core.effects import CLUSTERS
from simulators.core.groups import GROUPS
from simulators.core.lifecycle import CloudError, Made, Target
from simulators.core.nodes import POOLS
from simulators.core.values import Properties, plain_properties
from simulators.core.world import Thing, World


@dataclass(frozen=True, kw_only=True)
class Call:
    """What the engine asked for."""

    op: str
    token: str
    urn: str
    id: str = ""
    inputs: Properties | None = None
    timeout: float = 0.0
    ignored: tuple[str, ...] = ()  # paths of ignore_changes: what is there stays
    recorded: Properties | None = None  # of an update: what the state holds, against which a provider sees changes


class KilledError(Exception):
    """The fault says that the engine dies now; the operation itself is done."""


def run(world: World, target: Target, call: Call) -> Made:
    """Raises CloudError as the cloud refuses; whatever happens is on the timeline."""
    with world.transaction():
        events.before_operation(world)
        aim = _aim(world, target)
        found = world.find(aim.account, call.token, call.id) if call.id else None
        name = _name(aim, call, found)
        fault, world.faults = faults.strike(world.faults, call.token, name, call.op)
        after = _after(world, call, found)
        try:
            made = _faulty(world, aim, call, found, fault)
            thing = world.find(aim.account, call.token, made.id)
            if thing is not None:
                world.note(thing)
        except CloudError as error:
            _record(world, call, name, error.seconds, after, f"failed: {error}")
            raise
        result = f"not ready: {made.not_ready}" if made.not_ready else "ok"
        _record(world, call, name, made.seconds, after, result)
        if fault is not None and fault.kind == "killed":
            raise KilledError(call.urn)
        return made


def _aim(world: World, target: Target) -> Target:
    """The cluster of a kubeconfig may have come into being after the provider was configured."""
    if target.cloud == "kubernetes" and target.cluster not in world.things:
        return configuration.target(target.cloud, target.config, world)
    return target


def _name(target: Target, call: Call, found: Thing | None) -> str:
    kind = tables.kinds(target.cloud)[call.token]
    if found is not None:
        return found.name
    return text(paths.get(call.inputs or {}, paths.parse(kind.name))) if kind.name else call.urn.rpartition("::")[2]


def _after(world: World, call: Call, found: Thing | None) -> list[str]:
    if call.op == "delete" and found is not None:
        return list({o.urn: None for o in world.operations if found.urn in o.after and o.op == "create"})
    deps = references.dependencies(world, call.token, plain_properties(call.inputs or {}))
    if found is None and call.token.startswith("kubernetes:"):
        deps += [
            t.urn
            for t in world.things.values()
            if t.token in ("gcp:container/cluster:Cluster", "aws:eks/cluster:Cluster")
        ]
    return [d for d in dict.fromkeys(deps) if d]


def _record(world: World, call: Call, name: str, seconds: float, after: list[str], result: str) -> None:
    cloud = tables.cloud_of(call.token)
    world.record(
        cloud=cloud, op=call.op, urn=call.urn, token=call.token, name=name, seconds=seconds, after=after, result=result
    )


def _faulty(world: World, target: Target, call: Call, found: Thing | None, fault: faults.Fault | None) -> Made:
    if fault is not None and fault.kind == "expired":
        world.expired = sorted({*world.expired, target.cloud})
    if target.cloud in world.expired:
        raise CloudError("ExpiredToken: the security token included in the request is expired")
    delay = 0.0
    if fault is not None:
        delay = _before(world, target, call, found, fault)
    made = _do(world, target, call, found)
    if fault is not None and fault.kind == "partial":
        reason = fault.message or "the resource was made and did not become ready in time"
        thing = world.find(target.account, call.token, made.id)
        if thing is not None:
            thing.not_ready = reason
        return Made(id=made.id, outputs=made.outputs, seconds=made.seconds, not_ready=reason)
    return Made(id=made.id, outputs=made.outputs, seconds=made.seconds + delay, not_ready=made.not_ready)


def _before(world: World, target: Target, call: Call, found: Thing | None, fault: faults.Fault) -> float:
    """Faults that keep the operation from happening; a throttled one happens later."""
    if fault.kind == "fail":
        raise CloudError(fault.message or "internalError: the operation failed in the cloud")
    if fault.kind == "quota":
        raise CloudError(fault.message or f"quotaExceeded: no quota left for {call.token.rpartition(':')[2]}")
    if fault.kind == "hang":
        patience = call.timeout or lifecycle.limit(target.cloud, "default_timeout_s")
        if call.op == "delete" and found is not None and found.token in CLUSTERS:
            lifecycle.remove(world, found, world.horizon, cascade=True)  # the cloud goes on; the provider does not look
        raise CloudError(f"timeout while waiting for {call.op} after {patience:.0f} s", seconds=patience)
    if fault.kind == "throttle":
        if fault.times == 0:
            patience = call.timeout or lifecycle.limit(target.cloud, "default_timeout_s")
            raise CloudError("rateLimitExceeded: too many requests, retries used up", seconds=patience)
        return faults.THROTTLE_RETRY_S
    return 0.0


def _do(world: World, target: Target, call: Call, found: Thing | None) -> Made:
    cluster = configuration.live_cluster(world, target)
    before = copy.deepcopy(found)
    if call.op == "create":
        kubernetes.before_create(world, cluster, call.token, call.inputs or {})
        machine_rules.refuse(world, call.token, plain_properties(call.inputs or {}))
        made = lifecycle.create(world, target, call.token, call.urn, call.inputs or {}, call.timeout)
        return _ready(world, target, call, cluster, before, made)
    if call.op == "update":
        if found is None:
            raise CloudError(f"notFound: {call.id} does not exist any more")
        machine_rules.refuse(world, call.token, plain_properties(call.inputs or {}), found)
        made = lifecycle.update(world, target, call.token, found, call.inputs or {}, call.ignored)
        return _ready(world, target, call, cluster, before, made)
    if found is None or before is None:
        return Made(id=call.id, outputs={}, seconds=0.0)  # gone already: a delete is done
    kubernetes.before_delete(world, cluster, found, call.timeout)
    grouped = found.token in GROUPS
    stop = machines.last_stop(world, found) if grouped else None
    drained = machines.before_delete(world, found, call.timeout) if grouped else 0.0
    seconds = max(drained, lifecycle.delete(world, target, call.token, found, call.timeout))
    if found.key not in world.things:
        if stop is not None:
            machines.gone(world, before, stop)
        if cluster is not None:
            seconds += kubernetes.gone(world, before)
        elif found.token in POOLS:
            seconds += kubernetes.pool_changed(world, before, None)
    return Made(id=call.id, outputs={}, seconds=seconds)


def _ready(world: World, target: Target, call: Call, cluster: Thing | None, before: Thing | None, made: Made) -> Made:
    """A workload is made when its pods run; until then it exists and is not ready."""
    thing = world.find(target.account, call.token, made.id)
    if thing is not None and before is not None and thing.token in POOLS:
        drain = kubernetes.pool_changed(world, before, thing)
        return Made(id=made.id, outputs=made.outputs, seconds=made.seconds + drain)
    if thing is not None and thing.token in GROUPS:
        if before is not None and "minSize" in (call.recorded or {}):
            before.inputs = {**before.inputs, "minSize": (call.recorded or {})["minSize"]}
        settled = machines.made(world, before, thing, made.seconds, call.timeout, call.inputs or {})
        thing.not_ready, seconds = settled.reason, made.seconds + settled.seconds
        return Made(id=made.id, outputs=thing.outputs, seconds=seconds, not_ready=settled.reason)
    if thing is not None and thing.token in machine_scaling.SCALERS:
        machine_scaling.bounded(world, thing, made.seconds)
    if cluster is None or thing is None:
        return made
    readiness = kubernetes.readiness(world, cluster, before, thing, call.timeout)
    thing.not_ready = readiness.reason
    seconds = made.seconds + readiness.seconds
    return Made(id=made.id, outputs=copy.deepcopy(thing.outputs), seconds=seconds, not_ready=readiness.reason)


def read(world: World, target: Target, token: str, identity: str) -> Thing | None:
    with world.transaction():
        aim = _aim(world, target)
        if target.cloud in world.expired:
            raise CloudError("ExpiredToken: the security token included in the request is expired")
        configuration.live_cluster(world, aim)
        world.settle(world.horizon)
        found = world.find(aim.account, token, identity)
        return copy.deepcopy(found) if found is not None else None
