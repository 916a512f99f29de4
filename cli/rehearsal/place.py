"""Where a rehearsal happens: a copy of the project in a temporary folder, and an environment without any credential."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cli.errors import USAGE, CliError
from cli.project import NAME, Project

# Nothing else of the caller's environment reaches a rehearsal: what is not known cannot be a credential.
KEPT = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TERM", "TMPDIR", "LD_LIBRARY_PATH", "SLIPWAY_DEBUG")
WHEELS = "SLIPWAY_WHEELS"
MARK = "SLIPWAY_REHEARSAL"  # in the environment of every process of a rehearsal, with its nonce
PARALLEL = 16  # steps at once, on either engine
SECRET = "rehearsed"  # stands for every encrypted value: no rehearsal opens a real one
LEFT_OUT = ("__pycache__", "node_modules", "venv")  # beside everything that begins with a dot
NOWHERE = "http://127.0.0.1:9"  # the discard port: a client that would leave this machine is refused at once
HERE = "127.0.0.1,localhost,::1"
PROJECT_KEYS = ("name", "description", "main", "stackConfigDir", "config")  # no backend, no plugins, no packages
PROBE = """\
\"\"\"Asks each provider that the engine starts for the rehearsal's nonce: a real provider does not know it.\"\"\"

import pulumi

CONFIG = {"gcp": {"project": "probe"}, "aws": {"region": "us-east-1"}, "kubernetes": {"kubeconfig": "{}"}}
for cloud, inputs in CONFIG.items():
    provider = pulumi.ProviderResource(cloud, cloud, inputs)
    answer = pulumi.runtime.invoke("simulators:index:nonce", {}, pulumi.InvokeOptions(provider=provider))
    pulumi.export(cloud, answer.value["nonce"])
"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Folders of one rehearsal; all of it goes with it."""

    folder: Path
    project: Project  # the copy
    probe: Path
    world: Path
    env: Mapping[str, str]
    placeholders: tuple[str, ...]  # keys whose encrypted value was replaced


@contextmanager
def prepared(project: Project, stack: str, nonce: str) -> Iterator[Place]:
    """The copy and all around it; removed afterwards, whatever happened."""
    with tempfile.TemporaryDirectory(prefix="slipway-rehearsal-") as name:
        folder = Path(name).resolve()
        for each in ("home", "pulumi-home", "backend", "plugins", "probe"):
            (folder / each).mkdir()
        plugins = _plugins(folder / "plugins")
        copy, placeholders = _copy(project, stack, folder / "project", plugins)
        _probe(folder / "probe", project.folder, plugins)
        yield Place(
            folder=folder,
            project=copy,
            probe=folder / "probe",
            world=folder / "world.json",
            env=environment(os.environ, folder, nonce)
            | {WHEELS: _wheels(project, stack)}
            | _code(copy.folder, os.environ.get("PYTHONPATH", "")),
            placeholders=placeholders,
        )


def _wheels(project: Project, stack: str) -> str:
    """Fetched before the rehearsal, which has no network; where they cannot be had it goes without, and says so."""
    from infra.spec import SpecError
    from serving.wheels import CLIENTS, fetched

    folder = Path(os.environ.get(WHEELS) or project.folder / ".slipway" / "wheels")
    store = str(project.config(stack).get("slipway:feature_store", "none"))
    if os.environ.get(WHEELS) == "" or store not in CLIENTS or store == "redis":
        return ""
    try:
        fetched(store, folder)
    except SpecError as e:
        print(f"rehearsed without predictions by id: {e}", file=sys.stderr)
        return ""
    return str(folder)


def _code(copy: Path, path: str) -> dict[str, str]:
    """Slipway's own packages are taken from the copy: an edit during a rehearsal is not seen halfway through it."""
    if _yaml(copy / "Pulumi.yaml").get("name") != NAME:
        return {}
    return {"PYTHONPATH": os.pathsep.join(p for p in (str(copy), path) if p)}


def environment(base: Mapping[str, str], folder: Path, nonce: str) -> dict[str, str]:
    """A home, a backend and a Pulumi of its own; credentials, kubeconfig and metadata servers lead nowhere."""
    missing = str(folder / "home" / "there-are-no-credentials-in-a-rehearsal")
    return {
        **{k: base[k] for k in KEPT if k in base},
        MARK: nonce,
        "HOME": str(folder / "home"),
        "PULUMI_HOME": str(folder / "pulumi-home"),
        "PULUMI_BACKEND_URL": f"file://{folder / 'backend'}",
        "PULUMI_CONFIG_PASSPHRASE": "",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "PULUMI_IGNORE_AMBIENT_PLUGINS": "true",  # a pulumi-resource-* on PATH is a real one
        "PULUMI_DISABLE_REGISTRY_RESOLVE": "true",
        "PULUMI_DIY_BACKEND_DISABLE_CHECKPOINT_BACKUPS": "true",
        "PULUMI_PARALLEL": str(PARALLEL),
        "PULUMI_PYTHON_CMD": sys.executable,
        "SLIPWAY_SIMULATOR_WORLD": str(folder / "world.json"),
        "KUBECONFIG": missing,
        "AWS_CONFIG_FILE": missing,
        "AWS_SHARED_CREDENTIALS_FILE": missing,
        "AWS_EC2_METADATA_DISABLED": "true",
        "GOOGLE_APPLICATION_CREDENTIALS": missing,
        "CLOUDSDK_CONFIG": missing,
        "GCE_METADATA_HOST": "127.0.0.1:9",
        "GCE_METADATA_IP": "127.0.0.1:9",
        "NO_GCE_CHECK": "true",
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), NOWHERE),
        **dict.fromkeys(("NO_PROXY", "no_proxy"), HERE),
    }


