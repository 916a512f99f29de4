"""Places the pods of a cluster's workloads on its nodes; what does not fit is told as the real scheduler tells it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from simulators.core import charts, fitting, nodes, paths
from simulators.core.checks import number, text
from simulators.core.edits import put
from simulators.core.fitting import matches, needs, objects
from simulators.core.nodes import Node, Pool
from simulators.core.values import Properties, plain, plain_properties
from simulators.core.world import Thing, World

CONTROLLERS = {"Deployment": 1, "StatefulSet": 1, "ReplicaSet": 1, "Job": 1, "DaemonSet": 0, "Pod": 1}
NODE_START_S = 60.0  # a node more: the autoscaler's decision, and 35 s to ready in a published run (E-IMAGES)


@dataclass(kw_only=True)
class Board:
    """The nodes of a cluster with the pods on them; `found` are pods of each workload whose node is still there."""

    pools: list[Pool]
    nodes: dict[str, Node]
    found: dict[str, list[str]] = field(default_factory=dict)
    labelled: list[tuple[dict[str, str], str, str]] = field(default_factory=list)  # labels, namespace, node of pods

    def take(self, node: str, thing: Thing, pod: Properties) -> None:
        for name, amount in needs(pod).items():
            self.nodes[node].free[name] = self.nodes[node].free.get(name, Decimal(0)) - amount
        self.labelled.append((labels_of(thing), namespace_of(thing), node))

    def give_back(self, node: str, thing: Thing, pod: Properties) -> None:
        if node in self.nodes:
            for name, amount in needs(pod).items():
                self.nodes[node].free[name] = self.nodes[node].free.get(name, Decimal(0)) + amount
        entry = (labels_of(thing), namespace_of(thing), node)
        if entry in self.labelled:
            self.labelled.remove(entry)

    def place(self, thing: Thing, pod: Properties) -> tuple[str, bool, str]:
        """(node, whether the autoscaler made it, why not)."""
        fits = [n for n in self.nodes.values() if not self.why_not(n, thing, pod)]
        if fits:  # the scheduler's default: preferred terms first, then the node with most free CPU
            chosen = max(fits, key=lambda n: (fitting.preference(n.labels, pod), n.free["cpu"])).name
            self.take(chosen, thing, pod)
            return chosen, False, ""
        for pool in sorted(self.pools, key=lambda p: -fitting.preference(p.labels, pod)):
            fresh = pool.node(pool.nodes)
            if pool.nodes + pool.together <= pool.most + len(pool.lost) and not self.why_not(fresh, thing, pod):
                for index in range(pool.nodes, pool.nodes + pool.together):
                    made = pool.node(index)
                    self.nodes[made.name] = made
                pool.nodes += pool.together
                self.take(fresh.name, thing, pod)
                return fresh.name, True, ""
        return "", False, self._message(thing, pod)

    def why_not(self, node: Node, thing: Thing, pod: Properties) -> str:
        """One reason, the first that the real scheduler would count; nothing: it fits."""
        if taint := fitting.untolerated(node.taints, pod):
            return f"node(s) had untolerated taint {taint}"
        if not fitting.selected(node.labels, pod):
            return "node(s) didn't match Pod's node affinity/selector"
        for name, amount in needs(pod).items():
            if amount > node.free.get(name, Decimal(0)):
                return "Too many pods" if name == "pods" else f"Insufficient {name}"
        return self._spread(node, thing, pod)

    def _spread(self, node: Node, thing: Thing, pod: Properties) -> str:
        """Topology spread and anti-affinity, the required ones."""
        for one in objects(pod.get("topologySpreadConstraints")):
            if text(one.get("whenUnsatisfiable")) == "ScheduleAnyway":
                continue
            key = text(one.get("topologyKey"))
            usable = [n for n in self.nodes.values() if key in n.labels and fitting.selected(n.labels, pod)]
            counts = {n.labels[key]: 0 for n in usable}
            for labels, space, at in self.labelled:
                place = self.nodes[at].labels.get(key) if at in self.nodes else None
                if place in counts and space == namespace_of(thing) and matches(one.get("labelSelector"), labels):
                    counts[place] += 1
            mine = counts.get(node.labels.get(key, ""), 0)
            skew = int(number(one.get("maxSkew")) or 1)
            if key not in node.labels or mine + 1 - min(counts.values(), default=0) > skew:
                return "node(s) didn't match pod topology spread constraints"
        required = ("affinity", "podAntiAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
        for one in objects(paths.get(pod, required)):
            key = text(one.get("topologyKey"))
            for labels, space, at in self.labelled:
                same = at in self.nodes and self.nodes[at].labels.get(key) == node.labels.get(key)
                if same and space == namespace_of(thing) and matches(one.get("labelSelector"), labels):
                    return "node(s) didn't match pod anti-affinity rules"
        return ""

    def _message(self, thing: Thing, pod: Properties) -> str:
        reasons = Counter(self.why_not(n, thing, pod) for n in self.nodes.values())
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        said = f"0/{len(self.nodes)} nodes are available" + (f": {told}." if told else ".")
        full = [p for p in self.pools if p.most > 0 and p.nodes - len(p.lost) + p.together > p.most]
        would = [p for p in full if not self.why_not(p.node(p.nodes), thing, pod)]
        if would:
            at = ", ".join(f"{p.name} has {p.nodes - len(p.lost)} of {p.most}" for p in would)
            return f"{said} pod didn't trigger scale-up: {len(would)} max node group size reached ({at})"
        return f"{said} pod didn't trigger scale-up: no pool would take it"


def board(world: World, cluster: Thing) -> Board:
    """The cluster as it stands. Pods of charts come first: they were there before the program's own."""
    groups = nodes.pools(world, cluster)
    there = {n.name: n for pool in groups for i in range(pool.nodes) if i not in pool.lost for n in [pool.node(i)]}
    made = Board(pools=groups, nodes=there)
    for thing in workloads(world, cluster):
        for name, pod in pods_of(thing):
            placed = thing.state.get(name)
            kept = [str(n) for n in placed if str(n) in there] if isinstance(placed, list) else []
            made.found[f"{thing.key}#{name}"] = kept
            for node in kept:
                made.take(node, thing, pod)
    return made


