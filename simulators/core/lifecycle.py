"""Create, read, update and delete in a simulated cloud: what is refused, what is made, how long it takes."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from simulators.core import devices, discovery, effects, naming, paths, references, rules, schema, tables, templates
from simulators.core.checks import text
from simulators.core.edits import put
from simulators.core.values import Json, Properties, plain_properties
from simulators.core.world import Thing, World


class CloudError(Exception):
    """The cloud refuses, in its words; `seconds` is how long it took to say so."""

    def __init__(self, message: str, seconds: float = 1.0) -> None:
        super().__init__(message)
        self.seconds = seconds


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where a provider's configuration points: cloud, account, default project, region and zone, cluster."""

    cloud: str
    account: str
    defaults: Mapping[str, str] = field(default_factory=dict)
    config: Properties = field(default_factory=dict)
    cluster: str = ""


@dataclass(frozen=True, kw_only=True)
class Made:
    id: str
    outputs: Properties
    seconds: float
    not_ready: str = ""


def create(world: World, target: Target, token: str, urn: str, inputs: Properties, timeout: float) -> Made:
    """Refuses what only the cloud refuses, else makes it; the caller records and tells."""
    kind = tables.kinds(target.cloud)[token]
    asked = plain_properties(inputs)
    refuse_invalid(world, target, token, asked)
    problems = list(references.missing(world, token, asked))
    if problems:
        raise CloudError(f"notFound: {'; '.join(problems)}")
    _within_quota(world, target, token)
    seed = f"{urn}#{len(world.operations)}"
    context = {**target.defaults, "account": templates.ACCOUNT, "number": templates.NUMBER, "seq": "1"}
    context["kind"] = token.rpartition("/")[2].partition(":")[0].lower()
    context["zone1"] = context.get("zone") or f"{context.get('region', '')}-a"
    made_name = naming.from_prefix(kind, asked, seed)
    asked = {**asked, **made_name}
    identity = templates.fill(kind.identity, asked, context, seed)
    context["id"] = identity
    name = text(paths.get(asked, paths.parse(kind.name))) if kind.name else ""
    scope = templates.fill(kind.scope, asked, context, seed) if kind.scope != "none" else ""
    _refuse_collision(world, target, token, scope, identity)
    thing = Thing(
        cloud=target.cloud, token=token, id=identity, name=name or identity, urn=urn, scope=scope,
        account=target.account, inputs=copy.deepcopy(inputs), cluster=target.cluster, billable=kind.billable,
    )  # fmt: skip
    thing.outputs = {**copy.deepcopy(inputs), **made_name, **computed(token, asked, context, seed)}
    world.things[thing.key] = thing
    effects.on_create(world, thing)
    return Made(id=identity, outputs=thing.outputs, seconds=kind.create_s)


def refuse_invalid(world: World, target: Target, token: str, asked: Properties) -> None:
    """What the provider lets through and the cloud does not."""
    known: dict[str, frozenset[str]] = {}
    if target.cloud == "kubernetes":
        there = [t for t in world.things.values() if t.cluster == target.cluster]
        names = {t.name for t in there if t.token.endswith(":Namespace")}
        known["namespace"] = frozenset(names | {"default", "kube-system", "kube-public", "kube-node-lease"})
        classes = {t.name for t in there if t.token.endswith(":PriorityClass")}
        known["priorityclass"] = frozenset(classes | {"system-node-critical", "system-cluster-critical"})
    found = [*rules.problems(token, asked, "create", known), *schema.problems(token, asked, strict=True)]
    found += discovery.problems(token, asked)
    if partition := devices.partition_problem(_config(asked)) if token.startswith("gcp:container/") else "":
        found.append(rules.Problem(path="nodeConfig.guestAccelerators", reason=partition))
    if found:
        raise CloudError(f"invalid: {'; '.join(str(p) for p in found)}")


def _config(asked: Properties) -> Properties:
    config = asked.get("nodeConfig")
    return config if isinstance(config, dict) else {}


