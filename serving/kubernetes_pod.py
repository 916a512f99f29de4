"""A container specification as a pod's template: plain data, under the restricted pod security standard."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol

from serving.container import ContainerSpec
from serving.pod import Check, Folder, Init, Pod, Sidecar

Json = dict[str, object]
CONFIG_VOLUME = "config"


class Toleration(Protocol):
    """A taint that a pod bears; without a value, whatever it is."""

    @property
    def key(self) -> str: ...
    @property
    def value(self) -> str | None: ...
    @property
    def effect(self) -> str: ...


class Placement(Protocol):
    """Nodes where a pod may run, and the device that it asks for."""

    @property
    def node_selector(self) -> Mapping[str, str]: ...
    @property
    def tolerations(self) -> Sequence[Toleration]: ...
    @property
    def device(self) -> str | None: ...
    @property
    def devices(self) -> int: ...


def container_security() -> Json:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def pod_security(user: int) -> Json:
    """The group owns the volumes: what a cloud mounts for the pod's identity is readable to it."""
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def config_map(namespace: str, prefix: str, files: Mapping[str, str], labels: Mapping[str, str]) -> Json:
    """Files by relative path. Named by its content and immutable: a change is a new one beside the old."""
    lines = "".join(f"{path}\0{text}\0" for path, text in sorted(files.items()))
    digest = hashlib.sha256(lines.encode()).hexdigest()[:10]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{prefix}-{digest}", "namespace": namespace, "labels": dict(labels)},
        "immutable": True,
        "data": {_key(path): text for path, text in sorted(files.items())},
    }


def config_volume(name: str, files: Mapping[str, str]) -> Json:
    items = [{"key": _key(path), "path": path} for path in sorted(files)]
    return {"name": CONFIG_VOLUME, "configMap": {"name": name, "items": items}}


def environment(env: Mapping[str, object]) -> list[Json]:
    """Values pass untouched; a mapping says where the value comes from."""
    return [{"name": k, **v} if isinstance(v, Mapping) else {"name": k, "value": v} for k, v in env.items()]


def template(
    container: ContainerSpec,
    placements: Sequence[Placement],
    *,
    labels: Mapping[str, str],
    account: str,
    config: str,
    spread: Sequence[Json],
    priority_class: str,
) -> Json:
    """The pod template of a server; the first placement is preferred, the others are borne."""
    pod = _pod(container)
    spec: Json = {
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": pod.grace_s,
        "priorityClassName": priority_class,
        "securityContext": pod_security(pod.user),
        **placed(placements),
        "topologySpreadConstraints": list(spread),
        "containers": [_container(container, pod, placements), *(_sidecar(pod, s) for s in pod.sidecars)],
        "volumes": [config_volume(config, pod.config), *volumes(pod.folders)],
    }
    if pod.init is not None:
        spec["initContainers"] = [_init(pod, pod.init)]
    return {"metadata": {"labels": dict(labels), "annotations": _annotations(container)}, "spec": spec}


def placed(placements: Sequence[Placement]) -> Json:
    """Where the pod may go, and what it bears for that."""
    tolerations: list[Json] = []
    for toleration in (t for p in placements for t in p.tolerations):
        plain: Json = {"key": toleration.key, "effect": toleration.effect}
        plain |= (
            {"operator": "Exists"} if toleration.value is None else {"operator": "Equal", "value": toleration.value}
        )
        if plain not in tolerations:
            tolerations.append(plain)
    if len(placements) == 1:
        return {"nodeSelector": dict(placements[0].node_selector), "tolerations": tolerations}
    terms = [_term(p) for p in placements]
    node: Json = {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms},
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": terms[0]}],
    }
    return {"affinity": {"nodeAffinity": node}, "tolerations": tolerations}


def volumes(folders: Mapping[str, Folder]) -> list[Json]:
    return [
        {
            "name": _volume(path),
            "emptyDir": {"sizeLimit": f"{f.mib}Mi", **({"medium": "Memory"} if f.memory else {})},
        }
        for path, f in folders.items()
    ]


def mounts(folders: Mapping[str, Folder]) -> list[Json]:
    return [{"name": _volume(path), "mountPath": path} for path in folders]


def _pod(container: ContainerSpec) -> Pod:
    if container.pod is None:
        raise ValueError(f"{container.name} was not made for Kubernetes")
    return container.pod


