"""The entry's configuration for Kubernetes in a real Envoy: servers by name, statistics, refusals, and its drain."""

from __future__ import annotations

import http.client
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc as grpc

from infra.plan import Plan
from serving import envoy, kubernetes_batch, kubernetes_entry, tf_by_id
from tests.serving import manifests
from tests.serving.buckets import storage
from tests.serving.clouds import cloud_plan, tf_plan
from tests.serving.conftest import Stack
from tests.serving.servers import answers, ask, by_pixels, free_ports, outputs, running, wait_for
from tests.serving.test_envoy import ENVOY
from tests.serving.test_scripts import gs_environment, run
from tests.serving.tf_server import metadata, tensorflow

pytestmark = pytest.mark.real


@dataclass(frozen=True, kw_only=True)
class Front:
    http: int
    grpc: int
    metrics: int
    admin: int


@contextmanager
def front(plan: Plan, servers: tuple[int, int], folder: Path, by_id: int | None = None) -> Iterator[Front]:
    """The rendered configuration with ports and addresses of this machine, and nothing else changed."""
    http, grpc_port, metrics, admin = free_ports(4)
    container = manifests.container(plan)
    text = kubernetes_entry.configuration(plan, container, stack="web")
    parsed = json.loads(text)
    host = f"{kubernetes_entry.SERVERS}.{kubernetes_entry.NAMESPACE}.svc.cluster.local."
    ports = {
        (host, container.ports.http): servers[0],
        (host, container.ports.grpc): servers[1],
        ("0.0.0.0", kubernetes_entry.HTTP): http,
        ("0.0.0.0", kubernetes_entry.GRPC): grpc_port,
        ("0.0.0.0", kubernetes_entry.METRICS): metrics,
        ("127.0.0.1", kubernetes_entry.ADMIN): admin,
    }
    if by_id is not None:
        ports[host, tf_by_id.PORT] = by_id
    used: set[tuple[str, int]] = set()

    def moved(value: Any) -> Any:
        if isinstance(value, list):
            return [moved(v) for v in value]
        if not isinstance(value, dict):
            return value
        if set(value) == {"address", "port_value"}:
            key = (value["address"], value["port_value"])
            used.add(key)
            return {"address": "localhost" if key[0] == host else "127.0.0.1", "port_value": ports[key]}
        if set(value) == {"port_value"}:
            of_by_id = value["port_value"] == tf_by_id.PORT and by_id is not None
            return {"port_value": by_id if of_by_id else servers[0]}  # of the health checks
        return {k: moved(v) for k, v in value.items()}

    path = folder / "envoy.json"
    path.write_text(json.dumps(moved(parsed)))
    assert used == set(ports)
    with running([ENVOY, *envoy.arguments(str(path))], folder / "log", {}):
        found = Front(http=http, grpc=grpc_port, metrics=metrics, admin=admin)
        wait_for(lambda: answers(metrics, "/ready"), 15, f"Envoy, see {folder / 'log'}")
        wait_for(lambda: healthy(found) == {"http", "grpc"}, 15, "the servers behind the name")
        yield found


def healthy(found: Front) -> set[str]:
    """Clusters with a server that Envoy calls healthy."""
    lines = str(ask(found.admin, "/clusters")[1]["text"]).splitlines()
    return {x.split("::")[0] for x in lines if x.endswith("health_flags::healthy")} & {"http", "grpc"}


@pytest.fixture
def triton_front(stack: Stack, tmp_path: Path) -> Iterator[Front]:
    with front(cloud_plan(), (stack.http, stack.grpc), tmp_path) as found:
        yield found


def test_servers_are_found_by_name_over_both_protocols(triton_front: Front, stack: Stack) -> None:
    status, answer = ask(triton_front.http, "/v2/models/digits/infer", by_pixels(stack.pixels[:3]))
    assert status == 200
    assert outputs(answer)["label"] == stack.labels[:3].tolist()
    with grpc.InferenceServerClient(f"127.0.0.1:{triton_front.grpc}") as client:
        assert client.is_model_ready("digits")


def test_predictions_by_id_go_beside_the_server(tmp_path: Path) -> None:
    """By their path, with a version or a label too; all others go to TensorFlow Serving itself."""
    made = tf_plan(feature_store="bigtable", features={"keys": 1000, "value_bytes": 256})
    with tensorflow() as server, tensorflow() as beside:
        server.models["digits"] = metadata(pixels=("DT_FLOAT", [-1, 64]))
        beside.models |= {"/ready": {}, "digits_by_id": {"beside": True}}
        with front(made, (server.port, server.port), tmp_path, by_id=beside.port) as found:
            body = {"instances": [[1, 2]]}
            for words in ("", "/versions/3", "/labels/canary"):
                path = f"/v1/models/digits_by_id{words}:predict"
                wait_for(lambda path=path: ask(found.http, path, body)[0] == 200, 10, path)
                assert ask(found.http, f"/v1/models/digits{words}:predict", body)[0] == 200
            assert ask(found.http, "/v1/models/digits_by_id") == (200, {"beside": True})
            assert ask(found.http, "/v1/models/digits_by_id:classify", body)[0] == 200, "as of any model, by its server"
            for path in ("/ready", "/metrics"):
                assert ask(found.http, path)[0] == 403
            assert {p.partition("/digits")[2][:6] for p, _ in beside.asked} == {"_by_id"}
            assert all("_by_id" not in p or p.endswith(":classify") for p, _ in server.asked)


