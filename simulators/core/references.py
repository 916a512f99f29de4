"""Who refers to whom: what must exist before, what keeps a delete from happening, what goes along."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from fnmatch import fnmatchcase

from simulators.core import paths, tables
from simulators.core.values import Json, Properties, plain_properties
from simulators.core.world import Thing, World

_ALWAYS_THERE = ("default", "arn:aws:iam::aws:policy/", "arn:aws:eks::aws:")  # made by the cloud for everybody
_NAMES = (
    "selfLink",
    "selfLinkUnique",
    "arn",
    "name",
    "instanceGroup",
    "allocationId",
    "email",
    "networkId",
    "keyId",
    "dnsName",
    "address",
)


@functools.cache
def rows_of(token: str) -> tuple[dict[str, str], ...]:
    return tuple(r for r in tables.rows("references") if fnmatchcase(token, r["type"]))


@functools.cache
def _rows_to(token: str, target: str, blocks: str) -> tuple[dict[str, str], ...]:
    return tuple(r for r in rows_of(token) if blocks in r["blocks"].split() and _of(target, r["target"]))


def identifiers(thing: Thing) -> set[str]:
    """Everything that another resource can write to mean this one."""
    known = {thing.id, thing.name}
    for name in _NAMES:
        value = thing.outputs.get(name)
        if isinstance(value, str) and value:
            known.add(value)
    return {k for k in known if k}


def means(value: Json, thing: Thing, token: str) -> bool:
    """Whether this text names that thing; a URL and the path in it are one name."""
    if not isinstance(value, str) or not value or not _of(thing.token, token):
        return False
    known = identifiers(thing)
    return value in known or any(value.endswith("/" + k) for k in known if "/" in k)


@functools.lru_cache(maxsize=65536)
def _of(token: str, pattern: str) -> bool:
    return fnmatchcase(token, pattern) or fnmatchcase(token.rpartition(":")[0], pattern)


def given(inputs: Properties, row: dict[str, str]) -> Iterator[tuple[str, str]]:
    """(path, text) of each reference that a row finds in inputs."""
    for at, value in paths.places(inputs, paths.parse(row["path"])):
        if isinstance(value, str) and value:
            yield paths.join(at), value


def missing(world: World, token: str, inputs: Properties) -> Iterator[str]:
    """References to what does not exist; a row that neither blocks nor cascades may point outside this world, and so
    may one to what users bring along (theirs), unless a fault says that it is not there."""
    for row in rows_of(token):
        if not row["blocks"]:
            continue
        for path, value in given(inputs, row):
            if "theirs" in row["blocks"].split() and not any(fnmatchcase(value, gone) for gone in world.absent):
                continue
            there = any(means(value, t, row["target"]) for t in world.things.values()) or _inner(world, value, row)
            if not there and not value.startswith(_ALWAYS_THERE) and not value.rpartition("/")[2].startswith("default"):
                yield f"{path}: '{value}' was not found ({row['target'].rpartition('/')[2]})"


def _inner(world: World, value: str, row: dict[str, str]) -> bool:
    """Whether it is what the cloud made inside another thing, such as the security group of an EKS cluster."""
    for inner in tables.rows("inner"):
        if _of(inner["stands_for"], row["target"]):
            for thing in world.things.values():
                if thing.token == inner["type"]:
                    made = paths.places(plain_properties(thing.outputs), paths.parse(inner["path"]))
                    if any(one == value for _, one in made):
                        return True
    return False


def dependencies(world: World, token: str, inputs: Properties) -> list[str]:
    """URNs of what these inputs refer to: the order that the simulated clock keeps."""
    found: list[str] = []
    for row in rows_of(token):
        for _, value in given(inputs, row):
            found += [t.urn for t in world.things.values() if t.urn and means(value, t, row["target"])]
    return list(dict.fromkeys(found))


def referrers(world: World, target: Thing, blocks: str) -> list[Thing]:
    """Things that hold on to this one in a given way: yes, cascade, content."""
    found = []
    for thing in world.things.values():
        if thing is target:
            continue
        if blocks == "yes" and not thing.urn and (target.id in thing.holds or target.name in thing.holds):
            found.append(thing)
            continue
        rows = _rows_to(thing.token, target.token, blocks)
        inputs = plain_properties(thing.inputs) if rows else {}
        if any(means(v, target, row["target"]) for row in rows for _, v in given(inputs, row)):
            found.append(thing)
    return found
