"""Triton on Kubernetes: the stock image behind our start script, models from a bucket, settings from the plan."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from google.protobuf import json_format

from infra.plan import Plan, Pool
from infra.spec import SpecError
from infra.spec.problems import Problem, problem
from serving import pod_shape, sync, triton_config
from serving.container import ContainerSpec, Ports
from serving.facts import facts
from serving.images import server_image
from serving.pod import Folder, Init, Pod
from serving.triton import Store, by_id_code, by_id_config, by_id_name, flags, model_config, probes
from serving.triton_source import Served, read
from serving.upload import Upload
from serving.wheels import BUNDLE, bundle

TARGET = "pod"
HOME = "/opt/tritonserver"
CONFIG, MODELS = "/slipway", "/models"
PORTS = Ports(http=8000, grpc=8001, metrics=8002)
LIVE = "/v2/health/live"
STARTED = "/tmp/slipway-started"  # made when every model is loaded
RESTRICTED = ("model-repository", "model-config", "shared-memory", "trace", "logging", "statistics")
SCRIPT = Path(__file__).resolve().parent / "scripts" / "triton_start.py"


def uploads(plan: Plan, *, project: Path, wheels: Path | None = None) -> Upload | None:
    """Files of this machine that the stack puts into a bucket of its own: <model>/<version>/<file>.

    With `wheels`, a folder that keeps packages, the models that predict by id are among them, with the store's client.
    """
    served = read(plan, TARGET, project)
    files = {f"{s.model.name}/{s.model.version}/{name}": content for s in served for name, content in s.files.items()}
    if wheels is not None and by_id(plan):
        code = {**by_id_code(plan), BUNDLE: bundle(plan.spec.feature_store, wheels)}
        for name in served_names(plan):
            first = next(s.model for s in served if s.model.name == name)
            files |= {f"{by_id_name(name)}/{first.version}/{file}": content for file, content in code.items()}
    return Upload(files=files) if files else None


def by_id(plan: Plan) -> bool:
    """Whether predictions by id are asked for; which models take them, the server finds out."""
    return plan.spec.feature_store != "none" and plan.spec.features is not None


def pod(
    plan: Plan,
    pool: Pool,
    *,
    project: Path,
    uploaded: object | None = None,
    env: Mapping[str, object] | None = None,
    cached: Collection[str] = (),
    store: Store | None = None,
) -> ContainerSpec:
    """The server of one pool; `uploaded` is the address of what `uploads` named, text or a resource's output.

    With a store, whose code is in `uploaded`, predictions by id are served beside each model that takes them.
    """
    served = read(plan, TARGET, project, pool)
    synced = plan.spec.model_access == "sync"
    places, init = _places(plan, served, uploaded, synced, code=store is not None)
    startup_s, folders = _startup_s(plan), _folders(plan, synced)
    start = _start(plan, pool, served, list(places), cached=cached, store=store)
    ready = ready_path(served[-1].model.name)
    pre_stop = pod_shape.seen_going_s(plan)
    return ContainerSpec(
        name="server",
        image=server_image(plan, pool),
        command=("python3",),
        args=(f"{CONFIG}/{SCRIPT.name}", f"{CONFIG}/start.json"),
        ports=PORTS,
        models_path=MODELS,
        files={},
        probes=tuple(probes(plan, served, None)),
        ready_path=ready,
        live_path=LIVE,
        startup_s=startup_s,
        stop_timeout_s=plan.serving.exit_timeout_s + facts("pod")["stop_margin_s"],
        shm_mib=facts("pod")["shm_mib"],
        pod=Pod(
            image=server_image(plan, pool),
            resources=pod_shape.resources(pool, pod_shape.disk_mib(folders)),
            **pod_shape.checks(plan, ready=ready, live=LIVE, own_s=startup_s, started=STARTED if store else None),
            pre_stop_s=pre_stop,
            grace_s=pre_stop + plan.serving.exit_timeout_s + facts("pod")["stop_margin_s"],
            config_path=CONFIG,
            config={SCRIPT.name: SCRIPT.read_text(), "start.json": start, **(sync.files() if synced else {})},
            folders=folders,
            env={"HOME": "/tmp", **_region(plan), **places, **(env or {})},
            init=init,
            ready_within_s=pod_shape.ready_within_s(plan),
        ),
    )


def _startup_s(plan: Plan) -> float:
    """The server without a model, and every model after the other."""
    numbers, size_mib = facts("triton"), sum(m.size_mib for m in plan.models)
    return numbers["live_s"] + numbers["startup_s"] + size_mib / numbers["load_mib_per_s"]


def _folders(plan: Plan, synced: bool) -> dict[str, Folder]:
    disk_mib = 2 * math.ceil(sum(m.size_mib for m in plan.models)) + facts("pod")["temporary_mib"]
    return {
        "/tmp": Folder(mib=disk_mib),  # a repository in a bucket is copied here
        "/dev/shm": Folder(mib=facts("pod")["shm_mib"], memory=True),
        **({MODELS: Folder(mib=disk_mib)} if synced else {}),
    }


def served_names(plan: Plan) -> tuple[str, ...]:
    """Every model that a client may ask, in the plan's order; the versions of a name are one model."""
    return tuple(dict.fromkeys(m.name for m in plan.models))


