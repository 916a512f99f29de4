"""What a Kubernetes API server and its controllers do beyond storing objects: kinds that charts bring, finalizers."""

from __future__ import annotations

from dataclasses import dataclass, field

from simulators.core import lifecycle, paths, tables
from simulators.core.checks import text
from simulators.core.lifecycle import CloudError
from simulators.core.values import Properties, plain_properties
from simulators.core.world import Thing, World

RELEASE = "kubernetes:helm.sh/v3:Release"


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """How long until a workload runs, or why it does not."""

    seconds: float = 0.0
    reason: str = ""
    outputs: Properties = field(default_factory=dict)


def before_create(world: World, cluster: Thing | None, token: str, inputs: Properties) -> None:
    """An object of a kind that nobody brought cannot be made."""
    if cluster is None:
        return
    group = token.split(":")[1].partition("/")[0]
    row = _custom(group)
    if row is not None and not _served(world, cluster, row):
        kind, version = token.rpartition(":")[2], token.split(":")[1]
        raise CloudError(f'no matches for kind "{kind}" in version "{version}": {_how(row)}')


def before_delete(world: World, cluster: Thing | None, thing: Thing, timeout: float) -> None:
    """An object with a finalizer waits for its controller; a namespace waits for every object in it."""
    if cluster is None:
        return
    inside = [thing]
    if thing.token.endswith(":Namespace"):
        inside += [t for t in world.things.values() if t.cluster == cluster.key and namespace_of(t) == thing.name]
    for one in inside:
        row = _custom(one.token.split(":")[1].partition("/")[0])
        if row is not None and row["finalizer"] and not _charts(world, cluster, row):
            patience = timeout or lifecycle.limit("kubernetes", "default_timeout_s")
            kind = one.token.rpartition(":")[2]
            what = "the namespace stays Terminating" if one is not thing else "it stays with a deletion timestamp"
            message = f"{thing.name}: {what}: {kind} {one.name} has finalizer {row['finalizer']} and no controller runs"
            world.failures[thing.key] = message
            raise CloudError(f"{message} (chart {row['charts'].partition('|')[0]} is gone)", seconds=patience)


def namespace_of(thing: Thing) -> str:
    inputs = plain_properties(thing.inputs)
    return text(paths.get(inputs, ("metadata", "namespace"))) or text(inputs.get("namespace")) or "default"


def readiness(world: World, cluster: Thing, thing: Thing, timeout: float) -> Readiness:
    return Readiness()


def _custom(group: str) -> dict[str, str] | None:
    return next((r for r in tables.rows("custom_resources") if r["group"] == group), None)


def _served(world: World, cluster: Thing, row: dict[str, str]) -> bool:
    field_of_cluster = row["cluster_field"]
    enabled = paths.get(plain_properties(cluster.outputs), paths.parse(field_of_cluster)) if field_of_cluster else None
    return enabled is True or _charts(world, cluster, row)


def _charts(world: World, cluster: Thing, row: dict[str, str]) -> bool:
    wanted = row["charts"].split("|") if row["charts"] else []
    releases = [t for t in world.things.values() if t.token == RELEASE and t.cluster == cluster.key]
    names = {text(plain_properties(r.inputs).get("chart")).rstrip("/").rpartition("/")[2] for r in releases}
    return any(w in names for w in wanted)


def _how(row: dict[str, str]) -> str:
    if row["cluster_field"] and not row["charts"]:
        return f"the cluster does not set {row['cluster_field']}"
    return f"the chart {row['charts'].replace('|', ' or ')} brings it and is not installed; depend on its Release"