def computed(token: str, asked: Properties, context: Mapping[str, str], seed: str) -> Properties:
    """Outputs that no input gives: defaults that the provider fills in, ids and addresses that the cloud hands out."""
    outputs: Properties = {}
    cloud = tables.cloud_of(token)
    for name in ("project", "region", "zone", "location"):
        if name not in asked and context.get(name) and _has_output(token, name):
            outputs[name] = context[name]
    if tables.exists(f"defaults_{cloud}"):
        for row in tables.of_type("defaults", token)[0]:
            if "." not in row["path"] and row["path"] not in asked:
                outputs[row["path"]] = templates.typed(row["value"])
    if tables.exists(f"outputs_{cloud}"):
        exact, wild = tables.of_type("outputs", token)
        for row in (*wild, *exact):
            path, _, wanted = (row.get("when") or "").partition("=")
            if path and text(paths.get(asked, paths.parse(path))) != wanted:
                continue
            if paths.get(asked, paths.parse(row["property"])) in (None, "") and _has_output(token, row["property"]):
                template = templates.each_zone(row["value"], asked)
                filled = templates.fill(template, {**asked, **outputs}, dict(context), seed)
                _put(outputs, asked, row["property"], templates.typed(filled))
    return outputs


def _keep_inner(token: str, was: Properties, outputs: Properties) -> None:
    """What the cloud filled in below an input, such as a certificate: an update leaves it as it is."""
    if not tables.exists(f"outputs_{tables.cloud_of(token)}"):
        return
    for row in tables.of_type("outputs", token)[0]:
        steps = paths.parse(row["property"])
        if len(steps) > 1 and paths.get(outputs, steps) in (None, "") and paths.get(was, steps[:1]) is not None:
            value = paths.get(was, steps)
            if value is not None and outputs.get(str(steps[0])) is not None:
                put(outputs, row["property"], value)


def _put(outputs: Properties, asked: Properties, path: str, value: Json) -> None:
    top = path.partition(".")[0]
    if top != path and top not in outputs:
        outputs[top] = copy.deepcopy(asked.get(top, {}))
    put(outputs, path, value)


def _has_output(token: str, name: str) -> bool:
    found = schema.classes(token)
    top = name.partition(".")[0]
    return found is None or top in schema.fields(found[1])[0] or top in schema.outputs(token)


def update(
    world: World, target: Target, token: str, thing: Thing, inputs: Properties, ignored: Sequence[str] = ()
) -> Made:
    """What the program ignores keeps what is there: an autoscaler may have moved it since the program last looked."""
    kind = tables.kinds(target.cloud)[token]
    inputs = copy.deepcopy(inputs)
    for path in ignored:
        live = paths.get(thing.inputs, paths.parse(path))
        if live is not None and "*" not in path:
            put(inputs, path, copy.deepcopy(live))
    refuse_invalid(world, target, token, plain_properties(inputs))
    kept = {k: v for k, v in thing.outputs.items() if k not in thing.inputs}
    was, thing.inputs = thing.outputs, inputs
    thing.outputs = {**kept, **copy.deepcopy(inputs)}
    _keep_inner(token, was, thing.outputs)
    if token == "aws:ec2/launchTemplate:LaunchTemplate":
        thing.outputs["latestVersion"] = int(text(kept.get("latestVersion")) or 1) + 1
    thing.not_ready = ""
    return Made(id=thing.id, outputs=thing.outputs, seconds=kind.update_s)


def delete(world: World, target: Target, token: str, thing: Thing, timeout: float) -> float:
    """Removes it and what goes along; returns the seconds. Raises, and notes why, when something keeps it."""
    kind = tables.kinds(target.cloud)[token]
    now = world.horizon
    world.settle(now)
    stays = _reuse(thing, "stays")
    if stays is not None:
        thing.why, thing.urn = stays["message"], ""
        return kind.delete_s
    waited = 0.0
    try:
        _refuse_protected(thing)
        _refuse_content(world, thing)
        waited = _wait_for_holders(world, target, thing, now, timeout)
    except CloudError as error:
        world.failures[thing.key] = str(error)
        raise
    world.settle(now + waited)
    remove(world, thing, now + waited)
    return kind.delete_s + waited


def remove(world: World, thing: Thing, now: float, cascade: bool = False) -> None:
    """Takes a thing out of the world, with all that lives in it."""
    if world.things.pop(thing.key, None) is not None:
        world.note(thing, gone=True)
    world.failures.pop(thing.key, None)
    for inner in [*references.referrers(world, thing, "cascade"), *references.referrers(world, thing, "content")]:
        if inner.key in world.things:
            remove(world, inner, now, cascade=True)
    for inside in [t for t in world.things.values() if t.cluster == thing.key]:
        if inside.key in world.things:
            remove(world, inside, now, cascade=True)
    effects.on_delete(world, thing, now, cascade)
    world.settle(now)
    for row_kind in ("never", "window", "pending"):
        row = _reuse(thing, row_kind)
        if row is not None and thing.scope and not cascade:
            until = float("inf") if row_kind == "never" else now + float(row["seconds"])
            world.taken[thing.scope] = (until, row["message"])


