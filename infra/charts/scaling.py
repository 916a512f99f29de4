"""Autoscaling objects: what is measured, at which value a replica more is due, and the bounds, all from the plan.

A replica within the SLO holds a known number of requests at the plan's peak: its rate times the mean latency there
(Little's law). The autoscaler keeps the measured number of requests inside all servers, divided by that target.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from infra.charts.values import SCRAPE_S, prometheus_url
from infra.plan import Plan, Pool

Json = dict[str, object]

POLLING_S = 2 * SCRAPE_S
# A series that no request has made yet is zero, as long as servers are being measured at all.
MEASURED = '(({}) or 0 * sum(up{{job="servers"}}))'
LEAST_WAITING = 1.0  # a queue of less than a request for each replica is no reason for another
STABLE_S = 300  # how long demand must be lower before replicas go
LEAST_CPU = "500m"
TOLERANCE = 3  # failed measurements in a row before the autoscaler takes the maximum


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Of one replica at the plan's peak: requests inside it, and of these the ones that wait."""

    in_flight: float
    waiting: float


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """A Deployment that the autoscaler moves, and what stands beside it."""

    name: str  # of the Deployment
    namespace: str
    pool: Pool
    labels: dict[str, str]

    @property
    def least(self) -> int:
        return self.pool.min_nodes * self.pool.replicas_per_node

    @property
    def most(self) -> int:
        return self.pool.max_nodes * self.pool.replicas_per_node


@dataclass(frozen=True, kw_only=True)
class Most:
    """What a node of the pool gives to one replica."""

    cpu_milli: int
    memory_mib: int


@cache
def _signals() -> tuple[dict[str, str], ...]:
    with Path(__file__).with_name("signals.csv").open(newline="") as file:
        return tuple(csv.DictReader(file))


def targets(plan: Plan, pool: Pool) -> Targets:
    """Little's law for one replica of a pool, loaded in proportion to what it carries at the peak."""
    used = min(1.0, plan.spec.load.peak_rps / plan.max_rps_within_slo)
    rate = used * pool.node_rps / pool.replicas_per_node
    latency = plan.latency_ms.mean / 1000
    return Targets(
        in_flight=rate * latency, waiting=max(LEAST_WAITING, rate * max(0.0, latency - _service_s(plan, pool)))
    )


def _service_s(plan: Plan, pool: Pool) -> float:
    """The shortest time that a request can take: a batch of one of the model that is quickest here."""
    kind = pool.accelerator if pool.accelerator != "none" else "vcpu"
    profiles = [m.profile[kind] for m in plan.models if kind in m.profile]
    return min((p.base_ms + p.per_item_ms for p in profiles), default=0.0) / 1000


def scaled_object(plan: Plan, of: Scaled) -> Json:
    """KEDA's object. Equal bounds pin the count, in the same object."""
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": of.name, "namespace": of.namespace, "labels": of.labels},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": of.name},
            "minReplicaCount": of.least,
            "maxReplicaCount": of.most,
            "pollingInterval": POLLING_S,
            "cooldownPeriod": STABLE_S,
            "fallback": {"failureThreshold": TOLERANCE, "replicas": of.most},
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior(of)}},
            "triggers": list(_triggers(plan, of.pool)),
        },
    }


def _behavior(of: Scaled) -> Json:
    return {
        # A machine takes minutes to come: all that the measurement asks for is ordered at once.
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "policies": [{"type": "Pods", "value": of.most, "periodSeconds": 15}],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": STABLE_S,
            "policies": [{"type": "Percent", "value": 25, "periodSeconds": 60}],
        },
    }


def _triggers(plan: Plan, pool: Pool) -> Iterator[Json]:
    """One for each signal of the server; the autoscaler follows the one that asks for most."""
    models = "|".join(sorted({m.name for m in plan.models}))
    for row in _signals():
        if row["server"] != plan.spec.server:
            continue
        target = getattr(targets(plan, pool), row["target"])
        yield {
            "type": "prometheus",
            "name": row["signal"],
            "metricType": "AverageValue",
            "metadata": {
                "serverAddress": prometheus_url(),
                "query": _for_pool(plan, pool, MEASURED.format(row["query"].format(models=models)), row["target"]),
                "threshold": f"{target:.4g}",
                "ignoreNullValues": "false",  # nothing measured is a failure, and not a load of zero
            },
        }


def _for_pool(plan: Plan, pool: Pool, query: str, target: str) -> str:
    """What is left of the total for this pool: the fixed replicas carry theirs first, elastic pools share the rest."""
    fixed = [p for p in plan.pools if p.min_nodes == p.max_nodes and p is not pool]
    elastic = [p for p in plan.pools if p not in fixed]
    carried = sum(getattr(targets(plan, p), target) * p.max_nodes * p.replicas_per_node for p in fixed)
    whole = sum(p.node_rps * p.max_nodes for p in elastic)
    part = pool.node_rps * pool.max_nodes / whole
    rest = query if carried == 0 else f"clamp_min({query} - {carried:.4g}, 0)"
    return rest if len(elastic) == 1 else f"({rest}) * {part:.4g}"


def vertical_pod_autoscaler(plan: Plan, of: Scaled, most: Most) -> Json:
    """Resizes pods in place, within what a node of the pool can give them; it never looks at requests or queues."""
    least_memory = min(most.memory_mib, int(sum(m.instance_memory_mib for m in plan.models)))
    return {
        "apiVersion": "autoscaling.k8s.io/v1",
        "kind": "VerticalPodAutoscaler",
        "metadata": {"name": of.name, "namespace": of.namespace, "labels": of.labels},
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": of.name},
            "updatePolicy": {"updateMode": "InPlaceOrRecreate", "minReplicas": 2},
            "resourcePolicy": {
                "containerPolicies": [
                    {
                        "containerName": "*",
                        "controlledResources": ["cpu", "memory"],
                        "controlledValues": "RequestsAndLimits",
                        "minAllowed": {"cpu": LEAST_CPU, "memory": f"{least_memory}Mi"},
                        "maxAllowed": {"cpu": f"{most.cpu_milli}m", "memory": f"{most.memory_mib}Mi"},
                    }
                ]
            },
        },
    }
