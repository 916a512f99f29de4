"""What the clouds refuse of groups of machines and of their balancers, beyond one field: in their own words."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from simulators.core import groups, health, paths
from simulators.core.checks import number, text
from simulators.core.fitting import objects
from simulators.core.lifecycle import CloudError
from simulators.core.peers import find
from simulators.core.values import Json, Properties, plain_properties
from simulators.core.world import Thing, World

_INVALID = "googleapi: Error 400: Invalid value for field"
_MODES = {  # protocol -> balancing modes (F-MIG-MODES)
    "HTTP": ("UTILIZATION", "RATE", "CUSTOM_METRICS"),
    "HTTPS": ("UTILIZATION", "RATE", "CUSTOM_METRICS"),
    "HTTP2": ("UTILIZATION", "RATE", "CUSTOM_METRICS"),
    "H2C": ("UTILIZATION", "RATE", "CUSTOM_METRICS"),
    "GRPC": ("UTILIZATION", "RATE", "CUSTOM_METRICS"),
    "TCP": ("UTILIZATION", "CONNECTION"),
    "SSL": ("UTILIZATION", "CONNECTION"),
    "UDP": ("CONNECTION",),
}


def refuse(world: World, token: str, asked: Properties, found: Thing | None = None) -> None:
    if token in groups.MIGS:
        said = [*_policy(asked), *_group(world, asked)]
    elif token.endswith("ackendService"):
        said = list(_service(world, asked, found))
    elif token == groups.ASG:
        said = list(_auto_scaling(world, asked))
    elif token == "aws:autoscaling/policy:Policy":
        said = list(_tracking(world, asked))
    elif token == groups.TEMPLATE:
        said = list(_launch_template(asked))
    else:
        return
    if said:
        raise CloudError("; ".join(said))


def _policy(asked: Properties) -> Iterator[str]:
    policy = asked.get("updatePolicy")
    given = policy if isinstance(policy, dict) else {}
    shape = text(asked.get("distributionPolicyTargetShape"))
    regional = not asked.get("zone")
    zones = asked.get("distributionPolicyZones")
    count = len(zones) if isinstance(zones, list) and zones else 3
    for name, field in (("maxSurge", "maxSurgeFixed"), ("maxUnavailable", "maxUnavailableFixed")):
        fixed = number(given.get(field))
        if regional and fixed and fixed < count:
            yield (
                f"{_INVALID} 'resource.updatePolicy.{name}.fixed': '{fixed:.0f}'. "
                f"Fixed updatePolicy.{name} for regional managed instance group has to be either 0 or at least equal "
                "to the number of zones., invalid"
            )
    surge, spare = (_most(given, name) for name in ("maxSurge", "maxUnavailable"))
    if given and surge == 0 and spare == 0:
        yield (
            f"{_INVALID} 'resource.updatePolicy.maxUnavailable.fixed': '0'. "
            "maxUnavailable and maxSurge cannot be both 0, invalid"
        )
    if given.get("replacementMethod") == "RECREATE" and surge:
        yield (
            f"{_INVALID} 'resource.updatePolicy.maxSurge'. "
            "maxSurge must be equal to 0 when replacement method is set to RECREATE, invalid"
        )
    if shape and shape != "EVEN" and given.get("instanceRedistributionType") != "NONE":
        yield (
            f"{_INVALID} 'resource.distributionPolicy.targetShape': '{shape}'. "
            "Instance redistribution must be NONE with this shape, invalid"
        )


def _most(given: Properties, name: str) -> float:
    """What is said of surge or unavailability; the provider sends 0 for what is not said."""
    return (number(given.get(f"{name}Fixed")) or 0.0) or (number(given.get(f"{name}Percent")) or 0.0)


def _group(world: World, asked: Properties) -> Iterator[str]:
    for version in objects(asked.get("versions")):
        template = find(world, version.get("instanceTemplate"), "gcp:compute/*nstanceTemplate:*")
        type_ = text(template.outputs.get("machineType")) if template is not None else ""
        if type_.startswith("ct5lp-"):
            yield (
                f"{_INVALID} 'resource.versions': machine type {type_}: TPU v5e is not "
                "supported in managed instance groups, invalid"
            )


def _service(world: World, asked: Properties, found: Thing | None) -> Iterator[str]:
    protocol, scheme = text(asked.get("protocol")) or "HTTP", text(asked.get("loadBalancingScheme"))
    allowed = ("CONNECTION",) if scheme in ("INTERNAL", "") and protocol in ("TCP", "UDP") else _MODES.get(protocol, ())
    for index, member in enumerate(objects(asked.get("backends"))):
        where = f"'resource.backends[{index}]"
        group = find(world, member.get("group"), "gcp:compute/*nstanceGroupManager:*")
        if group is None:
            continue
        mode = text(member.get("balancingMode")) or "UTILIZATION"
        if allowed and mode not in allowed:
            yield (
                f"{_INVALID} {where}.balancingMode': '{mode}'. Balancing mode must be "
                f"one of {', '.join(allowed)} for protocol {protocol}, invalid"
            )
        yield from _limits(member, mode, group, where)
        for other in _others(world, group, found):
            yield from _together(asked, mode, group, other, where)
        if (named := text(asked.get("portName"))) and not any(
            p.get("name") == named for p in objects(group.outputs.get("namedPorts"))
        ):
            world.notices.append(f"backend service {text(asked.get('name'))}: {group.name} has no named port '{named}'")


def _limits(member: Properties, mode: str, group: Thing, where: str) -> Iterator[str]:
    regional = group.token == groups.MIGS[0]
    for kind, base in (("RATE", "maxRate"), ("CONNECTION", "maxConnections")):
        each, whole = member.get(f"{base}PerInstance"), member.get(base)
        if mode == kind and kind == "RATE" and each is None and whole is None:
            yield (
                f"{_INVALID} {where}.maxRate': ''. At least one of maxRate, "
                "maxRatePerInstance or maxRatePerEndpoint must be set for RATE balancing mode, invalid"
            )
        if regional and whole is not None and mode == kind:
            yield (
                f"{_INVALID} {where}.{base}': '{text(whole)}'. {base} cannot be used "
                f"with a regional managed instance group; use {base}PerInstance, invalid"
            )
        if mode not in (kind, "UTILIZATION") and each is not None:
            yield (
                f"{_INVALID} {where}.{base}PerInstance': '{text(each)}'. It cannot be "
                f"set with balancing mode {mode}, invalid"
            )


def _others(world: World, group: Thing, found: Thing | None) -> Iterator[tuple[Thing, str]]:
    """Other backend services that name the group, with the mode in which they do."""
    for thing in world.things.values():
        if thing.token.endswith("ackendService") and thing is not found:
            for member in objects(plain_properties(thing.outputs).get("backends")):
                if find(world, member.get("group"), group.token) is group:
                    yield thing, text(member.get("balancingMode")) or "UTILIZATION"


def _together(asked: Properties, mode: str, group: Thing, other: tuple[Thing, str], where: str) -> Iterator[str]:
    if (mode == "UTILIZATION") != (other[1] == "UTILIZATION"):
        yield (
            f"{_INVALID} {where}': Validation failed for instance group '{group.id}': "
            f"backend services '{text(asked.get('name'))}' and '{other[0].id}' point to the same instance group but "
            "the backends have incompatible balancing_mode. Values should be the same., invalid"
        )


def _tracking(world: World, asked: Properties) -> Iterator[str]:
    """Requests per target are counted by a balancer that sends some: it has to know the target group already."""
    at = ("targetTrackingConfiguration", "predefinedMetricSpecification")
    given = paths.get(asked, at)
    said = given if isinstance(given, dict) else {}
    if said.get("predefinedMetricType") != "ALBRequestCountPerTarget":
        return
    label = text(said.get("resourceLabel"))
    start = "putting Auto Scaling Scaling Policy: ValidationError: "
    if not re.fullmatch(r"app/[^/]+/[^/]+/targetgroup/[^/]+/[^/]+", label):
        yield f"{start}The resource label '{label}' is not app/<name>/<id>/targetgroup/<name>/<id>"
        return
    for target in [t for t in world.things.values() if t.token == "aws:lb/targetGroup:TargetGroup"]:
        if label.endswith(f"/{text(target.outputs.get('arnSuffix'))}"):
            if not any(health.balancers_of(world, target)):
                yield f"{start}The load balancer does not route traffic to the target group."
            return
    yield f"{start}The target group of the resource label '{label}' was not found"


_USER_DATA = 16384  # bytes, before base64 (API-AWS)


def _launch_template(asked: Properties) -> Iterator[str]:
    try:
        size = len(base64.b64decode(text(asked.get("userData"))))
    except ValueError:
        return  # said by a rule of its own
    if size > _USER_DATA:
        yield f"InvalidUserData.Malformed: User data is limited to {_USER_DATA} bytes (it has {size})"


def _auto_scaling(world: World, asked: Properties) -> Iterator[str]:
    probe = Thing(cloud="aws", token=groups.ASG, id="", name=text(asked.get("name")), outputs=dict(asked))
    machine = groups.of(world, probe).machine
    if machine.type and not groups.known("aws", machine.type):
        yield (
            "creating Auto Scaling Group: operation error Auto Scaling: CreateAutoScalingGroup, ValidationError: You "
            f"must use a valid fully-formed launch template. Invalid instance type: {machine.type}"
        )
    mixed: Json = asked.get("mixedInstancesPolicy")
    if asked.get("warmPool") and mixed:
        yield (
            "putting Auto Scaling Warm Pool: ValidationError: You can't add a warm pool to an Auto Scaling group that "
            "has a mixed instances policy or requests Spot Instances"
        )
    if mixed and machine.spot:
        yield (
            "creating Auto Scaling Group: ValidationError: You cannot use a launch template that requests Spot "
            "Instances with a mixed instances policy"
        )
    for arn in asked.get("targetGroupArns") or []:  # type: ignore[union-attr]
        target = find(world, arn, "aws:lb/targetGroup:TargetGroup")
        if target is not None and fnmatchcase(text(target.outputs.get("targetType")), "ip"):
            yield f"attaching target group {target.name}: ValidationError: its target type must be instance"
