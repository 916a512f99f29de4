"""A machine with TensorFlow Serving and predictions by id, run for real: code from a bucket, Envoy, a Redis."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from infra.plan import Plan
from serving import tf_by_id, tf_serving, vm
from serving.container import ContainerSpec, FileContent
from serving.triton import Store
from tests.serving.buckets import Storage, storage
from tests.serving.clouds import tf_plan
from tests.serving.conftest import PREFIX
from tests.serving.machine import Machine
from tests.serving.servers import PROJECT, answers, ask, free_ports, load_features
from tests.serving.test_envoy import ENVOY

UNIT = "slipway-server.service"
SECRETS = {"SLIPWAY_STORE_PASSWORD": "projects/p/secrets/x/versions/latest"}
Digits = tuple[list[str], npt.NDArray[np.float32], npt.NDArray[np.int64]]


def made(cloud: str = "gcp", **changes: object) -> tuple[Plan, ContainerSpec]:
    kind = {"gcp": "memorystore", "aws": "elasticache"}[cloud]
    features = {"keys": 1797, "value_bytes": 256}
    plan = tf_plan(cloud, shape="vm", feature_store=kind, features=features, **changes)
    store = Store(url="$SLIPWAY_STORE_URL", key_prefix=PREFIX)
    uri = {"gcp": "gs", "aws": "s3"}[cloud] + "://own/digest"
    return plan, tf_serving.pod(plan, plan.pools[0], project=PROJECT, uploaded=uri, store=store)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    """The stack's bucket with the code, and no wheels: this machine's packages stand for them."""
    monkeypatch.setattr(tf_by_id, "bundle", lambda *_: FileContent.of_text(""))
    with storage() as server:
        upload = tf_serving.uploads(made()[0], project=PROJECT, wheels=Path("none"))
        assert upload is not None
        for key, content in upload.files.items():
            if content.text:
                server.put("own", f"digest/{key}", content.text.encode())
        yield server


@pytest.mark.real
def test_a_machine_predicts_by_id_beside_tensorflow_serving(
    bucket: Storage, redis_server_of_all: tuple[int, int], features: Digits
) -> None:
    ids, pixels, _ = features
    load_features(redis_server_of_all[0], PREFIX, ids, pixels)
    plan, container = made()
    url = {"SLIPWAY_STORE_URL": f"redis://127.0.0.1:{redis_server_of_all[0]}/0"}
    text = vm.user_data(container, plan.pools[0], cloud="gcp", env=url).replace("0.0.0.0", "127.0.0.1")
    given = dict(zip(("8500", "8501", "8502", "8503", "8504", "19000"), map(str, free_ports(6)), strict=True))
    text = re.sub(r"READY_S=\d+", "READY_S=30", text)
    text = re.sub(rf"\b({'|'.join(given)})\b", lambda found: given[found[1]], text)
    with tempfile.TemporaryDirectory(prefix="vm-") as place:
        folder = Path(place)
        programs = folder / "image"
        programs.mkdir()
        (programs / "envoy").symlink_to(ENVOY)
        (programs / "tensorflow_model_server").write_text(
            f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("tf_server.py")} "$@"\n'
        )
        (programs / "tensorflow_model_server").chmod(0o755)
        image = {"PATH": f"{programs}:/usr/bin:/bin", "SLIPWAY_GS_URL": bucket.url, "SLIPWAY_METADATA_URL": bucket.url}
        machine = Machine.of(text, folder, STAND_IN_ENV=json.dumps(image))
        prepared = machine.step(UNIT, "ExecStartPre")
        assert prepared.returncode == 0, prepared.stdout + prepared.stderr
        with machine.main(UNIT) as process:
            ready = machine.step(UNIT, "ExecStartPost", process.pid)
            logs = "".join(p.read_text()[-800:] for p in (folder / "docker").glob("*.log"))
            assert ready.returncode == 0, ready.stdout + logs
            port = int(given["8501"])
            status, answer = ask(port, "/v1/models/digits_by_id:predict", {"ids": [ids[5], ids[3]]})
            wanted = [float(pixels[i].astype(float).sum()) for i in (5, 3)]
            assert (status, answer["predictions"]) == (200, pytest.approx(wanted, rel=1e-3))
            assert ask(port, "/v1/models/digits:predict", {"instances": [[1, 2]]}) == (200, {"predictions": [3]})
            assert ask(port, "/monitoring/prometheus/metrics")[0] == 403, "not through the front"
            assert machine.step(UNIT, "ExecStop", process.pid).returncode == 0
            for one in given.values():
                assert not answers(int(one), "/ready")
    assert "server is ready" in ready.stdout


@pytest.mark.parametrize("cloud", ["gcp", "aws"])
def test_each_container_gets_what_it_needs(cloud: str) -> None:
    """The server no secret and no address of the store, the front neither; the cloud takes the whole."""
    plan, container = made(cloud)
    env = {"SLIPWAY_STORE_URL": "rediss://10.0.0.3:6378/0"}
    text = vm.user_data(container, plan.pools[0], cloud=cloud, env=env, secrets=SECRETS)
    assert vm.too_long(text, plan) is None
    lines = [x.strip() for x in text.splitlines() if "docker run --" in x]
    (looks_up,) = (x for x in lines if "--name slipway-server-by-id" in x)
    (front,) = (x for x in lines if "--name slipway-server-front" in x)
    (server,) = (x for x in lines if x.startswith("exec docker run"))
    for name in ("SLIPWAY_STORE_URL", "SLIPWAY_STORE_PASSWORD", "SLIPWAY_BY_ID"):
        assert f"--env {name}" in looks_up
        assert name not in front + server
    assert "--rest_api_port=8503" in server
    numbers = vm.boot(plan, plan.pools[0], container)
    assert dict(numbers.ports) == {"http": 8501, "grpc": 8500, "metrics": 8503}
    assert "envoyproxy/envoy:" in front
