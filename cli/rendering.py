"""What a stack declares, as files for review and for scanners: Kubernetes manifests, and every resource as JSON."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from cli.errors import USAGE, CliError
from engine import values as v
from engine.goals import Goal

MASK = "[secret]"
FIRST = ("Namespace", "CustomResourceDefinition", "PriorityClass", "ServiceAccount")  # what others refer to
NOT_OBJECTS = ("kubernetes:helm.sh/", "kubernetes:yaml", "kubernetes:kustomize", "kubernetes:index")
OWN = "pulumi.com/"  # annotations that speak to Pulumi alone
RESOURCES = "resources.json"


def declared(goal: Goal) -> dict[str, Any]:
    """One resource as the program declared it."""
    options = {
        **{key: value for key, value in goal.options.items() if value},
        "parent": goal.parent,
        "provider": goal.provider.rpartition("::")[0],
        "version": goal.version,
        "import": goal.import_id,
        "aliases": [x for a in goal.aliases if (x := a.urn or a.name or a.type)],
    }
    options.pop("propertyDependencies", None)  # repeats what inputs and dependencies say
    shown = {key: value for key, value in options.items() if value}
    if goal.delete_before_replace is not None:
        shown["deleteBeforeReplace"] = goal.delete_before_replace
    return {"type": goal.type, "name": goal.name, "inputs": masked(goal.inputs), "options": shown}


def masked(value: Any) -> Any:
    """Plain values: secrets as `[secret]`, leaf by leaf, and whole numbers as such."""
    return _plain(value, secret=False)


def _plain(value: Any, *, secret: bool) -> Any:
    if isinstance(value, dict):
        if value.get(v.SIG) == v.SECRET:
            return _plain(json.loads(value["plaintext"]) if "plaintext" in value else value.get("value"), secret=True)
        if v.SIG in value:  # assets and archives: where they are, not what is in them
            return {k: _plain(x, secret=secret) for k, x in value.items() if k not in (v.SIG, "text")}
        return {k: _plain(x, secret=secret) for k, x in value.items()}
    if isinstance(value, list):
        return [_plain(x, secret=secret) for x in value]
    if secret and value is not None:
        return MASK
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def manifests(resources: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each Kubernetes object of a deployment's resources, in an order that can be applied."""
    found = [m for r in resources if (m := _manifest(r)) is not None]

    def order(m: Mapping[str, Any]) -> tuple[int, str, str, str]:
        rank = FIRST.index(m["kind"]) if m["kind"] in FIRST else len(FIRST)
        return rank, m["kind"], m["metadata"].get("namespace", ""), m["metadata"].get("name", "")

    return sorted(found, key=order)


def _manifest(resource: Mapping[str, Any]) -> dict[str, Any] | None:
    if not resource["type"].startswith("kubernetes:") or resource["type"].startswith(NOT_OBJECTS):
        return None
    inputs = masked(resource["inputs"])
    if not {"apiVersion", "kind"} <= set(inputs):
        return None
    metadata = dict(inputs.get("metadata") or {})
    notes = {k: x for k, x in (metadata.get("annotations") or {}).items() if not k.startswith(OWN)}
    metadata.pop("annotations", None)
    inputs["metadata"] = {**metadata, **({"annotations": notes} if notes else {})}
    if inputs["kind"] == "Secret" and isinstance(inputs.get("data"), dict):  # kubectl wants base64 there
        inputs["data"] = {k: base64.b64encode(MASK.encode()).decode() for k in inputs["data"]}
    inputs.pop("__defaults", None)
    head = {key: inputs.pop(key) for key in ("apiVersion", "kind", "metadata")}
    return {**head, **inputs}


def write(folder: Path, declarations: list[dict[str, Any]], objects: list[dict[str, Any]]) -> None:
    """Writes all of it; manifests of an earlier render go first."""
    place = folder / "manifests"
    place.mkdir(parents=True, exist_ok=True)
    for old in place.glob("*.yaml"):
        old.unlink()
    for i, manifest in enumerate(objects):
        name = re.sub(r"[^a-z0-9.-]+", "-", f"{manifest['kind']}-{manifest['metadata'].get('name', '')}".lower())
        text = yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True, width=120)
        (place / f"{i:03d}-{name}.yaml").write_text(text)
    declarations = sorted(declarations, key=lambda d: (d["type"], d["options"].get("parent", ""), d["name"]))
    (folder / RESOURCES).write_text(json.dumps({"resources": declarations}, indent=2) + "\n")


def refuse_foreign(folder: Path) -> None:
    """Only an empty folder, or one that an earlier render filled, is written to."""
    if folder.exists() and not folder.is_dir():
        raise CliError(f"{folder}: is no folder", USAGE)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / RESOURCES).is_file():
        raise CliError(f"{folder}: holds other files. To fix: name a new or an empty folder", USAGE)
