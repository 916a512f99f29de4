"""What a Kubernetes API server and its controllers do beyond storing objects: kinds that charts bring, finalizers."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from simulators.core import lifecycle, paths, scheduler, tables
from simulators.core.checks import number, text
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
    """Pods are placed, pull their image, start, and pass their start-up probe, all before the patience is over."""
    kind = thing.token.rpartition(":")[2]
    if kind not in scheduler.CONTROLLERS or _skipped(thing):
        return Readiness()
    placement = scheduler.place(world, cluster, thing)
    patience = timeout or lifecycle.limit("kubernetes", "default_timeout_s")
    if placement.reason:
        waiting = placement.pods - placement.placed
        reason = f"{kind} {thing.name}: {placement.placed} of {placement.pods} pods run, {waiting} pending: "
        return Readiness(seconds=patience, reason=reason + placement.reason)
    pod = scheduler.pod_of(thing)
    pull, start = image_times(pod)
    short = _probe_too_short(pod, start)
    if short:
        return Readiness(seconds=patience, reason=f"{kind} {thing.name}: {short}")
    seconds = pull + start + (scheduler.NODE_START_S if placement.added else 0.0)
    if seconds > patience:
        return Readiness(
            seconds=patience,
            reason=f"{kind} {thing.name}: not ready after {patience:.0f} s; it needs {seconds:.0f} s "
            f"(image {pull:.0f} s, start {start:.0f} s). To fix: a longer custom time-out",
        )
    return Readiness(seconds=seconds if placement.pods else 0.0)


def _skipped(thing: Thing) -> bool:
    annotations = paths.get(plain_properties(thing.inputs), ("metadata", "annotations"))
    return isinstance(annotations, dict) and text(annotations.get("pulumi.com/skipAwait")) == "true"


def image_times(pod: Properties) -> tuple[float, float]:
    """(seconds to pull, seconds to start) of the slowest container, by rows of images.csv."""
    containers = pod.get("containers")
    times = [(0.0, 0.0)]
    for one in containers if isinstance(containers, list) else []:
        image = text(one.get("image")) if isinstance(one, dict) else ""
        row = next(r for r in tables.rows("images") if fnmatchcase(image, r["image"]))
        times.append((float(row["pull_s"]), float(row["start_s"])))
    return max(times, key=sum)


def _probe_too_short(pod: Properties, start: float) -> str:
    """A start-up (else a liveness) probe that gives up before the server listens: the container restarts for ever."""
    containers = pod.get("containers")
    for one in containers if isinstance(containers, list) else []:
        given = one if isinstance(one, dict) else {}
        for name in ("startupProbe", "livenessProbe"):
            probe = given.get(name)
            if isinstance(probe, dict):
                period, failures = number(probe.get("periodSeconds")) or 10, number(probe.get("failureThreshold")) or 3
                budget = (number(probe.get("initialDelaySeconds")) or 0) + period * failures
                if budget < start:
                    what = f"{name} allows {budget:.0f} s and the server listens after {start:.0f} s"
                    return f"container {text(given.get('name'))}: {what}: it is restarted for ever (CrashLoopBackOff)"
                break
    return ""


def conflicts(world: World) -> tuple[str, ...]:
    """Two controllers on one number: an HPA (or ScaledObject) on cpu or memory beside a VPA of the same workload."""
    found = []
    for vpa in [t for t in world.things.values() if t.token.endswith(":VerticalPodAutoscaler")]:
        asked = plain_properties(vpa.inputs)
        if text(paths.get(asked, ("spec", "updatePolicy", "updateMode"))) == "Off":
            continue
        target = text(paths.get(asked, ("spec", "targetRef", "name")))
        controlled = _controlled(asked)
        for other in [
            t for t in world.things.values() if t.cluster == vpa.cluster and namespace_of(t) == namespace_of(vpa)
        ]:
            shared = controlled & _scaled_on(other, target)
            if shared:
                kind = other.token.rpartition(":")[2]
                what = (
                    f"{kind} {other.name} and VerticalPodAutoscaler {vpa.name} both act on {', '.join(sorted(shared))}"
                )
                found.append(f"{what} of {target}: each moves what the other measures")
    return tuple(found)


def _controlled(vpa: Properties) -> set[str]:
    policies = paths.get(vpa, ("spec", "resourcePolicy", "containerPolicies"))
    for one in policies if isinstance(policies, list) else []:
        resources = one.get("controlledResources") if isinstance(one, dict) else None
        if isinstance(resources, list):
            return {text(r) for r in resources}
    return {"cpu", "memory"}


def _scaled_on(thing: Thing, target: str) -> set[str]:
    asked = plain_properties(thing.inputs)
    if text(paths.get(asked, ("spec", "scaleTargetRef", "name"))) != target:
        return set()
    metrics = paths.get(asked, ("spec", "metrics")) or paths.get(asked, ("spec", "triggers"))
    names = set()
    for one in metrics if isinstance(metrics, list) else []:
        if isinstance(one, dict):
            names |= {text(paths.get(one, ("resource", "name"))), text(one.get("type"))}
    return names & {"cpu", "memory"}


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
