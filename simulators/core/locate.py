"""Finds what an interrupted run may have made: by an id composed from inputs, by fields that are unique, by tags.

One row of locate.csv for each type whose id the cloud draws; every other id is composed from names.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from simulators.core import paths, tables, templates
from simulators.core.checks import text
from simulators.core.lifecycle import Target
from simulators.core.values import Json, Properties, plain_properties
from simulators.core.world import Thing, World

TOKENS = tuple(f"{package}:index:locate" for package in ("gcp", "aws", "kubernetes"))
_SLOT = re.compile(r"\{([A-Za-z][\w.\[\]]*)(?:\|\w+)?\}")
DRAWN = re.compile(r"(hex|n)\d+|uuid|b")  # parts of an id that the cloud draws
UNKNOWN: Properties = {"unknown": True}


def how(token: str) -> dict[str, str]:
    return next(r for r in tables.rows("locate") if fnmatchcase(token, r["type"]))


def locate(world: World, target: Target, args: Properties) -> Properties:
    """{id}: it is there; {id: ""}: it was never made; {unknown: true}: nobody can tell."""
    token, given = text(args.get("type")), args.get("inputs")
    inputs = given if isinstance(given, dict) else {}
    kind = tables.kinds(target.cloud).get(token)
    if kind is None:
        return dict(UNKNOWN)
    row = how(token)
    if row["how"] == "id":
        return _by_id(world, target, token, inputs)
    tags = args.get("tags")
    mine = [t for t in world.things.values() if t.token == token and (t.account or t.cloud) == target.account and t.urn]
    if row["how"] == "fields":
        asked = {f: paths.get(inputs, paths.parse(f)) for f in row["fields"].split("|")}
        if any(v is not None for v in asked.values()):
            return _one([t for t in mine if _same(t, asked)])
    if isinstance(tags, dict) and tags:
        return _one([t for t in mine if _bears(t, tags)])
    return dict(UNKNOWN)


def _by_id(world: World, target: Target, token: str, inputs: Properties) -> Properties:
    kind = tables.kinds(target.cloud)[token]
    context = {**target.defaults, "account": templates.ACCOUNT, "number": templates.NUMBER, "seq": "1"}
    context["kind"] = token.rpartition("/")[2].partition(":")[0].lower()
    context["zone1"] = context.get("zone") or f"{context.get('region', '')}-a"
    for slot in _SLOT.findall(kind.identity):
        if paths.get(inputs, paths.parse(slot)) is None and not context.get(slot):
            return dict(UNKNOWN)  # a name that the provider was to make
    identity = templates.fill(kind.identity, inputs, context, "")
    return {"id": identity if world.find(target.account, token, identity) is not None else ""}


def _one(found: list[Thing]) -> Properties:
    if len(found) > 1:
        return dict(UNKNOWN)  # which of them is not to be told
    return {"id": found[0].id if found else ""}


def _same(thing: Thing, asked: dict[str, Json]) -> bool:
    have = plain_properties(thing.inputs)
    return all(paths.get(have, paths.parse(path)) == value for path, value in asked.items())


def _bears(thing: Thing, tags: Properties) -> bool:
    outputs = plain_properties(thing.inputs)
    have = outputs.get("tags") or outputs.get("labels")
    return isinstance(have, dict) and all(have.get(k) == v for k, v in tags.items())
