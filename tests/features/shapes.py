"""Requests and answers of Google's interfaces, held against their published descriptions."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.features.google_rest import Asked

DOCUMENTS = {"redis": "redis.v1", "firestore": "firestore.v1", "bigtableadmin": "bigtableadmin.v2"}
KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "object": (dict,),
    "array": (list,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


def document(service: str) -> dict[str, Any]:
    cache = pytest.importorskip(
        "googleapiclient.discovery_cache", reason="google-api-python-client is not installed (extra `simulators`)"
    )
    path = Path(cache.__file__).parent / f"documents/{DOCUMENTS[service]}.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def wrong(asked: Sequence[Asked]) -> list[str]:
    """Methods, parameters and fields that the interface does not have."""
    faults: list[str] = []
    for one in asked:
        found = document(one.service)
        fitting = [m for m in _methods(found) if m["httpMethod"] == one.method and _form(m).fullmatch(one.path)]
        if not fitting:
            faults.append(f"{one.method} {one.path}: no such method")
            continue
        method = fitting[0]
        known = {k for k, v in method["parameters"].items() if v["location"] == "query"} | set(found["parameters"])
        faults += [f"{one.path}: no parameter {k}" for k in one.query if k.lstrip("%24").lstrip("$") not in known]
        if one.body:
            faults += _mistyped(found["schemas"], method["request"]["$ref"], one.body)
        faults += _mistyped(found["schemas"], method["response"]["$ref"], one.answer)
    return faults


def _methods(tree: dict[str, Any]) -> list[dict[str, Any]]:
    below = [m for t in tree.get("resources", {}).values() for m in _methods(t)]
    return [*tree.get("methods", {}).values(), *below]


def _form(method: dict[str, Any]) -> re.Pattern[str]:
    """Most specific as the parameters' own patterns say: `{+name}` is a path."""
    form = re.escape("/" + method["path"])
    for name, about in method["parameters"].items():
        pattern = about.get("pattern", ".+").strip("^$")
        form = form.replace(re.escape("{+" + name + "}"), pattern).replace(re.escape("{" + name + "}"), "[^/]+")
    return re.compile(form)


def _mistyped(schemas: dict[str, Any], name: str, value: Any) -> list[str]:
    faults: list[str] = []
    for key, item in value.items():
        if key == "@type":
            continue
        field = schemas[name].get("properties", {}).get(key)
        if field is None:
            if "additionalProperties" not in schemas[name]:
                faults.append(f"{name}.{key}: no such field")
            continue
        faults += _field(schemas, f"{name}.{key}", field, item)
    return faults


def _field(schemas: dict[str, Any], where: str, field: dict[str, Any], item: Any) -> list[str]:
    if "$ref" in field:
        return _mistyped(schemas, field["$ref"], item) if isinstance(item, dict) else [f"{where}: {item!r}"]
    if "enum" in field and isinstance(item, int):
        return [] if 0 <= item < len(field["enum"]) else [f"{where}: {item!r}"]  # $alt=json;enum-encoding=int
    if not isinstance(item, KINDS[field["type"]]):
        return [f"{where}: {item!r}"]
    if field["type"] == "array":
        return [f for each in item for f in _field(schemas, where, field["items"], each)]
    if "enum" in field and item not in field["enum"]:
        return [f"{where}: {item!r} is none of its words"]
    return []


MESSAGES = """
import json, sys
from google.cloud import memorystore_v1 as types
from google.protobuf import json_format
from google.longrunning import operations_pb2
faults = []
for name, value in json.load(sys.stdin):
    kind = operations_pb2.Operation if name == "Operation" else getattr(types, name).pb()
    try:
        json_format.ParseDict(value, kind())
    except json_format.ParseError as e:
        faults.append(f"{name}: {e}")
print(json.dumps(faults))
"""
ANSWERS = (  # of Memorystore for Valkey, whose discovery document no package holds: method, end of the path, message
    ("GET", r"/instances/[^/]+", "Instance"),
    ("GET", r"/backups", "ListBackupsResponse"),
    ("GET", r"/backupCollections", "ListBackupCollectionsResponse"),
    ("GET", r"/operations/[^/]+", "Operation"),
    ("POST", r"(:\w+|/instances)", "Operation"),
    ("PATCH", r"/instances/[^/]+", "Operation"),
)
BODIES = {
    "backup": "BackupInstanceRequest",
    "export": "ExportBackupRequest",
    "rescheduleMaintenance": "RescheduleMaintenanceRequest",
}


def wrong_messages(asked: Sequence[Asked]) -> list[str]:
    """Against the client library's own messages, which refuse a field or a word that they do not have."""
    pairs: list[tuple[str, Any]] = []
    for one in asked:
        pairs += [
            (message, one.answer)
            for method, end, message in ANSWERS
            if method == one.method and one.answer and re.search(end + "$", one.path)
        ]
        if one.body:
            pairs.append((BODIES.get(one.path.partition(":")[2], "Instance"), one.body))
    done = subprocess.run(
        [sys.executable, "-c", MESSAGES], input=json.dumps(pairs), capture_output=True, text=True, check=True
    )
    found: list[str] = json.loads(done.stdout)
    return found
