"""Which machines a cloud gives: types, zones that have them, what is sold out, quotas of old and new together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase

from simulators.core import groups
from simulators.core.groups import Group, Machine
from simulators.core.world import World


def launched(world: World, group: Group, count: int) -> tuple[int, list[str]]:
    """(how many of `count` more machines there will be, why the others will not, in the cloud's words)."""
    machine = group.machine
    if not machine.type:
        return 0, [f"the template of {group.name} is not there, or names no machine type"]
    if not groups.known(machine.cloud, machine.type):
        return 0, [_no_type(group)]
    open_zones = [z for z in group.zones if not _refused(world, group, z)] or []
    shape = group.given.get("distributionPolicyTargetShape")
    strict = machine.cloud == "gcp" and shape in (None, "", "EVEN")
    errors: list[str] = []
    given = count
    if group.zones and len(open_zones) < len(group.zones):
        closed = [z for z in group.zones if z not in open_zones]
        if not open_zones:
            given = 0
        elif strict:  # spread evenly: the share of a zone that has none stays open
            given = sum(1 for z in groups.balanced(count, group.zones) if z in open_zones)
        if given < count:
            errors = [_refused(world, group, z) for z in closed]
    for name, limit, used, each in _short(world, group):
        fit = int(max(0.0, limit - used) // each)
        if fit < given:
            given = fit
            errors.append(_quota(machine, name, limit))
    return given, list(dict.fromkeys(errors))


def _no_type(group: Group) -> str:
    if group.cloud == "aws":
        return f"You must use a valid fully-formed launch template. Invalid instance type: {group.machine.type}"
    return f"The resource 'machineTypes/{group.machine.type}' was not found"


def _refused(world: World, group: Group, zone: str) -> str:
    machine = group.machine
    if not groups.sells(machine, zone):
        if machine.cloud == "aws":
            asked = (
                f"Your requested instance type ({machine.type}) is not supported in your requested Availability Zone"
            )
            return f"{asked} ({zone}). Launching EC2 instance failed."
        what = f"acceleratorTypes/{machine.accelerator}" if machine.accelerators else f"machineTypes/{machine.type}"
        return f"The resource 'zones/{zone}/{what}' was not found"
    for rule in world.stockouts:
        wanted, _, where = rule.partition("|")
        spot = machine.spot or group.spots > 0
        names = (machine.type, f"spot:{machine.type}") if spot else (machine.type,)
        if any(fnmatchcase(n, wanted) for n in names) and fnmatchcase(zone, where or "*"):
            if machine.cloud == "aws":
                kind = "Spot" if spot else "On-Demand"
                return (
                    f"Could not launch {kind} Instances. InsufficientInstanceCapacity - We currently do not have "
                    f"sufficient {machine.type} capacity in the Availability Zone you requested ({zone}). "
                    "Launching EC2 instance failed."
                )
            return (
                f"ZONE_RESOURCE_POOL_EXHAUSTED: The zone '{zone}' does not have enough resources available to fulfill "
                f"the request ({machine.type})"
            )
    return ""


def _quota(machine: Machine, name: str, limit: float) -> str:
    if machine.cloud == "gcp":
        return f"QUOTA_EXCEEDED: Quota '{name}' exceeded. Limit: {limit:.1f}"
    if machine.spot:
        return "Could not launch Spot Instances. MaxSpotInstanceCountExceeded - Max spot instance count exceeded"
    return (
        f"Could not launch On-Demand Instances. VcpuLimitExceeded - You have requested more vCPU capacity than your "
        f"current vCPU limit of {limit:.0f} allows for the instance bucket that the specified instance type belongs to "
        f"({name}). Launching EC2 instance failed."
    )


def _short(world: World, group: Group) -> Iterator[tuple[str, float, float, float]]:
    """(quota, limit, used, needed by one machine) of every quota that this world sets."""
    used = in_use(world)
    for name, each in units(group.machine).items():
        if each and name in world.quotas:
            yield name, float(world.quotas[name]), used[name], each


def in_use(world: World) -> Counter[str]:
    """What machines of groups use of each quota; those that are being made count when they are."""
    found: Counter[str] = Counter()
    for group in groups.all_groups(world):
        alive = group.alive if "alive" in group.thing.state else 0  # of a group that is being made none is there yet
        spots = min(group.spots, alive)
        for spot, count in ((True, spots), (False, alive - spots)):
            for name, each in units(replace(group.machine, spot=spot)).items():
                found[name] += int(each) * count
    return found


def units(machine: Machine) -> dict[str, float]:
    """What one machine counts against, by the clouds' own names of quotas."""
    row = groups.shape(machine.cloud, machine.type)
    cpus = float((row or {}).get("vcpus") or 2)
    kind = machine.accelerator.upper().replace("NVIDIA-", "").replace("TESLA-", "").replace("-40", "")
    if machine.cloud == "gcp":
        before = "PREEMPTIBLE_" if machine.spot else ""
        found = {f"{before}CPUS": cpus}
        if machine.accelerators and not kind.startswith("V"):
            found[f"{before}NVIDIA_{kind.replace('-80', '_80GB').replace('-', '_')}_GPUS"] = float(machine.accelerators)
        return found
    family = machine.type[:1]
    buckets = {"g": "G and VT", "p": "P", "i": "Inf"}
    bucket = buckets.get(family if not machine.type.startswith("i3") else "", "Standard (A, C, D, H, I, M, R, T, Z)")
    if machine.spot:
        return {f"All {bucket} Spot Instance Requests": cpus}
    return {f"Running On-Demand {bucket} instances": cpus}
