"""Lists and maps of values: given as such, or as the JSON text that `pulumi config set` stores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from infra.spec.problems import Fix, Problem
from infra.spec.values import Kind, Schema, Steps

T = TypeVar("T")


def parsed(raw: object) -> object:
    """A structured value: given as such, or as the JSON text that `pulumi config set` stores."""
    if not isinstance(raw, str):
        return raw
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return raw


@dataclass(frozen=True, kw_only=True)
class ListOf(Kind[tuple[T, ...]]):
    """A list of values of one kind."""

    item: Kind[T]
    at_least: int = 0

    def read(self, raw: object, steps: Steps, found: list[Problem]) -> tuple[T, ...] | None:
        value = parsed(raw)
        if not isinstance(value, list | tuple):
            return self.refuse(raw, steps, found, "must be a list")
        if len(value) < self.at_least:
            return self.refuse(raw, steps, found, f"must have at least {self.at_least}")
        before = len(found)
        items = [self.item.read(x, (*steps, i), found) for i, x in enumerate(value)]
        return tuple(x for x in items if x is not None) if len(found) == before else None

    def describe(self) -> str:
        return f"list of: {self.item.describe()}"

    def schema(self) -> Schema:
        return {"type": "array", "items": self.item.schema(), "minItems": self.at_least}

    def example(self) -> object:
        return [self.item.example() for _ in range(self.at_least)]


@dataclass(frozen=True, kw_only=True)
class MapOf(Kind[Mapping[str, T]]):
    """Values of one kind by a name of another."""

    name: Kind[str]
    item: Kind[T]
    at_least: int = 0

    def read(self, raw: object, steps: Steps, found: list[Problem]) -> Mapping[str, T] | None:
        value = parsed(raw)
        if not isinstance(value, Mapping):
            return self.refuse(raw, steps, found, "must be a mapping of names to values")
        if len(value) < self.at_least:
            return self.refuse(raw, steps, found, f"must have at least {self.at_least} entry")
        before, result = len(found), {}
        for key, entry in value.items():
            here = (*steps, key)
            reported: list[Problem] = []
            name = self.name.read(key, here, reported)
            for p in reported:  # the name is wrong, not the value under it: the fix drops or renames the entry
                found.append(_misnamed(p, here, value))
            item = self.item.read(entry, here, found) if name is not None else None
            if name is not None and item is not None:
                result[name] = item
        return result if len(found) == before else None

    def describe(self) -> str:
        return f"map of {self.name.describe()} to {self.item.describe()}"

    def schema(self) -> Schema:
        return {"type": "object", "propertyNames": self.name.schema(), "additionalProperties": self.item.schema()}

    def example(self) -> object:
        return {str(self.name.example()): self.item.example()} if self.at_least else {}


def _misnamed(p: Problem, steps: Steps, siblings: Mapping[object, object]) -> Problem:
    name = p.fix.value if p.fix else None
    rename = isinstance(name, str) and name not in siblings
    fix = Fix(steps=steps, op="rename", value=name) if rename else Fix(steps=steps, op="remove")
    hint = p.hint.split(" To fix:")[0] if p.hint.startswith("Did you mean") else ""
    return Problem(path=p.path, reason=p.reason, allowed=p.allowed, hint=f"{hint} To fix: {fix}.".strip(), fix=fix)