def test_statistics_are_shown_and_the_admin_interface_is_not(triton_front: Front) -> None:
    """Whoever reaches the metrics port can read, and cannot end or change anything."""
    ask(triton_front.http, "/v2/models/digits")
    status, answer = ask(triton_front.metrics, "/stats/prometheus")
    assert status == 200
    assert "envoy_cluster_upstream_rq_total" in str(answer["text"])
    for path in ("/quitquitquit", "/config_dump", "/healthcheck/fail", "/stats", "/logging?level=debug", "/"):
        assert ask(triton_front.metrics, path, {})[0] == 404, path
        assert ask(triton_front.metrics, path)[0] == 404, path
    assert answers(triton_front.metrics, "/ready")


def test_a_drain_moves_clients_without_losing_a_request(triton_front: Front, stack: Stack) -> None:
    """The pod's own preStop command, as the shell runs it: each kept connection is closed behind an answer."""
    kept = http.client.HTTPConnection("127.0.0.1", triton_front.http, timeout=10)
    body = json.dumps(by_pixels(stack.pixels[:1]))

    def send() -> tuple[int, str | None]:
        kept.request("POST", "/v2/models/digits/infer", body)
        answer = kept.getresponse()
        answer.read()
        return answer.status, answer.headers.get("connection")

    assert send() == (200, None)
    command = kubernetes_entry.DRAIN.format(seconds=0).replace(str(kubernetes_entry.ADMIN), str(triton_front.admin))
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=10, check=True)
    assert "200 OK" in done.stdout
    assert not answers(triton_front.metrics, "/ready")
    assert send() == (200, "close")
    assert ask(triton_front.http, "/v2/models/digits/infer", by_pixels(stack.pixels[:1]))[0] == 200


def test_a_batch_goes_through_the_entry_to_the_real_server(triton_front: Front, stack: Stack) -> None:
    """The batch's own script, as the pod runs it: every digit is predicted as over one request at a time."""
    plan = cloud_plan(batch=manifests.BATCH)
    assert plan.spec.batch is not None
    settings = kubernetes_batch.settings(plan, plan.spec.batch)
    path = str(settings["url"]).partition(":8080")[2]
    mine = {"url": f"http://127.0.0.1:{triton_front.http}{path}", "shard_lines": 100, "workers": 1}
    lines = "".join(json.dumps(by_pixels(stack.pixels[i : i + 1])) + "\n" for i in range(250))
    with storage() as gs:
        gs.put("data", "in/digits.jsonl", lines.encode())
        environment = {
            **gs_environment(gs),
            "SLIPWAY_INPUT": "gs://data/in",
            "SLIPWAY_OUTPUT": "gs://data/out",
            "SLIPWAY_BATCH": json.dumps({**settings, **mine}),
        }
        done = run("batch.py", environment)
        assert done.returncode == 0, done.stderr
        found = [json.loads(x) for k in gs.keys("data", "out/digits/") for x in gs.content("data", k).splitlines()]
    assert [f["line"] for f in found] == list(range(250))
    right = sum(outputs(f)["label"] == [int(label)] for f, label in zip(found, stack.labels, strict=False))
    assert right >= 0.97 * 250


class TensorFlowServing(BaseHTTPRequestHandler):
    """Answers everything, so that what does not come back was refused at the entry."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._answer()

    def _answer(self) -> None:
        body = json.dumps({"path": self.path}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def tf_front(tmp_path: Path) -> Iterator[Front]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), TensorFlowServing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with front(tf_plan(), (server.server_port, server.server_port), tmp_path) as found:
            yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v1/models/digits:predict", True),
        ("POST", "/v1/models/digits/versions/2:predict", True),
        ("POST", "/v1/models/digits/labels/canary:classify", True),
        ("GET", "/v1/models/digits", True),
        ("GET", "/v1/models/digits/metadata", True),
        ("GET", "/v1/models/digits/labels/canary/metadata", True),
        ("GET", "/monitoring/prometheus/metrics", False),
        ("GET", "/v1/models/../../monitoring/prometheus/metrics", False),
        ("POST", "/v1/models/digits:reload", False),
        ("POST", "/v1/models/digits", False),
        ("GET", "/v1/models/digits:predict", False),
        ("POST", "/tensorflow.serving.ModelService/HandleReloadConfigRequest", False),
        ("GET", "/", False),
    ],
)
def test_tensorflow_serving_gives_predictions_only(tf_front: Front, method: str, path: str, allowed: bool) -> None:
    status, answer = ask(tf_front.http, path, {} if method == "POST" else None, method)
    assert status == (200 if allowed else 403), answer
    if allowed:
        assert answer["path"] == path
