"""What stands at each moment of a phase: machines of the pools and everything else, as the clouds' journal has it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from simulators.core import groups, nodes, paths, tables
from simulators.core.effects import CLUSTERS
from simulators.core.groups import Group
from simulators.core.nodes import Pool
from simulators.core.values import plain_properties
from simulators.core.world import Operation, Thing, World

DISKS = (("nodeConfig", "diskSizeGb"), ("diskSize",))


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A kind of machine; `accelerator` as the cloud's label has it, "" where it is part of the machine type."""

    cloud: str
    type: str
    region: str
    spot: bool
    accelerator: str = ""
    accelerators: int = 0
    disk_gib: int = 0


@dataclass(frozen=True, kw_only=True)
class Moment:
    at_s: float
    things: Mapping[str, Thing]
    machines: Mapping[Machine, int]


def moments(world: World, steps: Sequence[Operation], end_s: float) -> Iterator[Moment]:
    """From the start of a phase on; what is made counts from the order on, what is deleted until it is gone."""
    first = min((s.seq for s in steps), default=len(world.operations))
    there = world.past(first - 1)
    changes = world.changes()
    yield Moment(at_s=0.0, things=dict(there), machines=machines(there))
    for at, step in sorted((s.end_s if s.op == "delete" else s.start_s, s.seq) for s in steps):
        touched = changes.get(step, ())
        for entry in touched:
            if entry.thing is None:
                there.pop(entry.key, None)
            else:
                there[entry.key] = entry.thing
        if touched:
            yield Moment(at_s=min(at, end_s), things=dict(there), machines=machines(there))


def machines(there: Mapping[str, Thing]) -> Counter[Machine]:
    """Machines of every pool of every cluster, and of every group."""
    world = World(things=dict(there))
    found: Counter[Machine] = Counter()
    for cluster in [t for t in there.values() if t.token in CLUSTERS]:
        for pool in nodes.pools(world, cluster):
            found[_machine(pool, there.get(pool.key))] += pool.nodes
    for group in groups.all_groups(world):
        for spot, count in ((False, group.alive - group.spots), (True, group.spots)):
            if count > 0:
                found[_of_group(group, spot)] += count
    return found


def _of_group(group: Group, spot: bool) -> Machine:
    """`accelerator` is empty where the machine type brings it."""
    machine = group.machine
    brought, _ = groups.brings(machine.cloud, machine.type)
    zone = group.zones[0] if group.zones else ""
    return Machine(
        cloud=machine.cloud,
        type=machine.type,
        region=re.sub(r"-?[a-z]$", "", zone),
        spot=spot,
        accelerator="" if brought else machine.accelerator,
        accelerators=0 if brought else machine.accelerators,
        disk_gib=machine.disk_gib,
    )


def _machine(pool: Pool, thing: Thing | None) -> Machine:
    type_ = pool.labels.get("node.kubernetes.io/instance-type", "")
    zone = pool.zones[0] if pool.zones else ""
    properties = plain_properties(thing.outputs) if thing is not None else {}
    disk = next((x for p in DISKS if isinstance(x := paths.get(properties, p), int | float)), 0)
    given = paths.get(properties, ("nodeConfig", "guestAccelerators"))
    first = given[0] if isinstance(given, list) and given and isinstance(given[0], dict) else {}
    return Machine(
        cloud=pool.cloud,
        type=type_,
        region=re.sub(r"-?[a-z]$", "", zone),
        spot=pool.spot,
        accelerator=str(first.get("type") or ""),
        accelerators=int(float(str(first.get("count") or 0))),
        disk_gib=int(disk),
    )


def units(there: Mapping[Machine, int]) -> dict[str, float]:
    """What clouds count against quota: vCPUs, and accelerators by kind, spot apart."""
    found: dict[str, float] = {}
    for machine, count in there.items():
        row = groups.shape(machine.cloud, machine.type)
        brought, each = groups.brings(machine.cloud, machine.type)
        kind, number = machine.accelerator or brought, machine.accelerators or each
        spot = "spot " if machine.spot else ""
        if kind and number:
            found[f"{spot}{kind}"] = found.get(f"{spot}{kind}", 0) + number * count
        if row is not None and row["vcpus"]:
            found[f"{spot}vcpus"] = found.get(f"{spot}vcpus", 0) + float(row["vcpus"]) * count
    return found


def quotas(there: Mapping[str, Thing]) -> dict[str, float]:
    """The quotas that are counted by resource."""
    count = Counter(t.token for t in there.values())
    return {row["name"]: count[row["type"]] for row in tables.rows("quotas") if count[row["type"]]}
