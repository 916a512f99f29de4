"""Groups of equal machines: managed instance groups and auto scaling groups, with what their template says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from simulators.core import api, paths, tables, userdata
from simulators.core.checks import number, text
from simulators.core.fitting import objects
from simulators.core.peers import find
from simulators.core.values import Json, Properties, plain_properties
from simulators.core.world import Thing, World

MIGS = (
    "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager",
    "gcp:compute/instanceGroupManager:InstanceGroupManager",
)
ASG = "aws:autoscaling/group:Group"
GROUPS = (*MIGS, ASG)
TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One kind of machine. `image`: what it boots, as far as its name is known; `told`: its user data."""

    cloud: str
    type: str
    template: str = ""
    accelerator: str = ""
    accelerators: int = 0
    image: str = ""
    told: userdata.Told = field(default_factory=userdata.Told, repr=False)
    metadata: str = field(default="", repr=False)
    spot: bool = False
    tags: frozenset[str] = frozenset()
    account: str = ""
    security_groups: frozenset[str] = frozenset()
    disk_gib: int = 0
    keeps_disk: bool = False  # it outlives the machine


@dataclass(frozen=True, kw_only=True)
class Group:
    thing: Thing
    machine: Machine
    size: int
    zones: tuple[str, ...]
    spots: int  # how many of them are spot

    @property
    def alive(self) -> int:
        """As many as there are: less than its size where the cloud has no more."""
        value = number(self.thing.state.get("alive"))
        return self.size if value is None else int(value)

    @property
    def name(self) -> str:
        return self.thing.name

    @property
    def cloud(self) -> str:
        return self.thing.cloud

    @property
    def given(self) -> Properties:
        return plain_properties(self.thing.outputs)


def all_groups(world: World) -> list[Group]:
    return [of(world, t) for t in world.things.values() if t.token in GROUPS]


def of(world: World, thing: Thing) -> Group:
    given = plain_properties(thing.outputs)
    count = size(thing)
    if thing.token == ASG:
        machine = _ec2(world, given)
        return Group(
            thing=thing, machine=machine, size=count, zones=_subnet_zones(world, given),
            spots=count if machine.spot else _spots(given, count),
        )  # fmt: skip
    machine = _gce(world, given)
    return Group(thing=thing, machine=machine, size=count, zones=_zones(given), spots=count if machine.spot else 0)


def size(thing: Thing) -> int:
    """As many as the program or, after it, an autoscaler asked for."""
    given = plain_properties(thing.outputs)
    if thing.token == ASG:
        least = number(given.get("minSize")) or 0
        asked = number(given.get("desiredCapacity"))
        live = number(thing.state.get("size"))
        return int(max(least, asked if asked is not None else live if live is not None else least))
    asked = number(given.get("targetSize"))
    live = number(thing.state.get("size"))
    return int(asked if asked is not None else live if live is not None else 0)


def shape(cloud: str, type_: str) -> dict[str, str] | None:
    """The row of a machine type; one that is not in the table is known by its family."""
    return next((r for r in tables.rows("machines") if (r["cloud"], r["type"]) == (cloud, type_)), None)


def brings(cloud: str, type_: str) -> tuple[str, int]:
    """The accelerators that a machine type comes with."""
    row = next((r for r in tables.rows("attachments") if (r["cloud"], r["type"]) == (cloud, type_)), None)
    row = row or shape(cloud, type_) or {}
    return row.get("accelerator", ""), int(number(row.get("count")) or 0)


def known(cloud: str, type_: str) -> bool:
    """AWS lists its types; of Google's the families that the table has are known."""
    if cloud == "aws":
        return type_ in api.enum("ec2", "InstanceType")
    families = {r["type"].partition("-")[0] for r in tables.rows("machines") if r["cloud"] == cloud}
    return type_.partition("-")[0] in families and "-" in type_


# --- Compute Engine


def _zones(given: Properties) -> tuple[str, ...]:
    named = given.get("distributionPolicyZones")
    if isinstance(named, list) and named:
        return tuple(text(z).rpartition("/")[2] for z in named)
    zone, region = text(given.get("zone")), text(given.get("region"))
    return (zone,) if zone else tuple(f"{region}-{z}" for z in "abc")


