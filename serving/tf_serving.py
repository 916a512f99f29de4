"""TensorFlow Serving on Kubernetes: the stock image, its configuration from the plan, a drain without its help."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from infra.plan import Kind, ModelServing, Plan, Pool
from infra.spec import Model, SpecError
from infra.spec.problems import Problem, problem
from serving import pod_shape, sync, tf_by_id, tf_serving_config
from serving.container import ContainerSpec, FileContent, Ports
from serving.facts import facts, rows
from serving.images import server_image
from serving.pod import Folder, Init, Pod, Resources, Sidecar
from serving.tf_serving_config import Batching, Served
from serving.triton import Store
from serving.triton_source import settings_of
from serving.upload import Upload

KIND = Kind(
    name="tf-serving",
    unsupported={"local": "its server is published as an image alone; use triton, or rehearse a cloud stack"},
)
CONFIG, MODELS = "/slipway", "/models"
PORTS = Ports(http=8501, grpc=8500, metrics=8501)  # metrics come on the REST port
BEHIND = Ports(http=8503, grpc=8504, metrics=8503)  # where something stands before it on its machine
METRICS_PATH = "/monitoring/prometheus/metrics"
SAVED_MODEL = "saved_model.pb"
# The stock binary is built for AVX and dies of an illegal instruction without it. `exec`: no shell stands between the
# kubelet and the server.
START = (
    "grep -qw avx /proc/cpuinfo || { echo 'this machine has no AVX, which the stock TensorFlow Serving needs: "
    "set image to one of your own with tensorflow-model-server-universal' >&2; exit 1; }; "
    'exec tensorflow_model_server "$@"'
)


def uploads(plan: Plan, *, project: Path, wheels: Path | None = None) -> Upload | None:
    """Files of this machine that the stack puts into a bucket of its own: <model>/<version>/<file>.

    With `wheels`, a folder that keeps packages, the code that predicts by id is among them, with the store's client.
    """
    files = tf_by_id.code(plan, wheels) if wheels is not None and by_id(plan) else {}
    found: list[Problem] = []
    for model in plan.models:
        if "://" not in model.storage_uri:
            folder = saved_model(project, model)
            if folder is None:
                at = ("models", plan.spec.models.index(model), "storage_uri")
                found.append(problem(at, f"{model.storage_uri}: no {SAVED_MODEL} there, nor in {model.version}/ below"))
                continue
            for path in sorted(p for p in folder.rglob("*") if p.is_file()):
                key = f"{model.name}/{model.version}/{path.relative_to(folder).as_posix()}"
                files[key] = FileContent.of_file(path, project)
    if found:
        raise SpecError(found)
    return Upload(files=files) if files else None


def pod(
    plan: Plan,
    pool: Pool,
    *,
    project: Path,
    uploaded: object | None = None,
    env: Mapping[str, object] | None = None,
    store: Store | None = None,
) -> ContainerSpec:
    """The server of one pool; `uploaded` is the address of what `uploads` named, text or a resource's output. With a
    store, whose code is in `uploaded`, predictions by id are served by a second container."""
    synced = _synced(plan)
    init = _init(plan, uploaded, synced, code=store is not None)
    own = BEHIND if store is not None and plan.spec.shape == "vm" else PORTS
    beside, beside_config = _beside(plan, store, env or {}, own)
    startup_s, folders, margin_s = _startup_s(plan), _folders(plan, init), facts("pod")["stop_margin_s"]
    last = plan.models[-1].name
    ready, live = ready_path(last), f"/v1/models/{last}"
    # It has no handler for SIGTERM: what is under way ends while it still serves, and then it is killed.
    pre_stop = pod_shape.seen_going_s(plan) + plan.serving.exit_timeout_s
    return ContainerSpec(
        name="server",
        image=server_image(plan, pool),
        command=("bash", "-c", START, "tensorflow_model_server"),
        args=tuple(_flags(plan, pool, own)),
        ports=replace(PORTS, metrics=own.metrics),
        models_path=MODELS,
        files={},
        probes=(),
        ready_path=ready,
        live_path=live,
        metrics_path=METRICS_PATH,
        startup_s=startup_s,
        stop_timeout_s=margin_s,
        shm_mib=0,
        pod=Pod(
            image=server_image(plan, pool),
            resources=_without(pod_shape.resources(pool, pod_shape.disk_mib(folders)), beside),
            **pod_shape.checks(plan, ready=ready, live=live, own_s=startup_s),
            pre_stop_s=pre_stop,
            grace_s=pre_stop + margin_s,
            config_path=CONFIG,
            config={**_config(plan, pool, synced=synced), **(sync.files() if init else {}), **beside_config},
            folders=folders,
            env={"HOME": "/tmp", **({} if beside else env or {})},  # it asks no store by itself
            init=init,
            sidecars=beside,
            ready_within_s=pod_shape.ready_within_s(plan),
        ),
    )


def _startup_s(plan: Plan) -> float:
    numbers = facts("tf-serving")
    return numbers["startup_s"] + _size_mib(plan) / numbers["load_mib_per_s"]


def _folders(plan: Plan, init: Init | None) -> dict[str, Folder]:
    spare = facts("pod")["temporary_mib"]
    copied = {MODELS: Folder(mib=2 * _size_mib(plan) + spare)} if init else {}
    return {"/tmp": Folder(mib=spare), **copied}


def _size_mib(plan: Plan) -> int:
    return math.ceil(sum(m.size_mib for m in plan.models))


def served_names(plan: Plan) -> tuple[str, ...]:
    """Every model that a client may ask, in the plan's order."""
    return tuple(dict.fromkeys(m.name for m in plan.models))


