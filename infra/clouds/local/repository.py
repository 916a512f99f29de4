"""ModelRepository: the files that a model server reads, in a folder named after their generation."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from infra.clouds.local.kind import Checked, Fault, check_fields
from infra.clouds.local.root import Inputs, Root, sha256, write_json

File = dict[str, str]  # {"text": ...} or {"source": absolute path, "sha256": digest of its content}


class ModelRepository:
    """slipway:local:ModelRepository. A changed file is drift; it is written again."""

    token = "slipway:local:ModelRepository"
    required: Mapping[str, type] = {"name": str, "files": dict}
    optional: Mapping[str, object] = {}
    replaces = frozenset({"name"})

    def check(self, root: Root, inputs: Inputs, olds: Inputs) -> Checked:
        checked = check_fields(self, inputs)
        files = checked.inputs.get("files")
        faults = list(checked.faults)
        if isinstance(files, dict):
            faults += [f for name in sorted(files) for f in _file_faults(name, files[name])]
            if not faults:
                checked.inputs["files"] = {name: _with_digest(file) for name, file in files.items()}
        return Checked(inputs=checked.inputs, faults=faults)

    def outputs(self, root: Root, inputs: Inputs) -> Inputs:
        return {**inputs, "path": str(self._folder(root, str(inputs["name"])))}

    def drift(self, root: Root, inputs: Inputs) -> list[str]:
        folder = self._folder(root, str(inputs["name"]))
        files = _files(inputs)
        wrong = [f"{name} was changed or removed" for name, file in files.items() if not _same(folder / name, file)]
        extra = [
            f"{path.relative_to(folder)} does not belong there"
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.relative_to(folder).as_posix() not in files and "__pycache__" not in path.parts
        ]
        return wrong + extra

    def apply(self, root: Root, inputs: Inputs, olds: Inputs | None) -> Inputs:
        name = str(inputs["name"])
        folder = self._folder(root, name)
        write_json(root.record("ModelRepository", name), inputs)
        files = _files(inputs)
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_file() and path.relative_to(folder).as_posix() not in files:
                path.unlink()
        for relative, file in files.items():
            _write(folder / relative, file)
        return self.outputs(root, inputs)

    def read(self, root: Root, name: str) -> tuple[Inputs, Inputs] | None:
        asked = root.records("ModelRepository").get(name)
        folder = self._folder(root, name)
        if asked is None or not folder.is_dir():
            return None
        there = {n: f if _same(folder / n, f) else _actual(folder / n) for n, f in _files(asked).items()}
        inputs = {**asked, "files": {n: f for n, f in there.items() if f}}
        return inputs, self.outputs(root, inputs)

    def delete(self, root: Root, name: str, inputs: Inputs) -> None:
        shutil.rmtree(self._folder(root, name), ignore_errors=True)
        root.record("ModelRepository", name).unlink(missing_ok=True)

    @staticmethod
    def _folder(root: Root, name: str) -> Path:
        return root.path / "models" / name


def _files(inputs: Inputs) -> dict[str, File]:
    files = inputs["files"]
    assert isinstance(files, dict)
    return files


def _file_faults(name: str, file: object) -> list[Fault]:
    path = f'files["{name}"]'
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts:
        return [Fault(path=path, reason="must be a path inside the repository.")]
    if not isinstance(file, dict) or not ("text" in file or "source" in file):
        return [Fault(path=path, reason="needs text or source.")]
    if "source" in file and not Path(str(file["source"])).is_file():
        return [
            Fault(
                path=path,
                reason=f"the file {file['source']} is missing.",
                fix="write the model there, or point storage_uri of the model to where it is.",
            )
        ]
    return []


def _with_digest(file: File) -> File:
    return file if "text" in file else {"source": file["source"], "sha256": sha256(Path(file["source"]))}


def _same(path: Path, file: File) -> bool:
    if not path.is_file():
        return False
    return path.read_text(errors="replace") == file["text"] if "text" in file else sha256(path) == file["sha256"]


def _actual(path: Path) -> File:
    return {"sha256": sha256(path), "source": str(path)} if path.is_file() else {}


def _write(path: Path, file: File) -> None:
    if _same(path, file):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    if "text" in file:
        beside.write_text(file["text"])
    else:
        shutil.copyfile(file["source"], beside)
    os.replace(beside, path)
