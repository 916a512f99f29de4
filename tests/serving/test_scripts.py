"""The scripts of the pods, run as they run there: bucket access, the copy before the start, batches that resume."""

from __future__ import annotations

import ast
import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.server import ThreadedMotoServer

from infra.plan import Plan
from serving import kubernetes_batch, sync, triton_pod
from serving.scripts import objects
from tests.serving import manifests
from tests.serving.buckets import Storage, storage
from tests.serving.clouds import cloud_plan, model, tf_plan
from tests.serving.servers import PROJECT

SCRIPTS = sync.SCRIPTS
KEYS = ["plain", "a b+c~d", "ü/x=y&z", "models/digits/1/model.onnx"]


@pytest.fixture
def gs() -> Iterator[Storage]:
    with storage() as server:
        yield server


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def gs_environment(server: Storage) -> dict[str, str]:
    return {"SLIPWAY_GS_URL": server.url, "SLIPWAY_METADATA_URL": server.url}


@pytest.fixture
def s3(moto: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A bucket of moto, and a pod's environment with a web identity."""
    token = tmp_path / "token"
    token.write_text("web-identity")
    for name, value in s3_environment(moto, token).items():
        monkeypatch.setenv(name, value)
    client = boto3.client(
        "s3", endpoint_url=moto, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    client.create_bucket(Bucket="models")
    yield client
    for found in client.list_objects_v2(Bucket="models").get("Contents", ()):
        client.delete_object(Bucket="models", Key=found["Key"])
    client.delete_bucket(Bucket="models")


def s3_environment(url: str, token: Path) -> dict[str, str]:
    return {
        "SLIPWAY_S3_URL": url,
        "SLIPWAY_STS_URL": url,
        "SLIPWAY_REGION": "us-east-1",
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/pod",
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
    }


def run(script: str, environment: Mapping[str, object]) -> subprocess.CompletedProcess[str]:
    """As in the pod: a bare Python, the standard library, the folder of the script."""
    plain = {k: str(v) for k, v in environment.items()}
    return subprocess.run(
        [sys.executable, "-I", "-c", f"import runpy, sys; sys.path.insert(0, {str(SCRIPTS)!r}); "
         f"sys.argv = [{script!r}]; runpy.run_path({str(SCRIPTS / script)!r}, run_name='__main__')"],
        env={"PATH": "/usr/bin:/bin", **plain},
        capture_output=True,
        text=True,
        timeout=60,
    )  # fmt: skip


def test_google_storage_is_read_in_pages_and_written(gs: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in gs_environment(gs).items():
        monkeypatch.setenv(name, value)
    bucket = objects.bucket("gs://models/some/path")
    assert bucket.prefix == "some/path/"
    for key in KEYS:
        bucket.put(f"some/path/{key}", key.encode())
    assert [i.key for i in bucket.list("some/path/")] == sorted(f"some/path/{k}" for k in KEYS)
    into = io.BytesIO()
    assert bucket.read("some/path/a b+c~d", into) == 7
    assert into.getvalue() == b"a b+c~d"
    assert bucket.get("nothing") is None
    before = {i.key: i.version for i in bucket.list("")}
    bucket.put("some/path/plain", b"other")
    assert {i.key: i.version for i in bucket.list("")}["some/path/plain"] != before["some/path/plain"]


def test_a_passing_fault_is_tried_again_and_a_lasting_one_told(gs: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in gs_environment(gs).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(objects, "PAUSE_S", 0.01)
    bucket = objects.bucket("gs://models")
    bucket.put("x", b"1")
    gs.failures = 3
    assert bucket.get("x") == b"1"
    gs.failures = 100
    with pytest.raises(OSError, match="503"):
        bucket.get("x")


def test_s3_with_the_pods_role(s3: Any) -> None:
    """moto gives the keys for the web identity, and the objects."""
    bucket = objects.bucket("s3://models")
    for key in KEYS:
        bucket.put(key, key.encode())
    assert sorted(o["Key"] for o in s3.list_objects_v2(Bucket="models")["Contents"]) == sorted(KEYS)
    assert {i.key: i.size for i in bucket.list("")} == {k: len(k.encode()) for k in KEYS}
    assert [i.key for i in bucket.list("models/")] == ["models/digits/1/model.onnx"]
    assert bucket.get("ü/x=y&z") == "ü/x=y&z".encode()
    assert bucket.get("nothing") is None


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("body", [None, b"content"])
def test_s3_is_signed_as_botocore_signs(key: str, body: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """moto checks no signature; Amazon's own library is the judge of ours."""
    monkeypatch.setenv("SLIPWAY_REGION", "eu-west-1")
    for name, value in (("ACCESS_KEY_ID", "AKID"), ("SECRET_ACCESS_KEY", "secret"), ("SESSION_TOKEN", "session")):
        monkeypatch.setenv(f"AWS_{name}", value)
    for name in ("AWS_ROLE_ARN", "AWS_REGION", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        monkeypatch.delenv(name, raising=False)
    query = {"list-type": "2", "prefix": key} if body is None else {}
    bucket = objects.S3("my.bucket", "")
    ours = bucket._request("PUT" if body else "GET", key if body else "", query, body)
    headers = {k.lower(): v for k, v in ours.header_items()}
    theirs = AWSRequest(method=ours.method, url=ours.full_url, data=body or b"")
    for name in ("x-amz-content-sha256", "content-type"):
        if name in headers and (name != "content-type" or body):
            theirs.headers[name] = headers[name]
    signer = S3SigV4Auth(Credentials("AKID", "secret", "session"), "s3", "eu-west-1")
    theirs.context["timestamp"] = headers["x-amz-date"]
    theirs.headers["X-Amz-Date"] = headers["x-amz-date"]
    theirs.headers["X-Amz-Security-Token"] = "session"
    theirs.headers["host"] = urlsplit(ours.full_url).netloc
    text = signer.string_to_sign(theirs, signer.canonical_request(theirs))
    assert headers["authorization"].endswith(f"Signature={signer.signature(text, theirs)}")


def test_no_other_address_is_a_bucket() -> None:
    for address in ("http://x/y", "/models", "gs://"):
        with pytest.raises(ValueError, match="no address of a bucket"):
            objects.bucket(address)


def sync_environment(plan: Plan, uploaded: str | None, target: Path) -> dict[str, object]:
    server = triton_pod if plan.spec.server == "triton" else manifests.tf_serving
    pod = server.pod(plan, plan.pools[0], project=PROJECT, uploaded=uploaded).pod
    assert pod is not None
    assert pod.init is not None
    settings = json.loads(str(pod.init.env["SLIPWAY_SYNC"])) | {"target": str(target)}
    return {**pod.init.env, "SLIPWAY_SYNC": json.dumps(settings)}


def test_models_are_copied_whole_and_not_twice(gs: Storage, tmp_path: Path) -> None:
    """Only the versions of the plan; a second run, after a cut-off first one, copies what is missing."""
    for key in ("digits/1/saved_model.pb", "digits/1/variables/a", "digits/1/variables/b", "digits/2/saved_model.pb"):
        gs.put("models", key, key.encode() * 100)
    plan = tf_plan(model_access="sync")
    environment = sync_environment(plan, None, tmp_path) | gs_environment(gs)
    first = run("sync.py", environment)
    assert first.returncode == 0, first.stderr
    files = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert files == ["digits/1/saved_model.pb", "digits/1/variables/a", "digits/1/variables/b"]
    assert (tmp_path / files[1]).read_bytes() == b"digits/1/variables/a" * 100
    (tmp_path / files[1]).write_bytes(b"cut off")
    again = run("sync.py", environment)
    assert "copied 1 files" in again.stdout
    assert "2 were there" in again.stdout
    assert (tmp_path / files[1]).read_bytes() == b"digits/1/variables/a" * 100


def test_an_empty_place_ends_the_start_with_its_name(gs: Storage, tmp_path: Path) -> None:
    result = run("sync.py", sync_environment(tf_plan(model_access="sync"), None, tmp_path) | gs_environment(gs))
    assert result.returncode == 1
    assert "nothing at gs://models/digits/1/" in result.stderr


def test_s3_models_are_copied_too(s3: Any, moto: str, tmp_path: Path) -> None:
    s3.put_object(Bucket="models", Key="digits/1/saved_model.pb", Body=b"graph")
    token = tmp_path / "token"
    environment = sync_environment(tf_plan("aws"), None, tmp_path / "models") | s3_environment(moto, token)
    result = run("sync.py", environment)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "models/digits/1/saved_model.pb").read_bytes() == b"graph"


class Model(ThreadingHTTPServer):
    """Answers with the number of its input doubled; can be busy, refuse, or go away."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Predict)
        self.asked = 0
        self.busy = 0
        self.fails_after: int | None = None
        self.together = self.most_together = 0
        self.lock = threading.Lock()


class Predict(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Model

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            self.server.asked += 1
            self.server.together += 1
            self.server.most_together = max(self.server.together, self.server.most_together)
            busy = self.server.busy > 0 or (
                self.server.fails_after is not None and self.server.asked > self.server.fails_after
            )
            self.server.busy -= 1
        value = body["inputs"][0]["data"][0]
        status = 503 if busy else 400 if value < 0 else 200
        answer = {"outputs": [{"data": [value * 2]}]} if status == 200 else {"error": "no"}
        raw = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)
        with self.server.lock:
            self.server.together -= 1

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def servers() -> Iterator[Model]:
    server = Model()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def lines(values: list[int]) -> bytes:
    return b"".join(json.dumps({"inputs": [{"data": [v]}]}).encode() + b"\n" for v in values)


def batch(gs: Storage, servers: Model, index: int = 0, **changes: object) -> subprocess.CompletedProcess[str]:
    """One worker of the stack's batch, with smaller shards and these servers."""
    plan = cloud_plan(batch=manifests.BATCH, models=[model(storage_uri="gs://models/digits")])
    assert plan.spec.batch is not None
    settings = kubernetes_batch.settings(plan, plan.spec.batch)
    path = urlsplit(str(settings["url"])).path
    assert path == "/v2/models/digits/infer"
    mine = {"url": f"http://127.0.0.1:{servers.server_port}{path}", "shard_lines": 10, "tries": 2}
    environment = {
        **gs_environment(gs),
        "SLIPWAY_INPUT": plan.spec.batch.input_uri,
        "SLIPWAY_OUTPUT": plan.spec.batch.output_uri,
        "SLIPWAY_BATCH": json.dumps({**settings, **mine, **changes}),
        "JOB_COMPLETION_INDEX": str(index),
    }
    return run("batch.py", environment)


def results(gs: Storage) -> dict[str, list[dict[str, Any]]]:
    keys = [k for k in gs.keys("data", "out/") if not k.startswith("out/_done/")]
    return {k: [json.loads(line) for line in gs.content("data", k).splitlines()] for k in keys}


@pytest.mark.slow
def test_every_line_is_answered_once_in_order(gs: Storage, servers: Model) -> None:
    """Two workers share the shards of all files; answers stand in the order of the lines, a refusal in its place."""
    gs.put("data", "in/a.jsonl", lines([*range(24), -1]))
    gs.put("data", "in/sub/b.jsonl", lines(list(range(100, 105))) + b"\n" + lines([7]).rstrip())
    gs.put("data", "in/readme.txt", b"not an input")
    for index in (0, 1):
        result = batch(gs, servers, index)
        assert result.returncode == 0, result.stderr
    found = results(gs)
    assert sorted(found) == ["out/a/000000.jsonl", "out/a/000001.jsonl", "out/a/000002.jsonl", "out/sub/b/000000.jsonl"]
    whole = [x for k in sorted(found) if "/a/" in k for x in found[k]]
    assert [x["line"] for x in whole] == list(range(25))
    assert [x["outputs"][0]["data"][0] for x in whole[:24]] == [2 * v for v in range(24)]
    assert whole[24]["error"].startswith("400")
    assert [x.get("error") for x in found["out/sub/b/000000.jsonl"]] == [None] * 5 + ["empty line", None]
    assert servers.asked == 31
    assert servers.most_together > 1


@pytest.mark.slow
def test_a_batch_that_was_cut_off_goes_on(gs: Storage, servers: Model) -> None:
    """What is recorded is not asked again; what was under way is, from the start of its shard."""
    gs.put("data", "in/a.jsonl", lines(list(range(40))))
    servers.fails_after = 25
    first = batch(gs, servers, workers=1, requests=1)
    assert first.returncode == 1
    assert "what was done is kept" in first.stderr
    assert sorted(results(gs)) == ["out/a/000000.jsonl", "out/a/000001.jsonl"]
    servers.fails_after, servers.asked = None, 0
    second = batch(gs, servers, workers=1)
    assert second.returncode == 0, second.stderr
    assert "2 shards were done before" in second.stdout
    assert servers.asked == 20
    assert len(results(gs)) == 4
    third = batch(gs, servers, workers=1)
    assert (third.returncode, servers.asked) == (0, 20)


def test_a_changed_input_is_predicted_again(gs: Storage, servers: Model) -> None:
    gs.put("data", "in/a.jsonl", lines([1]))
    batch(gs, servers)
    gs.put("data", "in/a.jsonl", lines([5]))
    batch(gs, servers)
    assert results(gs)["out/a/000000.jsonl"][0]["outputs"][0]["data"] == [10]


def test_busy_servers_are_asked_again(gs: Storage, servers: Model) -> None:
    """A switch answers 503 for a moment: no line may be lost or refused for that."""
    gs.put("data", "in/a.jsonl", lines(list(range(8))))
    servers.busy = 4
    result = batch(gs, servers, tries=6)
    assert result.returncode == 0, result.stderr
    assert "0 lines refused" in result.stdout
    assert [x["outputs"][0]["data"][0] for x in results(gs)["out/a/000000.jsonl"]] == [2 * v for v in range(8)]


def test_the_scripts_need_nothing_but_the_standard_library() -> None:
    """They run in stock images: any import beyond it would fail there, and only there."""
    known = {*sys.stdlib_module_names, "objects", "by_id_work"}
    scripts = sorted(SCRIPTS.glob("*.py"))
    assert len(scripts) >= 4
    for script in scripts:
        for node in ast.walk(ast.parse(script.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                assert {n.split(".")[0] for n in names} <= known, f"{script.name}: {names}"
