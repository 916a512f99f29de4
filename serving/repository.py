"""The server's repository layout of one model's version: from local files to keys of its bucket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from infra.spec import Model, Spec
from serving import tf_serving, triton_source
from serving.container import FileContent
from serving.facts import rows
from serving.signature import NotServable

TARGET = "pod"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Files by key below the model's address, the one that makes the version complete at the end."""

    model: Model  # with the version that is laid out
    files: Mapping[str, FileContent]

    @property
    def size(self) -> int:
        return sum(c.size for c in self.files.values())


def layout(spec: Spec, model: Model, source: Path, version: int) -> Layout:
    """<version>/<file> for what stands at a local path; NotServable says why it cannot be served."""
    wanted = replace(model, storage_uri=str(source.resolve()), version=version)
    if spec.server == "triton":
        found, signature = triton_source.source(wanted, TARGET, source.resolve().parent)
        if signature is not None and not signature.batched and model.max_batch > 1:
            raise NotServable("its first dimension is fixed, so it cannot take a batch; export it with a free one")
    else:
        folder = tf_serving.saved_model(source.resolve().parent, wanted)
        if folder is None:
            raise NotServable(f"no {tf_serving.SAVED_MODEL} there, nor in {version}/ below")
        paths = sorted(p for p in folder.rglob("*") if p.is_file())
        found = {p.relative_to(folder).as_posix(): FileContent.of_file(p, folder) for p in paths}
        found = {k: replace(c, path=str(folder / k)) for k, c in found.items()}
    last = main_file(spec, model)
    ordered = sorted(found, key=lambda name: (name == last, name))
    files = {f"{version}/{name}": _absolute(found[name], source.resolve().parent) for name in ordered}
    return Layout(model=replace(model, version=version), files=files)


def main_file(spec: Spec, model: Model) -> str:
    """The file without which a version's folder is no model."""
    if spec.server == "tf-serving":
        return tf_serving.SAVED_MODEL
    return next(r["file"] for r in rows("model_formats.csv") if r["format"] == model.format)


def _absolute(content: FileContent, project: Path) -> FileContent:
    assert content.path is not None
    return replace(content, path=str(project / content.path))