def ready_path(name: str) -> str:
    """HTTP 200 when that model is loaded; the last one's says that all are."""
    return f"/v2/models/{name}/ready"


def config_of(container: ContainerSpec) -> list[dict[str, object]]:
    """Name and configuration of each model, as the server will be given them."""
    assert container.pod is not None
    models = json.loads(container.pod.config["start.json"])["models"]
    assert isinstance(models, list)
    return models


def _gpus(pool: Pool) -> int:
    """What one server sees: all of a machine's, or one, or a part of one."""
    return max(1, pool.accelerator_count // pool.replicas_per_node) if pool.accelerator_count else 0


def _by_id(plan: Plan, served: Served, store: Store) -> dict[str, object]:
    """The configuration of the model before a model, as far as it is known before the server has read the file."""
    assert plan.spec.features is not None
    message = triton_config.parse(by_id_config(plan, served.settings, served.model, store))
    config = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return {"name": message.name, "value_bytes": plan.spec.features.value_bytes, "config": config}


def _start(
    plan: Plan,
    pool: Pool,
    served: tuple[Served, ...],
    places: Sequence[str],
    *,
    cached: Collection[str],
    store: Store | None,
) -> str:
    """What the start script reads."""
    first = {s.model.name: s for s in reversed(served)}
    values: dict[str, object] = {
        "home": HOME,
        "address": "0.0.0.0",
        "http": PORTS.http,
        "grpc": PORTS.grpc,
        "metrics": PORTS.metrics,
        "exit_timeout_s": plan.serving.exit_timeout_s,
        "shm_prefix": "slipway-",
        "cache_bytes": facts("triton")["response_cache_mib"] << 20 if cached else None,
    }
    settings: dict[str, object] = {
        "command": [f"{HOME}/bin/tritonserver", *flags(TARGET, values)],
        "repositories": [*([MODELS] if plan.spec.model_access == "sync" else []), *places],
        "port": PORTS.http,
        "models": [_model(plan, first[n], _gpus(pool), n in cached) for n in served_names(plan)],
        "live_s": facts("triton")["live_s"],
        "load_s": math.ceil(_startup_s(plan)),
        "restricted": RESTRICTED,
    }
    if store is not None:
        settings |= {"by_id": {n: _by_id(plan, first[n], store) for n in first}, "started": STARTED}
    return json.dumps(settings, indent=1, sort_keys=True) + "\n"


def _model(plan: Plan, served: Served, gpus: int, cached: bool) -> dict[str, object]:
    message = triton_config.parse(model_config(plan, served, TARGET, gpus, cached))
    return {
        "name": served.model.name,
        "config": json_format.MessageToDict(message, preserving_proto_field_name=True),
    }


def _region(plan: Plan) -> dict[str, object]:
    """The SDK inside the server asks for it where the bucket's region is not the machine's own."""
    return {"AWS_DEFAULT_REGION": plan.spec.region} if plan.spec.cloud == "aws" else {}


def _places(
    plan: Plan, served: tuple[Served, ...], uploaded: object | None, synced: bool, code: bool
) -> tuple[dict[str, object], Init | None]:
    """The repositories as variables of the environment, and the container that copies them where that is asked for."""
    if plan.spec.model_access == "mount":
        reason = "mount is not built for server triton: it copies its repository in any case"
        raise SpecError([problem(("model_access",), reason, allowed=("direct", "sync"))])
    addresses: list[object] = []
    init = None
    if synced:
        init = sync.init(plan, {s.model.name: _address(s, uploaded) for s in served}, MODELS)
    else:
        found = list(_misnamed(served))
        if found:
            raise SpecError(found)
        parents = dict.fromkeys(str(PurePosixPath(s.model.storage_uri).parent) for s in served if not s.files)
        addresses += [p.replace(":/", "://", 1) for p in parents]
    if code or (any(s.files for s in served) and not synced):
        assert uploaded is not None, "the address of the uploaded files"
        addresses.append(uploaded)
    return {f"SLIPWAY_REPOSITORY_{i}": a for i, a in enumerate(addresses)}, init


def _address(served: Served, uploaded: object | None) -> tuple[object, str]:
    """Where a model's version folders are: an address and what follows it."""
    if not served.files:
        return served.model.storage_uri.rstrip("/"), ""
    assert uploaded is not None, "the address of the uploaded files"
    return uploaded, served.model.name


def _misnamed(served: tuple[Served, ...]) -> Iterator[Problem]:
    for s in served:
        last = PurePosixPath(s.model.storage_uri).name
        if not s.files and last != s.model.name:
            yield problem(
                ("models", s.index, "storage_uri"),
                f"{s.model.storage_uri} ends in {last}, and Triton finds a model by the name of its folder",
                to_fix=f"move it to …/{s.model.name}, rename the model, or set model_access to sync",
            )
