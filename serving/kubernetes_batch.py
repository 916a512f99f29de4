"""Kubernetes objects of a batch: a Job or CronJob that runs files of inputs through the servers, on spot machines."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence

from infra.plan import Plan, Pool
from infra.spec import Batch
from serving.facts import facts
from serving.images import stock
from serving.kubernetes import AWAIT, BATCH_PRIORITY, NAMESPACE, labels
from serving.kubernetes_entry import ENVOY
from serving.kubernetes_entry import HTTP as ENVOY_PORT
from serving.kubernetes_pod import (
    CONFIG_VOLUME,
    Json,
    Placement,
    config_map,
    config_volume,
    container_security,
    environment,
    mounts,
    placed,
    pod_security,
    volumes,
)
from serving.pod import Folder
from serving.sync import CONFIG, SCRIPTS
from serving.triton_source import settings_of

NAME = ACCOUNT = "batch"
USER = 1000
PATHS = {"triton": "/v2/models/{model}/infer", "tf-serving": "/v1/models/{model}:predict"}
DISRUPTED = {"type": "DisruptionTarget", "status": "True"}
REQUESTS_A_SERVER = 2  # full batches for each instance: one is computed while the next is sent


def batch(plan: Plan, *, stack: str, placements: Sequence[Placement], annotations: Mapping[str, object]) -> list[Json]:
    """Account with its cloud identity, scripts, and the work itself; nothing where no batch is asked for."""
    wanted = plan.spec.batch
    if wanted is None:
        return []
    own = labels(stack, NAME)
    files = {name: (SCRIPTS / name).read_text() for name in ("batch.py", "objects.py")}
    config = config_map(NAMESPACE, NAME, files, own)
    metadata = config["metadata"]
    assert isinstance(metadata, dict)
    job = _job(plan, wanted, own, metadata["name"], files, placements)
    account: Json = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": ACCOUNT, "namespace": NAMESPACE, "labels": own, "annotations": dict(annotations)},
        "automountServiceAccountToken": False,
    }
    return [account, config, job if wanted.schedule is None else _scheduled(wanted.schedule, own, job)]


def settings(plan: Plan, wanted: Batch) -> Json:
    """What the script reads; as many requests at once as fill the servers' batches."""
    numbers, model = facts("batch"), wanted.model or plan.models[0].name
    servers = f"http://{ENVOY}.{NAMESPACE}.svc.cluster.local:{ENVOY_PORT}"
    return {
        "input": "SLIPWAY_INPUT",
        "output": "SLIPWAY_OUTPUT",
        "url": servers + PATHS[plan.spec.server].format(model=model),
        "shard_lines": numbers["shard_lines"],
        "workers": numbers["workers"],
        "requests": max(1, sum(_in_flight(plan, p, model) for p in plan.pools) // numbers["workers"]),
        "timeout_s": math.ceil(plan.spec.max_request_s) + 5,
        "tries": numbers["tries"],
    }


def _in_flight(plan: Plan, pool: Pool, model: str) -> int:
    """Requests that a pool's least number of servers can take: a batch behind must not crowd out those in front."""
    chosen = settings_of(plan, next(m for m in plan.models if m.name == model), pool)
    servers = pool.min_nodes * pool.replicas_per_node
    return servers * chosen.instances * chosen.max_batch * REQUESTS_A_SERVER


def _container(plan: Plan, wanted: Batch, folders: Mapping[str, Folder]) -> Json:
    numbers = facts("batch")
    env: dict[str, object] = {
        "HOME": "/tmp",
        "SLIPWAY_REGION": plan.spec.region,
        "SLIPWAY_INPUT": wanted.input_uri,
        "SLIPWAY_OUTPUT": wanted.output_uri,
        "SLIPWAY_BATCH": json.dumps(settings(plan, wanted)),
    }
    amounts = {
        "cpu": f"{numbers['cpu_milli']}m",
        "memory": f"{numbers['memory_mib']}Mi",
        "ephemeral-storage": f"{numbers['disk_mib']}Mi",
    }
    return {
        "name": NAME,
        "image": stock(plan, "python"),
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", f"{CONFIG}/batch.py"],
        "env": environment(env),
        "resources": {"requests": amounts, "limits": dict(amounts)},
        "securityContext": container_security(),
        "volumeMounts": [{"name": CONFIG_VOLUME, "mountPath": CONFIG, "readOnly": True}, *mounts(folders)],
    }


def _job(
    plan: Plan,
    wanted: Batch,
    own: Mapping[str, str],
    config: str,
    files: Mapping[str, str],
    placements: Sequence[Placement],
) -> Json:
    """A job cannot be changed: another batch is another name. Nobody waits for its end while the stack is made."""
    numbers, folders = facts("batch"), {"/tmp": Folder(mib=facts("batch")["disk_mib"])}
    pod: Json = {
        "serviceAccountName": ACCOUNT,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "priorityClassName": BATCH_PRIORITY,
        "terminationGracePeriodSeconds": facts("pod")["stop_margin_s"],
        "securityContext": pod_security(USER),
        **placed(placements),
        "containers": [_container(plan, wanted, folders)],
        "volumes": [config_volume(config, files), *volumes(folders)],
    }
    spec: Json = {
        "completionMode": "Indexed",
        "completions": numbers["workers"],
        "parallelism": numbers["workers"],
        "backoffLimitPerIndex": numbers["retries"],
        # a machine that was taken back is no fault of the work, and is not counted among its tries
        "podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [DISRUPTED]}]},
        "template": {"metadata": {"labels": dict(own)}, "spec": pod},
    }
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:8]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{NAME}-{digest}",
            "namespace": NAMESPACE,
            "labels": dict(own),
            "annotations": AWAIT,
        },
        "spec": spec,
    }


def _scheduled(schedule: str, own: Mapping[str, str], job: Json) -> Json:
    """A run that is still under way is not joined by the next: that one finds less to do."""
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": dict(own)},
        "spec": {
            "schedule": schedule,
            "concurrencyPolicy": "Forbid",
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {"metadata": {"labels": dict(own)}, "spec": job["spec"]},
        },
    }
