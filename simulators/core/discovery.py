"""Enumerations, patterns and ranges out of the clouds' own models, for properties that have no row.

Google's discovery documents as google-api-python-client ships them, AWS's service models as botocore does.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from simulators.core import api, paths, tables
from simulators.core.checks import number, one_of, text
from simulators.core.rules import Problem
from simulators.core.values import SIGNATURE, UNKNOWN, Json, Properties

Schema = dict[str, Json]


@dataclass(frozen=True, kw_only=True)
class Model:
    """One document: where a reference leads, the fields of an object, the items of a list."""

    shapes: dict[str, Json]
    aws: bool

    def resolved(self, schema: Json) -> Schema | None:
        name = schema.get("shape" if self.aws else "$ref") if isinstance(schema, dict) else None
        found = self.shapes.get(name) if isinstance(name, str) else schema
        return found if isinstance(found, dict) else None

    def field(self, schema: Schema, name: str) -> Json:
        """By the API's own name, or its plural or singular; AWS writes some of its names with a capital."""
        fields = schema.get("members" if self.aws else "properties")
        if not isinstance(fields, dict):
            return None
        for one in (name, name.removesuffix("s"), f"{name}s"):
            for written in (one, one[:1].upper() + one[1:]):
                if written in fields:
                    return fields[written]
        return None

    def items(self, schema: Schema) -> Json:
        return schema.get("member" if self.aws else "items", schema)


def problems(token: str, inputs: Properties) -> Iterator[Problem]:
    """Values that the API does not know, at properties that bear the API's own name; those with a row are the row's."""
    row = next((r for r in tables.rows("schemas") if r["type"] == token), None)
    if row is None:
        return
    aliases = dict(pair.split("=") for pair in row["aliases"].split(";") if pair)
    exact, _ = tables.of_type("rules", token)
    ruled = [r["path"] for r in exact if r["rule"] in ("enum", "enum-api", "regex", "not-regex", "range", "length")]
    found = model(tables.cloud_of(token), row["document"])
    for at, value, schema in _walk(found, found.shapes.get(row["schema"]), inputs, aliases, ()):
        if not any(paths.matches(path, at) for path in ruled) and (reason := _reason(value, schema, at)):
            yield Problem(path=paths.join(at), reason=reason)


def _reason(value: Json, schema: Schema, at: tuple[paths.Step, ...]) -> str:
    allowed, pattern = schema.get("enum"), schema.get("pattern")
    if isinstance(allowed, list) and isinstance(value, str) and value:
        return one_of(value, [text(a) for a in allowed])
    if isinstance(pattern, str) and isinstance(value, str) and value and at == ("name",) and "\\p{" not in pattern:
        fits = re.fullmatch(pattern, value)
        return "" if fits else f"'{value[:80]}' does not match {pattern}"
    least, most, got = schema.get("min"), schema.get("max"), number(value)
    if schema.get("type") in ("integer", "long") and got is not None:
        low, high = number(least), number(most)
        if (low is not None and got < low) or (high is not None and got > high):
            return f"expected a number in the range {text(least)}..{text(most)}, got {text(value)}"
    return ""


def _walk(
    found: Model, schema: Json, value: Json, aliases: dict[str, str], at: tuple[paths.Step, ...]
) -> Iterator[tuple[tuple[paths.Step, ...], Json, Schema]]:
    """(place, value, schema) of each property that the API has as well."""
    here = found.resolved(schema)
    if here is None or value is None or value == UNKNOWN:
        return
    if isinstance(value, dict):
        for name, item in value.items() if SIGNATURE not in value else ():
            inner = None if name.startswith("__") else found.field(here, aliases.get(name, name))
            if inner is not None:
                yield from _walk(found, inner, item, aliases, (*at, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(found, found.items(here), item, aliases, (*at, index))
    else:
        yield at, value, here


@functools.cache
def model(cloud: str, document: str) -> Model:
    return Model(shapes=api.shapes(document) if cloud == "aws" else _google(document), aws=cloud == "aws")


def _google(document: str) -> dict[str, Json]:
    package = importlib.util.find_spec("googleapiclient")  # its code is not needed, nor loaded
    if package is None or package.origin is None:
        raise ModuleNotFoundError("google-api-python-client is not installed. To fix: install the extra `simulators`")
    file = Path(package.origin).parent / "discovery_cache" / "documents" / f"{document}.json"
    schemas: dict[str, Json] = json.loads(file.read_text(encoding="utf-8"))["schemas"]
    return schemas
