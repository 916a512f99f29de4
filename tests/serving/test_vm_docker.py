"""The rendered commands in docker's own client: what it would ask of the daemon of the machine."""

from __future__ import annotations

import json
import os
import shutil
import socketserver
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from serving import vm
from tests.serving.test_vm import COMBINATIONS, SECRETS, files, made
from tests.serving.test_vm_by_id import made as made_by_id

pytestmark = pytest.mark.skipif(shutil.which("docker") is None, reason="docker's client is not on PATH")


GIVEN = "fail() { :; }; devices='--device /dev/null'\n"  # by vm.sh, which reads these files


class Daemon(socketserver.ThreadingUnixStreamServer):
    """It says that it is one, keeps what is asked, and starts nothing."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), Handler)
        self.asked: dict[str, dict[str, Any]] = {}


class Handler(BaseHTTPRequestHandler):
    server: Daemon  # type: ignore[assignment]

    def do_HEAD(self) -> None:
        self._answer(200, b"")

    def do_GET(self) -> None:
        self.do_HEAD()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if "/containers/create" in self.path:
            self.server.asked[self.path.rpartition("name=")[2]] = json.loads(body)
        self._answer(500, b'{"message": "nothing is started here"}')

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        for name, value in (("Api-Version", "1.41"), ("OSType", "linux"), ("Content-Type", "application/json")):
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def address_string(self) -> str:
        return "socket"

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def daemon() -> Iterator[tuple[Daemon, dict[str, str]]]:
    with tempfile.TemporaryDirectory(prefix="d-") as place:
        server = Daemon(Path(place) / "sock")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield (
                server,
                {"PATH": os.environ["PATH"], "HOME": place, "DOCKER_HOST": f"unix://{place}/sock", "RUN": place},
            )
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def asked(text: str) -> dict[str, dict[str, Any]]:
    """By container: what the daemon is asked to create by each command of the machine."""
    told = files(text)
    with daemon() as (server, environment):
        for name in ("server.models.run", "server.run"):
            if f"/etc/slipway/{name}" in told:
                script = f"{GIVEN}{told[f'/etc/slipway/{name}']}"
                done = subprocess.run(
                    ["sh", "-c", script], env=environment, capture_output=True, text=True, check=False
                )
                assert done.returncode == 125, done.stderr
        return server.asked


@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
def test_the_daemon_is_asked_for_a_bounded_container(combination: tuple[str, str, str, str]) -> None:
    plan, container = made(*combination)
    cloud, pod = plan.spec.cloud, container.pod
    assert pod is not None
    group = {"log_group": "slipway-x"} if cloud == "aws" else {}
    text = vm.user_data(container, plan.pools[0], cloud=cloud, env={"A": "1"}, secrets=SECRETS, **group)
    found = asked(text)
    assert set(found) == {"slipway-server", *(["slipway-server-models"] if pod.init else [])}
    own = found["slipway-server"]
    host = own["HostConfig"]
    assert (own["Entrypoint"], own["Cmd"]) == ([container.command[0]], [*container.command[1:], *container.args])
    assert own["StopTimeout"] == int(container.stop_timeout_s)
    assert (host["NetworkMode"], host["ReadonlyRootfs"]) == ("host", True)
    assert host["LogConfig"]["Type"] == {"gcp": "gcplogs", "aws": "awslogs"}[cloud]
    assert {u["Name"] for u in host["Ulimits"]} == {"memlock", "stack", "nofile"}
    assert host["ShmSize"] == container.shm_mib << 20
    written = {m["Target"] for m in host["Mounts"] if m["Type"] == "volume"}
    assert written == {path for path, folder in pod.folders.items() if not folder.memory}
    assert [m["Target"] for m in host["Mounts"] if m.get("ReadOnly")] == [pod.config_path]
    for each in found.values():
        privileged = plan.pools[0].tpu_topology is not None and each is own
        assert each["HostConfig"]["Privileged"] is privileged
        if plan.pools[0].tpu_topology is None:
            assert (each["User"], each["HostConfig"]["CapDrop"]) == ("1000:1000", ["ALL"])
            assert each["HostConfig"]["SecurityOpt"] == ["no-new-privileges"]
    gpus = bool(host["DeviceRequests"])
    assert gpus is (cloud == "aws" and plan.pools[0].accelerator != "none")


def test_what_stands_beside_the_server_is_kept_by_docker() -> None:
    plan, container = made_by_id("aws")
    found = asked(vm.user_data(container, plan.pools[0], cloud="aws", secrets=SECRETS))
    assert set(found) == {f"slipway-server{end}" for end in ("", "-models", "-by-id", "-front")}
    for end in ("-by-id", "-front"):
        host = found[f"slipway-server{end}"]["HostConfig"]
        assert host["RestartPolicy"]["Name"] == "always"
        assert (host["ReadonlyRootfs"], host["CapDrop"]) == (True, ["ALL"])
    assert found["slipway-server"]["HostConfig"]["RestartPolicy"]["Name"] in ("", "no"), "systemd starts it again"
