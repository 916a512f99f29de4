"""Every object that a Kubernetes stack declares beside its charts, as plain manifests, over many plans; pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from infra.charts import scaling
from infra.charts.scaling import Most, Scaled
from infra.plan import Plan
from infra.plan.flows import SYSTEM
from infra.plan.modes import numbers
from stacks.cluster import roles
from stacks.policies import policies
from stacks.services import DEVICES, brings_devices, namespace_manifest
from tests.serving import manifests

Json = dict[str, Any]
PORTS = {
    ("servers", "http"): 8000,
    ("servers", "grpc"): 8001,
    ("servers", "metrics"): 8002,
    ("envoy", "http"): 8080,
    ("envoy", "grpc"): 8081,
    ("envoy", "metrics"): 9902,
    ("store", "store"): 6379,
}


def network_policies(plan: Plan) -> list[Json]:
    return list(policies(plan.spec.cloud, roles(plan), PORTS, ["10.1.2.3/32"]))


def scaled(plan: Plan) -> Iterator[Json]:
    for group in manifests.groups(plan):
        assert group.container.pod is not None
        node = group.container.pod.resources
        of = Scaled(name=f"server-{group.part}-0a1b2c3d", namespace="serving", pool=group.pool, labels={"a": "b"})
        if group.scaled:
            yield scaling.scaled_object(plan, of)
        if numbers(plan.spec).in_place_resize:
            most = Most(cpu_milli=node.cpu_milli, memory_mib=node.memory_mib)
            yield scaling.vertical_pod_autoscaler(plan, of, most)


def everything(plan: Plan) -> list[Json]:
    spaces = [namespace_manifest(SYSTEM), *([namespace_manifest(DEVICES)] if brings_devices(plan) else [])]
    return [*spaces, *manifests.everything(plan), *network_policies(plan), *scaled(plan)]
