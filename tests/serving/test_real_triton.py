"""The rendered repository in a real Triton: right answers over both protocols, by pixels and by id; bad requests."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import tritonclient.grpc as grpc
from onnx import TensorProto, helper, numpy_helper

from infra.clouds.local import probe
from serving import process, triton
from serving.container import Ports
from tests.serving.conftest import PREFIX, Stack
from tests.serving.servers import (
    PROJECT,
    ask,
    by_id,
    by_pixels,
    free_ports,
    load_features,
    make,
    metric,
    outputs,
    redis_server,
    wait_for,
)
from tests.serving.servers import triton as running_triton

pytestmark = pytest.mark.real


def grpc_infer(port: int, model: str, name: str, values: npt.NDArray[np.generic], datatype: str) -> grpc.InferResult:
    with grpc.InferenceServerClient(f"127.0.0.1:{port}") as client:
        tensor = grpc.InferInput(name, list(values.shape), datatype)
        tensor.set_data_from_numpy(values)
        return client.infer(model, [tensor])


def test_probes_find_the_server_right(stack: Stack) -> None:
    """The answers that were computed from the file are those that the server gives."""
    plain = process.process(stack.spec, PROJECT).probes
    assert [p["name"] for p in plain] == ["digits", "digits_by_id"]
    for asked in plain:
        answer = probe.ask(stack.http, asked)
        assert answer.ok, answer.reason


def test_a_probe_finds_a_server_wrong(stack: Stack) -> None:
    """The same question with another expected label must fail, or the probe proves nothing."""
    asked = process.process(stack.spec, PROJECT).probes[0]
    expected = asked["outputs"]
    assert isinstance(expected, list)
    wrong = [{**expected[0], "data": [9 - expected[0]["data"][0]]}, *expected[1:]]
    assert not probe.ask(stack.http, {**asked, "outputs": wrong}).ok


@pytest.mark.parametrize("size", [1, 7, 32])
def test_http_and_grpc_say_the_same(stack: Stack, size: int) -> None:
    pixels, ids = stack.pixels[:size], stack.ids[:size]
    texts: npt.NDArray[np.generic] = np.array([[i.encode()] for i in ids], dtype=np.object_)
    status, answer = ask(stack.http, "/v2/models/digits/infer", by_pixels(pixels))
    assert status == 200, answer
    http = outputs(answer)
    over_grpc = grpc_infer(stack.grpc, "digits", "pixels", pixels, "FP32")
    by_name = grpc_infer(stack.grpc, "digits_by_id", "id", texts, "BYTES")
    assert http["label"] == stack.labels[:size].tolist()
    for result in (over_grpc, by_name):
        assert result.as_numpy("label").shape == (size, 1)
        assert result.as_numpy("label").ravel().tolist() == http["label"]
        assert np.allclose(result.as_numpy("probabilities").ravel(), http["probabilities"], atol=1e-4)


def test_accuracy_over_all_digits_by_id(stack: Stack) -> None:
    right = 0
    for start in range(0, len(stack.ids), 32):
        status, answer = ask(stack.http, "/v2/models/digits_by_id/infer", by_id(stack.ids[start:][:32]))
        assert status == 200, answer
        right += sum(int(a == b) for a, b in zip(outputs(answer)["label"], stack.labels[start:], strict=False))
    assert right / len(stack.ids) >= 0.97


def test_a_batch_is_as_good_as_its_items(stack: Stack) -> None:
    """Concatenated and cut apart again in the right order, whatever requests come together."""

    def one(i: int) -> list[float]:
        status, answer = ask(stack.http, "/v2/models/digits_by_id/infer", by_id(stack.ids[i : i + 1 + i % 3]))
        assert status == 200, answer
        return outputs(answer)["label"]

    starts = range(0, 300, 3)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(one, starts))
    _, whole = ask(stack.http, "/v2/models/digits/infer", by_pixels(stack.pixels[:32]))
    assert found[0] == outputs(whole)["label"][:1]
    wrong = sum(f != stack.labels[i : i + 1 + i % 3].tolist() for i, f in zip(starts, found, strict=True))
    assert wrong <= 3


def test_an_id_asked_again_comes_from_the_cache(stack: Stack) -> None:
    for _ in range(6):
        assert ask(stack.http, "/v2/models/digits_by_id/infer", by_id(["1790"]))[0] == 200
    hits = metric(stack.metrics, "slipway_feature_cache_hits_total", model="digits_by_id")
    for _ in range(6):
        ask(stack.http, "/v2/models/digits_by_id/infer", by_id(["1790"]))
    assert metric(stack.metrics, "slipway_feature_cache_hits_total", model="digits_by_id") - hits >= 5


@pytest.mark.parametrize(
    ("ids", "status", "said"),
    [
        (["nobody"], 404, "unknown id 'nobody'"),
        (["1", "nobody", "2"], 404, "unknown id 'nobody'"),
        ([""], 400, "empty id"),
    ],
)
def test_an_id_that_cannot_be_served_is_named(stack: Stack, ids: list[str], status: int, said: str) -> None:
    """With a status that no load balancer tries again elsewhere."""
    found, answer = ask(stack.http, "/v2/models/digits_by_id/infer", by_id(ids))
    assert (found, answer) == (status, {"error": said})


def test_an_unknown_id_harms_nobody_else(stack: Stack) -> None:
    """Requests that are batched together fail one by one."""

    def one(i: int) -> int:
        return ask(stack.http, "/v2/models/digits_by_id/infer", by_id([f"nobody{i}" if i % 2 else str(i)]))[0]

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(one, range(64)))
    assert found == [200, 404] * 32


def test_a_store_that_hangs_is_said_within_its_deadline(stack: Stack) -> None:
    """on_failure error: 503 with the id, soon, and all is well when the store is."""
    load_features(stack.redis_port, PREFIX, ["new"], stack.pixels[:1])  # in no cache yet
    os.kill(stack.redis_pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        status, answer = ask(stack.http, "/v2/models/digits_by_id/infer", by_id(["new"]))
        seconds = time.monotonic() - started
    finally:
        os.kill(stack.redis_pid, signal.SIGCONT)
    assert (status, seconds < 1) == (503, True), answer
    assert "feature store did not answer in time" in str(answer["error"])
    assert "'new'" in str(answer["error"])
    wait_for(lambda: ask(stack.http, "/v2/models/digits_by_id/infer", by_id(["new"]))[0] == 200, 5, "used again")


def test_a_wrong_shape_is_the_clients_fault(stack: Stack) -> None:
    status, answer = ask(stack.http, "/v2/models/digits/infer", by_pixels(stack.pixels[:1, :63]))
    assert status == 400
    assert "shape" in str(answer["error"])


def test_shared_memory_bears_the_servers_name(stack: Stack) -> None:
    """What a killed server leaves behind can be found."""
    assert stack.spec.shm_prefix is not None
    assert [n for n in os.listdir("/dev/shm") if n.startswith(stack.spec.shm_prefix)]


def picking(path: Path) -> None:
    """A network that fails on an index out of range."""
    graph = helper.make_graph(
        [helper.make_node("Gather", ["values", "index"], ["value"])],
        "pick",
        [helper.make_tensor_value_info("index", TensorProto.INT64, ["N", 1])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["N", 1])],
        [numpy_helper.from_array(np.arange(5, dtype=np.float32), "values")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def slow(path: Path) -> None:
    """A network that takes some milliseconds, so that requests wait for each other."""
    size, layers = 1024, 40
    random = np.random.default_rng(0)
    first, more = (random.normal(0, 0.03, (n, size)).astype(np.float32) for n in (1, size))
    nodes = [helper.make_node("MatMul", ["x", "first"], ["h0"])]
    nodes += [helper.make_node("MatMul", [f"h{i}", "more"], [f"h{i + 1}"]) for i in range(layers)]
    nodes += [helper.make_node("ReduceSum", [f"h{layers}", "axis"], ["y"], keepdims=1)]
    graph = helper.make_graph(
        nodes,
        "slow",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1])],
        [
            numpy_helper.from_array(first, "first"),
            numpy_helper.from_array(more, "more"),
            numpy_helper.from_array(np.array([1]), "axis"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


class Second:
    """A Triton and a Redis that a test may ill-treat; missing features are zeros, and there is a response cache."""

    def __init__(self, http: int, metrics: int, redis_port: int, redis: subprocess.Popen[bytes]) -> None:
        self.http, self.metrics, self.redis_port, self.redis = http, metrics, redis_port, redis

    def predict(self, *ids: str) -> tuple[int, dict[str, object], float]:
        started = time.monotonic()
        status, answer = ask(self.http, "/v2/models/digits_by_id/infer", by_id(list(ids)))
        return status, answer, time.monotonic() - started


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory, triton_home: Path, stack: Stack) -> Iterator[Second]:
    folder = tmp_path_factory.mktemp("second")
    picking(folder / "pick.onnx")
    profile = {"vcpu": {"base_ms": 0.5, "per_item_ms": 0.05}}
    digits = {"name": "digits", "storage_uri": "serving/samples/digits/digits.onnx", "profile": profile}
    slow(folder / "slow.onnx")
    made = [{"name": n, "storage_uri": str(folder / f"{n}.onnx"), "profile": profile} for n in ("pick", "slow")]
    http, grpc_port, metrics, redis_port = free_ports(4)
    spec = triton.container(
        make(models=[digits, *made], features={"keys": 10, "value_bytes": 256, "on_failure": "default"}),
        triton.LOCAL,
        name=f"slipway-test-{http}",
        project=PROJECT,
        models_path=str(folder / "models"),
        ports=Ports(http=http, grpc=grpc_port, metrics=metrics),
        home=str(triton_home),
        store=triton.Store(url=f"redis://127.0.0.1:{redis_port}/0", key_prefix="second:"),
        cached=["digits"],
    )
    with redis_server(redis_port, folder) as redis, running_triton(spec, folder / "log"):
        load_features(redis_port, "second:", stack.ids[:10], stack.pixels[:10])
        yield Second(http, metrics, redis_port, redis)


def test_a_bad_request_does_not_take_its_batch_with_it(second: Second) -> None:
    """When a batch fails each request is run alone."""

    def pick(i: int) -> tuple[int, object]:
        index = 99 if i % 4 == 3 else i % 4
        body = {"inputs": [{"name": "index", "datatype": "INT64", "shape": [1, 1], "data": [index]}]}
        status, answer = ask(second.http, "/v2/models/pick/infer", body)
        return status, outputs(answer)["value"] if status == 200 else str(answer["error"])[:12]

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(pick, range(64)))
    assert found == [(200, [0]), (200, [1]), (200, [2]), (400, "ONNX Runtime")] * 16


def test_requests_that_come_together_are_run_together(second: Second) -> None:
    """Dynamic batching takes effect: fewer runs than requests; how few depends on how busy this machine is."""
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}
    before = [metric(second.metrics, f"nv_inference_{kind}", model="slow") for kind in ("count", "exec_count")]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: ask(second.http, "/v2/models/slow/infer", body), range(320)))
    after = [metric(second.metrics, f"nv_inference_{kind}", model="slow") for kind in ("count", "exec_count")]
    count, runs = (b - a for a, b in zip(before, after, strict=True))
    assert {status for status, _ in found} == {200}
    assert count == 320
    assert runs < 0.9 * count


def test_the_response_cache_answers_the_same_question(second: Second, stack: Stack) -> None:
    body = by_pixels(stack.pixels[500:501])
    first = ask(second.http, "/v2/models/digits/infer", body)
    runs = metric(second.metrics, "nv_inference_exec_count", model="digits")
    assert ask(second.http, "/v2/models/digits/infer", body) == first
    assert metric(second.metrics, "nv_inference_exec_count", model="digits") == runs


def test_default_features_where_they_are_asked_for(second: Second, stack: Stack) -> None:
    """An unknown id is predicted as zeros are."""
    status, answer, _ = second.predict("nobody")
    zeros = ask(second.http, "/v2/models/digits/infer", by_pixels(np.zeros((1, 64), np.float32)))[1]
    assert status == 200, answer
    assert outputs(answer) == outputs(zeros)


def test_a_store_that_hangs_does_not_hang_predictions(second: Second, stack: Stack) -> None:
    """Zeros within the deadline, by the metrics an error of the store; right again when the store is."""
    errors = metric(second.metrics, "slipway_feature_store_errors_total")
    os.kill(second.redis.pid, signal.SIGSTOP)
    try:
        found = [second.predict("7") for _ in range(4)]
    finally:
        os.kill(second.redis.pid, signal.SIGCONT)
    assert [f[0] for f in found] == [200] * 4
    assert max(f[2] for f in found) < 2
    assert metric(second.metrics, "slipway_feature_store_errors_total") > errors
    wait_for(lambda: outputs(second.predict("7")[1])["label"] == [int(stack.labels[7])], 5, "the store is used again")


def test_a_store_that_was_killed_is_used_again(stack: Stack, second: Second, folder: Path) -> None:
    """The server needs no restart when the store is back."""
    second.redis.kill()
    second.redis.wait()
    status, _, seconds = second.predict("8")
    assert status == 200
    assert seconds < 2
    with redis_server(second.redis_port, folder):
        load_features(second.redis_port, "second:", stack.ids[:10], stack.pixels[:10])
        wait_for(lambda: outputs(second.predict("8")[1])["label"] == [int(stack.labels[8])], 5, "the new store is used")
