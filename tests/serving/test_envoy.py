"""The entry: what Envoy's configuration lets through, and what a real Envoy does with it before a real Triton."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import envoy as envoy_package
import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving import envoy
from serving.envoy_routes import V2
from tests.serving.conftest import Stack
from tests.serving.servers import answers, ask, by_id, by_pixels, free_ports, outputs, running, wait_for

ENVOY = str(Path(envoy_package.__file__).parent / "_bin" / "envoy")


def entry(folder: Path, ports: list[int], **changes: float) -> envoy.Entry:
    return envoy.Entry(
        address="127.0.0.1",
        http_port=ports[0],
        grpc_port=ports[1],
        admin_port=ports[2],
        endpoints_folder=str(folder),
        max_request_s=changes.get("max_request_s", 5),
        node="test",
    )


def config(**changes: float) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(envoy.bootstrap(entry(Path("/endpoints"), [1, 2, 3], **changes)))
    return parsed


def routes(parsed: dict[str, Any], name: str) -> list[dict[str, Any]]:
    (listener,) = [x for x in parsed["static_resources"]["listeners"] if x["name"] == name]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    found: list[dict[str, Any]] = manager["route_config"]["virtual_hosts"][0]["routes"]
    return found


def test_what_is_not_named_is_refused() -> None:
    """The last route of each listener takes everything and sends it nowhere."""
    for name in (envoy.HTTP, envoy.GRPC):
        last = routes(config(), name)[-1]
        assert last["match"] == {"prefix": "/"}
        assert last["direct_response"]["status"] == 403
        assert "route" not in last


def test_the_entry_waits_longer_than_the_longest_request() -> None:
    """Triton's own error comes first, so a client learns the reason."""
    for longest in (0.5, 5, 60):
        for name in (envoy.HTTP, envoy.GRPC):
            waits = [r["route"]["timeout"] for r in routes(config(max_request_s=longest), name) if "route" in r]
            assert waits
            assert all(float(re.sub("s$", "", w)) > longest for w in waits)


def test_admin_is_on_the_loopback_only() -> None:
    """Whatever address the entry has."""
    open_entry = envoy.Entry(
        address="0.0.0.0",
        http_port=1,
        grpc_port=2,
        admin_port=3,
        endpoints_folder="/e",
        max_request_s=5,
        node="n",
    )
    admin = json.loads(envoy.bootstrap(open_entry))["admin"]["address"]["socket_address"]
    assert admin == {"address": "127.0.0.1", "port_value": 3}


def test_endpoints_say_where_health_is_and_who_drains() -> None:
    servers = [
        envoy.Endpoint(address="10.0.0.1", port=2, health_port=1),
        envoy.Endpoint(address="10.0.0.2", port=2, health_port=1, draining=True),
    ]
    (resource,) = json.loads(envoy.endpoints(envoy.GRPC, servers))["resources"]
    found = resource["endpoints"][0]["lb_endpoints"]
    assert resource["cluster_name"] == envoy.GRPC
    assert [e["health_status"] for e in found] == ["UNKNOWN", "DRAINING"]
    assert {e["endpoint"]["health_check_config"]["port_value"] for e in found} == {1}


@dataclass(frozen=True, kw_only=True)
class Entry:
    http: int
    grpc: int
    admin: int
    folder: Path

    def point_at(self, *http_and_grpc: tuple[int, int, bool]) -> None:
        """Writes both endpoint files as the local cloud does: beside, then renamed."""
        for cluster, column in ((envoy.HTTP, 0), (envoy.GRPC, 1)):
            servers = [
                envoy.Endpoint(address="127.0.0.1", port=s[column], health_port=s[0], draining=s[2])
                for s in http_and_grpc
            ]
            beside = self.folder / f"{cluster}.json.tmp"
            beside.write_text(envoy.endpoints(cluster, servers))
            os.rename(beside, self.folder / f"{cluster}.json")

    def hosts(self, cluster: str) -> dict[int, dict[str, str]]:
        """Port -> what Envoy knows of that server."""
        found: dict[int, dict[str, str]] = {}
        for line in str(ask(self.admin, "/clusters")[1]["text"]).splitlines():
            parts = line.split("::")
            if len(parts) == 4 and parts[0] == cluster and parts[1].startswith("127.0.0.1:"):
                found.setdefault(int(parts[1].split(":")[1]), {})[parts[2]] = parts[3]
        return found

    def healthy(self, cluster: str, port: int) -> bool:
        return self.hosts(cluster).get(port, {}).get("health_flags") == "healthy"


class Counting(ThreadingHTTPServer):
    """Says that it is healthy, and answers predictions with a status."""

    asked = 0
    status = 200


class CountingHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        assert isinstance(self.server, Counting)
        self.server.asked += 1
        self.answer(self.server.status)

    def answer(self, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def front(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Entry]:
    folder = tmp_path_factory.mktemp("envoy")
    ports = free_ports(3)
    front = Entry(http=ports[0], grpc=ports[1], admin=ports[2], folder=folder)
    front.point_at((stack.http, stack.grpc, False))
    path = folder / "envoy.json"
    path.write_text(envoy.bootstrap(entry(folder, ports)))
    with running([ENVOY, *envoy.arguments(str(path))], folder / "log", {}):
        wait_for(lambda: answers(front.http), 15, "the entry")
        wait_for(lambda: front.healthy(envoy.GRPC, stack.grpc), 15, "the entry for gRPC")
        yield front


@pytest.mark.real
def test_envoy_accepts_the_configuration(tmp_path: Path) -> None:
    """Envoy itself is the schema."""
    for cluster in (envoy.HTTP, envoy.GRPC):
        (tmp_path / f"{cluster}.json").write_text(envoy.endpoints(cluster, []))
    path = tmp_path / "envoy.json"
    path.write_text(envoy.bootstrap(entry(tmp_path, [18000, 18001, 18009])))
    command = [ENVOY, *envoy.arguments(str(path), mode="validate")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower()


@pytest.mark.real
def test_predictions_pass(front: Entry, stack: Stack) -> None:
    expected = stack.labels[:5].tolist()
    for path, body in (
        ("/v2/models/digits/infer", by_pixels(stack.pixels[:5])),
        ("/v2/models/digits/versions/1/infer", by_pixels(stack.pixels[:5])),
        ("/v2/models/digits_by_id/infer", by_id(stack.ids[:5])),
    ):
        status, answer = ask(front.http, path, body)
        assert status == 200, answer
        assert outputs(answer)["label"] == expected
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{front.grpc}") as client:
        tensor = triton_grpc.InferInput("pixels", [5, 64], "FP32")
        tensor.set_data_from_numpy(stack.pixels[:5])
        assert client.infer("digits", [tensor]).as_numpy("label").ravel().tolist() == expected
        assert client.is_server_ready()
        assert client.is_model_ready("digits")
        assert client.get_model_metadata("digits").name == "digits"


@pytest.mark.real
def test_a_stream_passes(front: Entry, stack: Stack) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{front.grpc}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

        def asked() -> Iterator[service_pb2.ModelInferRequest]:
            for i in range(3):
                request = service_pb2.ModelInferRequest(model_name="digits", id=str(i))
                request.inputs.add(name="pixels", datatype="FP32", shape=[1, 64])
                request.raw_input_contents.append(stack.pixels[i].tobytes())
                yield request

        found = list(stub.ModelStreamInfer(asked(), timeout=5))
    labels = [int(np.frombuffer(r.infer_response.raw_output_contents[0], "<i8")[0]) for r in found]
    assert labels == stack.labels[:3].tolist()


@pytest.mark.real
@pytest.mark.parametrize(
    "path", ["/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/digits", "/v2/models/digits/ready"]
)
def test_what_a_client_may_read_passes(front: Entry, path: str) -> None:
    assert ask(front.http, path)[0] == 200


@pytest.mark.real
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/digits/load"),
        ("POST", "/v2/repository/models/digits/unload"),
        ("GET", "/v2/models/digits/config"),
        ("GET", "/v2/models/digits/stats"),
        ("GET", "/v2/models/stats"),
        ("GET", "/v2/systemsharedmemory/status"),
        ("POST", "/v2/systemsharedmemory/region/x/register"),
        ("POST", "/v2/cudasharedmemory/unregister"),
        ("GET", "/v2/trace/setting"),
        ("POST", "/v2/trace/setting"),
        ("POST", "/v2/logging"),
        ("GET", "/metrics"),
        ("GET", "/"),
        ("GET", "/v2/models/digits/infer"),
        ("POST", "/v2/models/../repository/index"),
        ("POST", "/v2/models/digits/../../repository/index"),
        ("POST", "//v2//repository//index"),
        ("POST", "/v2/models/digits/infer/../../../repository/index"),
        ("GET", "/v2/models/digits/ready?x=/v2/models/stats/../stats"),
        ("DELETE", "/v2/models/digits"),
        ("GET", "/V2/repository/index"),
    ],
)
def test_control_of_the_server_does_not_pass(front: Entry, method: str, path: str) -> None:
    status, answer = ask(front.http, path, {} if method == "POST" else None, method)
    if "?" in path:
        assert status == 200  # a query is no path
    else:
        assert (status, answer) == (403, {"error": V2.refusal})


@pytest.mark.real
@pytest.mark.parametrize("path", ["/v2%2Frepository/index", "/v2/models/x%2f..%2f..%2frepository/index"])
def test_hidden_slashes_do_not_pass(front: Entry, path: str) -> None:
    assert ask(front.http, path, {})[0] == 400


