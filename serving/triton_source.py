"""The models that a Triton serves: their files, and what can be learnt from them before anything is declared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.plan import ModelServing, Plan, Pool
from infra.spec import Model, SpecError
from infra.spec.problems import problem
from serving.container import FileContent
from serving.facts import rows
from serving.signature import NotServable, Signature

LOCAL = "local"  # the Triton of the package has the Python backend only; every other target has the real ones


@dataclass(frozen=True, kw_only=True)
class Served:
    """One model, with what was learnt of its file."""

    model: Model
    index: int
    settings: ModelServing
    files: Mapping[str, FileContent]
    signature: Signature | None


def read(plan: Plan, target: str, project: Path, pool: Pool | None = None) -> tuple[Served, ...]:
    """Reads every model's file once; all faults together. In a mix of machines each pool has settings of its own."""
    found, served = [], []
    for model in plan.models:
        index = plan.spec.models.index(model)
        try:
            files, signature = source(model, target, project)
            settings = settings_of(plan, model, pool)
            if signature is not None and not signature.batched and settings.max_batch > 1:
                raise NotServable(
                    "its first dimension is fixed, so it cannot take a batch; export it with a free one, "
                    f"or set models[{index}].max_batch to 1"
                )
            served.append(Served(model=model, index=index, settings=settings, files=files, signature=signature))
        except NotServable as e:
            found.append(problem(("models", index, "storage_uri"), f"{model.storage_uri}: {e}"))
    if found:
        raise SpecError(found)
    return tuple(served)


def settings_of(plan: Plan, model: Model, pool: Pool | None) -> ModelServing:
    """The plan's settings of a model in the servers of a pool."""
    own = () if pool is None else pool.models
    return next((m for m in own if (m.name, m.version) == (model.name, model.version)), plan.serving.of(model))


def source(model: Model, target: str, project: Path) -> tuple[Mapping[str, FileContent], Signature | None]:
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
    if model.format != "onnx":
        return files, None
    from serving import onnx_file  # the runtime is loaded only where a file is read

    return files, onnx_file.read(main, files[wanted].sha256)


def takes_features(plan: Plan, served: Served) -> bool:
    """Whether the store's values are this model's input: one input, of just that many bytes."""
    features, signature = plan.spec.features, served.signature
    if features is None or signature is None or not signature.batched or len(signature.inputs) != 1:
        return False
    return signature.inputs[0].item_bytes == features.value_bytes