def ready_path(name: str) -> str:
    """HTTP 200 when a version of that model is there; the model's own address answers while it still loads."""
    return f"/v1/models/{name}/metadata"


def _config(plan: Plan, pool: Pool, *, synced: bool) -> dict[str, str]:
    models = [
        Served(
            name=name,
            base_path=f"{MODELS}/{name}" if synced else _versions(plan, name)[0].storage_uri.rstrip("/"),
            versions=tuple(sorted(m.version for m in _versions(plan, name))),
            labels={k: v for m in _versions(plan, name) for k, v in m.labels.items()},
        )
        for name in served_names(plan)
    ]
    return {
        "models.config": tf_serving_config.model_config_list(models),
        "batching.config": tf_serving_config.batching_parameters(_batching(plan, pool)),
        "monitoring.config": tf_serving_config.monitoring_config(METRICS_PATH),
    }


def _settings(plan: Plan, pool: Pool) -> list[ModelServing]:
    return [settings_of(plan, m, pool) for m in plan.models]


def _batching(plan: Plan, pool: Pool) -> Batching:
    """One set for all models: the smallest batch and the shortest wait of any keep the SLO of each."""
    settings = _settings(plan, pool)
    size, threads = min(s.max_batch for s in settings), sum(s.instances for s in settings)
    slowest = max((p for m in plan.models for p in m.profile.values()), key=lambda p: p.base_ms + p.per_item_ms * size)
    in_time = plan.spec.max_request_s * 1000 / (slowest.base_ms + slowest.per_item_ms * size)
    return Batching(
        max_batch_size=size,
        batch_timeout_micros=min(s.queue_delay_us for s in settings),
        max_enqueued_batches=max(1, int(in_time)) * threads,
        num_batch_threads=threads,
        allowed_batch_sizes=tuple(sorted({size, *(1 << i for i in range(size.bit_length()) if 1 << i < size)})),
    )


def _flags(plan: Plan, pool: Pool, ports: Ports) -> Iterator[str]:
    shared = pool.accelerator != "none" and pool.replicas_per_node > pool.accelerator_count
    threads = max(1, int(pool.vcpus)) if pool.accelerator != "none" else facts("triton")["intra_op_threads"]
    fraction = facts("tf-serving")["gpu_memory_percent"] / 100 * pool.accelerator_count / pool.replicas_per_node
    values: dict[str, object] = {
        "grpc": ports.grpc,
        "http": ports.http,
        "config": CONFIG,
        "request_ms": int(plan.spec.max_request_s * 1000),
        "intra": threads,
        "inter": threads,
        "gpu_memory": f"{fraction:.3g}" if shared else None,
    }
    for row in rows("tf_serving_flags.csv"):
        if not any(v is None and "{" + k + "}" in row["value"] for k, v in values.items()):
            yield f"--{row['flag']}={row['value'].format(**values)}"


