"""Triton on Kubernetes: settings in Triton's own message, repositories, identity, versions, and what is refused."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2 as pb

from infra.plan import Plan
from infra.spec import SpecError
from serving import triton_pod
from serving.container import ContainerSpec
from serving.pod import Pod
from serving.triton import Store
from tests.serving.clouds import cloud_plan, model
from tests.serving.servers import DIGITS, PROJECT

BUCKET = {"models": [model(storage_uri="gs://models/some/digits")]}
STORE = Store(url="$SLIPWAY_STORE_URL", key_prefix="web:features:")


def made(plan: Plan, number: int = 0, **given: Any) -> ContainerSpec:
    return triton_pod.pod(plan, plan.pools[number], project=PROJECT, **{"uploaded": "gs://stack/0123", **given})


def pod(plan: Plan, **given: Any) -> Pod:
    found = made(plan, **given).pod
    assert found is not None
    return found


def start(plan: Plan, **given: Any) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(pod(plan, **given).config["start.json"])
    return said


def config(plan: Plan, number: int = 0) -> pb.ModelConfig:
    """What the server will be given, in its own message."""
    (first, *_) = triton_pod.config_of(made(plan, number))
    given = first["config"]
    assert isinstance(given, dict)
    return json_format.ParseDict(given, pb.ModelConfig())


def test_settings_are_those_of_the_pool() -> None:
    plan = cloud_plan(accelerator="l4", **BUCKET)
    for number, pool in enumerate(plan.pools):
        said, settings = config(plan, number), pool.models[0]
        assert said.max_batch_size == settings.max_batch
        assert said.backend == "onnxruntime"
        assert said.dynamic_batching.max_queue_delay_microseconds == settings.queue_delay_us
        (group,) = said.instance_group
        assert group.kind == pb.ModelInstanceGroup.KIND_GPU
        assert group.count * max(1, pool.accelerator_count) == settings.instances


def test_instances_are_counted_for_each_gpu() -> None:
    """Triton makes that many on every GPU that it sees: two on each of four are eight."""
    plan = cloud_plan(accelerator="t4x4", scaling="vertical", load={"mean_rps": 9000, "peak_rps": 30000})
    pool = plan.pools[0]
    assert (pool.accelerator_count, pool.replicas_per_node) == (4, 1)
    (group,) = config(plan).instance_group
    assert group.count * 4 == pool.models[0].instances


def test_a_cpu_pool_computes_on_cpus() -> None:
    (group,) = config(cloud_plan()).instance_group
    assert group.kind == pb.ModelInstanceGroup.KIND_CPU


def test_a_bucket_is_a_repository_and_so_is_what_was_uploaded() -> None:
    """Models of two places in one server; the address that only the caller knows passes as it is."""
    later = object()
    plan = cloud_plan(models=[model(storage_uri="gs://models/some/other", name="other"), model(storage_uri=DIGITS)])
    upload = triton_pod.uploads(plan, project=PROJECT)
    assert upload is not None
    assert list(upload.files) == ["digits/1/model.onnx"]
    env = pod(plan, uploaded=later).env
    assert env["SLIPWAY_REPOSITORY_0"] == "gs://models/some"
    assert env["SLIPWAY_REPOSITORY_1"] is later
    assert start(plan)["repositories"] == ["SLIPWAY_REPOSITORY_0", "SLIPWAY_REPOSITORY_1"]


def test_a_bucket_model_needs_no_upload() -> None:
    assert triton_pod.uploads(cloud_plan(**BUCKET), project=PROJECT) is None


def test_a_model_in_a_folder_of_another_name_is_refused_with_the_way_out() -> None:
    plan = cloud_plan(models=[model(storage_uri="gs://models/digits-v2")])
    with pytest.raises(SpecError, match=r"models\[0\].storage_uri.*digits-v2.*set model_access to sync"):
        made(plan)
    synced = cloud_plan(models=[model(storage_uri="gs://models/digits-v2")], model_access="sync")
    found = pod(synced)
    assert found.init is not None
    assert found.init.env["SLIPWAY_SOURCE_0"] == "gs://models/digits-v2"
    assert start(synced)["repositories"] == ["/models"]


def test_a_mount_is_refused() -> None:
    with pytest.raises(SpecError, match=r"model_access.*allowed: direct, sync"):
        made(cloud_plan(model_access="mount", **BUCKET))


def test_amazon_is_told_the_region() -> None:
    plan = cloud_plan("aws", models=[model(storage_uri="s3://models/digits")])
    env = pod(plan).env
    assert env["AWS_DEFAULT_REGION"] == "us-east-1"
    assert env["SLIPWAY_REPOSITORY_0"] == "s3://models"
    assert not [k for k in env if "KEY" in k or "SECRET" in k]


def test_labelled_versions_are_one_model_of_both() -> None:
    labels = {"stable": 1, "canary": 3}
    both = [model(storage_uri="gs://models/digits", version=v, labels=labels) for v in (1, 3)]
    plan = cloud_plan(models=both)
    assert triton_pod.served_names(plan) == ("digits",)
    assert list(config(plan).version_policy.specific.versions) == [1, 3]


def test_everything_but_predictions_is_restricted() -> None:
    """Whatever interface Triton can restrict is, save those that a client of the entry may ask."""
    every = {
        "health", "metadata", "inference", "shared-memory", "model-config", "model-repository", "statistics", "trace",
        "logging",
    }  # fmt: skip
    assert set(start(cloud_plan())["restricted"]) == every - {"health", "metadata", "inference"}


def test_predictions_by_id_wait_for_the_server_to_read_the_file() -> None:
    """The look-up's configuration lacks just what the network's file says, and the start ends behind it."""
    plan = cloud_plan(feature_store="memorystore", features={"value_bytes": 256}, **BUCKET)
    said = start(plan, store=STORE)["by_id"]["digits"]
    assert said["value_bytes"] == 256
    message = json_format.ParseDict(said["config"], pb.ModelConfig())
    assert (message.name, message.backend) == ("digits_by_id", "python")
    assert [i.name for i in message.input] == ["id"]
    assert not message.output
    assert message.parameters["store_url"].string_value == "$SLIPWAY_STORE_URL"
    assert {"model", "model_input", "feature_datatype", "feature_shape"} & set(message.parameters) == set()
    found = pod(plan, store=STORE)
    assert found.startup.command
    assert found.startup.command[-1] == start(plan, store=STORE)["started"]
    assert found.env["SLIPWAY_REPOSITORY_1"] == "gs://stack/0123"
    assert "by_id" not in start(plan)


@pytest.mark.real
def test_the_server_knows_every_flag(triton_home: Path) -> None:
    """Each flag of the rendered command, and those that the script adds, stands in the server's own help."""
    text = subprocess.run(
        [str(triton_home / "bin" / "tritonserver"), "--help"], capture_output=True, text=True, check=False, timeout=30
    )
    known = text.stdout + text.stderr
    words = [w.partition("=")[0] for w in start(cloud_plan(), cached=["digits"])["command"][1:]]
    words += ["--model-repository", "--model-control-mode", "--http-restricted-api", "--grpc-restricted-protocol"]
    assert [w for w in words if f"{w} " not in known] == []
