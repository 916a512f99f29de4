"""A model in the real local Triton, with the plan's own configuration, before anything is uploaded."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cli.errors import CliError
from infra.clouds.local import probe, servers
from infra.plan import Plan
from infra.spec import Spec
from serving import process, python_stub, triton_pod, triton_rewrite
from serving.container import ContainerSpec, FileContent

WAIT_S = 90
STOP_S = 20


def possible(spec: Spec, model: int) -> str | None:
    """Why this machine cannot try it; None: it can."""
    if spec.server != "triton" or spec.models[model].format != "onnx":
        return f"{spec.models[model].format} for {spec.server} has no server on this machine"
    if servers.triton() is None or servers.stub() is None:
        return f"the local Triton is not installed ({servers.INSTALL})"
    return None


def run(plan: Plan, name: str, project: Path) -> Sequence[str]:
    """Loads the model and asks it; what that does not prove comes back. Raises CliError with the server's words."""
    container = triton_pod.pod(plan, plan.pools[0], project=project, uploaded="")
    upload = triton_pod.uploads(plan, project=project)
    assert upload is not None
    configs = [m["config"] for m in triton_pod.config_of(container) if m["name"] == name]
    rewritten = triton_rewrite.rewrite([c for c in configs if isinstance(c, Mapping)])
    with tempfile.TemporaryDirectory(prefix="slipway-trial-") as place:
        folder = Path(place)
        servers.lay_out_triton(folder / "triton")
        _write({**upload.files, **rewritten.files}, folder / "models", project)
        settings, http = _settings(container, rewritten.configs, folder)
        _tried(container, name, settings, http, folder)
    return rewritten.unproven


def of(plan: Plan, index: int, source: Path, version: int) -> Spec:
    """The stack's specification with one model from this machine, and nothing else of it."""
    model = replace(plan.spec.models[index], storage_uri=str(source.resolve()), version=version, labels={})
    return replace(plan.spec, models=(model,), model_access="direct", feature_store="none", features=None, batch=None)


def _settings(
    container: ContainerSpec, configs: Sequence[Mapping[str, object]], folder: Path
) -> tuple[dict[str, object], int]:
    assert container.pod is not None
    settings = json.loads(container.pod.config["start.json"])
    ports = _free(3)
    moved = {str(p): str(q) for p, q in zip((8000, 8001, 8002), ports, strict=True)} | {"0.0.0.0": "127.0.0.1"}
    command = []
    for word in settings["command"]:
        flag, _, value = word.replace(triton_pod.HOME, str(folder / "triton")).partition("=")
        command.append(f"{flag}={moved.get(value, value)}" if value else flag)
    models = [{"name": c["name"], "config": c} for c in configs]
    mine = {"command": command, "port": ports[0], "models": models, "repositories": [str(folder / "models")]}
    return settings | mine, ports[0]


def _tried(container: ContainerSpec, name: str, settings: Mapping[str, object], http: int, folder: Path) -> None:
    config, log = folder / "start.json", folder / "log"
    config.write_text(json.dumps(settings))
    environment = {"PATH": f"{servers.binaries()}:/usr/bin:/bin", **python_stub.environment()}
    with log.open("wb") as out:
        started = subprocess.Popen(
            [sys.executable, str(triton_pod.SCRIPT), str(config)],
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=environment,
        )
    try:
        end, why = time.monotonic() + WAIT_S, "it did not answer"
        asked = next(p for p in (process.probe(x) for x in container.probes) if p["name"] == name)
        while time.monotonic() < end and started.poll() is None:
            answer = probe.ask(http, asked)
            if answer.ok:
                return
            why = answer.reason or why
            time.sleep(0.2)
        words = [w for w in log.read_text(errors="replace").splitlines() if w.strip()]
        said = next((w for w in words if w.startswith("cannot start")), words[-1] if words else why)
        raise CliError(f"{name}: the local Triton does not serve it: {said if started.poll() is not None else why}")
    finally:
        started.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(STOP_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def _write(files: Mapping[str, FileContent], folder: Path, project: Path) -> None:
    for key, content in files.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        if content.text is not None:
            path.write_text(content.text)
        else:
            assert content.path is not None
            path.symlink_to(project / content.path)


def _free(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [int(s.getsockname()[1]) for s in sockets]