def _versions(plan: Plan, name: str) -> list[Model]:
    return [m for m in plan.models if m.name == name]


def by_id(plan: Plan) -> bool:
    """Whether predictions by id are asked for; which models take them, a container beside the server finds out."""
    return plan.spec.feature_store != "none" and plan.spec.features is not None


def _beside(
    plan: Plan, store: Store | None, env: Mapping[str, object], own: Ports
) -> tuple[tuple[Sidecar, ...], dict[str, str]]:
    """What runs beside the server, and files that it reads."""
    if store is None:
        return (), {}
    assert isinstance(own.http, int)
    names = served_names(plan)
    looks_up = tf_by_id.sidecar(plan, names, store, models_path=MODELS, upstream=own.http, env=env)
    if own == PORTS:  # the entry of the cluster sends by path
        return (looks_up,), {}
    front, config = tf_by_id.front(plan, PORTS, own, ready_path=ready_path(names[-1]), config_path=CONFIG)
    return (looks_up, front), {tf_by_id.CONFIG: config}


def _without(whole: Resources, beside: Sequence[Sidecar]) -> Resources:
    """What the containers beside it leave to the server."""
    cpu, memory = (sum(getattr(s.resources, n) for s in beside) for n in ("cpu_milli", "memory_mib"))
    return replace(whole, cpu_milli=max(1, whole.cpu_milli - cpu), memory_mib=max(1, whole.memory_mib - memory))


def _synced(plan: Plan) -> bool:
    """Whether the server cannot read: s3, and addresses that its configuration cannot name."""
    found = list(_scattered(plan))
    if found:
        raise SpecError(found)
    if plan.spec.model_access == "mount":
        reason = "mount is not built for server tf-serving"
        raise SpecError([problem(("model_access",), reason, allowed=("direct", "sync"))])
    return plan.spec.model_access != "direct" or any("://" not in m.storage_uri for m in plan.models)


def _init(plan: Plan, uploaded: object | None, synced: bool, *, code: bool) -> Init | None:
    """The copy into the pod: of the models where the server cannot read them, of the code that predicts by id."""
    if not synced and not code:
        return None
    sources: dict[str, tuple[object, str]] = {}
    if code:
        assert uploaded is not None, "the address of the uploaded files"
        sources[tf_by_id.FOLDER] = (uploaded, tf_by_id.FOLDER)
    for name in served_names(plan) if synced else ():
        address = _versions(plan, name)[0].storage_uri
        if "://" in address:
            sources[name] = (address.rstrip("/"), "")
        else:
            assert uploaded is not None, "the address of the uploaded files"
            sources[name] = (uploaded, name)
    return sync.init(plan, sources, MODELS, {tf_by_id.FOLDER: tf_by_id.VERSION})


def _scattered(plan: Plan) -> Iterator[Problem]:
    """The versions of a model are folders of one place."""
    for name in served_names(plan):
        first, *others = _versions(plan, name)
        for model in others:
            ours, theirs = (("://" in m.storage_uri, m.storage_uri.rstrip("/")) for m in (first, model))
            if ours != theirs and (ours[0] or theirs[0]):
                at = ("models", plan.spec.models.index(model), "storage_uri")
                yield problem(at, f"{theirs[1]} differs from {ours[1]}, and the versions of {name} stand in one folder")


def saved_model(project: Path, model: Model) -> Path | None:
    """Where the SavedModel is: the path itself, or the version's folder in it."""
    path = project / model.storage_uri
    return next((p for p in (path / str(model.version), path) if (p / SAVED_MODEL).is_file()), None)
