"""The start script with a real Triton: models with the plan's configuration, closed interfaces, drain, faults."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.grpc as grpc

from serving import python_stub, triton, triton_pod, triton_rewrite
from tests.serving.clouds import cloud_plan
from tests.serving.conftest import PREFIX
from tests.serving.rewriting import rewritten
from tests.serving.servers import (
    PROJECT,
    answers,
    ask,
    by_id,
    by_pixels,
    free_ports,
    load_features,
    outputs,
    running,
    wait_for,
    write,
)

pytestmark = pytest.mark.real


@dataclass(frozen=True, kw_only=True)
class Start:
    """The script's settings for this machine, and its server."""

    settings: dict[str, Any]
    http: int
    grpc: int
    folder: Path
    unproven: tuple[str, ...]

    @contextlib.contextmanager
    def run(self) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
        config, log = self.folder / "start.json", self.folder / "log"
        config.write_text(json.dumps(self.settings))
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        environment = {
            "PATH": path,
            "TMPDIR": str(self.folder),
            "SLIPWAY_REPOSITORY_0": str(self.folder / "models"),
            **python_stub.environment(),
        }
        with running([sys.executable, str(triton_pod.SCRIPT), str(config)], log, environment) as process:
            yield process, log

    def ready(self) -> bool:
        return answers(self.http, f"/v2/models/{self.settings['models'][-1]['name']}/ready")


@pytest.fixture
def start(tmp_path: Path, triton_home: Path) -> Start:
    """The gke-gpu stack's server, rewritten for this machine: home, addresses, ports, and `onnx-on-cpu`."""
    plan = cloud_plan(accelerator="l4")
    upload = triton_pod.uploads(plan, project=PROJECT)
    assert upload is not None
    container = triton_pod.pod(plan, plan.pools[0], project=PROJECT, uploaded="gs://bucket/digest")
    assert container.pod is not None
    settings = json.loads(container.pod.config["start.json"])
    http, grpc_port, metrics = free_ports(3)
    ports = {8000: http, 8001: grpc_port, 8002: metrics}
    mine, unproven = rewritten(settings, upload, models=tmp_path / "models", home=triton_home, ports=ports)
    return Start(settings=mine, http=http, grpc=grpc_port, folder=tmp_path, unproven=unproven)


def test_it_serves_with_the_plans_configuration(
    start: Start, features: tuple[list[str], npt.NDArray[np.float32], npt.NDArray[np.int64]]
) -> None:
    """Loaded by override: the repository has no config.pbtxt, and the server says the plan's numbers of the model."""
    _, pixels, labels = features
    assert not list(start.folder.rglob("config.pbtxt"))
    print(*(f"not proven: {line}" for line in start.unproven), sep="\n")
    assert any("GPU" in line for line in start.unproven)
    with start.run() as (process, log):
        wait_for(start.ready, 30, "the model")
        status, answer = ask(start.http, "/v2/models/digits/infer", by_pixels(pixels[:4]))
        assert status == 200
        assert outputs(answer)["label"] == labels[:4].tolist()
        wanted = start.settings["models"][0]["config"]
        said = _config(start, process.pid)
        assert said["max_batch_size"] == wanted["max_batch_size"]
        policy = said["dynamic_batching"]["default_queue_policy"]
        assert policy["max_queue_size"] == wanted["dynamic_batching"]["default_queue_policy"]["max_queue_size"]
        assert "loaded digits" in log.read_text()


def _config(start: Start, script: int) -> dict[str, Any]:
    """The configuration that the server has, asked with the key from its own command line."""
    server = next(
        p
        for p in Path("/proc").iterdir()
        if p.name.isdigit() and _parent(p) == script and "tritonserver" in _words(p)[0]
    )
    key = next(w for w in _words(server) if w.startswith("--http-restricted-api")).rpartition("=")[2]
    connection = http.client.HTTPConnection("127.0.0.1", start.http, timeout=10)
    connection.request("GET", "/v2/models/digits/config", headers={"slipway-key": key})
    said = json.loads(connection.getresponse().read())
    connection.close()
    assert isinstance(said, dict)
    return said


