"""Keys of a structure, each written once as a dataclass field: reading, docs and schema all come from the field."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from infra.spec.containers import parsed
from infra.spec.problems import Fix, Problem, Step, nearest, problem
from infra.spec.values import Kind, Schema, Steps

T = TypeVar("T")
D = TypeVar("D")


class Required:
    """The default of a key that the user has to give."""


@dataclass(frozen=True, kw_only=True)
class ByCloud:
    """A default that depends on the cloud."""

    cloud: str
    value: object
    otherwise: object

    def pick(self, cloud: object) -> object:
        return self.value if cloud == self.cloud else self.otherwise


REQUIRED = Required()


@dataclass(frozen=True, kw_only=True)
class Key:
    """What is known of one key."""

    name: str
    kind: Kind[object]
    doc: str
    default: object

    def default_for(self, cloud: object) -> object:
        return self.default.pick(cloud) if isinstance(self.default, ByCloud) else self.default


def key(kind: Kind[T], doc: str, *, default: object = REQUIRED) -> T:
    """A dataclass field that is a key; `default` is what a configuration without it means."""
    spec_field = dataclasses.field(metadata={"kind": kind, "doc": doc, "default": default})
    return cast(T, spec_field)


def keys(cls: type) -> tuple[Key, ...]:
    return tuple(
        Key(name=f.name, kind=f.metadata["kind"], doc=f.metadata["doc"], default=f.metadata["default"])
        for f in dataclasses.fields(cls)
        if "kind" in f.metadata
    )


class Structure(Kind[D], Generic[D]):
    """A mapping with fixed keys, read into a frozen dataclass; unknown keys are refused with the nearest name."""

    def __init__(self, cls: type[D]) -> None:
        self.cls = cls

    def read(self, raw: object, steps: Steps, found: list[Problem]) -> D | None:
        value = parsed(raw)
        if not isinstance(value, Mapping):
            return self.refuse(raw, steps, found, "must be a mapping")
        known = keys(self.cls)
        before = len(found)
        unknown = _unknown(value, [k.name for k in known], steps)
        found.extend(unknown)
        meant = {p.fix.value for p in unknown if p.fix}  # a misspelt key is one problem, not also a missing one
        cloud = value.get("cloud")
        given: dict[str, object] = {}
        for k in known:
            here: tuple[Step, ...] = (*steps, k.name)
            default = k.default_for(cloud)
            if k.name in value and value[k.name] is not None:
                given[k.name] = k.kind.read(value[k.name], here, found)
            elif k.name in meant:
                continue
            elif isinstance(default, Required):
                fix = Fix(steps=here, value=k.kind.example())
                found.append(problem(here, f"is required ({k.doc.rstrip('.')})", allowed=k.kind.allowed(), fix=fix))
            else:
                given[k.name] = default
        return self.cls(**given) if len(found) == before else None

    def describe(self) -> str:
        return "mapping with " + ", ".join(f"`{k.name}`" for k in keys(self.cls))

    def schema(self) -> Schema:
        known = keys(self.cls)
        return {
            "type": "object",
            "additionalProperties": False,
            "properties": {k.name: {**k.kind.schema(), "description": k.doc, **_shown_default(k)} for k in known},
            "required": [k.name for k in known if isinstance(k.default, Required)],
        }

    def example(self) -> object:
        return {k.name: k.kind.example() for k in keys(self.cls) if isinstance(k.default, Required)}


def _shown_default(k: Key) -> Schema:
    return {"default": k.default} if isinstance(k.default, str | int | float) else {}


def _unknown(value: Mapping[object, object], names: list[str], steps: Steps) -> list[Problem]:
    found, free = [], [n for n in names if n not in value]
    for name in value:
        if isinstance(name, str) and name in names:
            continue
        here = (*steps, name)
        near = nearest(name, free)
        fix = Fix(steps=here, op="rename", value=near) if near else Fix(steps=here, op="remove")
        if near:
            free.remove(near)
        like = near or nearest(name, names)  # a misspelt key beside the right one: said, but there is nothing to rename
        found.append(problem(here, "there is no such key", allowed=sorted(names), nearest=like, fix=fix))
    return found
