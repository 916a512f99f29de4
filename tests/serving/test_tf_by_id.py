"""Predictions by id beside TensorFlow Serving: the container's own script, a real Redis, a server of this process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from infra.plan import Plan
from serving import kubernetes, tf_by_id, tf_serving
from serving.container import ContainerSpec
from serving.triton import Store, client_files
from tests.serving.clouds import tf_plan
from tests.serving.conftest import PREFIX
from tests.serving.servers import PROJECT, answers, ask, free_ports, load_features, running, wait_for
from tests.serving.tf_server import TensorFlow, metadata, tensorflow

Features = tuple[list[str], npt.NDArray[np.float32], npt.NDArray[np.int64]]
PREDICT = "/v1/models/digits_by_id:predict"
STORE = Store(url="$SLIPWAY_STORE_URL", key_prefix=PREFIX)
FITS = metadata(pixels=("DT_FLOAT", [-1, 64]))


def plan(on_failure: str = "error", **changes: object) -> Plan:
    features = {"keys": 1797, "value_bytes": 256, "on_failure": on_failure}
    return tf_plan(feature_store="memorystore", features=features, **changes)


def pod(made: Plan) -> ContainerSpec:
    env = {"SLIPWAY_STORE_URL": "rediss://10.0.0.3:6378/0"}
    return tf_serving.pod(made, made.pools[0], project=PROJECT, uploaded="gs://own/digest", store=STORE, env=env)


@pytest.fixture
def server() -> Iterator[TensorFlow]:
    with tensorflow() as made:
        made.models["digits"] = FITS
        yield made


@contextmanager
def beside(server: TensorFlow, folder: Path, store_url: str, ready: bool = True, **changes: object) -> Iterator[Any]:
    """The container as the plan says, with ports of this machine; gives its port, its process and its log."""
    shutil.copytree(PROJECT / "serving/scripts", folder / "code", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "code/serving").mkdir()
    for name in client_files("memorystore"):
        shutil.copy(PROJECT / "serving" / name, folder / "code/serving" / name)
    (sidecar,) = (pod(plan()).pod or pytest.fail("no pod")).sidecars
    (port,) = free_ports(1)
    own = {"address": "127.0.0.1", "port": port, "upstream": f"http://127.0.0.1:{server.port}"}
    settings = json.loads(str(sidecar.env["SLIPWAY_BY_ID"])) | own | {"deadline_ms": 300} | changes
    environment = {"SLIPWAY_BY_ID": json.dumps(settings), "SLIPWAY_STORE_URL": store_url, "PATH": "/usr/bin:/bin"}
    program = folder / "code" / Path(sidecar.args[0]).name
    with running([sys.executable, str(program)], folder / "log", environment) as process:
        wait_for(lambda: answers(port, "/ready" if ready else "/metrics"), 20, f"by id, see {folder / 'log'}")
        yield port, process, folder / "log"


@pytest.fixture
def store(redis_server_of_all: tuple[int, int], features: Features) -> str:
    load_features(redis_server_of_all[0], PREFIX, features[0], features[1])
    return f"redis://127.0.0.1:{redis_server_of_all[0]}/0"


@pytest.mark.real
def test_it_predicts_from_the_stores_features(
    server: TensorFlow, store: str, features: Features, tmp_path: Path
) -> None:
    ids, pixels, _ = features
    with beside(server, tmp_path, store) as (port, _, log):
        order = [ids[7], ids[2], ids[7]]
        status, answer = ask(port, PREDICT, {"ids": order})
        wanted = [round(float(pixels[i].astype(float).sum()), 3) for i in (7, 2, 7)]
        assert (status, answer["predictions"]) == (200, pytest.approx(wanted, rel=1e-4))
        assert server.asked[-1][0] == "/v1/models/digits:predict"
        for words in ("/versions/3", "/labels/canary"):
            assert ask(port, f"/v1/models/digits_by_id{words}:predict", {"ids": ids[:2]})[0] == 200
            assert server.asked[-1][0] == f"/v1/models/digits{words}:predict"
        assert "digits_by_id is served" in log.read_text()
        assert ask(port, "/v1/models/digits_by_id") == (200, {"datatype": "FP32", "shape": [64]})
        metrics = str(ask(port, "/metrics")[1]["text"])
        assert 'slipway_feature_store_requests_total{model="digits_by_id"} ' in metrics

        # what the server refuses is the server's own answer, and one kept connection carries all
        refused = ask(port, PREDICT, {"ids": ids[:1], "signature_name": "none"})
        assert refused == (400, {"error": "Serving signature name: none not found"})
        before = server.connections
        for _ in range(5):
            assert ask(port, PREDICT, {"ids": ids[:1]})[0] == 200
        assert server.connections == before
        server.closes = True
        assert [ask(port, PREDICT, {"ids": ids[:1]})[0] for _ in range(4)] == [200] * 4

        for body, said in (
            ({"ids": []}, "at least one id"),
            ({"ids": [1.5]}, "at least one id"),
            ({"ids": [""]}, "empty id"),
            ({"instances": [[1]]}, "at least one id"),
        ):
            status, answer = ask(port, PREDICT, body)
            assert status == 400
            assert said in str(answer["error"])
        status, answer = ask(port, PREDICT, {"ids": [ids[0], "nobody"]})
        assert (status, answer["error"]) == (404, "unknown id 'nobody'")
        assert ask(port, "/v1/models/other_by_id:predict", {"ids": ["1"]})[0] == 404
        assert ask(port, "/v1/models/digits:predict", {"ids": ["1"]})[0] == 404


@pytest.mark.real
@pytest.mark.parametrize("on_failure", ["error", "default"])
def test_a_store_that_hangs_or_is_gone_never_hangs_a_request(
    server: TensorFlow, features: Features, tmp_path: Path, on_failure: str
) -> None:
    """Default features or an error, as configured, within the deadline of the look-up."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        for number, port in enumerate((silent.getsockname()[1], free_ports(1)[0])):
            folder = tmp_path / str(number)
            folder.mkdir()
            with beside(server, folder, f"redis://127.0.0.1:{port}/0", on_failure=on_failure) as (own, _, _log):
                began = time.monotonic()
                status, answer = ask(own, PREDICT, {"ids": ["1", "2"]})
                assert time.monotonic() - began < 5, "the deadline is 0.3 s"
                if on_failure == "default":
                    assert (status, answer) == (200, {"predictions": [0.0, 0.0]})
                else:
                    assert status == 503
                    assert "(id '1', '2')" in str(answer["error"])