def workloads(world: World, cluster: Thing) -> Iterator[Thing]:
    for thing in list(world.things.values()):
        if thing.cluster == cluster.key and (kind(thing) in CONTROLLERS or charts.of(thing)):
            yield thing


def pods_of(thing: Thing) -> list[tuple[str, Properties]]:
    """(name of the list in its state, pod spec): one for a workload, one a workload of a chart."""
    if kind(thing) in CONTROLLERS:
        return [("pods", pod_of(thing))]
    return [(f"pods:{w.name}", w.pod) for w in charts.workloads(thing)]


def kind(thing: Thing) -> str:
    return thing.token.rpartition(":")[2]


def pod_of(thing: Thing) -> Properties:
    inputs = plain_properties(thing.inputs)
    spec = paths.get(inputs, ("spec",) if kind(thing) == "Pod" else ("spec", "template", "spec"))
    if not isinstance(spec, dict):
        return {}
    resized = thing.state.get("vpa")
    containers = objects(spec.get("containers"))
    if isinstance(resized, dict) and containers:  # what a VPA made of the first container's requests
        put(containers[0], "resources.requests", {**_requests(containers[0]), **resized})
    return spec


def _requests(container: Properties) -> Properties:
    given = paths.get(container, ("resources", "requests"))
    return given if isinstance(given, dict) else {}


def labels_of(thing: Thing) -> dict[str, str]:
    """Labels of its pods."""
    inputs = plain_properties(thing.inputs)
    at = ("metadata", "labels") if kind(thing) == "Pod" else ("spec", "template", "metadata", "labels")
    labels = paths.get(inputs, at)
    return {k: text(v) for k, v in labels.items()} if isinstance(labels, dict) else {}


def namespace_of(thing: Thing) -> str:
    given = paths.get(thing.inputs, ("metadata", "namespace")) or thing.inputs.get("namespace")
    return text(plain(given)) or "default"  # asked for often: the rest of the object need not be looked at


def replicas_of(thing: Thing) -> int:
    what = "parallelism" if kind(thing) == "Job" else "replicas"
    asked = number(paths.get(plain_properties(thing.inputs), ("spec", what)))
    return int(asked) if asked is not None else CONTROLLERS.get(kind(thing), 1)


def keep_nodes(world: World, groups: list[Pool], seq: int | None = None) -> None:
    """Writes down what the cluster autoscaler made, and from which operation on (the one that runs, else `seq`)."""
    for pool in groups:
        thing = world.things.get(pool.key)
        if thing is None or pool.most == 0 or thing.state.get("nodes") == pool.nodes:
            continue
        thing.state["nodes"] = pool.nodes
        if thing.token == nodes.POOLS[1]:  # EKS: what the autoscaler asked the group for is what the API tells
            for properties in (thing.inputs, thing.outputs):
                put(properties, "scalingConfig.desiredSize", pool.nodes - len(pool.lost))
        world.note(thing, seq=seq)
