"""Endpoints: which servers Envoy sends requests to. A change is make-before-break and loses no request."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from infra.clouds.local.eds import Target, assignment, endpoint_file, hosts, write_endpoints, written
from infra.clouds.local.kind import Checked, Fault, LocalError, UnreadyError, check_fields
from infra.clouds.local.root import Inputs, Root, read_json, write_json

HEALTHY_SECONDS = 60  # Envoy's health check runs every 0.5 s
SEEN_SECONDS = 10.0  # until Envoy has read a renamed file; measured: well under 1 s
SETTLE_SECONDS = 0.5  # after the removal, so that connections of the pool are closed before the server is stopped


class Endpoints:
    """slipway:local:Endpoints. New servers in, healthy; old ones draining until nothing is in flight; then out."""

    token = "slipway:local:Endpoints"
    required: Mapping[str, type] = {"name": str, "admin_port": int, "clusters": list, "targets": list}
    optional: Mapping[str, object] = {"drain_seconds": 35, "healthy_seconds": HEALTHY_SECONDS}
    replaces = frozenset({"name"})

    def check(self, root: Root, inputs: Inputs, olds: Inputs) -> Checked:
        checked = check_fields(self, inputs)
        faults = list(checked.faults)
        clusters, targets = checked.inputs.get("clusters"), checked.inputs.get("targets")
        if isinstance(clusters, list) and isinstance(targets, list):
            if not targets:
                faults.append(Fault(path="targets", reason="is empty: the entry would answer nothing."))
            for i, target in enumerate(targets):
                missing = [f for f in ("name", "http", *clusters) if not isinstance(target, dict) or f not in target]
                if missing:
                    faults.append(Fault(path=f"targets[{i}]", reason=f"lacks {', '.join(missing)}."))
        return Checked(inputs=checked.inputs, faults=faults)

    def outputs(self, root: Root, inputs: Inputs) -> Inputs:
        return dict(inputs)

    def drift(self, root: Root, inputs: Inputs) -> list[str]:
        return [
            f"envoy/{cluster}.json was changed or removed"
            for cluster in _clusters(inputs)
            if read_json(endpoint_file(root, cluster)) != assignment(cluster, _targets(inputs), set())
        ]

    def apply(self, root: Root, inputs: Inputs, olds: Inputs | None) -> Inputs:
        name, clusters, new = str(inputs["name"]), _clusters(inputs), _targets(inputs)
        admin, drain, healthy = (inputs[f] for f in ("admin_port", "drain_seconds", "healthy_seconds"))
        assert isinstance(admin, int)
        assert isinstance(drain, int | float)
        assert isinstance(healthy, int | float)
        before = written(root, clusters)
        wanted = {t["name"]: t for t in new}
        leaving = [t for t in before if t != wanted.get(t["name"])]
        self._write(root, clusters, new + leaving, set())
        problem = _wait(lambda: _unhealthy(admin, clusters, new), healthy)
        if problem:
            if leaving:
                self._write(root, clusters, before, set())
                raise LocalError(
                    f"the new servers do not become healthy in Envoy, the old ones go on serving: {problem}"
                )
            write_json(root.record("Endpoints", name), inputs)
            raise UnreadyError(self.outputs(root, inputs), [f"no server is healthy in Envoy: {problem}"])
        if leaving:
            self._write(root, clusters, new + leaving, {int(str(t["http"])) for t in leaving})
            _wait(lambda: _not_draining(admin, clusters, leaving), SEEN_SECONDS)
            _wait(lambda: _in_flight(admin, clusters, leaving), float(drain))
            self._write(root, clusters, new, set())
            _wait(lambda: _still_there(admin, clusters, leaving), SEEN_SECONDS)
            time.sleep(SETTLE_SECONDS)
        else:
            self._write(root, clusters, new, set())
        write_json(root.record("Endpoints", name), inputs)
        return self.outputs(root, inputs)

    def read(self, root: Root, name: str) -> tuple[Inputs, Inputs] | None:
        asked = root.records("Endpoints").get(name)
        if asked is None:
            return None
        if self.drift(root, asked):
            asked = {**asked, "targets": list(written(root, _clusters(asked)))}
        return asked, self.outputs(root, asked)

    def delete(self, root: Root, name: str, inputs: Inputs) -> None:
        asked = root.records("Endpoints").get(name) or inputs
        clusters, admin = _clusters(asked), asked["admin_port"]
        assert isinstance(admin, int)
        leaving = written(root, clusters)
        if (root.path / "envoy").is_dir():
            self._write(root, clusters, [], set())
            _wait(lambda: _still_there(admin, clusters, leaving), SEEN_SECONDS if leaving else 0)
        root.record("Endpoints", name).unlink(missing_ok=True)

    @staticmethod
    def _write(root: Root, clusters: list[str], targets: list[Target], draining: set[int]) -> None:
        for cluster in clusters:
            if read_json(endpoint_file(root, cluster)) != assignment(cluster, targets, draining):
                write_endpoints(root, cluster, targets, draining)


def _clusters(inputs: Inputs) -> list[str]:
    clusters = inputs["clusters"]
    assert isinstance(clusters, list)
    return clusters


def _targets(inputs: Inputs) -> list[Target]:
    targets = inputs["targets"]
    assert isinstance(targets, list)
    return targets


def _wait(problem: Callable[[], str], seconds: float) -> str:
    """The problem that is left when the time is over, '' as soon as there is none."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            left = problem()
        except OSError as e:
            left = f"Envoy does not answer: {e}"
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def _each(clusters: list[str], targets: list[Target]) -> list[tuple[str, int]]:
    return [(c, int(str(t[c]))) for c in clusters for t in targets]


def _unhealthy(admin: int, clusters: list[str], targets: list[Target]) -> str:
    known = hosts(admin)
    for key in _each(clusters, targets):
        flags = known.get(key, {}).get("health_flags", "unknown")
        if flags != "healthy":
            return f"{key[0]} on port {key[1]} is {flags}"
    return ""


def _not_draining(admin: int, clusters: list[str], targets: list[Target]) -> str:
    known = hosts(admin)
    for key in _each(clusters, targets):
        said = known.get(key, {"health_flags": "draining"})
        if "draining" not in said.get("health_flags", "") + said.get("eds_health_status", "").lower():
            return f"port {key[1]} is not yet draining: {said}"
    return ""


def _in_flight(admin: int, clusters: list[str], targets: list[Target]) -> str:
    known = hosts(admin)
    active = sum(int(known[key]["rq_active"]) for key in _each(clusters, targets) if key in known)
    return f"{active} requests are in flight" if active else ""


def _still_there(admin: int, clusters: list[str], targets: list[Target]) -> str:
    known = hosts(admin)
    left = [key[1] for key in _each(clusters, targets) if key in known]
    return f"Envoy still knows ports {left}" if left else ""