def _reuse(thing: Thing, wanted: str) -> dict[str, str] | None:
    outputs = plain_properties(thing.outputs)
    for row in tables.rows("reuse"):
        if row["kind"] == wanted and fnmatchcase(thing.token, row["type"]):
            when = row["when"].removeprefix("!")
            path, _, value = when.partition("=")
            if not when or (text(outputs.get(path)) == value) != row["when"].startswith("!"):
                return row
    return None


def _refuse_collision(world: World, target: Target, token: str, scope: str, identity: str) -> None:
    if not scope:
        return
    until, reason = world.taken.get(scope, (0.0, ""))
    if until > world.horizon:
        raise CloudError(f"alreadyExists: '{scope}': {reason}")
    for other in world.things.values():
        if (
            other.token == token
            and (other.account or other.cloud) == target.account
            and scope in (other.scope, other.id)
        ):
            raise CloudError(f"alreadyExists: '{scope}' already exists")


def _within_quota(world: World, target: Target, token: str) -> None:
    for row in tables.rows("quotas"):
        if row["type"] == token:
            limit = world.quotas.get(row["name"], int(row["limit"]))
            used = sum(1 for t in world.things.values() if t.token == token)
            if used >= limit:
                raise CloudError(f"quotaExceeded: {row['name']}: limit {limit}, used {used}, asked for 1 more")


def _refuse_protected(thing: Thing) -> None:
    outputs = plain_properties(thing.outputs)
    for row in tables.rows("protections"):
        if fnmatchcase(thing.token, row["type"]) and text(outputs.get(row["path"])) == row["blocks_when"]:
            raise CloudError(f"{thing.name}: {row['message']}. To fix: update it with {row['release']} first.")


def _refuse_content(world: World, thing: Thing) -> None:
    inside = references.referrers(world, thing, "content")
    outputs = plain_properties(thing.outputs)
    if inside and not any(outputs.get(k) is True for k in ("forceDestroy", "forceDelete")):
        raise CloudError(f"notEmpty: {thing.name} is not empty ({len(inside)} inside) and force_destroy is not set")
    if outputs.get("images") and outputs.get("forceDelete") is not True:
        raise CloudError(f"RepositoryNotEmptyException: {thing.name} still has images and force_delete is not set")
    if outputs.get("backups") and outputs.get("forceDestroy") is not True:
        raise CloudError(f"{thing.name} still has backups and force_destroy is not set")


def _wait_for_holders(world: World, target: Target, thing: Thing, now: float, timeout: float) -> float:
    """Seconds until nothing holds it any more; refuses when that is later than the provider waits."""
    holders = [t for t in references.referrers(world, thing, "yes") if t.key in world.things]
    if not holders:
        return 0.0
    row = next((r for r in tables.rows("held") if fnmatchcase(thing.token, r["type"])), None)
    patience = float(row["patience_s"]) if row else timeout or limit(target.cloud, "blocked_delete_retry_s")
    lasting = [t for t in holders if t.gone_at is None or t.gone_at > now + patience]
    if lasting and row:
        held_by = lasting[0].id if lasting[0].urn else lasting[0].name
        raise CloudError(row["message"].format(id=thing.id, by=held_by), seconds=max(1.0, patience))
    if lasting:
        names = ", ".join(f"{t.token.rpartition(':')[2]} {t.name}" for t in lasting[:4])
        reason = f" ({lasting[0].why})" if lasting[0].why else ""
        word = "DependencyViolation" if target.cloud == "aws" else "resourceInUseByAnotherResource"
        raise CloudError(f"{word}: {thing.name} is in use by {names}{reason}", seconds=patience)
    return max(0.0, max(t.gone_at or now for t in holders) - now)


def limit(cloud: str, name: str) -> float:
    return next(float(r["value"]) for r in tables.rows("limits") if r["cloud"] == cloud and r["name"] == name)
