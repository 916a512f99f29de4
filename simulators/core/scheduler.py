"""Places the pods of a cluster's workloads on its nodes; what does not fit is told as the real scheduler tells it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from decimal import Decimal

from simulators.core import nodes, paths
from simulators.core.checks import number, text
from simulators.core.diff import quantity
from simulators.core.nodes import Node, Pool
from simulators.core.values import Json, Properties, plain_properties
from simulators.core.world import Thing, World

CONTROLLERS = {"Deployment": 1, "StatefulSet": 1, "ReplicaSet": 1, "Job": 1, "DaemonSet": 0, "Pod": 1}
NODE_START_S = 60.0  # a node more: the autoscaler's decision, and 35 s to ready in a published run (E-IMAGES)


@dataclass(frozen=True, kw_only=True)
class Placement:
    """`added`: nodes that the autoscaler had to make for it."""

    pods: int
    placed: int
    added: int
    reason: str


def place(world: World, cluster: Thing, wanted: Thing) -> Placement:
    """Every workload in the order in which it was made, so that earlier pods keep their nodes."""
    groups = nodes.pools(world, cluster)
    there = [pool.node(i) for pool in groups for i in range(pool.nodes)]
    answer = Placement(pods=0, placed=0, added=0, reason="")
    for thing in [t for t in world.things.values() if t.cluster == cluster.key]:
        if _kind(thing) in CONTROLLERS:
            result = _workload(thing, there, groups)
            if thing is wanted:
                return result
    return answer


def _kind(thing: Thing) -> str:
    return thing.token.rpartition(":")[2]


def pod_of(thing: Thing) -> Properties:
    inputs = plain_properties(thing.inputs)
    at = ("spec",) if _kind(thing) == "Pod" else ("spec", "template", "spec")
    spec = paths.get(inputs, at)
    return spec if isinstance(spec, dict) else {}


def _workload(thing: Thing, there: list[Node], groups: list[Pool]) -> Placement:
    pod, inputs = pod_of(thing), plain_properties(thing.inputs)
    if _kind(thing) == "DaemonSet":
        fits = [n for n in there if not _why_not(n, pod)]
        for node in fits:
            _take(node, pod)
        return Placement(pods=len(fits), placed=len(fits), added=0, reason="")
    field = "parallelism" if _kind(thing) == "Job" else "replicas"
    asked = number(paths.get(inputs, ("spec", field)))
    replicas = int(asked) if asked is not None else CONTROLLERS[_kind(thing)]
    placed = added = 0
    for _ in range(replicas):
        chosen = _best(there, pod)
        if chosen is None:
            chosen = _grown(there, groups, pod)
            if chosen is None:
                return Placement(pods=replicas, placed=placed, added=added, reason=_message(there, groups, pod))
            there.append(chosen)
            added += 1
        _take(chosen, pod)
        placed += 1
    return Placement(pods=replicas, placed=placed, added=added, reason="")


def _best(there: list[Node], pod: Properties) -> Node | None:
    """The node with most free CPU: the scheduler's default spreads."""
    fits = [n for n in there if not _why_not(n, pod)]
    return max(fits, key=lambda n: n.free["cpu"], default=None)


def _grown(there: list[Node], groups: list[Pool], pod: Properties) -> Node | None:
    """A node more, of the first pool that may grow and would take the pod."""
    for pool in groups:
        have = sum(1 for n in there if n.pool == pool.name)
        fresh = pool.node(have)
        if have < pool.most and not _why_not(fresh, pod):
            return fresh
    return None


def needs(pod: Properties) -> dict[str, Decimal]:
    total: dict[str, Decimal] = {"pods": Decimal(1)}
    containers = pod.get("containers")
    for one in containers if isinstance(containers, list) else []:
        resources = one.get("resources") if isinstance(one, dict) else None
        given = resources if isinstance(resources, dict) else {}
        limits, requests = given.get("limits"), given.get("requests")
        merged = {**(limits if isinstance(limits, dict) else {}), **(requests if isinstance(requests, dict) else {})}
        for name, value in merged.items():
            total[name] = total.get(name, Decimal(0)) + (quantity(value) or Decimal(0))
    return total


def _take(node: Node, pod: Properties) -> None:
    for name, amount in needs(pod).items():
        node.free[name] = node.free.get(name, Decimal(0)) - amount


def _why_not(node: Node, pod: Properties) -> str:
    """One reason, the first that the real scheduler would count; nothing: it fits."""
    for key, value, effect in node.taints:
        if effect in ("NoSchedule", "NoExecute") and not _tolerated(pod, key, value, effect):
            return f"node(s) had untolerated taint {{{key}: {value}}}"
    if not _selected(node, pod):
        return "node(s) didn't match Pod's node affinity/selector"
    for name, amount in needs(pod).items():
        if amount > node.free.get(name, Decimal(0)):
            return "Too many pods" if name == "pods" else f"Insufficient {name}"
    return ""


def _tolerated(pod: Properties, key: str, value: str, effect: str) -> bool:
    """GKE adds the toleration of nvidia.com/gpu to a pod that asks for one (ExtendedResourceToleration)."""
    if key in needs(pod):
        return True
    tolerations = pod.get("tolerations")
    for one in tolerations if isinstance(tolerations, list) else []:
        if not isinstance(one, dict):
            continue
        exists = text(one.get("operator")) == "Exists"
        same_key = text(one.get("key")) in (key, "") if exists else text(one.get("key")) == key
        if same_key and text(one.get("effect")) in ("", effect) and (exists or text(one.get("value")) == value):
            return True
    return False


def _selected(node: Node, pod: Properties) -> bool:
    selector = pod.get("nodeSelector")
    if isinstance(selector, dict) and any(node.labels.get(k) != text(v) for k, v in selector.items()):
        return False
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    terms = paths.get(pod, ("affinity", "nodeAffinity", required, "nodeSelectorTerms"))
    if not isinstance(terms, list) or not terms:
        return True
    return any(_term(node, t.get("matchExpressions")) for t in terms if isinstance(t, dict))


def _term(node: Node, expressions: Json) -> bool:
    for one in expressions if isinstance(expressions, list) else []:
        if not isinstance(one, dict):
            continue
        key, values = text(one.get("key")), one.get("values")
        has, among = key in node.labels, node.labels.get(key) in (values if isinstance(values, list) else [])
        holds = {"In": among, "NotIn": not among, "Exists": has, "DoesNotExist": not has}
        if not holds.get(text(one.get("operator")), False):
            return False
    return True


def _message(there: list[Node], groups: list[Pool], pod: Properties) -> str:
    reasons = Counter(_why_not(n, pod) for n in there)
    told = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    text_ = f"0/{len(there)} nodes are available" + (f": {told}." if told else ".")
    full = [p for p in groups if p.most > p.nodes or p.most == sum(1 for n in there if n.pool == p.name)]
    would = [p for p in full if not _why_not(p.node(0), pod)]
    if would:
        at = ", ".join(f"{p.name} has {p.most} of {p.most}" for p in would)
        return f"{text_} pod didn't trigger scale-up: {len(would)} max node group size reached ({at})"
    return f"{text_} pod didn't trigger scale-up: no pool would take it"
