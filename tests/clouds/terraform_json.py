"""A state of Pulumi's as Terraform's JSON, which scanners read: the providers are bridged, so a type is a type.

Names differ by rule (camelCase, plural lists: terraform_fields.csv); what a resource holds of another becomes a
reference again, because checks that look at two resources follow references alone.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
HELD = ("id", "arn", "bucket", "name", "keyId", "dnsName")  # outputs by which others mean a resource


@cache
def types() -> Mapping[str, str]:
    with (HERE / "terraform_types.csv").open(newline="") as file:
        return {r["token"]: r["type"] for r in csv.DictReader(file)}


@cache
def fields() -> Mapping[tuple[str, str], str]:
    with (HERE / "terraform_fields.csv").open(newline="") as file:
        return {(r["type"], r["field"]): r["terraform"] for r in csv.DictReader(file)}


def document(resources: Sequence[Mapping[str, Any]], cloud: str) -> dict[str, Any]:
    """Every resource of one cloud; a type without a row of terraform_types.csv is an error, not left out."""
    mine = [r for r in resources if r["type"].startswith(f"{cloud}:")]
    held: dict[str, tuple[str, str]] = {}
    for r in mine:  # in a state what others are made of comes first: a bucket before its settings, which bear its name
        for value, reference in _held(r):
            held.setdefault(value, (r["urn"], reference))
    found: dict[str, dict[str, Any]] = {}
    for r in mine:
        others = {value: reference for value, (urn, reference) in held.items() if urn != r["urn"]}
        body = {
            fields().get((r["type"], k), snake(k)): _value(v, others)
            for k, v in r["inputs"].items()
            if not k.startswith("__")
        }
        found.setdefault(types()[r["type"]], {})[_label(r)] = body
    return {"resource": found}


def _held(resource: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    known = {**resource.get("outputs", {}), "id": resource.get("id")}
    for name in HELD:
        value = known.get(name)
        if isinstance(value, str) and len(value) > 6:  # a short name is a word that others write for themselves
            yield value, f"${{{types()[resource['type']]}.{_label(resource)}.{snake(name)}}}"


def _label(resource: Mapping[str, Any]) -> str:
    return re.sub(r"\W", "_", resource["urn"].rpartition("::")[2])


def _value(value: Any, held: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return held.get(value, value)
    if isinstance(value, list):
        return [_value(v, held) for v in value]
    if isinstance(value, dict):
        return {snake(k) if re.fullmatch(r"[a-z][A-Za-z0-9]*", k) else k: _value(v, held) for k, v in value.items()}
    return value


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def write(resources: Sequence[Mapping[str, Any]], cloud: str, folder: Path) -> Path:
    path = folder / "stack.tf.json"
    path.write_text(json.dumps(document(resources, cloud), indent=1))
    return path