def _plugins(folder: Path) -> list[dict[str, str]]:
    """The simulators as plugins by path, which Pulumi prefers to PATH and to its cache."""
    from simulators import CLOUDS

    entries = []
    for cloud in CLOUDS:
        place = folder / cloud
        place.mkdir()
        script = place / f"pulumi-resource-{cloud}"
        python = shlex.quote(sys.executable)
        script.write_text(f'#!/bin/sh\nexec {python} -P -u -m simulators.plugin {cloud} "$@"\n')
        script.chmod(0o700)
        entries.append({"name": cloud, "path": str(place)})
    return entries


def _copy(project: Project, stack: str, target: Path, plugins: list[dict[str, str]]) -> tuple[Project, tuple[str, ...]]:
    def skipped(folder: str, names: list[str]) -> list[str]:
        return [n for n in names if n.startswith(".") or n in LEFT_OUT or n.endswith(".egg-info")]

    shutil.copytree(project.folder, target, ignore=skipped, ignore_dangling_symlinks=True)
    whole = _yaml(project.folder / "Pulumi.yaml")
    kept = {k: whole[k] for k in PROJECT_KEYS if k in whole}
    file = {**kept, "runtime": _runtime(whole, project.folder), "plugins": {"providers": plugins}}
    (target / "Pulumi.yaml").write_text(yaml.safe_dump(file, sort_keys=False))
    copy = Project(folder=target, config_folder=target / project.config_folder.relative_to(project.folder))
    for other in copy.config_folder.glob("Pulumi.*.yaml"):
        other.unlink()  # of other stacks: with secrets that are none of this rehearsal's business
    source = project.config_file(stack)
    config, placeholders = _opened((_yaml(source).get("config") if source.is_file() else None) or {})
    copy.config_file(stack).write_text(yaml.safe_dump({"config": config}, sort_keys=False))
    return copy, tuple(placeholders)


def _runtime(project: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The project's own interpreter, by its full path; this one where the project names none."""
    runtime = project.get("runtime")
    name = runtime.get("name") if isinstance(runtime, dict) else runtime
    if name != "python":
        raise CliError(f"{folder / 'Pulumi.yaml'}: runtime: '{name}' cannot be rehearsed; allowed: python", USAGE)
    options = (runtime.get("options") or {}) if isinstance(runtime, dict) else {}
    venv = Path(folder, options["virtualenv"]) if "virtualenv" in options else Path(sys.prefix)
    if not (venv / "bin" / "python").exists() or not (venv / "pyvenv.cfg").exists():
        if "virtualenv" in options:
            raise CliError(f"{folder / 'Pulumi.yaml'}: runtime.options.virtualenv: {venv} is none", USAGE)
        return {"name": "python"}
    return {"name": "python", "options": {"toolchain": "pip", "virtualenv": str(venv)}}


def _probe(folder: Path, original: Path, plugins: list[dict[str, str]]) -> None:
    runtime = _runtime(_yaml(original / "Pulumi.yaml"), original)
    file = {"name": "probe", "runtime": runtime, "plugins": {"providers": plugins}}
    (folder / "Pulumi.yaml").write_text(yaml.safe_dump(file, sort_keys=False))
    (folder / "Pulumi.probe.yaml").write_text("config: {}\n")
    (folder / "__main__.py").write_text(PROBE)


def _opened(config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The configuration without its encrypted values, and the keys that had one."""
    found: list[str] = []

    def plain(value: object, key: str) -> object:
        if isinstance(value, dict):
            if set(value) == {"secure"}:
                found.append(key)
                return SECRET
            return {k: plain(v, key) for k, v in value.items()}
        return [plain(v, key) for v in value] if isinstance(value, list) else value

    return {k: plain(v, k) for k, v in config.items()}, found


def _yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise CliError(f"{path}: not readable as YAML: {e}", USAGE) from None
    if not isinstance(data, dict | None):
        raise CliError(f"{path}: must hold keys and values", USAGE)
    return data or {}
