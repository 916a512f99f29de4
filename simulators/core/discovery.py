"""Enumerations and patterns out of Google's discovery documents, as google-api-python-client ships them."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path

from simulators.core import paths, tables
from simulators.core.checks import one_of, text
from simulators.core.rules import Problem
from simulators.core.values import SIGNATURE, UNKNOWN, Json, Properties

Schema = dict[str, Json]


def problems(token: str, inputs: Properties) -> Iterator[Problem]:
    """Values that the API does not know, at properties that bear the API's own name; those with a row are the row's."""
    row = next((r for r in tables.rows("schemas") if r["type"] == token), None)
    if row is None:
        return
    aliases = dict(pair.split("=") for pair in row["aliases"].split(";") if pair)
    exact, _ = tables.of_type("rules", token)
    ruled = [r["path"] for r in exact if r["rule"] in ("enum", "regex", "not-regex")]
    for at, value, schema in _walk(row["document"], _schemas(row["document"]).get(row["schema"]), inputs, aliases, ()):
        if not any(paths.matches(path, at) for path in ruled) and (reason := _reason(value, schema, at)):
            yield Problem(path=paths.join(at), reason=reason)


def _reason(value: Json, schema: Schema, at: tuple[paths.Step, ...]) -> str:
    allowed, pattern = schema.get("enum"), schema.get("pattern")
    if isinstance(allowed, list) and isinstance(value, str) and value:
        return one_of(value, [text(a) for a in allowed])
    if isinstance(pattern, str) and isinstance(value, str) and value and at == ("name",):
        fits = re.fullmatch(pattern, value)
        return "" if fits else f"'{value[:80]}' does not match {pattern}"
    return ""


def _walk(
    document: str, schema: Json, value: Json, aliases: dict[str, str], at: tuple[paths.Step, ...]
) -> Iterator[tuple[tuple[paths.Step, ...], Json, Schema]]:
    """(place, value, schema) of each property that the API has under this name, or its plural or singular."""
    found = _resolved(document, schema)
    if found is None or value is None or value == UNKNOWN:
        return
    if isinstance(value, dict):
        if SIGNATURE in value:
            return
        fields = found.get("properties")
        for name, item in value.items():
            inner = _field(fields, aliases.get(name, name)) if isinstance(fields, dict) else None
            if inner is not None and not name.startswith("__"):
                yield from _walk(document, inner, item, aliases, (*at, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(document, found.get("items", found), item, aliases, (*at, index))
    else:
        yield at, value, found


def _field(fields: dict[str, Json], name: str) -> Json:
    for one in (name, name.removesuffix("s"), f"{name}s"):
        if one in fields:
            return fields[one]
    return None


def _resolved(document: str, schema: Json) -> Schema | None:
    if isinstance(schema, dict) and isinstance(schema.get("$ref"), str):
        schema = _schemas(document).get(str(schema["$ref"]))
    return schema if isinstance(schema, dict) else None


@functools.cache
def _schemas(document: str) -> dict[str, Json]:
    package = importlib.util.find_spec("googleapiclient")  # its code is not needed, nor loaded
    if package is None or package.origin is None:
        raise ModuleNotFoundError("google-api-python-client is not installed. To fix: install the extra `simulators`")
    file = Path(package.origin).parent / "discovery_cache" / "documents" / f"{document}.json"
    schemas: dict[str, Json] = json.loads(file.read_text(encoding="utf-8"))["schemas"]
    return schemas