@pytest.mark.real
def test_a_server_that_hangs_or_is_gone_is_told(
    server: TensorFlow, store: str, features: Features, tmp_path: Path
) -> None:
    """And so is one request too many, when none that is under way comes to an end."""
    ids = features[0]
    with beside(server, tmp_path, store, request_s=0.5, workers=1) as (port, _, _log):
        assert ask(port, PREDICT, {"ids": ids[:1]})[0] == 200
        server.pause_s = 3
        began = time.monotonic()
        status, answer = ask(port, PREDICT, {"ids": ids[:1]})
        assert (status, answer["error"]) == (503, "the model server does not answer: TimeoutError")
        assert time.monotonic() - began < 2.5
        together = [threading.Thread(target=ask, args=(port, PREDICT, {"ids": ids[:1]})) for _ in range(4)]
        for thread in together:
            thread.start()
        status, answer = ask(port, PREDICT, {"ids": ids[:1]})
        assert status == 503
        for thread in together:
            thread.join()


@pytest.mark.real
@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (metadata(a=("DT_FLOAT", [-1, 64]), b=("DT_FLOAT", [-1, 1])), "the model has 2 inputs"),
        (metadata(pixels=("DT_FLOAT", [-1, 32])), "has 128 bytes, and features.value_bytes is 256"),
        (metadata(pixels=("DT_STRING", [-1, 64])), "input pixels is DT_STRING"),
        (metadata(pixels=("DT_FLOAT", [-1, -1])), "not a batch of items of a known form"),
    ],
)
def test_a_model_whose_input_is_another_is_not_served(
    server: TensorFlow, store: str, tmp_path: Path, given: dict[str, object], reason: str
) -> None:
    """The server is asked, as nobody has read the model's file before; before it answers nothing is ready."""
    del server.models["digits"]
    with beside(server, tmp_path, store, ready=False) as (port, _, log):
        assert not answers(port, "/ready")
        status, answer = ask(port, PREDICT, {"ids": ["1"]})
        assert (status, answer["error"]) == (503, "digits is not loaded yet")
        server.models["digits"] = given
        wait_for(lambda: answers(port, "/ready"), 10, "the model")
        status, answer = ask(port, PREDICT, {"ids": ["1"]})
        assert status == 404
        assert reason in str(answer["error"])
        assert f"digits_by_id is not served: {answer['error']}".endswith(log.read_text().strip().partition(": ")[2])


