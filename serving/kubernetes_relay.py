"""Kubernetes objects of a relay: a Job that carries a command's connections from its loopback to the feature store.

For a store that answers inside the network alone. The command applies them, forwards a port to the pod over the control
plane, and takes them away again; what it forgets ends by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from serving.facts import facts
from serving.kubernetes import NAMESPACE, ROLE, labels
from serving.kubernetes_pod import Json, container_security, environment, mounts, pod_security, volumes
from serving.pod import Folder
from serving.sync import SCRIPTS

NAME = "feature-relay"
PORT = 6380
USER = 1000
READY = "/tmp/ready"
DNS = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
NODE_DNS = ("169.254.20.10/32", "169.254.169.254/32")  # the node's cache, Cloud DNS


def relay(*, stack: str, name: str, image: str, host: str, port: int, ranges: Sequence[str]) -> list[Json]:
    """The policy that lets it reach the store and names, and the Job itself. `ranges`: where the store's addresses
    are."""
    own = labels(stack, NAME)
    metadata: Json = {"name": name, "namespace": NAMESPACE, "labels": dict(own)}
    to_store: Json = {
        "ports": [{"protocol": "TCP", "port": port}],
        "to": [{"ipBlock": {"cidr": cidr}} for cidr in ranges],
    }
    to_names: Json = {
        "ports": [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")],
        "to": [*({"ipBlock": {"cidr": cidr}} for cidr in NODE_DNS), DNS],
    }
    policy: Json = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": dict(metadata),
        "spec": {
            "podSelector": {"matchLabels": dict(own)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [],
            "egress": [to_store, to_names],
        },
    }
    return [policy, _job(metadata, own, image, f"{host}:{port}")]


def _job(metadata: Json, own: dict[str, str], image: str, to: str) -> Json:
    numbers, folders = facts("relay"), {"/tmp": Folder(mib=facts("relay")["disk_mib"])}
    amounts = {
        "cpu": f"{numbers['cpu_milli']}m",
        "memory": f"{numbers['memory_mib']}Mi",
        "ephemeral-storage": f"{numbers['disk_mib']}Mi",
    }
    env: dict[str, object] = {
        "HOME": "/tmp",
        "SLIPWAY_RELAY_TO": to,
        "SLIPWAY_RELAY_PORT": str(PORT),
        "SLIPWAY_RELAY_READY": READY,
    }
    container: Json = {
        "name": NAME,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", (SCRIPTS / "relay.py").read_text()],
        "env": environment(env),
        "resources": {"requests": dict(amounts), "limits": amounts},
        "readinessProbe": {"exec": {"command": ["cat", READY]}, "periodSeconds": 1, "failureThreshold": 60},
        "securityContext": container_security(),
        "volumeMounts": mounts(folders),
    }
    pod: Json = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "securityContext": pod_security(USER),
        "nodeSelector": {ROLE: "system"},
        "tolerations": [{"operator": "Exists", "effect": "NoSchedule"}],
        "containers": [container],
        "volumes": volumes(folders),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": numbers["longest_s"],
            "ttlSecondsAfterFinished": numbers["kept_s"],
            "template": {"metadata": {"labels": dict(own)}, "spec": pod},
        },
    }
