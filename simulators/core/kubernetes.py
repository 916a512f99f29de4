"""What a Kubernetes API server and its controllers do beyond storing objects: kinds that charts bring, finalizers."""

from __future__ import annotations

from dataclasses import dataclass

from simulators.core import charts, drains, lifecycle, paths, pods, rollout, scheduler, tables
from simulators.core.checks import text
from simulators.core.drains import Loss
from simulators.core.effects import CLUSTERS
from simulators.core.lifecycle import CloudError
from simulators.core.references import means
from simulators.core.rollout import Change
from simulators.core.scheduler import namespace_of
from simulators.core.values import Properties, plain_properties
from simulators.core.world import Thing, World

COUNTS = ("nodeCount", "initialNodeCount", "scalingConfig.desiredSize")  # how many nodes a program asks for


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """How long until a workload runs, or why it does not."""

    seconds: float = 0.0
    reason: str = ""


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


def readiness(world: World, cluster: Thing, before: Thing | None, thing: Thing, timeout: float) -> Readiness:
    """Pods are placed, pull their image, start, and pass their start-up probe, all before the patience is over."""
    kind = scheduler.kind(thing)
    patience = timeout or lifecycle.limit("kubernetes", "default_timeout_s")
    if charts.of(thing):
        return _release(world, cluster, thing, patience)
    if kind not in scheduler.CONTROLLERS:
        return Readiness()
    known = before is not None and "pods" in before.state
    outcome = (
        rollout.update(world, cluster, before, thing) if known and before else rollout.create(world, cluster, thing)
    )
    rollout.record(world, thing, outcome.changes)
    if _skipped(thing):
        if outcome.reason:
            world.notices.append(f"{kind} {thing.name}: {outcome.reason}")
        return Readiness()
    if outcome.reason:
        return Readiness(seconds=patience, reason=f"{kind} {thing.name}: {outcome.reason}")
    if outcome.seconds > patience:
        begin = pods.starting(thing, scheduler.pod_of(thing))
        needs = f"it needs {outcome.seconds:.0f} s (image {begin.pull_s:.0f} s, start {begin.start_s:.0f} s)"
        reason = f"{kind} {thing.name}: not ready after {patience:.0f} s; {needs}. To fix: a longer custom time-out"
        return Readiness(seconds=patience, reason=reason)
    return Readiness(seconds=outcome.seconds)


def _release(world: World, cluster: Thing, thing: Thing, patience: float) -> Readiness:
    """Helm waits for the pods of its chart; they need room as any others."""
    if told := charts.notice(thing):
        world.notices.append(told)
    board, reasons, slowest = scheduler.board(world, cluster), [], 0.0
    for work in charts.workloads(thing):
        kept = board.found.get(f"{thing.key}#pods:{work.name}", [])
        placed, why = list(kept), ""
        if work.kind == "DaemonSet":
            placed = [n.name for n in board.nodes.values() if n.name in kept or not board.why_not(n, thing, work.pod)]
        while work.kind != "DaemonSet" and len(placed) < work.replicas and not why:
            node, added, why = board.place(thing, work.pod)
            placed += [node] if node else []
            slowest = max(slowest, scheduler.NODE_START_S if added else 0.0)
        if why:
            reasons.append(f"{work.kind} {work.name}: {len(placed)} of {work.replicas} pods run: {why}")
        thing.state[f"pods:{work.name}"] = list(placed)
    scheduler.keep_nodes(world, board.pools)
    if reasons and plain_properties(thing.inputs).get("skipAwait") is not True:
        return Readiness(seconds=patience, reason=f"release {thing.name}: {'; '.join(reasons)}")
    return Readiness(seconds=slowest)


def gone(world: World, thing: Thing) -> float:
    """A deleted workload's pods stop being endpoints at once and leave as they wish; the delete waits for them."""
    if scheduler.kind(thing) not in scheduler.CONTROLLERS or not (ready := rollout.ready_of(thing)):
        return 0.0
    stop = pods.stopping(scheduler.pod_of(thing))
    rollout.record(world, thing, [Change(at_s=0.0, ready=-ready, stop=stop, why="deleted")])
    return stop.gone_s


def pool_changed(world: World, before: Thing, after: Thing | None) -> float:
    """A pool that went, or whose nodes are made anew, lets its pods move; returns how long the drain takes."""
    cluster = cluster_of_pool(world, before)
    if cluster is None:
        return 0.0
    if after is None:
        return drains.after_loss(world, cluster, Loss(asked=True, why=f"pool {before.name} was deleted"))
    if any(_differs(before, after, path) for path in COUNTS):
        after.state.pop("nodes", None)  # the program said another number than before: it is that one now
    if not drains.rebuilt(before, after):
        return 0.0
    mine = {}
    for thing in scheduler.workloads(world, cluster):
        placed = thing.state.get("pods")
        nodes_ = [str(n) for n in placed] if isinstance(placed, list) else []
        mine[thing.key] = [n for n in nodes_ if n.rpartition("-")[0] == before.name]
    why = f"pool {before.name} makes its nodes anew"
    return drains.after_loss(world, cluster, Loss(asked=True, why=why), mine)


def _differs(before: Thing, after: Thing, path: str) -> bool:
    at = paths.parse(path)
    return paths.get(plain_properties(before.inputs), at) != paths.get(plain_properties(after.inputs), at)


def cluster_of_pool(world: World, pool: Thing) -> Thing | None:
    outputs = plain_properties(pool.outputs)
    named = outputs.get("cluster") or outputs.get("clusterName")
    return next((t for t in world.things.values() if t.token in CLUSTERS and means(named, t, t.token)), None)


def _skipped(thing: Thing) -> bool:
    annotations = paths.get(plain_properties(thing.inputs), ("metadata", "annotations"))
    return isinstance(annotations, dict) and text(annotations.get("pulumi.com/skipAwait")) == "true"


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
    releases = [t for t in world.things.values() if t.token == charts.RELEASE and t.cluster == cluster.key]
    names = {text(plain_properties(r.inputs).get("chart")).rstrip("/").rpartition("/")[2] for r in releases}
    return any(w in names for w in wanted)


def _how(row: dict[str, str]) -> str:
    if row["cluster_field"] and not row["charts"]:
        return f"the cluster does not set {row['cluster_field']}"
    return f"the chart {row['charts'].replace('|', ' or ')} brings it and is not installed; depend on its Release"
