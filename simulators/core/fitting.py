"""Whether a pod may run on a node: selector, affinity, taints, and what it asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from simulators.core import paths
from simulators.core.checks import number, text
from simulators.core.diff import quantity
from simulators.core.values import Json, Properties

_AFFINITY = ("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
_PREFERRED = ("affinity", "nodeAffinity", "preferredDuringSchedulingIgnoredDuringExecution")


def objects(value: Json) -> list[Properties]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def needs(pod: Properties) -> dict[str, Decimal]:
    """Requests of all containers (a limit stands for a missing request); an init container counts where it is more."""
    total: dict[str, Decimal] = {"pods": Decimal(1)}
    for one in objects(pod.get("containers")):
        for name, amount in _asked(one).items():
            total[name] = total.get(name, Decimal(0)) + amount
    for one in objects(pod.get("initContainers")):
        for name, amount in _asked(one).items():
            total[name] = max(total.get(name, Decimal(0)), amount)
    return total


def _asked(container: Properties) -> dict[str, Decimal]:
    given = container.get("resources")
    limits, requests = (given.get("limits"), given.get("requests")) if isinstance(given, dict) else (None, None)
    merged = {**(limits if isinstance(limits, dict) else {}), **(requests if isinstance(requests, dict) else {})}
    return {name: quantity(value) or Decimal(0) for name, value in merged.items()}


def untolerated(taints: Sequence[tuple[str, str, str]], pod: Properties) -> str:
    """The first taint that keeps the pod away, as the scheduler prints it."""
    for key, value, effect in taints:
        if effect in ("NoSchedule", "NoExecute") and not _tolerated(pod, key, value, effect):
            return f"{{{key}: {value}}}"
    return ""


def _tolerated(pod: Properties, key: str, value: str, effect: str) -> bool:
    """GKE adds the toleration of a device's taint to a pod that asks for it (ExtendedResourceToleration)."""
    if key in needs(pod):
        return True
    for one in objects(pod.get("tolerations")):
        exists = text(one.get("operator")) == "Exists"
        same_key = text(one.get("key")) in (key, "") if exists else text(one.get("key")) == key
        if same_key and text(one.get("effect")) in ("", effect) and (exists or text(one.get("value")) == value):
            return True
    return False


def selected(labels: Mapping[str, str], pod: Properties) -> bool:
    selector = pod.get("nodeSelector")
    if isinstance(selector, dict) and any(labels.get(k) != text(v) for k, v in selector.items()):
        return False
    terms = paths.get(pod, _AFFINITY)
    if not isinstance(terms, list) or not terms:
        return True
    return any(_term(labels, t.get("matchExpressions")) for t in objects(terms))


def preference(labels: Mapping[str, str], pod: Properties) -> int:
    """Sum of the weights of preferred terms that hold."""
    total = 0
    for one in objects(paths.get(pod, _PREFERRED)):
        if _term(labels, paths.get(one, ("preference", "matchExpressions"))):
            total += int(number(one.get("weight")) or 0)
    return total


def _term(labels: Mapping[str, str], expressions: Json) -> bool:
    for one in objects(expressions):
        key, values = text(one.get("key")), one.get("values")
        has, among = key in labels, labels.get(key) in (values if isinstance(values, list) else [])
        holds = {"In": among, "NotIn": not among, "Exists": has, "DoesNotExist": not has}
        if not holds.get(text(one.get("operator")), False):
            return False
    return True


def matches(selector: Json, labels: Mapping[str, str]) -> bool:
    """A label selector of the API; an empty one takes everything."""
    if not isinstance(selector, dict):
        return False
    exact = selector.get("matchLabels")
    if isinstance(exact, dict) and any(labels.get(k) != text(v) for k, v in exact.items()):
        return False
    return _term(labels, selector.get("matchExpressions"))
