"""Health of machines behind load balancers: which checks see them, and what a balancer would answer when asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from simulators.core import boot, firewalls, groups, paths, rollout
from simulators.core.boot import Check
from simulators.core.checks import number, text
from simulators.core.firewalls import HEALTH_RANGES, From
from simulators.core.fitting import objects
from simulators.core.groups import Group
from simulators.core.lifecycle import Target
from simulators.core.peers import find
from simulators.core.references import means
from simulators.core.values import Json, Properties, plain_properties
from simulators.core.world import Thing, World


@dataclass(frozen=True, kw_only=True)
class Attached:
    """One place of a group behind a balancer: backend service or target group. `port`: where requests arrive."""

    service: Thing
    check: Check
    port: int
    drain_s: float
    grpc: bool = False
    max_rate: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Health:
    """`in_s`: seconds until all of them are healthy; None: they never are."""

    service: str
    group: str
    healthy: int
    total: int
    in_s: float | None
    why: str = ""


def attached(world: World, group: Group) -> list[Attached]:
    return list(_behind_services(world, group) if group.cloud == "gcp" else _in_target_groups(world, group))


def _behind_services(world: World, group: Group) -> Iterator[Attached]:
    for service in world.things.values():
        if not service.token.endswith("ackendService"):
            continue
        given = plain_properties(service.outputs)
        for member in objects(given.get("backends")):
            if find(world, member.get("group"), group.thing.token) is group.thing:
                check = find(world, given.get("healthChecks"), "gcp:compute/*ealthCheck:*")
                port = named_port(group, text(given.get("portName")))
                yield Attached(
                    service=service, port=port, check=boot.check_of(check) if check is not None else _NO_CHECK,
                    drain_s=number(given.get("connectionDrainingTimeoutSec")) or 0.0,
                    grpc=given.get("protocol") in ("GRPC", "H2C", "HTTP2"),
                    max_rate=number(member.get("maxRatePerInstance")) or 0.0,
                )  # fmt: skip


_NO_CHECK = Check(name="", port=0, path="", interval_s=0.0, healthy=0, unhealthy=0, timeout_s=0.0)


def named_port(group: Group, name: str) -> int:
    return next(
        (int(number(p.get("port")) or 0) for p in objects(group.given.get("namedPorts")) if p.get("name") == name), 0
    )


def _in_target_groups(world: World, group: Group) -> Iterator[Attached]:
    joined = group.given.get("targetGroupArns")
    arns: list[Json] = [*joined] if isinstance(joined, list) else []
    for thing in world.things.values():
        if thing.token == "aws:autoscaling/attachment:Attachment":
            given = plain_properties(thing.outputs)
            arns += [given.get("lbTargetGroupArn")] if given.get("autoscalingGroupName") == group.name else []
    for arn in arns:
        target = find(world, arn, "aws:lb/targetGroup:TargetGroup")
        if target is not None:
            given = plain_properties(target.outputs)
            delay = number(given.get("deregistrationDelay"))
            yield Attached(
                service=target, check=boot.target_check(target), port=int(number(given.get("port")) or 0),
                drain_s=300.0 if delay is None else delay, grpc=given.get("protocolVersion") == "GRPC",
            )  # fmt: skip


def healing(world: World, group: Group) -> tuple[float, Check | None]:
    """(delay before a machine that is not healthy is made anew, the check that says so); no check: nobody does."""
    if group.cloud == "gcp":
        policy = group.given.get("autoHealingPolicies")
        given = policy if isinstance(policy, dict) else {}
        found = find(world, given.get("healthCheck"), "gcp:compute/*ealthCheck:*")
        delay = number(given.get("initialDelaySec")) or 0.0
        return (delay, boot.check_of(found)) if found is not None else (0.0, None)
    if group.given.get("healthCheckType") != "ELB":
        return 0.0, None
    checks = [a.check for a in attached(world, group)]
    grace = number(group.given.get("healthCheckGracePeriod"))
    return (300.0 if grace is None else grace), max(checks, key=lambda c: c.sees_s, default=None)


def why_unseen(world: World, group: Group, check: Check, place: Attached | None = None) -> str:
    """Why a check does not find healthy a machine whose server runs: path, port, or a filter in between."""
    port = check.port or (place.port if place is not None else 0)
    if why := boot.unanswered(group.machine, check, place is not None and place.grpc):
        return why
    if not port:
        return ""
    if group.cloud == "gcp":
        network = network_of(world, group)
        return firewalls.gcp_refused(
            world, network, target_of(group), From(what="health checks", ranges=HEALTH_RANGES), port
        )
    balancers = [] if place is None else list(balancers_of(world, place.service))
    for caller in balancers:
        what = f"machines of {group.name}"
        if why := firewalls.aws_refused(world, caller, group.machine.security_groups, what, port):
            return why
    return ""


def target_of(group: Group) -> firewalls.Aim:
    return firewalls.Aim(what=f"machines of {group.name}", tags=group.machine.tags, account=group.machine.account)


def network_of(world: World, group: Group) -> Json:
    template = find(world, group.machine.template, "gcp:compute/*nstanceTemplate:*")
    given = plain_properties(template.outputs) if template is not None else {}
    interface = next(iter(objects(given.get("networkInterfaces"))), {})
    if interface.get("network"):
        return interface.get("network")
    subnet = find(world, interface.get("subnetwork"), "gcp:compute/subnetwork:Subnetwork")
    return subnet.outputs.get("network") if subnet is not None else None


def balancers_of(world: World, target: Thing) -> Iterator[From]:
    """Load balancers whose listeners or rules lead to a target group, as callers."""
    seen: set[str] = set()
    for thing in world.things.values():
        if thing.token not in ("aws:lb/listener:Listener", "aws:lb/listenerRule:ListenerRule"):
            continue
        given = plain_properties(thing.outputs)
        if not any(find(world, arn, target.token) is target for arn in forwards(given)):
            continue
        listener = (
            thing
            if thing.token.endswith(":Listener")
            else find(world, given.get("listenerArn"), "aws:lb/listener:Listener")
        )
        arn = plain_properties(listener.outputs).get("loadBalancerArn") if listener is not None else None
        balancer = find(world, arn, "aws:lb/loadBalancer:LoadBalancer")
        if balancer is not None and balancer.id not in seen:
            seen.add(balancer.id)
            yield caller_of(world, balancer)


def caller_of(world: World, balancer: Thing) -> From:
    facts = plain_properties(balancer.outputs)
    doors, subnets = facts.get("securityGroups"), facts.get("subnets")
    bears = frozenset(text(g) for g in doors) if isinstance(doors, list) else frozenset()
    wanted = [text(i) for i in subnets] if isinstance(subnets, list) else []
    ranges = {text(t.outputs.get("cidrBlock")) for t in world.things.values() if t.id in wanted}
    return From(what="the load balancer", groups=bears, ranges=tuple(sorted(ranges)))


def forwards(given: Properties) -> list[Json]:
    """Target groups of the actions of a listener or a rule."""
    found: list[Json] = []
    for action in (*objects(given.get("defaultActions")), *objects(given.get("actions"))):
        found.append(action.get("targetGroupArn"))
        several = paths.get(action, ("forward", "targetGroups"))
        found += [one.get("arn") for one in objects(several)]
    return [f for f in found if f]


# --- what a balancer answers


def backends(world: World) -> list[Health]:
    """Each group behind each balancer, at the moment when everything so far is done."""
    return [_health(world, g, a) for g in groups.all_groups(world) for a in attached(world, g)]


def _joined(world: World, group: Group, service: Thing) -> float:
    """When a backend service began to name the group."""
    ends, since, there = {o.seq: o.end_s for o in world.operations}, 0.0, False
    for entry in world.journal:
        if entry.key == service.key:
            given = plain_properties(entry.thing.outputs) if entry.thing is not None else {}
            now = any(means(m.get("group"), group.thing, group.thing.token) for m in objects(given.get("backends")))
            since = ends.get(entry.seq, since) if now and not there else since
            there = now
    return since


def _health(world: World, group: Group, place: Attached) -> Health:
    now, at = world.horizon, {o.seq: o.start_s for o in world.operations}
    begun = _joined(world, group, place.service)
    count, last = 0, now
    for event in world.pods:
        if event.workload != group.thing.key:
            continue
        moment = at.get(event.seq, 0.0) + event.offset_s
        if event.ready > 0:
            moment = max(moment, begun if group.cloud == "gcp" else moment) + place.check.sees_s
            last = max(last, moment)
        count += event.ready if moment <= now + 1e-9 else 0
    never = why_unseen(world, group, place.check, place) or text(group.thing.state.get("never"))
    errors = group.thing.state.get("errors")
    why = never or ("; ".join(text(e) for e in errors) if isinstance(errors, list) else "")
    total = group.size
    short = rollout.ready_of(group.thing) < total
    return Health(
        service=place.service.name, group=group.name, healthy=0 if never and not count else max(0, min(count, total)),
        total=total, in_s=None if never or short else last - now, why=why,
    )  # fmt: skip


def answer(world: World, target: Target, args: Properties) -> Properties:
    """The function `<package>:index:health`: what getHealth and describe-target-health say, group by group."""
    wanted = text(args.get("service"))
    rows: list[Json] = [
        {"service": h.service, "group": h.group, "healthy": h.healthy, "total": h.total, "inS": h.in_s, "why": h.why}
        for h in backends(world)
        if not wanted or wanted.rstrip("/").rpartition("/")[2] == h.service or h.service in wanted.split("/")
    ]
    return {"groups": rows, "id": "health"}
