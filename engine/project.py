"""Reads Pulumi.yaml and a stack's configuration, as Pulumi does."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from engine.api import EngineError
from engine.secrets import Crypter


@dataclass(frozen=True, kw_only=True)
class Project:
    name: str
    root: Path
    folder: Path  # where the program runs
    program: str
    python: str
    plugins: Mapping[str, Path]  # provider name -> executable
    config_dir: Path
    schema: Mapping[str, Any]


def load(root: Path) -> Project:
    root = root.resolve()
    file = next((f for f in (root / "Pulumi.yaml", root / "Pulumi.yml") if f.exists()), None)
    if file is None:
        raise EngineError(f"{root}: no Pulumi.yaml there. To fix: name the folder of a Pulumi project")
    data = _yaml(file)
    name = data.get("name")
    if not isinstance(name, str):
        raise EngineError(f"{file}: name: is missing")
    runtime = data.get("runtime")
    options = runtime.get("options") or {} if isinstance(runtime, dict) else {}
    language = runtime.get("name") if isinstance(runtime, dict) else runtime
    if language != "python":
        raise EngineError(f"{file}: runtime: '{language}' is not supported; allowed: python. {HOW_TO_INSTALL}")
    folder, program = _main(root, data.get("main"))
    return Project(
        name=name,
        root=root,
        folder=folder,
        program=program,
        python=_python(root, options.get("virtualenv")),
        plugins=_plugins(root, file, data),
        config_dir=root / (data.get("stackConfigDir") or "."),
        schema=cast(dict[str, Any], schema) if isinstance(schema := data.get("config"), dict) else {},
    )


HOW_TO_INSTALL = (
    "To fix: install Pulumi (curl -fsSL https://get.pulumi.com | sh) and use `pulumi`, or `slipway --engine pulumi`"
)


def _main(root: Path, main: str | None) -> tuple[Path, str]:
    target = root / (main or ".")
    if not target.exists():
        raise EngineError(f"{root / 'Pulumi.yaml'}: main: '{main}' does not exist")
    return (target, ".") if target.is_dir() else (target.parent, target.name)


def _python(root: Path, virtualenv: str | None) -> str:
    """Where the project names none: PULUMI_PYTHON_CMD, as Pulumi has it, or the Python that runs the engine."""
    if virtualenv is None:
        return os.environ.get("PULUMI_PYTHON_CMD", sys.executable)
    python = root / virtualenv / "bin" / "python"
    if not python.exists():
        raise EngineError(
            f"{root / 'Pulumi.yaml'}: runtime.options.virtualenv: {python} does not exist. To fix: make setup"
        )
    return str(python)


def _plugins(root: Path, file: Path, data: Mapping[str, Any]) -> dict[str, Path]:
    found = {}
    for entry in (data.get("plugins") or {}).get("providers") or []:
        executable = root / entry["path"] / f"pulumi-resource-{entry['name']}"
        if not os.access(executable, os.X_OK):
            raise EngineError(f"{file}: plugins.providers: {executable} is not an executable file")
        found[entry["name"]] = executable
    return found


def stack_file(project: Project, stack: str) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", stack):
        raise EngineError(f"stack '{stack}': a name has letters, digits, '_', '.', '-', and at most 100 of them")
    return project.config_dir / f"Pulumi.{stack}.yaml"


def config(
    project: Project, stack: str, overrides: Mapping[str, str], env: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """The stack's configuration as the program gets it (`ns:key` -> text), and which keys are secret."""
    file = stack_file(project, stack)
    data = _yaml(file) if file.exists() else {}
    crypter = Crypter(file.with_suffix(".key"), env, data.get("encryptionsalt"))
    values: dict[str, str] = {}
    secret: list[str] = []
    for key, declared in project.schema.items():
        if isinstance(declared, dict) and ("default" in declared or "value" in declared):
            values[_full(project, key)] = _text(declared.get("default", declared.get("value")))
    for key, value in (data.get("config") or {}).items():
        plain = _opened(value, crypter)
        values[_full(project, key)] = _text(plain)
        if plain != value:
            secret.append(_full(project, key))
    values.update({_full(project, key): value for key, value in overrides.items()})
    missing = [
        k
        for k, d in project.schema.items()
        if isinstance(d, dict) and "type" in d and "default" not in d and _full(project, k) not in values
    ]
    if missing:
        raise EngineError(
            "\n".join(f"{file}: config {k}: is missing, Pulumi.yaml declares it without a default" for k in missing)
        )
    return values, secret


def _full(project: Project, key: str) -> str:
    return key if ":" in key else f"{project.name}:{key}"


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"))


def _opened(value: object, crypter: Crypter) -> object:
    if isinstance(value, dict):
        if set(value) == {"secure"}:
            return crypter.decrypt(cast(str, value["secure"]))
        return {k: _opened(v, crypter) for k, v in value.items()}
    return [_opened(v, crypter) for v in value] if isinstance(value, list) else value


def _yaml(file: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(file.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise EngineError(f"{file}: is not YAML: {e}") from e
    if not isinstance(data, dict):
        raise EngineError(f"{file}: must hold keys and values")
    return data
