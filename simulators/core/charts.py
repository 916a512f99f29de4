"""What a Helm release brings: objects, pods with their requests, kinds, webhooks, by rows of charts.csv."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

from simulators.core import paths, tables
from simulators.core.checks import number, text
from simulators.core.fitting import needs
from simulators.core.values import Json, Properties, plain_properties
from simulators.core.world import Thing

RELEASE = "kubernetes:helm.sh/v3:Release"
_PODS = ("Deployment", "StatefulSet", "DaemonSet")
_PLUGIN = "nvidia-device-plugin"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_DISCOVERED = ("nvidia.com/gpu.present", "feature.node.kubernetes.io/pci-10de.present")
_DEFAULTS: dict[str, Properties] = {  # what the chart's own values give to its pods (F-CHART-NVIDIA)
    _PLUGIN: {
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {
            "nodeAffinity": {
                REQUIRED: {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": k, "operator": "In", "values": ["true"]}]} for k in _DISCOVERED
                    ]
                }
            }
        },
    }
}


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Pods of a chart: `daemon` ones run on every node that takes them."""

    name: str
    kind: str
    pod: Properties
    replicas: int
    labels: dict[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Object:
    kind: str
    name: str
    labels: dict[str, str]
    ports: dict[str, int]


def of(thing: Thing) -> str:
    """The chart's name, of a release whose chart has rows."""
    if thing.token != RELEASE:
        return ""
    chart = name(plain_properties(thing.inputs))
    return chart if any(r["chart"] == chart for r in tables.rows("charts")) else ""


def name(inputs: Properties) -> str:
    return text(inputs.get("chart")).rstrip("/").rpartition("/")[2]


def notice(thing: Thing) -> str:
    """A version that has no rows of its own is simulated as the one that has."""
    chart, version = of(thing), text(plain_properties(thing.inputs).get("version"))
    known = sorted({r["version"] for r in tables.rows("charts") if r["chart"] == chart})
    if not chart or not version or version in known:
        return ""
    return f"chart {chart} {version}: its objects are taken from version {known[-1]}, which has rows"


def workloads(thing: Thing) -> list[Workload]:
    inputs = plain_properties(thing.inputs)
    values = inputs.get("values")
    given = values if isinstance(values, dict) else {}
    found = []
    for row in _rows(of(thing), text(inputs.get("version"))):
        if row["kind"] in _PODS and _enabled(row, given):
            path, _, default = row["replicas"].partition("=")
            asked = number(paths.get(given, paths.parse(path))) if path else None
            found.append(
                Workload(
                    name=_named(row["name"], thing),
                    kind=row["kind"],
                    pod=_pod(row, given),
                    replicas=int(asked if asked is not None else default or 1),
                    labels=_pairs(row["labels"], thing),
                    ports={k: int(v) for k, v in _pairs(row["ports"], thing).items()},
                )
            )
    return found


def objects(thing: Thing) -> list[Object]:
    """Everything else that the release makes; of kinds that `render` shows and webhooks that a create meets."""
    inputs = plain_properties(thing.inputs)
    values = inputs.get("values")
    given = values if isinstance(values, dict) else {}
    return [
        Object(
            kind=row["kind"],
            name=_named(row["name"], thing),
            labels=_pairs(row["labels"], thing),
            ports={k: int(v) for k, v in _pairs(row["ports"], thing).items()},
        )
        for row in _rows(of(thing), text(inputs.get("version")))
        if row["kind"] not in _PODS and _enabled(row, given)
    ]


@functools.cache
def _rows(chart: str, version: str) -> tuple[dict[str, str], ...]:
    every = [r for r in tables.rows("charts") if chart and r["chart"] == chart]
    exact = [r for r in every if r["version"] == version]
    newest = max((r["version"] for r in every), default="")
    return tuple(exact or [r for r in every if r["version"] == newest])


def _enabled(row: dict[str, str], values: Properties) -> bool:
    path, _, default = row["enabled"].partition("=")
    given = paths.get(values, paths.parse(path)) if path else True
    return (text(given) if given is not None else default) != "false"


def _pod(row: dict[str, str], values: Properties) -> Properties:
    """A pod spec with what the values say about place and size; Helm merges maps, and a list replaces one."""
    where = paths.get(values, paths.parse(row["where"])) if row["where"] else values
    asked = where if isinstance(where, dict) else {}
    given = paths.get(values, paths.parse(row["resources"])) if row["resources"] else None
    requests: Properties = {"cpu": row["cpu"] or "0", "memory": row["memory"] or "0"}
    default: Json = {"requests": {k: v for k, v in requests.items() if v != "0"}}
    container: Properties = {"name": "c", "image": "", "resources": given if isinstance(given, dict) else default}
    pod: Properties = {**_DEFAULTS.get(row["chart"], {}), "containers": [container]}
    for part in ("nodeSelector", "tolerations", "affinity"):
        if asked.get(part):
            pod[part] = asked[part]
    return pod


def room(thing: Thing) -> dict[str, float]:
    """CPU and memory that all its pods ask for, for a report."""
    total: dict[str, float] = {}
    for one in workloads(thing):
        for resource, amount in needs(one.pod).items():
            total[resource] = total.get(resource, 0.0) + float(amount) * one.replicas
    return total


def _named(template: str, thing: Thing) -> str:
    return template.replace("{release}", thing.name.rpartition("/")[2])


def _pairs(text_: str, thing: Thing) -> dict[str, str]:
    pairs = (part.partition("=") for part in text_.split(";") if part)
    return {k: _named(v, thing) for k, _, v in pairs}
