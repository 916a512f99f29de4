"""Triton: from the plan to its container and its model repository (config.pbtxt, files, our Python models)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.plan import ModelServing, Plan
from infra.spec import Model, SpecError
from infra.spec.problems import problem
from serving import onnx_file, python_stub, triton_config
from serving.container import ContainerSpec, FileContent, InferProbe, Ports, Tensor
from serving.facts import facts, rows
from serving.onnx_file import NotServable, Port, Signature

HERE = Path(__file__).resolve().parent
SHIM = HERE / "triton_models" / "onnx_shim" / "model.py"
BY_ID = HERE / "triton_models" / "features_by_id" / "model.py"
BY_ID_SUFFIX = "_by_id"
ID = Port(name="id", datatype="BYTES", dims=(1,))
EMPTY_ID = "empty id"  # what the by-id model refuses before it asks the store: a probe that needs no store
LOCAL = "local"  # the Triton of the package has the Python backend only; every other target has the real ones


@dataclass(frozen=True, kw_only=True)
class Store:
    """Where the by-id models find features; `$NAME` in the url stands for a variable of the server's environment."""

    url: str  # redis://host:port/db
    key_prefix: str  # <stack>:features:


@dataclass(frozen=True, kw_only=True)
class _Served:
    """One model, with what was learnt of its file."""

    model: Model
    index: int
    settings: ModelServing
    files: Mapping[str, FileContent]
    signature: Signature | None


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
    for served in _read(plan, target, project):
        files |= _model_files(plan, served, target, served.model.name in cached)
        if store is not None and _takes_features(plan, served):
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
    served = _read(plan, target, project)
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
        args=tuple(_flags(target, values)),
        ports=ports,
        models_path=models_path,
        files=files,
        probes=tuple(_probes(plan, served, store)),
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
    for served in _read(plan, target, project):
        names.append(served.model.name)
        if store is not None and _takes_features(plan, served):
            names.append(by_id_name(served.model.name))
    return tuple(names)


def _flags(target: str, values: Mapping[str, object]) -> Iterator[str]:
    """The rows of the table that this target has and whose values are known."""
    for row in rows("triton_flags.csv"):
        if row["target"] not in ("any", target):
            continue
        needed = {k for k, v in values.items() if v is None and "{" + k + "}" in row["value"]}
        if not needed:
            yield f"--{row['flag']}" + (f"={row['value'].format(**values)}" if row["value"] else "")


def _read(plan: Plan, target: str, project: Path) -> tuple[_Served, ...]:
    """Reads every model's file once; all faults together."""
    found, served = [], []
    for model in plan.models:
        index = plan.spec.models.index(model)
        try:
            files, signature = _source(model, target, project)
            settings = plan.serving.of(model)
            if signature is not None and not signature.batched and settings.max_batch > 1:
                raise NotServable(
                    "its first dimension is fixed, so it cannot take a batch; export it with a free one, "
                    f"or set models[{index}].max_batch to 1"
                )
            served.append(_Served(model=model, index=index, settings=settings, files=files, signature=signature))
        except NotServable as e:
            found.append(problem(("models", index, "storage_uri"), f"{model.storage_uri}: {e}"))
    if found:
        raise SpecError(found)
    return tuple(served)


def _source(model: Model, target: str, project: Path) -> tuple[Mapping[str, FileContent], Signature | None]:
    """The model's files by name inside its version folder; a model in a bucket has none here."""
    if "://" in model.storage_uri:
        if target == LOCAL:
            raise NotServable("the local stack serves files of this machine only; give a local path")
        return {}, None
    formats = {r["format"]: r for r in rows("model_formats.csv")}
    if model.format not in formats or (target == LOCAL and model.format != "onnx"):
        raise NotServable(f"Triton cannot serve the format {model.format} here; export the model to onnx")
    path = project / model.storage_uri
    wanted = formats[model.format]["file"]
    suffix = Path(wanted).suffix
    if not path.exists():
        raise NotServable("there is no such file or folder; the path starts at the folder of Pulumi.yaml")
    if path.is_file():
        main, files = path, {wanted: FileContent.of_file(path, project)}
    else:
        folder = path / str(model.version) if (path / str(model.version)).is_dir() else path
        mains = sorted(folder.glob(f"*{suffix}"))
        if len(mains) != 1:
            raise NotServable(f"the folder must hold one {suffix} file, and holds {len(mains)}")
        main = mains[0]
        files = {
            wanted if f == main else f.relative_to(folder).as_posix(): FileContent.of_file(f, project)
            for f in sorted(folder.rglob("*"))
            if f.is_file()
        }
    return files, onnx_file.read(main, files[wanted].sha256) if model.format == "onnx" else None


