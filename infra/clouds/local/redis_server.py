"""Redis: the feature store of the local stack, with an append-only file so that a crash keeps the data."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

from infra.clouds.local import servers
from infra.clouds.local.kind import Checked, check_fields
from infra.clouds.local.preflight import port_faults
from infra.clouds.local.process import ProcessKind
from infra.clouds.local.root import Inputs, Root
from infra.clouds.local.supervision import Program


class Redis(ProcessKind):
    """slipway:local:Redis."""

    token = "slipway:local:Redis"
    required: Mapping[str, type] = {"name": str, "port": int}
    optional: Mapping[str, object] = {"max_memory_mib": 256}
    record_kind = "Redis"
    start_seconds = 60.0  # measured: 0.012 s; more when a large append-only file is read back

    def check(self, root: Root, inputs: Inputs, olds: Inputs) -> Checked:
        checked = check_fields(self, inputs)
        port = checked.inputs.get("port")
        faults = list(checked.faults)
        if isinstance(port, int) and port != olds.get("port"):
            faults += port_faults(root, {"Redis": port})
        return Checked(inputs=checked.inputs, faults=faults)

    def outputs(self, root: Root, inputs: Inputs) -> Inputs:
        return {**inputs, "address": f"redis://127.0.0.1:{inputs['port']}"}

    def program(self, root: Root, inputs: Inputs) -> Program:
        name, port = str(inputs["name"]), inputs["port"]
        assert isinstance(port, int)
        options = {
            "bind": "127.0.0.1",
            "port": str(port),
            "dir": str(self._data(root, name)),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory": f"{inputs['max_memory_mib']}mb",
            "maxmemory-policy": "noeviction",
        }
        command = [str(servers.redis()), *(x for key, value in options.items() for x in (f"--{key}", value))]
        return Program(
            name=name,
            command=command,
            env={"PATH": "/usr/bin:/bin"},
            cwd=str(root.path),
            ports={"redis": port},
        )

    def prepare(self, root: Root, inputs: Inputs) -> None:
        self._data(root, str(inputs["name"])).mkdir(parents=True, exist_ok=True)

    def unready(self, root: Root, inputs: Inputs) -> str:
        port = inputs["port"]
        assert isinstance(port, int)
        return unready(port)

    def remove_files(self, root: Root, name: str) -> None:
        shutil.rmtree(self._data(root, name), ignore_errors=True)

    @staticmethod
    def _data(root: Root, name: str) -> Path:
        return root.path / "data" / name


def unready(port: int) -> str:
    """Why Redis does not answer PING, '' when it does (-LOADING while it reads its file back)."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as s:
            s.sendall(b"PING\r\n")
            answer = s.recv(64)
    except OSError as e:
        return str(e)
    return "" if answer.startswith(b"+PONG") else answer.decode(errors="replace").strip()