def _gce(world: World, given: Properties) -> Machine:
    versions = objects(given.get("versions"))
    wanted = next((v for v in versions if not v.get("targetSize")), versions[0] if versions else {})
    found = find(world, wanted.get("instanceTemplate"), "gcp:compute/*nstanceTemplate:*")
    if found is None:
        return Machine(cloud="gcp", type="")
    asked = plain_properties(found.outputs)
    type_ = text(asked.get("machineType")).rpartition("/")[2]
    kind, count = brings("gcp", type_)
    extra = next(iter(objects(asked.get("guestAccelerators"))), {})
    disk = next((d for d in objects(asked.get("disks")) if d.get("boot") is not False), {})
    metadata = asked.get("metadata")
    notes = metadata if isinstance(metadata, dict) else {}
    said = text(notes.get("user-data")) or text(asked.get("metadataStartupScript")) or text(notes.get("startup-script"))
    tags, account = asked.get("tags"), asked.get("serviceAccount")
    plan = asked.get("scheduling")
    model = text(plan.get("provisioningModel")) if isinstance(plan, dict) else ""
    preemptible = isinstance(plan, dict) and plan.get("preemptible") is True
    return Machine(
        cloud="gcp", type=type_, template=found.id, told=userdata.read(said),
        accelerator=kind or text(extra.get("type")).rpartition("/")[2],
        accelerators=count or int(number(extra.get("count")) or 0),
        image=text(disk.get("sourceImage")),
        metadata="\n".join(f"{k}={v}" for k, v in notes.items() if k != "user-data"),
        spot=model == "SPOT" or preemptible,
        tags=frozenset(text(t) for t in tags) if isinstance(tags, list) else frozenset(),
        account=text(account.get("email")) if isinstance(account, dict) else "",
        disk_gib=int(number(disk.get("diskSizeGb")) or 0),
        keeps_disk=any(d.get("autoDelete") is False for d in objects(asked.get("disks"))),
    )  # fmt: skip


# --- EC2


def _launch(given: Properties) -> tuple[Json, Json]:
    """(name or id of the launch template, first machine type that overrides it)."""
    direct = given.get("launchTemplate")
    if isinstance(direct, dict):
        return direct.get("id") or direct.get("name"), None
    mixed = paths.get(given, ("mixedInstancesPolicy", "launchTemplate"))
    said = mixed if isinstance(mixed, dict) else {}
    wanted = said.get("launchTemplateSpecification")
    spec = wanted if isinstance(wanted, dict) else {}
    override = next(iter(objects(said.get("overrides"))), {})
    return spec.get("launchTemplateId") or spec.get("launchTemplateName"), override.get("instanceType")


def _ec2(world: World, given: Properties) -> Machine:
    named, override = _launch(given)
    found = find(world, named, TEMPLATE)
    if found is None:
        return Machine(cloud="aws", type=text(override))
    asked = plain_properties(found.outputs)
    type_ = text(override) or text(asked.get("instanceType"))
    kind, count = brings("aws", type_)
    own = {text(g) for g in _list(asked.get("vpcSecurityGroupIds"))}
    for interface in objects(asked.get("networkInterfaces")):
        own |= {text(g) for g in _list(interface.get("securityGroups"))}
    market = paths.get(asked, ("instanceMarketOptions", "marketType"))
    mapped = objects(asked.get("blockDeviceMappings"))
    disk = next((number(paths.get(b, ("ebs", "volumeSize"))) for b in mapped), None)
    image = text(asked.get("imageId"))
    return Machine(
        cloud="aws", type=type_, template=found.id, told=userdata.read(userdata.decoded(text(asked.get("userData")))),
        accelerator=kind, accelerators=count,
        image=world.answers.get(image, image), spot=market == "spot", security_groups=frozenset(own),
        account=text(paths.get(asked, ("iamInstanceProfile", "name"))), disk_gib=int(disk or 0),
        keeps_disk=any(text(paths.get(b, ("ebs", "deleteOnTermination"))) == "false" for b in mapped),
    )  # fmt: skip


def _spots(given: Properties, count: int) -> int:
    """Of a mixed policy: on demand are the base and a share above it."""
    spread = paths.get(given, ("mixedInstancesPolicy", "instancesDistribution"))
    if not isinstance(spread, dict):
        return 0
    base = int(number(spread.get("onDemandBaseCapacity")) or 0)
    share = number(spread.get("onDemandPercentageAboveBaseCapacity"))
    above = max(0, count - base)
    return above - math.ceil(above * (100.0 if share is None else share) / 100 - 1e-9)


def _subnet_zones(world: World, given: Properties) -> tuple[str, ...]:
    wanted = {text(i) for i in _list(given.get("vpcZoneIdentifiers"))}
    found = {text(t.outputs.get("availabilityZone")) for t in world.things.values() if t.id in wanted}
    return tuple(sorted(z for z in found if z))


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def sells(machine: Machine, zone: str) -> bool:
    """Whether a zone has that machine; regions without rows sell everything."""
    region = zone.rpartition("-")[0] if machine.cloud == "gcp" else zone[:-1]
    rows = [r for r in tables.rows("zones") if (r["cloud"], r["region"]) == (machine.cloud, region)]
    fitting = [r for r in rows if _about(r, machine)]
    best = [r for r in fitting if r["machines"] != "*" or r["accelerator"]] or fitting
    return not best or any(zone in r["zones"].split() for r in best)


def _about(row: dict[str, str], machine: Machine) -> bool:
    if row["accelerator"]:
        kind = machine.accelerator.upper().replace("NVIDIA-", "").replace("TESLA-", "")
        return bool(machine.accelerators) and fnmatchcase(kind, row["accelerator"])
    return fnmatchcase(machine.type, row["machines"])


def balanced(count: int, zones: tuple[str, ...]) -> Iterator[str]:
    """The zone of each machine, spread evenly."""
    for index in range(count):
        yield zones[index % len(zones)] if zones else ""
