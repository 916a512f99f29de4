"""The values that each chart gets: where its pods run, what they may use, and that they fit `restricted` namespaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.plan.flows import SERVING, SYSTEM

Json = dict[str, object]

# What the pod security level `restricted` asks for, and a root file system that nobody writes to.
POD: Json = {"runAsNonRoot": True, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"}}
CONTAINER: Json = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
# Jobs that the chart of Prometheus has by default: they scrape the whole cluster, which nothing here asks about.
PROMETHEUS_JOBS = (
    "prometheus",
    "kubernetes-api-servers",
    "kubernetes-nodes",
    "kubernetes-nodes-cadvisor",
    "kubernetes-service-endpoints",
    "kubernetes-service-endpoints-slow",
    "prometheus-pushgateway",
    "kubernetes-services",
    "kubernetes-pods",
    "kubernetes-pods-slow",
)
SHARED = """version: v1
sharing:
  timeSlicing:
    failRequestsGreaterThanOne: true
    resources:
      - name: nvidia.com/gpu
        replicas: {clients}
"""
SCRAPE_S = 10  # half of the autoscaler's polling interval and less
RETENTION = "6h"  # the autoscaler looks a minute back, a person at an incident some hours; nothing is kept on a disk


@dataclass(frozen=True, kw_only=True)
class Where:
    """Nodes of a chart's pods, as pod specifications write it."""

    node_selector: Mapping[str, str]
    tolerations: Sequence[Mapping[str, str]] = ()

    def values(self) -> Json:
        return {"nodeSelector": dict(self.node_selector), "tolerations": [dict(t) for t in self.tolerations]}


def _resources(cpu: str, memory: str, most_cpu: str | None = None) -> Json:
    """Memory is bounded by what is asked for; CPU may go beyond it."""
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": most_cpu or cpu, "memory": memory}}


def keda(where: Where) -> Json:
    """The operator, the metrics server and the admission of scaled objects; the chart's pods fit `restricted`."""
    small = _resources("100m", "256Mi", "1")
    return {
        **where.values(),
        "resources": {"operator": small, "metricServer": small, "webhooks": small},
        "podSecurityContext": {part: POD | {"runAsUser": 1000} for part in ("operator", "metricServer", "webhooks")},
        "watchNamespace": SERVING,
        "permissions": {"operator": {"restrict": {"secret": True}}, "metricServer": {"restrict": {"secret": True}}},
        "image": {"pullPolicy": "IfNotPresent"},
    }


def prometheus(where: Where, jobs: Mapping[str, Json]) -> Json:
    """The server alone, in memory and on the node's disk: it is the autoscaler's eye, not an archive."""
    off: Json = {"enabled": False}
    return {
        "alertmanager": off,
        "kube-state-metrics": off,
        "prometheus-node-exporter": off,
        "prometheus-pushgateway": off,
        "configmapReload": {"prometheus": off},  # the configuration changes with the release alone
        "scrapeConfigs": {**dict.fromkeys(PROMETHEUS_JOBS, off), **jobs},
        "server": {
            **where.values(),
            "persistentVolume": off,
            "emptyDir": {"sizeLimit": "4Gi"},
            "retention": RETENTION,
            "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"},
            "extraFlags": [],  # no interface that reloads or stops it
            "resources": _resources("200m", "1Gi", "1"),
            "securityContext": POD | {"runAsGroup": 65534, "fsGroup": 65534},
            "containerSecurityContext": CONTAINER,
            "service": {"servicePort": 9090},
            "terminationGracePeriodSeconds": 30,
        },
    }


def job(namespace: str, app: str, port: str, path: str = "/metrics") -> Json:
    """Scrapes each ready pod of an application at its port of that name."""
    source = "__meta_kubernetes_pod"
    name = "label_app_kubernetes_io_name"
    return {
        "metrics_path": path,
        "kubernetes_sd_configs": [{"role": "pod", "namespaces": {"names": [namespace]}}],
        "relabel_configs": [
            {"source_labels": [f"{source}_{name}"], "action": "keep", "regex": app},
            {"source_labels": [f"{source}_container_port_name"], "action": "keep", "regex": port},
            {"source_labels": [f"{source}_name"], "target_label": "pod"},
            {"source_labels": [f"{source}_label_slipway_generation"], "target_label": "generation"},
        ],
    }


def prometheus_url() -> str:
    """Where KEDA asks: the Service that the chart makes of a release named `prometheus`."""
    return f"http://prometheus-server.{SYSTEM}.svc:9090"


def vpa(where: Where) -> Json:
    """Recommender, updater and admission of pods, one of each: while one restarts, pods keep the size they have."""
    part: Json = {
        **where.values(),
        "replicas": 1,
        "podDisruptionBudget": {"enabled": False},  # of one replica: it would keep a node from ever being drained
        "resources": _resources("50m", "200Mi", "500m"),
    }
    place = where.values()
    return {
        "podSecurityContext": POD,
        "containerSecurityContext": CONTAINER,
        "recommender": part,
        "updater": part | {"extraArgs": ["--in-place-skip-disruption-budget=true"]},
        "admissionController": part | {"certGen": place | {"resources": _resources("50m", "64Mi")}},
    }


def cluster_autoscaler(
    where: Where, *, cluster: object, version: str, region: str, annotations: Mapping[str, object]
) -> Json:
    """Groups are found by their tags. Of those that would do, spot first, then on-demand. Its release is the cluster's:
    it simulates that version's scheduler."""
    return {
        **where.values(),
        "cloudProvider": "aws",
        "image": {"tag": f"v{version}.0"},
        "awsRegion": region,
        "autoDiscovery": {"clusterName": cluster},
        "rbac": {"serviceAccount": {"name": "cluster-autoscaler", "annotations": dict(annotations)}},
        "expanderPriorities": {"20": [".*burst.*"], "10": [".*"]},
        "extraArgs": {
            "expander": "priority,least-waste",
            "balance-similar-node-groups": True,
            "skip-nodes-with-system-pods": False,
            "scale-down-unneeded-time": "10m",
            "v": 2,
        },
        "resources": _resources("100m", "600Mi", "500m"),
        "securityContext": POD,
        "containerSecurityContext": CONTAINER,
    }


def device_plugin(pools: Sequence[Where], *, name: str, sharing: str, clients: int) -> Json:
    """The plugin on the machines of one generation, which shares each GPU as the plan says.

    Helm merges maps and replaces lists: the chart's own terms, which wait for the labels of a discovery that is not
    installed, go only where others stand in their place.
    """
    shared: Json = {}
    if sharing == "time-slicing" and clients > 1:
        # A pod asks for one share: two shares of one GPU are no more than one.
        shared = {"config": {"default": "shared", "map": {"shared": SHARED.format(clients=clients)}}}
    terms = [
        {"matchExpressions": [{"key": k, "operator": "In", "values": [v]} for k, v in where.node_selector.items()]}
        for where in pools
    ]
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    tolerations = {tuple(sorted(t.items())): dict(t) for where in pools for t in where.tolerations}
    return {
        **shared,
        "fullnameOverride": name,
        "affinity": {"nodeAffinity": {required: {"nodeSelectorTerms": terms}}},
        "tolerations": list(tolerations.values()),
        "gfd": {"enabled": False},
        "resources": _resources("50m", "64Mi"),
    }