@pytest.mark.real
@pytest.mark.parametrize(
    ("method", "request_type"),
    [
        ("RepositoryIndex", service_pb2.RepositoryIndexRequest),
        ("RepositoryModelLoad", service_pb2.RepositoryModelLoadRequest),
        ("RepositoryModelUnload", service_pb2.RepositoryModelUnloadRequest),
        ("ModelStatistics", service_pb2.ModelStatisticsRequest),
        ("ModelConfig", service_pb2.ModelConfigRequest),
        ("SystemSharedMemoryRegister", service_pb2.SystemSharedMemoryRegisterRequest),
        ("SystemSharedMemoryStatus", service_pb2.SystemSharedMemoryStatusRequest),
        ("CudaSharedMemoryRegister", service_pb2.CudaSharedMemoryRegisterRequest),
        ("TraceSetting", service_pb2.TraceSettingRequest),
        ("LogSettings", service_pb2.LogSettingsRequest),
    ],
)
def test_control_over_grpc_does_not_pass(front: Entry, method: str, request_type: type) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{front.grpc}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            getattr(stub, method)(request_type(), timeout=5)
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.real
def test_every_method_of_the_service_is_let_through_or_refused_on_purpose() -> None:
    """A method that a newer protocol brings is refused until it is named."""
    (service,) = service_pb2.DESCRIPTOR.services_by_name.values()
    assert set(V2.grpc_methods) <= {m.name for m in service.methods}


@pytest.mark.real
def test_a_request_that_is_too_large_is_refused_early(front: Entry) -> None:
    status, _ = ask(front.http, "/v2/models/digits/infer", "x" * (9 << 20))
    assert status == 413


@pytest.mark.real
def test_a_dead_server_costs_no_request(front: Entry, stack: Stack) -> None:
    """Before health checks have found it, retries do; afterwards it is out."""
    http, grpc_port = free_ports(2)
    front.point_at((http, grpc_port, False), (stack.http, stack.grpc, False))
    try:
        body = by_id(stack.ids[:1])
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: ask(front.http, "/v2/models/digits_by_id/infer", body)[0], range(200)))
        assert found == [200] * 200
        wait_for(lambda: "failed_active_hc" in front.hosts(envoy.HTTP)[http]["health_flags"], 10, "the dead one is out")
    finally:
        front.point_at((stack.http, stack.grpc, False))


@pytest.fixture
def silent() -> Iterator[list[Counting]]:
    """Two servers that answer everything, to be told apart from the real one by what they count."""
    servers = [Counting(("127.0.0.1", 0), CountingHandler) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield servers
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.real
def test_draining_servers_get_nothing_new(front: Entry, stack: Stack, silent: list[Counting]) -> None:
    """Also where those that drain are more than those that serve, as in a switch to one larger server."""
    old = [s.server_address[1] for s in silent]
    body = by_pixels(stack.pixels[:1])

    def ask_many() -> list[int]:
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(lambda _: ask(front.http, "/v2/models/digits/infer", body)[0], range(100)))

    try:
        front.point_at(*((port, port, False) for port in old), (stack.http, stack.grpc, False))
        wait_for(lambda: all(front.healthy(envoy.HTTP, port) for port in old), 10, "the old ones are healthy")
        assert ask_many() == [200] * 100
        assert all(s.asked > 0 for s in silent)
        front.point_at(*((port, port, True) for port in old), (stack.http, stack.grpc, False))
        wait_for(lambda: all("draining" in str(front.hosts(envoy.HTTP)[port]) for port in old), 10, "the drain is seen")
        before = [s.asked for s in silent]
        assert ask_many() == [200] * 100
        assert [s.asked for s in silent] == before
    finally:
        front.point_at((stack.http, stack.grpc, False))
        wait_for(lambda: front.healthy(envoy.HTTP, stack.http), 10, "the entry serves again")


@pytest.mark.real
def test_the_last_server_is_used_even_while_it_drains(front: Entry, stack: Stack) -> None:
    """An entry with nothing better tries what it has."""
    front.point_at((stack.http, stack.grpc, True))
    try:
        wait_for(lambda: "draining" in str(front.hosts(envoy.HTTP)), 10, "the drain is seen")
        assert ask(front.http, "/v2/models/digits_by_id/infer", by_id(stack.ids[:1]))[0] == 200
    finally:
        front.point_at((stack.http, stack.grpc, False))
        wait_for(lambda: front.healthy(envoy.HTTP, stack.http), 10, "the entry serves again")


@pytest.mark.real
@pytest.mark.parametrize(("status", "ejected"), [(500, True), (503, False)])
def test_a_broken_server_is_left_out_and_a_busy_one_is_not(
    front: Entry, stack: Stack, silent: list[Counting], status: int, ejected: bool
) -> None:
    """500 is a server whose Python stub died and that still calls itself healthy; 503 a full queue or a lost store."""
    broken, other = silent
    broken.status = status
    port, other_port = broken.server_address[1], other.server_address[1]
    body = by_pixels(stack.pixels[:1])
    try:
        front.point_at((port, port, False), (other_port, other_port, False), (stack.http, stack.grpc, False))
        wait_for(lambda: front.healthy(envoy.HTTP, port), 10, "it calls itself healthy")
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: ask(front.http, "/v2/models/digits/infer", body)[0], range(200)))
        assert found == [200] * 200  # tried again elsewhere
        assert broken.asked >= 3
        time.sleep(1.2)  # two health checks, which find it healthy
        assert ("failed_outlier_check" in front.hosts(envoy.HTTP)[port]["health_flags"]) == ejected
    finally:
        front.point_at((stack.http, stack.grpc, False))
        wait_for(lambda: front.healthy(envoy.HTTP, stack.http), 10, "the entry serves again")
