"""TensorFlow Serving's files in its own messages or by the table of its fields, and what its container promises."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2 as pb

from infra.plan import Plan
from infra.spec import SpecError
from serving import tf_serving, tf_serving_config
from serving.container import ContainerSpec
from serving.facts import facts, rows
from tests.serving.clouds import model, tf_plan
from tests.serving.servers import PROJECT


def container(plan: Plan, uploaded: str | None = None) -> ContainerSpec:
    return tf_serving.pod(plan, plan.pools[0], project=PROJECT, uploaded=uploaded)


def config(plan: Plan, uploaded: str | None = None) -> pb.ModelServerConfig:
    pod = container(plan, uploaded).pod
    assert pod is not None
    return text_format.Parse(pod.config["models.config"], pb.ModelServerConfig())


def flags(plan: Plan) -> dict[str, str]:
    return dict(word.removeprefix("--").split("=", 1) for word in container(plan).args)


def saved(version: int = 1, **changes: object) -> dict[str, object]:
    return model(storage_uri="gs://models/digits", format="savedmodel", version=version, **changes)


def test_the_model_list_is_the_servers_own_message() -> None:
    said = config(tf_plan())
    (only,) = said.model_config_list.config
    assert (only.name, only.base_path, only.model_platform) == ("digits", "gs://models/digits", "tensorflow")
    assert list(only.model_version_policy.specific.versions) == [1]
    assert not only.version_labels


def test_labelled_versions_are_served_beside_each_other() -> None:
    """A canary is a version with a name: both are loaded, and the labels point to them."""
    labels = {"stable": 1, "canary": 2}
    said = config(tf_plan(models=[saved(1, labels=labels), saved(2, labels=labels)]))
    (only,) = said.model_config_list.config
    assert list(only.model_version_policy.specific.versions) == [1, 2]
    assert dict(only.version_labels) == labels
    assert flags(tf_plan())["allow_version_labels_for_unavailable_models"] == "true"


def test_versions_in_two_places_are_refused() -> None:
    labels = {"stable": 1, "canary": 2}
    other = saved(2, labels=labels) | {"storage_uri": "gs://models/other"}
    with pytest.raises(SpecError, match=r"models\[1\].storage_uri.*one folder"):
        config(tf_plan(models=[saved(1, labels=labels), other]))


def test_s3_is_copied_before_the_start() -> None:
    pod = container(tf_plan("aws")).pod
    assert pod is not None
    assert pod.init is not None
    assert pod.init.env["SLIPWAY_SOURCE_0"] == "s3://models/digits"
    assert config(tf_plan("aws")).model_config_list.config[0].base_path == "/models/digits"
    assert "/models" in pod.folders


def test_gs_is_read_by_the_server_itself() -> None:
    pod = container(tf_plan()).pod
    assert pod is not None
    assert pod.init is None


def test_local_files_are_uploaded_and_copied(tmp_path: Path) -> None:
    """Their address is known when the bucket is: no file of the server may need it."""
    (tmp_path / "1" / "variables").mkdir(parents=True)
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"graph")
    (tmp_path / "1" / "variables" / "variables.index").write_bytes(b"index")
    plan = tf_plan(models=[model(storage_uri=str(tmp_path), format="savedmodel")])
    upload = tf_serving.uploads(plan, project=PROJECT)
    assert upload is not None
    assert set(upload.files) == {"digits/1/saved_model.pb", "digits/1/variables/variables.index"}
    pod = container(plan, "gs://stack/0123").pod
    assert pod is not None
    assert pod.init is not None
    assert pod.init.env["SLIPWAY_SOURCE_0"] == "gs://stack/0123"
    assert config(plan, "gs://stack/0123").model_config_list.config[0].base_path == "/models/digits"


def test_a_folder_without_a_saved_model_is_named(tmp_path: Path) -> None:
    plan = tf_plan(models=[model(storage_uri=str(tmp_path), format="savedmodel")])
    with pytest.raises(SpecError, match=r"models\[0\].storage_uri.*saved_model.pb"):
        tf_serving.uploads(plan, project=PROJECT)


def test_batching_and_monitoring_say_what_the_table_of_fields_has() -> None:
    """These messages are in no package that can be had alone: names, types and needs are rows with their source."""
    pod = container(tf_plan()).pod
    assert pod is not None
    for file in ("batching.config", "monitoring.config"):
        assert against_table(file, pod.config[file]) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("max_batch_size { value: 3 }", "lacks"),
        ("max_batch_sizes { value: 3 }", "no field max_batch_sizes"),
        ("max_batch_size: 3", "is a message"),
        ("allowed_batch_sizes { value: 4 }", "is a value"),
        ("max_batch_size { value: 3 } max_batch_size { value: 4 }", "stands twice"),
    ],
)
def test_the_table_finds_faults(text: str, fault: str) -> None:
    assert any(fault in found for found in against_table("batching.config", text))


def against_table(file: str, text: str) -> list[str]:
    """Faults of a text by the rows of its message."""
    messages = {r["message"] for r in rows("tf_serving_fields.csv")}
    root = next(r["message"] for r in rows("tf_serving_fields.csv") if r["file"] == file)
    words = text.replace("{", " { ").replace("}", " } ").replace(":", " : ").split()
    found: list[str] = []

    def read(message: str, at: int) -> int:
        fields = {r["field"]: r for r in rows("tf_serving_fields.csv") if (r["file"], r["message"]) == (file, message)}
        seen: list[str] = []
        while at < len(words) and words[at] != "}":
            name, mark = words[at], words[at + 1]
            row = fields.get(name)
            if row is None:
                found.append(f"{message} has no field {name}")
            elif (mark == "{") != (row["type"] in messages or row["type"].endswith("Value")):
                found.append(f"{name} is a {'value' if mark == '{' else 'message'}")
            if name in seen and (row is None or row["repeated"] == "no"):
                found.append(f"{name} stands twice")
            seen.append(name)
            if mark == "{" and row is not None and row["type"] in messages:
                at = read(row["type"], at + 2) + 1
            elif mark == "{":
                if words[at + 2 : at + 4] != ["value", ":"]:
                    found.append(f"{name} wraps no value")
                at = words.index("}", at) + 1
            else:
                at += 3
        found.extend(f"{message} lacks {n}" for n, r in fields.items() if r["needed"] == "yes" and n not in seen)
        return at

    read(root, 0)
    return found


def test_batching_is_the_plans() -> None:
    plan = tf_plan()
    settings = plan.pools[0].models[0]
    pod = container(plan).pod
    assert pod is not None
    text = pod.config["batching.config"]
    assert f"max_batch_size {{\n  value: {settings.max_batch}\n}}" in text
    assert f"num_batch_threads {{\n  value: {settings.instances}\n}}" in text
    sizes = [int(line.split()[1]) for line in text.splitlines() if line.startswith("allowed_batch_sizes")]
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == settings.max_batch


def test_metrics_are_where_the_pod_says() -> None:
    found = container(tf_plan())
    assert found.pod is not None
    assert f'path: "{found.metrics_path}"' in found.pod.config["monitoring.config"]
    assert found.ports.metrics == found.ports.http


def test_the_drain_needs_nothing_of_the_server() -> None:
    """It ignores SIGTERM: the longest request ends before that, and it is killed right after."""
    for seconds in (1, 30):
        plan = tf_plan(max_request_s=seconds)
        pod = container(plan).pod
        assert pod is not None
        assert pod.pre_stop_s >= seconds + 5
        assert pod.grace_s - pod.pre_stop_s == facts("pod")["stop_margin_s"]


def test_a_shared_gpu_is_divided() -> None:
    whole = tf_plan(accelerator="t4")
    shared = tf_plan(accelerator="t4", gpu_sharing={"strategy": "time-slicing", "clients": 3}, cost="economy")
    assert "per_process_gpu_memory_fraction" not in flags(whole)
    assert float(flags(shared)["per_process_gpu_memory_fraction"]) * 3 <= 0.9 + 1e-9
    assert container(whole).image == "tensorflow/serving:2.20.0-gpu"
    assert container(tf_plan()).image == "tensorflow/serving:2.20.0"


def test_quotes_and_lines_stay_inside_a_value() -> None:
    name = 'a"b\\c\nd'
    text = tf_serving_config.model_config_list([tf_serving_config.Served(name=name, base_path="/m", versions=(1,))])
    assert text_format.Parse(text, pb.ModelServerConfig()).model_config_list.config[0].name == name
