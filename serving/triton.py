"""Triton: from the plan to its container and its model repository (config.pbtxt, files, our Python models)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.plan import ModelServing, Plan
from infra.spec import Model
from serving import python_stub, triton_config
from serving.container import ContainerSpec, FileContent, InferProbe, Ports, Tensor
from serving.facts import facts, rows
from serving.signature import Port, Signature
from serving.triton_source import LOCAL, Served, read, takes_features

HERE = Path(__file__).resolve().parent
SHIM = HERE / "triton_models" / "onnx_shim" / "model.py"
BY_ID = HERE / "triton_models" / "features_by_id" / "model.py"
BY_ID_SUFFIX = "_by_id"
ID = Port(name="id", datatype="BYTES", dims=(1,))
EMPTY_ID = "empty id"  # what the by-id model refuses before it asks the store: a probe that needs no store


CLIENTS = {  # of a store -> the modules that speak to it
    "redis": ("redis",),
    "memorystore": ("redis",),
    "elasticache": ("redis",),
    "bigtable": ("bigtable", "google"),
    "firestore": ("firestore", "google"),
    "dynamodb": ("dynamodb",),
}


@dataclass(frozen=True, kw_only=True)
class Store:
    """Where the by-id models find features; `$NAME` in the url stands for a variable of the server's environment."""

    url: str  # redis://host:port/db
    key_prefix: str  # <stack>:features:


def by_id_name(model: str) -> str:
    return model + BY_ID_SUFFIX


def repository(
    plan: Plan, target: str, *, project: Path, store: Store | None = None, cached: Collection[str] = ()
) -> Mapping[str, FileContent]:
    """Relative path -> content of the model repository; SpecError names each model that cannot be served.

    The answers of the `cached` models are kept and given again for the same input. Triton 2.51 keeps failed ones too,
    and gives them back as successes without outputs (measured): not for a model that may refuse an input.
    """
    files: dict[str, FileContent] = {}
    for served in read(plan, target, project):
        files |= _model_files(plan, served, target, served.model.name in cached)
        if store is not None and takes_features(plan, served):
            files |= _by_id_files(plan, served, store)
    return dict(sorted(files.items()))


def container(
    plan: Plan,
    target: str,
    *,
    name: str,
    project: Path,
    models_path: str,
    ports: Ports,
    address: str = "127.0.0.1",
    home: str = "/opt/tritonserver",
    store: Store | None = None,
    cached: Collection[str] = (),
) -> ContainerSpec:
    """The server; `name` also begins its regions in /dev/shm, so it must be unique on a machine."""
    served = read(plan, target, project)
    files = repository(plan, target, project=project, store=store, cached=cached)
    numbers = facts("triton")
    values: dict[str, object] = {
        "models_path": models_path,
        "home": home,
        "address": address,
        "http": ports.http,
        "grpc": ports.grpc,
        "metrics": ports.metrics,
        "exit_timeout_s": plan.serving.exit_timeout_s,
        "shm_prefix": f"{name}-",
        "cache_bytes": numbers["response_cache_mib"] << 20 if cached else None,
    }
    instances = sum(m.instances for m in plan.serving.models) * (2 if store else 1)
    size_mib = sum(f.size for f in files.values()) / 2**20
    return ContainerSpec(
        name=name,
        image=plan.spec.image,
        command=(f"{home}/bin/tritonserver",),
        args=tuple(flags(target, values)),
        ports=ports,
        models_path=models_path,
        files=files,
        probes=tuple(probes(plan, served, store)),
        ready_path="/v2/health/ready",
        live_path="/v2/health/live",
        startup_s=numbers["startup_s"] + size_mib / numbers["load_mib_per_s"],
        stop_timeout_s=plan.serving.exit_timeout_s + numbers["stop_margin_s"],
        shm_mib=max(numbers["shm_mib_least"], 2 * instances * numbers["shm_mib_per_instance"]),
        shm_prefix=f"{name}-",
        env=python_stub.environment() if target == LOCAL else {},
    )


def served_names(plan: Plan, *, project: Path, target: str, store: Store | None) -> tuple[str, ...]:
    """Every model that a client may ask, in the plan's order."""
    names: list[str] = []
    for served in read(plan, target, project):
        names.append(served.model.name)
        if store is not None and takes_features(plan, served):
            names.append(by_id_name(served.model.name))
    return tuple(names)


def flags(target: str, values: Mapping[str, object]) -> Iterator[str]:
    """The rows of the table that this target has and whose values are known."""
    for row in rows("triton_flags.csv"):
        if row["target"] not in ("any", target):
            continue
        needed = {k for k, v in values.items() if v is None and "{" + k + "}" in row["value"]}
        if not needed:
            yield f"--{row['flag']}" + (f"={row['value'].format(**values)}" if row["value"] else "")