def _model_files(plan: Plan, served: _Served, target: str, response_cache: bool) -> dict[str, FileContent]:
    shimmed = target == LOCAL
    backend = (
        "python"
        if shimmed
        else next(r["backend"] for r in rows("model_formats.csv") if r["format"] == served.model.format)
    )
    signature = served.signature
    gpu = any(p.accelerator != "none" for p in plan.pools) and not shimmed
    text = triton_config.render(
        triton_config.ModelConfig(
            name=served.model.name,
            backend=backend,
            settings=served.settings,
            kind="KIND_GPU" if gpu else "KIND_CPU",
            instances=_instances(plan, served, gpu),
            max_queue=_max_queue(plan, served),
            queue_timeout_us=int(plan.spec.max_request_s * 1e6),
            inputs=signature.inputs if signature else (),
            outputs=signature.outputs if signature else (),
            batched=signature.batched if signature else True,
            parameters={"intra_op_threads": str(facts("triton")["intra_op_threads"])} if shimmed else {},
            response_cache=response_cache,
        )
    )
    version = f"{served.model.name}/{served.model.version}"
    files = {f"{version}/{name}": content for name, content in served.files.items()}
    if shimmed:
        files[f"{version}/model.py"] = FileContent.of_text(SHIM.read_text())
    return {f"{served.model.name}/config.pbtxt": FileContent.of_text(text), **files}


def _instances(plan: Plan, served: _Served, gpu: bool) -> int:
    """Triton counts instances on each GPU, the plan in each server."""
    gpus = max(p.accelerator_count for p in plan.pools) if gpu else 1
    return max(1, served.settings.instances // max(1, gpus))


def _max_queue(plan: Plan, served: _Served) -> int:
    """As many requests as can be answered within the longest allowed time; what comes on top is refused at once."""
    slowest = max(served.model.profile.values(), key=lambda p: p.base_ms + p.per_item_ms)
    size = served.settings.max_batch
    batches = plan.spec.max_request_s * 1000 / (slowest.base_ms + slowest.per_item_ms * size)
    return max(1, int(batches)) * size * served.settings.instances


def _takes_features(plan: Plan, served: _Served) -> bool:
    """Whether the store's values are this model's input: one input, of just that many bytes."""
    features, signature = plan.spec.features, served.signature
    if features is None or signature is None or not signature.batched or len(signature.inputs) != 1:
        return False
    return signature.inputs[0].item_bytes == features.value_bytes


def _by_id_files(plan: Plan, served: _Served, store: Store) -> dict[str, FileContent]:
    assert served.signature is not None
    assert plan.spec.features is not None
    name, numbers = by_id_name(served.model.name), facts("features")
    (features,) = served.signature.inputs
    parameters = {
        "model": served.model.name,
        "model_input": features.name,
        "feature_datatype": features.datatype,
        "feature_shape": ",".join(str(d) for d in features.dims or (1,)),
        "store_url": store.url,
        "key_prefix": store.key_prefix,
        "on_failure": plan.spec.features.on_failure,
        **{k: str(numbers[k]) for k in ("deadline_ms", "pause_ms", "cache_entries", "cache_ttl_s")},
    }
    text = triton_config.render(
        triton_config.ModelConfig(
            name=name,
            backend="python",
            settings=served.settings,
            kind="KIND_CPU",
            instances=served.settings.instances,
            max_queue=_max_queue(plan, served),
            queue_timeout_us=int(plan.spec.max_request_s * 1e6),
            inputs=(ID,),
            outputs=served.signature.outputs,
            parameters=parameters,
            warm=False,  # an id that exists is not known here
        )
    )
    version = f"{name}/{served.model.version}"
    return {
        f"{name}/config.pbtxt": FileContent.of_text(text),
        f"{version}/model.py": FileContent.of_text(BY_ID.read_text()),
        f"{version}/features.py": FileContent.of_text((HERE / "features.py").read_text()),
    }


def _probes(plan: Plan, served: Iterable[_Served], store: Store | None) -> Iterator[InferProbe]:
    for s in served:
        if s.signature is not None:
            yield InferProbe(model=s.model.name, inputs=s.signature.probe_inputs, outputs=s.signature.probe_outputs)
        if store is not None and _takes_features(plan, s):
            empty = Tensor(name=ID.name, datatype=ID.datatype, shape=(1, 1), fill="")
            yield InferProbe(model=by_id_name(s.model.name), inputs=(empty,), error=EMPTY_ID)
