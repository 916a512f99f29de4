"""Envoy: the one entry of the local stack. Its configuration is given, its endpoints come from Endpoints' files."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from infra.clouds.local import servers
from infra.clouds.local.eds import endpoint_file, write_endpoints
from infra.clouds.local.kind import Checked, Fault, LocalError, check_fields
from infra.clouds.local.machine import running
from infra.clouds.local.preflight import port_faults
from infra.clouds.local.process import ProcessKind
from infra.clouds.local.root import Inputs, Root, write_text
from infra.clouds.local.supervision import Program


class Envoy(ProcessKind):
    """slipway:local:Envoy. `config` may name ${endpoints}, the folder of its endpoint files."""

    token = "slipway:local:Envoy"
    required: Mapping[str, type] = {"name": str, "config": str, "ports": dict, "clusters": list}
    optional: Mapping[str, object] = {"concurrency": 1}
    record_kind = "Envoy"
    start_seconds = 60.0  # measured: 0.09 s

    def check(self, root: Root, inputs: Inputs, olds: Inputs) -> Checked:
        checked = check_fields(self, inputs)
        faults = list(checked.faults)
        ports = checked.inputs.get("ports")
        if isinstance(ports, dict):
            before = olds.get("ports")
            held = set(before.values()) if isinstance(before, dict) else set()
            faults += port_faults(root, {k: p for k, p in ports.items() if p not in held})
            if "admin" not in ports:
                faults.append(Fault(path="ports", reason="needs `admin`, the port of Envoy's own interface."))
        return Checked(inputs=checked.inputs, faults=faults)

    def program(self, root: Root, inputs: Inputs) -> Program:
        ports = inputs["ports"]
        assert isinstance(ports, dict)
        digest = hashlib.sha256(self._text(root, inputs).encode()).hexdigest()
        arguments = ["-c", str(self._config(root, inputs)), "--concurrency", str(inputs["concurrency"])]
        return Program(
            name=str(inputs["name"]),
            command=[str(servers.envoy()), *arguments, "--log-level", "warn", "--disable-hot-restart"],
            env={"PATH": "/usr/bin:/bin", "SLIPWAY_CONFIG": digest},  # another configuration is another program
            cwd=str(root.path),
            ports=ports,
        )

    def prepare(self, root: Root, inputs: Inputs) -> None:
        clusters = inputs["clusters"]
        assert isinstance(clusters, list)
        for cluster in clusters:
            if not endpoint_file(root, cluster).is_file():  # Envoy refuses to start without it
                write_endpoints(root, cluster, [], set())
        text = self._text(root, inputs)
        path = self._config(root, inputs)
        if not path.is_file() or path.read_text() != text:
            self._validate(text)
            write_text(path, text)

    def file_drift(self, root: Root, inputs: Inputs) -> list[str]:
        path = self._config(root, inputs)
        same = path.is_file() and path.read_text() == self._text(root, inputs)
        return [] if same else [f"{path.relative_to(root.path)} was changed or removed"]

    def apply(self, root: Root, inputs: Inputs, olds: Inputs | None) -> Inputs:
        if self.file_drift(root, inputs) and self._started_with_what_is_there(root, inputs):
            self._validate(self._text(root, inputs))  # before the running one goes: a stack that works keeps working
            root.conf(str(inputs["name"])).unlink(missing_ok=True)  # so that it starts again with the right file
        return super().apply(root, inputs, olds)

    def _started_with_what_is_there(self, root: Root, inputs: Inputs) -> bool:
        """Whether the running Envoy read the file as it is now, or one that it was before somebody changed it."""
        path, pid = self._config(root, inputs), running(root, str(inputs["name"]))
        if pid is None or not path.is_file():
            return False
        with suppress(psutil.NoSuchProcess):
            return path.stat().st_mtime < psutil.Process(pid).create_time()
        return False

    def unready(self, root: Root, inputs: Inputs) -> str:
        ports = inputs["ports"]
        assert isinstance(ports, dict)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{ports['admin']}/ready", timeout=2) as response:
                answer = response.read().decode().strip()
        except OSError as e:
            return str(e)
        return "" if answer == "LIVE" else answer

    def remove_files(self, root: Root, name: str) -> None:
        shutil.rmtree(root.path / "envoy", ignore_errors=True)

    def _config(self, root: Root, inputs: Inputs) -> Path:
        return root.path / "envoy" / f"{inputs['name']}.yaml"

    def _text(self, root: Root, inputs: Inputs) -> str:
        return str(inputs["config"]).replace("${endpoints}", str(root.path / "envoy"))

    def _validate(self, text: str) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
            f.write(text)
            f.flush()
            command = [str(servers.envoy()), "-c", f.name, "--mode", "validate", "--log-level", "error"]
            done = subprocess.run(
                [*command, "--disable-hot-restart"], capture_output=True, text=True, check=False, timeout=60
            )
        if done.returncode:
            raise LocalError(f"Envoy refuses its configuration: {(done.stderr or done.stdout).strip()[-600:]}")
