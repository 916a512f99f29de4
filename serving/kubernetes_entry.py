"""Kubernetes objects of the entry: Envoy on the system pool, which no mode ever replaces, behind fixed node ports."""

from __future__ import annotations

import math
from collections.abc import Mapping

from infra.plan import Plan
from serving.container import ContainerSpec
from serving.envoy import Entry, Names, arguments, bootstrap
from serving.envoy_routes import TF_SERVING, V2, Interface
from serving.facts import facts
from serving.images import stock
from serving.kubernetes import AWAIT, HOST, NAMESPACE, PRIORITY, ROLE, SERVERS, STACK, ZONE, labels
from serving.kubernetes_pod import (
    CONFIG_VOLUME,
    Json,
    Placement,
    config_map,
    config_volume,
    container_security,
    placed,
    pod_security,
)

ENVOY = "envoy"
USER = 101  # of the image
HTTP, GRPC, METRICS, ADMIN = 8080, 8081, 9902, 19000
NODE_PORTS: Mapping[str, int] = {"http": 30080, "grpc": 30081}
REPLICAS = 2
CONFIG_PATH = "/etc/slipway"
INTERFACES: Mapping[str, Interface] = {"triton": V2, "tf-serving": TF_SERVING}
# With its health failed, Envoy closes each connection behind the answer under way (HTTP/1) or says that it goes away
# (HTTP/2): clients move to the other replica without losing a request. The image has no curl.
DRAIN = (
    f"exec 3<>/dev/tcp/127.0.0.1/{ADMIN} && "
    r"printf 'POST /healthcheck/fail HTTP/1.1\r\nHost: drain\r\nContent-Length: 0\r\nConnection: close\r\n\r\n' >&3 && "
    "cat <&3; sleep {seconds}"
)


def drain_s(plan: Plan) -> int:
    """From the order to stop to SIGTERM: nothing new comes, and the longest request has been answered."""
    return facts("envoy")["seen_going_s"] + math.ceil(plan.spec.max_request_s) + 1


def configuration(plan: Plan, container: ContainerSpec, *, stack: str) -> str:
    """Envoy's configuration in front of the servers of a container."""
    ports = container.ports
    assert isinstance(ports.http, int)
    assert isinstance(ports.grpc, int)
    beside = container.pod.sidecars if container.pod else ()
    return bootstrap(
        Entry(
            address="0.0.0.0",
            http_port=HTTP,
            grpc_port=GRPC,
            admin_port=ADMIN,
            metrics_port=METRICS,
            max_request_s=plan.spec.max_request_s,
            node=stack,
            interface=INTERFACES[plan.spec.server],
            names=Names(
                host=f"{SERVERS}.{NAMESPACE}.svc.cluster.local.",
                ports={"http": ports.http, "grpc": ports.grpc, **{s.name: s.port for s in beside}},
                health_path=container.ready_path,
                by_id_health_path=next((s.readiness.path or "" for s in beside), ""),
            ),
        )
    )


def entry(plan: Plan, container: ContainerSpec, *, stack: str, system: Placement) -> list[Json]:
    """ConfigMap, account, Deployment, disruption budget and the Service with the node ports."""
    own = labels(stack, ENVOY)
    files = {"envoy.json": configuration(plan, container, stack=stack)}
    config = config_map(NAMESPACE, ENVOY, files, own)
    metadata = config["metadata"]
    assert isinstance(metadata, dict)
    selector = {STACK: stack, ROLE: ENVOY}
    here = {"name": ENVOY, "namespace": NAMESPACE, "labels": own}
    pod = _pod(plan, files, metadata["name"], selector, system)
    return [
        config,
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": here, "automountServiceAccountToken": False},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": here,
            "spec": {
                "replicas": REPLICAS,
                "revisionHistoryLimit": 2,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "selector": {"matchLabels": selector},
                "template": {"metadata": {"labels": own, "annotations": _annotations()}, "spec": pod},
            },
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": here,
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector}},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {**here, "annotations": AWAIT},
            "spec": {
                "type": "NodePort",
                # every node of the system pool answers, so that a replaced Envoy never closes the load balancer's way
                "externalTrafficPolicy": "Cluster",
                "selector": selector,
                "ports": [
                    {"name": n, "port": p, "targetPort": n, "nodePort": NODE_PORTS[n], "protocol": "TCP"}
                    for n, p in (("http", HTTP), ("grpc", GRPC))
                ],
            },
        },
    ]


def _annotations() -> Json:
    return {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(METRICS),
        "prometheus.io/path": "/stats/prometheus",
    }


def _pod(plan: Plan, files: Mapping[str, str], config: str, selector: Mapping[str, str], system: Placement) -> Json:
    spread = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": dict(selector)},
        }
        for key in (HOST, ZONE)
    ]
    return {
        "serviceAccountName": ENVOY,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "priorityClassName": PRIORITY,
        "terminationGracePeriodSeconds": drain_s(plan) + facts("pod")["stop_margin_s"],
        "securityContext": pod_security(USER),
        **placed([system]),
        "topologySpreadConstraints": spread,
        "containers": [_container(plan)],
        "volumes": [config_volume(config, files)],
    }


def _container(plan: Plan) -> Json:
    numbers = facts("envoy")
    workers = max(1, numbers["cpu_limit_milli"] // 1000)
    ready = {"httpGet": {"path": "/ready", "port": "metrics"}}
    memory = f"{numbers['memory_mib']}Mi"
    return {
        "name": ENVOY,
        "image": stock(plan, "envoy"),
        "imagePullPolicy": "IfNotPresent",
        "command": ["envoy"],
        "args": list(arguments(f"{CONFIG_PATH}/envoy.json", concurrency=workers)),
        "ports": [
            {"name": n, "containerPort": p, "protocol": "TCP"}
            for n, p in (("http", HTTP), ("grpc", GRPC), ("metrics", METRICS))
        ],
        "resources": {
            "requests": {"cpu": f"{numbers['cpu_milli']}m", "memory": memory},
            "limits": {"cpu": f"{numbers['cpu_limit_milli']}m", "memory": memory},
        },
        "startupProbe": {**ready, "periodSeconds": 1, "failureThreshold": 60},
        "readinessProbe": {**ready, "periodSeconds": 2, "failureThreshold": 2, "timeoutSeconds": 2},
        "livenessProbe": {
            "tcpSocket": {"port": "metrics"},  # a draining Envoy is not ready, and must not be restarted for that
            "periodSeconds": 10,
            "failureThreshold": 3,
            "timeoutSeconds": 2,
        },
        "lifecycle": {"preStop": {"exec": {"command": ["bash", "-c", DRAIN.format(seconds=drain_s(plan))]}}},
        "securityContext": container_security(),
        "volumeMounts": [{"name": CONFIG_VOLUME, "mountPath": CONFIG_PATH, "readOnly": True}],
    }
