"""What runs on the system pool beside the entry: the autoscaler, what it measures by, and each cloud's own needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi

from infra.charts import Chart, chart, charts, values
from infra.charts.values import Where
from infra.clouds.site import Grant, KubernetesSite, Placement
from infra.plan import Plan
from infra.plan.flows import SERVING, SYSTEM
from stacks.objects import Objects

DEVICES = "slipway-devices"  # the device plugin mounts the kubelet's folder: no restricted pod may
LEVELS = {SYSTEM: "restricted", SERVING: "restricted", DEVICES: "privileged"}
AUTOSCALER = "cluster-autoscaler"  # its service account, too


@dataclass(frozen=True, kw_only=True)
class Services:
    """What others wait for."""

    keda: pulumi.Resource  # brings the kind ScaledObject and ends its finalizers: gone after every object of it
    vpa: Sequence[pulumi.Resource]  # where a chart brings the kind


def where(placement: Placement) -> Where:
    tolerations = [toleration(t.key, t.value, t.effect) for t in placement.tolerations]
    return Where(node_selector=placement.node_selector, tolerations=tolerations)


def toleration(key: str, value: str | None, effect: str) -> dict[str, str]:
    how = {"operator": "Exists"} if value is None else {"operator": "Equal", "value": value}
    return {"key": key, **how, "effect": effect}


def namespace_manifest(name: str) -> dict[str, object]:
    """A namespace whose pods are admitted at its level, and warned about and noted at the strictest."""
    prefix = "pod-security.kubernetes.io"
    labels = {f"{prefix}/enforce": LEVELS[name], f"{prefix}/warn": "restricted", f"{prefix}/audit": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def namespace(objects: Objects, name: str, after: Sequence[pulumi.Resource]) -> pulumi.Resource:
    return objects.declare(namespace_manifest(name), after=after)


def services(objects: Objects, site: KubernetesSite, plan: Plan, system: Sequence[pulumi.Resource]) -> Services:
    """The charts of this cloud; `system` is what their pods wait for."""
    place = where(site.system)
    jobs = {
        "servers": values.job(SERVING, "server", *METRICS[plan.spec.server]),
        "envoy": values.job(SERVING, "envoy", "metrics", "/stats/prometheus"),
    }
    objects.release(chart("prometheus"), values.prometheus(place, jobs), namespace=SYSTEM, after=system)
    keda = objects.release(chart("keda"), values.keda(place), namespace=SYSTEM, after=system)
    mine = {c.name for c in charts() if c.cloud == plan.spec.cloud}
    vpa = []
    if "vpa" in mine:
        vpa.append(objects.release(chart("vpa"), values.vpa(place), namespace=SYSTEM, after=system))
    if AUTOSCALER in mine:
        grant = Grant(kind="scale_node_groups", target=site.cluster)
        identity = site.identity(SYSTEM, AUTOSCALER, [grant])
        given = values.cluster_autoscaler(
            place,
            cluster=site.cluster,
            version=site.cluster_version,
            region=plan.spec.region,
            annotations=dict(identity.annotations),
        )
        objects.release(chart(AUTOSCALER), given, namespace=SYSTEM, after=[*system, *identity.after])
    return Services(keda=keda, vpa=vpa)


# Name and path of the port with the measurements: TensorFlow Serving gives them at the port of its predictions.
METRICS = {"triton": ("metrics", "/metrics"), "tf-serving": ("http", "/monitoring/prometheus/metrics")}


def _plugin(plan: Plan) -> Chart | None:
    """Where the machines' image has a driver and no plugin."""
    return next((c for c in charts() if c.name == "device-plugin" and c.cloud == plan.spec.cloud), None)


def brings_devices(plan: Plan) -> bool:
    """Whether the stack installs a device plugin: by its accelerator, so that no switch adds or removes it."""
    return plan.spec.accelerator.name != "none" and _plugin(plan) is not None


def device_plugin(
    objects: Objects,
    plan: Plan,
    generation: str,
    placements: Sequence[Placement],
    after: Sequence[pulumi.Resource],
) -> Sequence[pulumi.Resource]:
    """One release a generation, as each shares GPUs its own way."""
    row = _plugin(plan)
    if row is None or not any(p.device == "nvidia.com/gpu" for p in placements):
        return []
    release = f"{row.name}-{generation}"
    given = values.device_plugin(
        [where(p) for p in placements],
        name=release,
        sharing=plan.serving.gpu_sharing,
        clients=plan.serving.gpu_clients,
    )
    return [objects.release(row, given, namespace=DEVICES, after=after, name=release)]