def model_config(plan: Plan, served: Served, target: str, gpus: int, response_cache: bool) -> str:
    """The text of config.pbtxt; `gpus` is what one server sees of them."""
    shimmed = target == LOCAL
    backend = (
        "python"
        if shimmed
        else next(r["backend"] for r in rows("model_formats.csv") if r["format"] == served.model.format)
    )
    signature = served.signature
    return triton_config.render(
        triton_config.ModelConfig(
            name=served.model.name,
            backend=backend,
            settings=served.settings,
            kind="KIND_GPU" if gpus else "KIND_CPU",
            instances=_instances(served, gpus),
            max_queue=_max_queue(plan, served.model, served.settings),
            queue_timeout_us=int(plan.spec.max_request_s * 1e6),
            inputs=signature.inputs if signature else (),
            outputs=signature.outputs if signature else (),
            batched=signature.batched if signature else True,
            parameters={"intra_op_threads": str(facts("triton")["intra_op_threads"])} if shimmed else {},
            response_cache=response_cache,
            versions=tuple(sorted(m.version for m in plan.models if m.name == served.model.name)),
        )
    )


def _model_files(plan: Plan, served: Served, target: str, response_cache: bool) -> dict[str, FileContent]:
    gpus = 0 if target == LOCAL else max(p.accelerator_count for p in plan.pools)
    text = model_config(plan, served, target, gpus, response_cache)
    version = f"{served.model.name}/{served.model.version}"
    files = {f"{version}/{name}": content for name, content in served.files.items()}
    if target == LOCAL:
        files[f"{version}/model.py"] = FileContent.of_text(SHIM.read_text())
    return {f"{served.model.name}/config.pbtxt": FileContent.of_text(text), **files}


def _instances(served: Served, gpus: int) -> int:
    """Triton counts instances on each GPU that it sees, the plan in each server."""
    return max(1, served.settings.instances // max(1, gpus))


def _max_queue(plan: Plan, model: Model, settings: ModelServing) -> int:
    """As many requests as can be answered within the longest allowed time; what comes on top is refused at once."""
    slowest = max(model.profile.values(), key=lambda p: p.base_ms + p.per_item_ms)
    size = settings.max_batch
    batches = plan.spec.max_request_s * 1000 / (slowest.base_ms + slowest.per_item_ms * size)
    return max(1, int(batches)) * size * settings.instances


def by_id_config(
    plan: Plan, settings: ModelServing, model: Model, store: Store, signature: Signature | None = None
) -> str:
    """config.pbtxt of the model that looks up; without a signature what only the network's file says is left open."""
    assert plan.spec.features is not None
    numbers, features = facts("features"), signature.inputs[0] if signature else None
    learnt = (
        {
            "model": model.name,
            "model_input": features.name,
            "feature_datatype": features.datatype,
            "feature_shape": ",".join(str(d) for d in features.dims or (1,)),
        }
        if features is not None
        else {}
    )
    parameters = {
        **learnt,
        "store_url": store.url,
        "key_prefix": store.key_prefix,
        "on_failure": plan.spec.features.on_failure,
        **{k: str(numbers[k]) for k in ("deadline_ms", "pause_ms", "cache_entries", "cache_ttl_s")},
    }
    return triton_config.render(
        triton_config.ModelConfig(
            name=by_id_name(model.name),
            backend="python",
            settings=settings,
            kind="KIND_CPU",
            instances=settings.instances,
            max_queue=_max_queue(plan, model, settings),
            queue_timeout_us=int(plan.spec.max_request_s * 1e6),
            inputs=(ID,),
            outputs=signature.outputs if signature else (),
            parameters=parameters,
            warm=False,  # an id that exists is not known here
        )
    )


def _by_id_files(plan: Plan, served: Served, store: Store) -> dict[str, FileContent]:
    assert served.signature is not None
    name = by_id_name(served.model.name)
    text = by_id_config(plan, served.settings, served.model, store, served.signature)
    return {
        f"{name}/config.pbtxt": FileContent.of_text(text),
        **{f"{name}/{served.model.version}/{f}": c for f, c in by_id_code(plan).items()},
    }


def by_id_code(plan: Plan) -> dict[str, FileContent]:
    """Our own files inside the version's folder of the model that looks up."""
    modules = client_files(plan.spec.feature_store)
    return {
        "model.py": FileContent.of_text(BY_ID.read_text()),
        **{f"serving/{f}": FileContent.of_text((HERE / f).read_text()) for f in modules},
    }


def client_files(store: str) -> tuple[str, ...]:
    """Our own modules that stand beside the model that looks features up."""
    return ("__init__.py", "features.py", "features_types.py", *(f"features_{m}.py" for m in CLIENTS[store]))


def probes(plan: Plan, served: Iterable[Served], store: Store | None) -> Iterator[InferProbe]:
    for s in served:
        if s.signature is not None:
            yield InferProbe(model=s.model.name, inputs=s.signature.probe_inputs, outputs=s.signature.probe_outputs)
        if store is not None and takes_features(plan, s):
            empty = Tensor(name=ID.name, datatype=ID.datatype, shape=(1, 1), fill="")
            yield InferProbe(model=by_id_name(s.model.name), inputs=(empty,), error=EMPTY_ID)
