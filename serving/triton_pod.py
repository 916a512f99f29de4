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
from serving.triton import flags, model_config, probes
from serving.triton_source import Served, read
from serving.upload import Upload

TARGET = "pod"
HOME = "/opt/tritonserver"
CONFIG, MODELS = "/slipway", "/models"
PORTS = Ports(http=8000, grpc=8001, metrics=8002)
LIVE = "/v2/health/live"
RESTRICTED = ("model-repository", "model-config", "shared-memory", "trace", "logging", "statistics")
SCRIPT = Path(__file__).resolve().parent / "scripts" / "triton_start.py"


def uploads(plan: Plan, *, project: Path) -> Upload | None:
    """Files of this machine that the stack puts into a bucket of its own: <model>/<version>/<file>."""
    files = {
        f"{s.model.name}/{s.model.version}/{name}": content
        for s in read(plan, TARGET, project)
        for name, content in s.files.items()
    }
    return Upload(files=files) if files else None


def pod(
    plan: Plan,
    pool: Pool,
    *,
    project: Path,
    uploaded: object | None = None,
    env: Mapping[str, object] | None = None,
    cached: Collection[str] = (),
) -> ContainerSpec:
    """The server of one pool; `uploaded` is the address of what `uploads` named, text or a resource's output."""
    served = read(plan, TARGET, project, pool)
    synced = plan.spec.model_access == "sync"
    places, init = _places(plan, served, uploaded, synced)
    numbers = facts("triton")
    size_mib = sum(m.size_mib for m in plan.models)
    startup_s = numbers["live_s"] + numbers["startup_s"] + size_mib / numbers["load_mib_per_s"]
    folders = _folders(size_mib, synced)
    first = {s.model.name: s for s in reversed(served)}
    models = [_model(plan, first[name], _gpus(pool), name in cached) for name in served_names(plan)]
    start = _start(plan, models, [MODELS] if synced else list(places), startup_s, bool(cached))
    ready = f"/v2/models/{served[-1].model.name}/ready"
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
            resources=pod_shape.resources(pool, sum(f.mib for f in folders.values() if not f.memory)),
            **pod_shape.checks(plan, ready=ready, live=LIVE, own_s=startup_s),
            pre_stop_s=pre_stop,
            grace_s=pre_stop + plan.serving.exit_timeout_s + facts("pod")["stop_margin_s"],
            config_path=CONFIG,
            config={SCRIPT.name: SCRIPT.read_text(), "start.json": start, **(sync.files() if synced else {})},
            folders=folders,
            env={"HOME": "/tmp", **_region(plan), **({} if synced else places), **(env or {})},
            init=init,
            ready_within_s=pod_shape.ready_within_s(plan),
        ),
    )


def _folders(size_mib: float, synced: bool) -> dict[str, Folder]:
    disk_mib = 2 * math.ceil(size_mib) + facts("pod")["temporary_mib"]
    return {
        "/tmp": Folder(mib=disk_mib),  # a repository in a bucket is copied here
        "/dev/shm": Folder(mib=facts("pod")["shm_mib"], memory=True),
        **({MODELS: Folder(mib=disk_mib)} if synced else {}),
    }


def served_names(plan: Plan) -> tuple[str, ...]:
    """Every model that a client may ask, in the plan's order; the versions of a name are one model."""
    return tuple(dict.fromkeys(m.name for m in plan.models))


def config_of(container: ContainerSpec) -> list[dict[str, object]]:
    """Name and configuration of each model, as the server will be given them."""
    assert container.pod is not None
    models = json.loads(container.pod.config["start.json"])["models"]
    assert isinstance(models, list)
    return models


def _gpus(pool: Pool) -> int:
    """What one server sees: all of a machine's, or one, or a part of one."""
    return max(1, pool.accelerator_count // pool.replicas_per_node) if pool.accelerator_count else 0


def _start(
    plan: Plan, models: Sequence[Mapping[str, object]], repositories: Sequence[str], startup_s: float, cache: bool
) -> str:
    """What the start script reads."""
    values: dict[str, object] = {
        "home": HOME,
        "address": "0.0.0.0",
        "http": PORTS.http,
        "grpc": PORTS.grpc,
        "metrics": PORTS.metrics,
        "exit_timeout_s": plan.serving.exit_timeout_s,
        "shm_prefix": "slipway-",
        "cache_bytes": facts("triton")["response_cache_mib"] << 20 if cache else None,
    }
    settings = {
        "command": [f"{HOME}/bin/tritonserver", *flags(TARGET, values)],
        "repositories": repositories,
        "port": PORTS.http,
        "models": models,
        "live_s": facts("triton")["live_s"],
        "load_s": math.ceil(startup_s),
        "restricted": RESTRICTED,
    }
    return json.dumps(settings, indent=1) + "\n"


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
    plan: Plan, served: tuple[Served, ...], uploaded: object | None, synced: bool
) -> tuple[dict[str, object], Init | None]:
    """The repositories as variables of the environment, and the container that copies them where that is asked for."""
    if plan.spec.model_access == "mount":
        reason = "mount is not built for server triton: it copies its repository in any case"
        raise SpecError([problem(("model_access",), reason, allowed=("direct", "sync"))])
    if synced:
        return {}, sync.init(plan, {s.model.name: _address(s, uploaded) for s in served}, MODELS)
    found = list(_misnamed(served))
    if found:
        raise SpecError(found)
    parents = dict.fromkeys(str(PurePosixPath(s.model.storage_uri).parent) for s in served if not s.files)
    addresses: list[object] = [p.replace(":/", "://", 1) for p in parents]
    if any(s.files for s in served):
        assert uploaded is not None, "the address of the uploaded files"
        addresses.append(uploaded)
    return {f"SLIPWAY_REPOSITORY_{i}": a for i, a in enumerate(addresses)}, None


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