@pytest.mark.real
def test_sigterm_answers_what_is_under_way(server: TensorFlow, store: str, features: Features, tmp_path: Path) -> None:
    with beside(server, tmp_path, store) as (port, process, _):
        server.pause_s = 1
        answered: list[int] = []
        asking = threading.Thread(target=lambda: answered.append(ask(port, PREDICT, {"ids": features[0][:1]})[0]))
        asking.start()
        wait_for(lambda: bool(server.asked), 5, "the request")
        os.kill(process.pid, signal.SIGTERM)
        asking.join()
        assert answered == [200]
        assert process.wait(5) == 0


def test_the_pod_divides_its_part() -> None:
    """Server and look-ups together ask for what the server alone did; only the look-ups get the store's address."""
    alone = tf_serving.pod(plan(), plan().pools[0], project=PROJECT).pod
    both = pod(plan()).pod
    assert alone is not None
    assert both is not None
    (sidecar,) = both.sidecars
    for field in ("cpu_milli", "memory_mib"):
        whole = getattr(alone.resources, field)
        assert getattr(both.resources, field) + getattr(sidecar.resources, field) == whole
    assert "SLIPWAY_STORE_URL" in sidecar.env
    assert "SLIPWAY_STORE_URL" not in both.env
    assert both.init is not None
    wanted = json.loads(str(both.init.env["SLIPWAY_SYNC"]))["models"]
    assert [(m["name"], m["versions"]) for m in wanted] == [("_by_id", [1])], "the server reads its models itself"
    assert sidecar.args == ("/models/_by_id/1/by_id.py",)


def test_models_and_code_are_copied_where_the_server_cannot_read() -> None:
    made = tf_plan("aws", feature_store="dynamodb", features={"keys": 1000, "value_bytes": 256})
    both = tf_serving.pod(made, made.pools[0], project=PROJECT, uploaded="s3://own/digest", store=STORE).pod
    assert both is not None
    assert both.init is not None
    wanted = json.loads(str(both.init.env["SLIPWAY_SYNC"]))["models"]
    assert [(m["name"], m["versions"]) for m in wanted] == [("_by_id", [1]), ("digits", [1])]
    assert both.sidecars[0].env["AWS_DEFAULT_REGION"] == "us-east-1"


def test_a_change_of_the_look_ups_is_a_new_generation() -> None:
    first, second = pod(plan()), pod(plan("default"))
    assert kubernetes.generation(plan(), [first]) != kubernetes.generation(plan(), [second])


def test_its_code_and_clients_stand_in_the_bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a stock Python image lacks: numpy and the store's client."""
    asked: list[tuple[object, ...]] = []

    def bundle(*words: object) -> object:
        asked.append(words)
        return tf_by_id.FileContent.of_text("wheels")

    monkeypatch.setattr(tf_by_id, "bundle", bundle)
    upload = tf_serving.uploads(plan(), project=PROJECT, wheels=tmp_path)
    assert upload is not None
    assert asked == [("memorystore", tmp_path, ("numpy",))]
    names = {k.removeprefix("_by_id/1/") for k in upload.files}
    own = {f"serving/{n}" for n in client_files("memorystore")}
    assert names == {"by_id.py", "by_id_work.py", "wheels.zip", *own}
