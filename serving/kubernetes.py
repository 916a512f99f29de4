"""Kubernetes objects of the serving: what stays for the life of a stack, and what belongs to one generation.

Plain data. A generation's Deployments stand behind one headless Service together with those of the generation before:
its records are the ready pods of both, which is what the entry asks for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from infra.plan import Plan, Pool
from infra.plan.flows import SERVING
from infra.plan.modes import numbers
from serving.container import ContainerSpec
from serving.kubernetes_pod import Json, Placement, config_map, template

NAMESPACE = SERVING
SERVERS = ACCOUNT = "model-server"  # the headless Service, the service account
SERVER = "server"  # the label app.kubernetes.io/name of its pods
AWAIT = {"pulumi.com/skipAwait": "true"}  # it stands before the pods that it selects
PRIORITY, BATCH_PRIORITY = "slipway-server", "slipway-batch"
ROLE, STACK, GENERATION, POOL = "slipway-role", "slipway-stack", "slipway-generation", "slipway-pool"
ZONE, HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}


@dataclass(frozen=True, kw_only=True)
class Group:
    """The servers of one pool: one Deployment of a generation."""

    part: str  # role of the pool: base, burst, serving; a second of a kind has its number behind it
    pool: Pool
    container: ContainerSpec
    placements: Sequence[Placement]  # the first is preferred; a burst also bears the on-demand pool

    @property
    def replicas(self) -> int:
        """At creation: what carries the peak."""
        return self.pool.start_nodes * self.pool.replicas_per_node

    @property
    def least(self) -> int:
        return self.pool.min_nodes * self.pool.replicas_per_node

    @property
    def most(self) -> int:
        return self.pool.max_nodes * self.pool.replicas_per_node

    @property
    def scaled(self) -> bool:
        """Whether an autoscaler owns the number of replicas; the base has a fixed one."""
        return self.pool.role != "base"


def parts(plan: Plan) -> list[str]:
    """A name for each pool of the plan, in its order."""
    seen: dict[str, int] = {}
    names = []
    for pool in plan.pools:
        seen[pool.role] = seen.get(pool.role, 0) + 1
        names.append(pool.role if seen[pool.role] == 1 else f"{pool.role}-{seen[pool.role]}")
    return names


def generation(plan: Plan, containers: Sequence[ContainerSpec], uploaded: str = "") -> str:
    """The plan's digest with what else would restart a server: all of its pod, where the mode lets it run, and uploaded
    files' digest. What is left out here would roll through the pods of a generation that serves."""
    modes = numbers(plan.spec)
    text = [plan.generation, uploaded, json.dumps(_spread(plan, {})), str(modes.spot_fallback)]
    for container in containers:
        assert container.pod is not None
        text += [*container.command, *container.args, json.dumps(asdict(container.pod), sort_keys=True, default=str)]
    return hashlib.sha256("\0".join(text).encode()).hexdigest()[:8]


def labels(stack: str, role: str, **more: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": role,
        "app.kubernetes.io/part-of": "slipway",
        STACK: stack,
        ROLE: role,
        **{f"slipway-{k}": v for k, v in more.items()},
    }


def name(part: str, generation: str) -> str:
    """Of a group's Deployment, ScaledObject and autoscaler."""
    return f"server-{part}-{generation}"


def stable(stack: str, container: ContainerSpec, *, annotations: Mapping[str, object]) -> list[Json]:
    """What outlives every generation: namespace, priorities, the servers' account with its cloud identity, Service."""
    server = labels(stack, SERVER)
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": {**labels(stack, "serving"), **RESTRICTED}},
        },
        _priority(stack, PRIORITY, 1000, "PreemptLowerPriority", "Model servers go before batches."),
        _priority(stack, BATCH_PRIORITY, 10, "Never", "Batches take what the servers leave."),
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {
                "name": ACCOUNT,
                "namespace": NAMESPACE,
                "labels": server,
                "annotations": dict(annotations),
            },
            "automountServiceAccountToken": False,
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": SERVERS, "namespace": NAMESPACE, "labels": server, "annotations": AWAIT},
            "spec": {
                "clusterIP": "None",
                "selector": {STACK: stack, ROLE: SERVER},
                "ports": [
                    {"name": "http", "port": container.ports.http, "targetPort": "http", "protocol": "TCP"},
                    {"name": "grpc", "port": container.ports.grpc, "targetPort": "grpc", "protocol": "TCP"},
                    *(
                        {"name": s.name, "port": s.port, "targetPort": s.name, "protocol": "TCP"}
                        for s in (container.pod.sidecars if container.pod else ())
                    ),
                ],
            },
        },
    ]


def generation_objects(plan: Plan, groups: Sequence[Group], *, stack: str, generation: str) -> list[Json]:
    """ConfigMaps, Deployments and the disruption budget of one generation; autoscalers are infra.charts.scaling's."""
    found: dict[str, Json] = {}
    deployments = []
    for group in groups:
        assert group.container.pod is not None
        own = labels(stack, SERVER, generation=generation, pool=group.part)
        common = labels(stack, SERVER, generation=generation)
        config = config_map(NAMESPACE, f"server-{generation}", group.container.pod.config, common)
        metadata = config["metadata"]
        assert isinstance(metadata, dict)
        found[metadata["name"]] = config
        deployments.append(_deployment(plan, group, own, generation, metadata["name"]))
    return [*found.values(), *deployments, _budget(stack, generation)]


def _deployment(plan: Plan, group: Group, own: Mapping[str, str], generation: str, config: str) -> Json:
    assert group.container.pod is not None
    selector = {k: own[k] for k in (STACK, ROLE, GENERATION, POOL)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name(group.part, generation), "namespace": NAMESPACE, "labels": dict(own)},
        "spec": {
            "replicas": group.replicas,
            "revisionHistoryLimit": 2,
            "progressDeadlineSeconds": group.container.pod.ready_within_s,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": selector},
            "template": template(
                group.container,
                group.placements,
                labels=own,
                account=ACCOUNT,
                config=config,
                spread=_spread(plan, selector),
                priority_class=PRIORITY,
            ),
        },
    }


def _spread(plan: Plan, selector: Mapping[str, str]) -> list[Json]:
    """Over zones, strictly where the mode counts on more than one; over machines where there is a choice."""
    strict = numbers(plan.spec).zones > 1
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "DoNotSchedule" if strict and key == ZONE else "ScheduleAnyway",
            "labelSelector": {"matchLabels": dict(selector)},
        }
        for key in (ZONE, HOST)
    ]


def _budget(stack: str, generation: str) -> Json:
    own = labels(stack, SERVER, generation=generation)
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": f"server-{generation}", "namespace": NAMESPACE, "labels": own},
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": {k: own[k] for k in (STACK, ROLE, GENERATION)}},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def _priority(stack: str, name: str, value: int, preemption: str, why: str) -> Json:
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name, "labels": labels(stack, "priority")},
        "value": value,
        "preemptionPolicy": preemption,
        "globalDefault": False,
        "description": why,
    }