def _key(path: str) -> str:
    """The key of a file in a ConfigMap, which has no folders."""
    return path.replace("/", "..")


def _volume(path: str) -> str:
    return path.strip("/").replace("/", "-").replace(".", "-")


def _term(placement: Placement) -> Json:
    return {
        "matchExpressions": [
            {"key": k, "operator": "In", "values": [v]} for k, v in sorted(placement.node_selector.items())
        ]
    }


def _annotations(container: ContainerSpec) -> Json:
    return {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(container.ports.metrics),
        "prometheus.io/path": container.metrics_path,
        # its writable folders hold nothing that another pod would miss: the autoscaler may empty the node
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "true",
    }


def _container(container: ContainerSpec, pod: Pod, placements: Sequence[Placement]) -> Json:
    amounts: Json = {
        "cpu": f"{pod.resources.cpu_milli}m",
        "memory": f"{pod.resources.memory_mib}Mi",
        "ephemeral-storage": f"{pod.resources.disk_mib}Mi",
    }
    limits = dict(amounts) if pod.resources.limited else {"ephemeral-storage": amounts["ephemeral-storage"]}
    device = next((p for p in placements if p.device), None)
    if device is not None and device.device is not None:
        amounts[device.device] = limits[device.device] = str(device.devices)
    ports = {"http": container.ports.http, "grpc": container.ports.grpc}
    if container.ports.metrics not in ports.values():
        ports["metrics"] = container.ports.metrics
    return {
        "name": container.name,
        "image": pod.image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(container.command),
        "args": list(container.args),
        "env": environment(pod.env),
        "ports": [{"name": name, "containerPort": number, "protocol": "TCP"} for name, number in ports.items()],
        "resources": {"requests": amounts, "limits": limits},
        "startupProbe": check(pod.startup),
        "readinessProbe": check(pod.readiness),
        "livenessProbe": check(pod.liveness),
        "lifecycle": {"preStop": {"sleep": {"seconds": pod.pre_stop_s}}},
        "securityContext": container_security(),
        "volumeMounts": _mounts(pod),
    }


def _sidecar(pod: Pod, sidecar: Sidecar) -> Json:
    amounts = {
        "cpu": f"{sidecar.resources.cpu_milli}m",
        "memory": f"{sidecar.resources.memory_mib}Mi",
    }
    return {
        "name": sidecar.name,
        "image": sidecar.image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(sidecar.command),
        "args": list(sidecar.args),
        "env": environment(sidecar.env),
        "ports": [{"name": sidecar.name, "containerPort": sidecar.port, "protocol": "TCP"}],
        "resources": {"requests": dict(amounts), "limits": dict(amounts)},
        "startupProbe": check(sidecar.startup),
        "readinessProbe": check(sidecar.readiness),
        "livenessProbe": check(sidecar.liveness),
        "lifecycle": {"preStop": {"sleep": {"seconds": pod.pre_stop_s}}},
        "securityContext": container_security(),
        "volumeMounts": mounts(pod.folders),
    }


def _init(pod: Pod, init: Init) -> Json:
    amounts = {
        "cpu": f"{pod.resources.cpu_milli}m",
        "memory": f"{min(pod.resources.memory_mib, 512)}Mi",
        "ephemeral-storage": f"{pod.resources.disk_mib}Mi",
    }
    return {
        "name": init.name,
        "image": init.image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(init.command),
        "args": list(init.args),
        "env": environment(init.env),
        "resources": {"requests": dict(amounts), "limits": dict(amounts)},
        "securityContext": container_security(),
        "volumeMounts": _mounts(pod),
    }


def _mounts(pod: Pod) -> list[Json]:
    config: Json = {"name": CONFIG_VOLUME, "mountPath": pod.config_path, "readOnly": True}
    return [config, *mounts(pod.folders)]


def check(wanted: Check) -> Json:
    how: Json = {"tcpSocket": {"port": wanted.port}}
    if wanted.command:
        how = {"exec": {"command": list(wanted.command)}}
    elif wanted.path is not None:
        how = {"httpGet": {"path": wanted.path, "port": wanted.port}}
    return {
        **how,
        "periodSeconds": wanted.period_s,
        "failureThreshold": wanted.failures,
        "timeoutSeconds": wanted.timeout_s,
    }
