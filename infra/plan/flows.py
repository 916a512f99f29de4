"""The allowed flows, read once: firewall rules, security groups and network policies are rendered from this table."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SYSTEM, SERVING = "slipway-system", "serving"  # namespaces
CLUSTER, MACHINES = ("network", "pods"), "machines"  # layers of the shape kubernetes, and that of the shape vm


@dataclass(frozen=True, kw_only=True)
class Flow:
    """One line of the table: who may speak to whom, on which port, and why."""

    source: str
    target: str
    port: str  # a number, or the name of a port of the target
    protocol: str  # tcp or udp
    layer: (
        str  # network: crosses a cluster's edge, for the cloud's filters; pods: network policies; machines: no cluster
    )
    cloud: str  # * or one cloud
    why: str


@dataclass(frozen=True, kw_only=True)
class Pods:
    """Where the pods of a role run, and how they are selected."""

    namespace: str
    labels: tuple[tuple[str, str], ...]


def _named(name: str, namespace: str = SYSTEM, **more: str) -> Pods:
    prefix = "app.kubernetes.io/"
    return Pods(namespace=namespace, labels=((f"{prefix}name", name), *((prefix + k, v) for k, v in more.items())))


# Roles that are pods; every other name in the table is outside the cluster. The names of charts' pods are the charts'.
PODS = {
    "envoy": _named("envoy", SERVING),
    "servers": _named("server", SERVING),
    "batch": _named("batch", SERVING),
    "prometheus": _named("prometheus", component="server"),
    "keda": _named("keda-operator"),
    "keda_metrics": _named("keda-operator-metrics-apiserver"),
    "keda_webhook": _named("keda-admission-webhooks"),
    "vpa": _named("vertical-pod-autoscaler"),
    "autoscaler": _named("aws-cluster-autoscaler"),
}


@cache
def _rows() -> tuple[Flow, ...]:
    with Path(__file__).with_name("flows.csv").open(newline="") as file:
        return tuple(Flow(**row) for row in csv.DictReader(file))


def flows(cloud: str, layer: str | None = None) -> tuple[Flow, ...]:
    """The rows of a cloud: of one layer, or of both that a cluster has."""
    asked = ("network", "pods") if layer is None else (layer,)
    return tuple(f for f in _rows() if f.cloud in ("*", cloud) and f.layer in asked)