def _words(process: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return (process / "cmdline").read_text().split("\0") or [""]
    return [""]


def _parent(process: Path) -> int:
    with contextlib.suppress(OSError):
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    return 0


def with_by_id(start: Start, redis_port: int, wheels: Path, value_bytes: int = 256) -> Start:
    """The same server with predictions by id: our code and the store's client beside the model, as uploaded."""
    features = {"keys": 1797, "value_bytes": value_bytes}
    plan = cloud_plan(feature_store="memorystore", features=features)
    upload = triton_pod.uploads(plan, project=PROJECT, wheels=wheels)
    assert upload is not None
    write({k: c for k, c in upload.files.items() if k.startswith("digits_by_id/")}, start.folder / "models")
    store = triton.Store(url=f"redis://127.0.0.1:{redis_port}/0", key_prefix=PREFIX)
    pod = triton_pod.pod(plan, plan.pools[0], project=PROJECT, uploaded="gs://bucket/digest", store=store).pod
    assert pod is not None
    assert pod.startup.command == ("test", "-f", triton_pod.STARTED)
    said = json.loads(pod.config["start.json"])
    mine = {"by_id": said["by_id"], "started": str(start.folder / "started")}
    return dataclasses.replace(start, settings=start.settings | mine)


def test_predictions_by_id_are_made_from_what_the_server_read(
    start: Start,
    redis_server_of_all: tuple[int, int],
    features: tuple[list[str], npt.NDArray[np.float32], npt.NDArray[np.int64]],
    tmp_path: Path,
) -> None:
    """Nobody read the model's file before: inputs and outputs of the look-up come from the running server."""
    ids, pixels, labels = features
    load_features(redis_server_of_all[0], PREFIX, ids, pixels)
    whole = with_by_id(start, redis_server_of_all[0], wheels_folder())
    with whole.run() as (_, log):
        wait_for((start.folder / "started").exists, 40, f"all models, see {log}")
        status, answer = ask(whole.http, "/v2/models/digits_by_id/infer", by_id(ids[:5]))
        assert status == 200, answer
        assert outputs(answer)["label"] == labels[:5].tolist()
        from_wheel = next(start.folder.glob("slipway-????????????/redis"), None)
        assert from_wheel is not None


def test_features_of_another_size_leave_the_model_without_it(
    start: Start, redis_server_of_all: tuple[int, int]
) -> None:
    """The server goes on, and says why there is no prediction by id."""
    other = with_by_id(start, redis_server_of_all[0], wheels_folder(), value_bytes=128)
    with other.run() as (_, log):
        wait_for((start.folder / "started").exists, 40, f"all models, see {log}")
        assert "digits_by_id is not served: an item of input pixels has 256 bytes" in log.read_text()
        assert other.ready()
        assert ask(other.http, "/v2/models/digits_by_id/ready")[0] != 200


def wheels_folder() -> Path:
    """Kept between runs: the project's own."""
    return PROJECT / ".slipway" / "wheels"


def test_nobody_without_the_key_changes_the_server(start: Start) -> None:
    """Loading a model runs code: neither over HTTP nor over gRPC."""
    with start.run():
        wait_for(start.ready, 30, "the model")
        for path in ("/v2/repository/models/digits/unload", "/v2/repository/index", "/v2/systemsharedmemory/status"):
            status, answer = ask(start.http, path, {})
            assert (status, "restricted" in str(answer)) == (403, True), path
        with grpc.InferenceServerClient(f"127.0.0.1:{start.grpc}") as client:
            assert client.is_model_ready("digits")
            with pytest.raises(grpc.InferenceServerException, match="restricted"):
                client.unload_model("digits")
        assert start.ready()


def test_sigterm_answers_what_is_under_way(
    start: Start, features: tuple[list[str], npt.NDArray[np.float32], npt.NDArray[np.int64]]
) -> None:
    """The order to stop reaches the server, which answers first; the script ends with its status, and nothing stays."""
    batching = start.settings["models"][0]["config"]["dynamic_batching"]
    batching |= {"max_queue_delay_microseconds": "3500000", "preferred_batch_size": [32]}  # it waits for others
    answered: list[int] = []

    def send() -> None:
        answered.append(ask(start.http, "/v2/models/digits/infer", by_pixels(features[1][:1]))[0])

    with start.run() as (process, log):
        wait_for(start.ready, 30, "the model")
        threads = [threading.Thread(target=send) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.4)
        assert not answered, "they were to wait in the queue"
        os.kill(process.pid, signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert process.wait(30) == 0, log.read_text()[-2000:]
        assert answered == [200] * 4
        assert not answers(start.http, "/v2/health/live")


def test_sigterm_during_the_start_is_obeyed(start: Start) -> None:
    with start.run() as (process, log):
        wait_for(lambda: log.exists() and log.stat().st_size > 0, 10, "its first word")
        os.kill(process.pid, signal.SIGTERM)
        process.wait(20)
        assert "cannot start" not in log.read_text()
        assert not answers(start.http, "/v2/health/live")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"max_batch": 3}, "digits: .*failed to"),
        ({"backend": "nonesuch"}, "digits: .*nonesuch"),
        ({"version_policy": {"specific": {"versions": ["7"]}}}, "digits: .*version"),
    ],
)
def test_a_wrong_configuration_ends_with_its_reason(start: Start, change: dict[str, object], reason: str) -> None:
    """Not a server without its model that looks well: an end, with the reason in the log."""
    start.settings["models"][0]["config"] |= change
    with start.run() as (process, log):
        assert process.wait(40) == 1
        text = log.read_text()
    said = next(line for line in text.splitlines() if line.startswith("cannot start"))
    assert re.search(reason, said), said
    assert not answers(start.http, "/v2/health/live")


def test_a_flag_that_the_server_does_not_know_is_told(start: Start) -> None:
    start.settings["command"].append("--no-such-flag=1")
    with start.run() as (process, log):
        assert process.wait(20) == 1
        assert "cannot start: the server ended with status" in log.read_text()


def test_a_killed_server_is_a_failed_container(start: Start) -> None:
    """The kubelet restarts the container: the script must not outlive its server, nor call it a success."""
    with start.run() as (process, _):
        wait_for(start.ready, 30, "the model")
        server = next(int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and _parent(p) == process.pid)
        os.kill(server, signal.SIGKILL)
        assert process.wait(10) != 0


def test_the_rewrite_takes_nothing_else() -> None:
    with pytest.raises(ValueError, match="backend onnxruntime"):
        triton_rewrite.rewrite([{"name": "m", "backend": "tensorrt"}])
