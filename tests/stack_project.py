"""A project of its own for a test of the whole local stack: own folder, own ports, the code of this tree."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from infra.clouds.local.root import Root

ROOT = Path(__file__).resolve().parents[1]
SLIPWAY = Path(sys.executable).with_name("slipway")


def free_block(size: int = 100) -> int:
    """First port of a block in which nothing on this machine listens, below the range of outgoing connections."""
    taken = {c.laddr.port for c in psutil.net_connections("tcp") if c.laddr}
    for base in range(20000 + os.getpid() % 50 * size, 32000, size):
        if not taken & set(range(base, base + size)):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", base))
            return base
    raise RuntimeError("no free block of ports below 32000")


@dataclass
class Project:
    """The `slipway` command over a temporary project whose stack `local` has its own ports."""

    folder: Path
    port: int
    engine: str = "embedded"
    env: dict[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.folder / ".slipway" / "local"

    @property
    def config_file(self) -> Path:
        return self.folder / "config" / "Pulumi.local.yaml"

    def set(self, **keys: Any) -> None:
        data = yaml.safe_load(self.config_file.read_text())
        data["config"].update({f"slipway:{k}": v for k, v in keys.items()})
        self.config_file.write_text(yaml.safe_dump(data, sort_keys=False))

    def command(self, *args: str, engine: str | None = None) -> list[str]:
        return [str(SLIPWAY), "--project", str(self.folder), "--engine", engine or self.engine, *args]

    def environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, **self.env, **more}

    def run(
        self,
        *args: str,
        code: int | None = 0,
        env: Mapping[str, str] | None = None,
        engine: str | None = None,
        timeout: float = 240,
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*args, engine=engine),
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            env=self.environment(**(env or {})),
        )
        if code is not None:
            assert done.returncode == code, f"{args}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*args),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            stdin=subprocess.DEVNULL,
            env=self.environment(),
        )

    def deployment(self) -> dict[str, Any]:
        deployment: dict[str, Any] = json.loads(self.run("export", "local").stdout)["deployment"]
        return deployment

    def processes(self) -> dict[int, str]:
        """Every living process that has this project's folder in its command line, but not the tests themselves."""
        found = {}
        for process in psutil.process_iter(["pid", "cmdline", "status"]):
            line = " ".join(process.info["cmdline"] or [])
            if str(self.folder) in line and process.info["status"] != psutil.STATUS_ZOMBIE:
                found[process.info["pid"]] = line
        return found

    def listening(self) -> set[int]:
        block = range(self.port, self.port + 100)
        return {c.laddr.port for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port in block}


@contextlib.contextmanager
def temporary() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="slipway-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def stop_all(project: Project) -> None:
    """Whatever a failed test left running is ended by pid."""
    project.run("destroy", "local", "--yes", code=None)
    for pid in project.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()


def make_project(folder: Path, plugin: Path | None = None, **keys: Any) -> Project:
    """A project folder that links to this tree's code and has a configuration folder of its own."""
    for name in ("stacks", "infra", "serving", ".venv"):
        (folder / name).symlink_to(ROOT / name)
    project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
    project["stackConfigDir"] = "config"
    if plugin is not None:
        (folder / "plugin").symlink_to(plugin)
        project["plugins"]["providers"][0]["path"] = "plugin"
    (folder / "Pulumi.yaml").write_text(yaml.safe_dump(project, sort_keys=False))
    (folder / "config").mkdir()
    made = Project(folder, free_block(), env={"SLIPWAY_TEST_PYTHON": sys.executable})
    shutil.copy(ROOT / "stacks/config/Pulumi.local.yaml", made.config_file)
    made.set(port=made.port, **keys)
    return made


def shared_memory(project: Project) -> set[str]:
    """Regions in /dev/shm that are this stack's, or that no stack named: another stack's may come and go meanwhile."""
    mine = Root(path=project.root, stack="local").shm_prefix
    return {name for name in os.listdir("/dev/shm") if name.startswith((mine, "triton_python_backend_shm_region"))}


def leftovers(project: Project) -> list[str]:
    """What `destroy` must not leave: processes, listening ports, files, shared memory."""
    return [
        *(f"process {pid}: {line}" for pid, line in project.processes().items()),
        *(f"port {port}" for port in sorted(project.listening())),
        *(f"file {p}" for p in sorted((project.folder / ".slipway").rglob("*"))),
        *(f"shared memory {name}" for name in sorted(shared_memory(project))),
    ]


IDS = re.compile(r"^(id|pid|created|modified)$")
PAST = "pulumi:pulumi:StackReference"  # what the previous update left: another one each time


def without_ids(value: Any) -> Any:
    """A deployment without what a new life of the same thing may change: pids, ids, times."""
    if isinstance(value, dict):
        kept = {k: without_ids(v) for k, v in sorted(value.items()) if not IDS.match(k)}
        if isinstance(kept.get("provider"), str):  # urn::id of the provider, and its id is a new one in a new life
            kept["provider"] = kept["provider"].rpartition("::")[0]
        return kept
    if isinstance(value, list):
        return [without_ids(v) for v in value]
    return value


def resources(project: Project) -> dict[str, Any]:
    """URN -> the resource as the state has it, without ids."""
    return {r["urn"]: without_ids(r) for r in project.deployment()["resources"] if r["type"] != PAST}


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Where two states differ, a line each."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        return [line for k in keys for line in differences(old.get(k), new.get(k), f"{path}/{k}")]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            line for i, (x, y) in enumerate(zip(old, new, strict=True)) for line in differences(x, y, f"{path}[{i}]")
        ]
    return [] if old == new else [f"{path}: {old!r:.200} -> {new!r:.200}"]


def load(project: Project, seconds: int) -> subprocess.Popen[str]:
    return project.start("load", "local", "--clients", "8", "--protocol", "both", "--seconds", str(seconds), "--json")


def finished(running: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = running.communicate(timeout=600)
    assert out.strip(), err
    report: dict[str, Any] = json.loads(out)
    print({k: report[k] for k in ("count", "failed") if k in report})
    return report
