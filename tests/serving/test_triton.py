"""The Triton renderer: what the plan says is what config.pbtxt, flags and files say."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc import model_config_pb2 as pb

from infra.plan import Plan
from infra.spec import SpecError
from serving import triton, triton_config
from serving.container import Ports
from serving.facts import rows
from tests.serving.servers import DIGITS, PROJECT, make

STORE = triton.Store(url="redis://127.0.0.1:1/0", key_prefix="test:features:")


def with_serving(plan: Plan, **changes: object) -> Plan:
    """A plan whose first model has other settings."""
    model = dataclasses.replace(plan.serving.models[0], **changes)  # type: ignore[arg-type]
    return dataclasses.replace(plan, serving=dataclasses.replace(plan.serving, models=(model,)))


def config(plan: Plan, model: str = "digits", **options: object) -> pb.ModelConfig:
    files = triton.repository(plan, triton.LOCAL, project=PROJECT, store=STORE, **options)  # type: ignore[arg-type]
    text = files[f"{model}/config.pbtxt"].text
    assert text is not None
    return triton_config.parse(text)


def network(path: Path, input_shape: list[int | str], output_shape: list[int | str]) -> str:
    """A network that doubles its input."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "two"], ["y"])],
        "double",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output_shape)],
        [numpy_helper.from_array(np.array(2, np.float32), "two")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return str(path)


def model(uri: str, **changes: object) -> dict[str, object]:
    profile = {"vcpu": {"base_ms": 0.5, "per_item_ms": 0.05}}
    return {"name": "net", "storage_uri": uri, "profile": profile} | changes


def test_the_plan_decides_batching_and_instances(plan: Plan) -> None:
    """Each number of the plan stands in the configuration under Triton's own name."""
    asked = with_serving(plan, instances=3, max_batch=24, queue_delay_us=700, preferred_batch=(8, 16))
    said = config(asked)
    assert said.max_batch_size == 24
    assert [(g.count, g.kind) for g in said.instance_group] == [(3, pb.ModelInstanceGroup.KIND_CPU)]
    assert list(said.dynamic_batching.preferred_batch_size) == [8, 16]
    assert said.dynamic_batching.max_queue_delay_microseconds == 700


def test_the_queue_is_bounded_by_what_can_be_answered_in_time() -> None:
    """A request that cannot be answered within the longest allowed time is refused, not kept waiting."""
    short, long = (config(make(max_request_s=s)).dynamic_batching.default_queue_policy for s in (0.5, 5))
    assert short.timeout_action == pb.ModelQueuePolicy.REJECT
    assert short.default_timeout_microseconds == 500_000
    assert long.default_timeout_microseconds == 5_000_000
    assert 0 < short.max_queue_size < long.max_queue_size


def test_inputs_and_outputs_are_the_networks_own(plan: Plan) -> None:
    said = config(plan)
    assert [(i.name, list(i.dims), i.data_type) for i in said.input] == [("pixels", [64], pb.DataType.TYPE_FP32)]
    assert [(o.name, list(o.dims)) for o in said.output] == [("label", [1]), ("probabilities", [10])]
    assert [w.batch_size for w in said.model_warmup] == [1, said.max_batch_size]


def test_by_id_has_the_outputs_of_its_model(plan: Plan) -> None:
    direct, by_id = config(plan), config(plan, "digits_by_id")
    assert by_id.output == direct.output
    assert [(i.name, i.data_type) for i in by_id.input] == [("id", pb.DataType.TYPE_STRING)]
    assert by_id.parameters["store_url"].string_value == STORE.url
    assert by_id.parameters["on_failure"].string_value == "error"


def test_no_store_no_prediction_by_id(plan: Plan) -> None:
    files = triton.repository(plan, triton.LOCAL, project=PROJECT)
    assert {name.split("/")[0] for name in files} == {"digits"}
    assert triton.served_names(plan, project=PROJECT, target=triton.LOCAL, store=STORE) == ("digits", "digits_by_id")


def test_features_of_another_size_are_not_this_models_input() -> None:
    other = make(features={"source": "serving/samples/digits/features.npz", "keys": 10, "value_bytes": 128})
    assert triton.served_names(other, project=PROJECT, target=triton.LOCAL, store=STORE) == ("digits",)


def test_local_runs_the_shim_and_images_their_own_backend(plan: Plan) -> None:
    """Only the package's Triton lacks the ONNX backend: a cloud's image must not run our shim."""
    local = triton.repository(plan, triton.LOCAL, project=PROJECT)
    image = triton.repository(plan, "kubernetes", project=PROJECT)
    assert config(plan).backend == "python"
    assert set(local) - set(image) == {"digits/1/model.py"}
    text = image["digits/config.pbtxt"].text
    assert text is not None
    assert triton_config.parse(text).backend == "onnxruntime"


def test_files_are_named_by_content(plan: Plan) -> None:
    """The digest of a referenced file is that of the file, so that a changed model is a changed resource."""
    content = triton.repository(plan, triton.LOCAL, project=PROJECT)["digits/1/model.onnx"]
    assert content.path == DIGITS
    assert content.sha256 == hashlib.sha256((PROJECT / DIGITS).read_bytes()).hexdigest()


def test_the_repository_is_the_same_every_time(plan: Plan) -> None:
    """A rendering that changes by itself would make every `up` a change."""
    again = make()
    assert triton.repository(plan, triton.LOCAL, project=PROJECT, store=STORE) == triton.repository(
        again, triton.LOCAL, project=PROJECT, store=STORE
    )


def flags(plan: Plan, **options: object) -> dict[str, str]:
    spec = triton.container(
        plan,
        triton.LOCAL,
        name="t",
        project=PROJECT,
        models_path="/models",
        ports=Ports(http=1, grpc=2, metrics=3),
        **options,  # type: ignore[arg-type]
    )
    return {name: value for name, _, value in (a.partition("=") for a in spec.args)}


def test_the_server_waits_for_the_longest_request() -> None:
    """Exit time-out and supervisor's patience follow the longest allowed request, not Triton's default of 30 s."""
    for longest in (2, 60):
        plan = make(max_request_s=longest)
        spec = triton.container(
            plan, triton.LOCAL, name="t", project=PROJECT, models_path="/m", ports=Ports(http=1, grpc=2, metrics=3)
        )
        assert f"--exit-timeout-secs={plan.serving.exit_timeout_s}" in spec.args
        assert longest <= plan.serving.exit_timeout_s < spec.stop_timeout_s


def test_flags_are_the_tables_rows(plan: Plan) -> None:
    given = flags(plan)
    assert given["--model-control-mode"] == "none"
    assert given["--http-address"] == given["--grpc-address"] == given["--metrics-address"] == "127.0.0.1"
    assert "--disable-auto-complete-config" in given
    assert "--cache-config" not in given
    known = {f"--{row['flag']}" for row in rows("triton_flags.csv")}
    assert set(given) <= known


def test_a_response_cache_needs_flag_and_model(plan: Plan) -> None:
    """One without the other loads without a word and caches nothing."""
    assert flags(plan, cached=["digits"])["--cache-config"].startswith("local,size=")
    assert config(plan, cached=["digits"]).response_cache.enable
    assert not config(plan).response_cache.enable


def test_a_probe_expects_what_the_file_answers(plan: Plan) -> None:
    spec = triton.container(
        plan,
        triton.LOCAL,
        name="t",
        project=PROJECT,
        models_path="/m",
        ports=Ports(http=1, grpc=2, metrics=3),
        store=STORE,
    )
    direct, by_id = spec.probes
    label, probabilities = direct.outputs
    assert (label.shape, probabilities.shape) == ((1, 1), (1, 10))
    assert probabilities.data is not None
    values: npt.NDArray[np.float64] = np.array(probabilities.data, float)
    assert label.data == (int(values.argmax()),)
    assert values.sum() == pytest.approx(1, abs=1e-4)
    assert (by_id.model, by_id.error) == ("digits_by_id", triton.EMPTY_ID)


def problems(plan: Plan) -> str:
    with pytest.raises(SpecError) as caught:
        triton.repository(plan, triton.LOCAL, project=PROJECT)
    return str(caught.value)


def test_every_model_that_cannot_be_served_is_named_at_once(tmp_path: Path) -> None:
    text = tmp_path / "text.onnx"
    text.write_text("not a network")
    gone = str(tmp_path / "gone.onnx")
    said = problems(
        make(models=[model(str(text), name="a"), model(gone, name="b")], feature_store="none", features=None)
    )
    assert "models[0].storage_uri" in said
    assert "ONNX Runtime cannot load it" in said
    assert "models[1].storage_uri" in said
    assert "no such file" in said


def test_a_network_without_a_free_first_dimension_takes_no_batch(tmp_path: Path) -> None:
    uri = network(tmp_path / "one.onnx", [1, 4], [1, 4])
    none = {"feature_store": "none", "features": None, "local_vcpus": 2}
    plan = make(models=[model(uri, max_batch=1)], **none)
    said = config(plan, "net")
    assert said.max_batch_size == 0
    assert list(said.input[0].dims) == [1, 4]
    assert not said.HasField("dynamic_batching")
    assert "max_batch to 1" in problems(with_serving(make(models=[model(uri, max_batch=8)], **none), max_batch=8))


def test_items_without_dimensions_are_served_as_of_size_one(tmp_path: Path) -> None:
    """Triton wants dims; the network wants [N]: a reshape stands between."""
    plan = make(models=[model(network(tmp_path / "n.onnx", ["N"], ["N"]))], feature_store="none", features=None)
    said = config(plan, "net")
    assert list(said.input[0].dims) == [1]
    assert said.input[0].HasField("reshape")
    assert list(said.input[0].reshape.shape) == []


def test_a_folder_holds_one_network_and_what_belongs_to_it(tmp_path: Path) -> None:
    (tmp_path / "3").mkdir()
    network(tmp_path / "3" / "net.onnx", ["N", 4], ["N", 4])
    (tmp_path / "3" / "labels.txt").write_text("a b")
    plan = make(models=[model(str(tmp_path), version=3)], feature_store="none", features=None)
    files = triton.repository(plan, triton.LOCAL, project=PROJECT)
    assert {"net/3/model.onnx", "net/3/labels.txt"} <= set(files)
    assert list(config(plan, "net").version_policy.specific.versions) == [3]
    network(tmp_path / "3" / "second.onnx", ["N", 4], ["N", 4])
    assert "must hold one .onnx file, and holds 2" in problems(plan)


def test_a_word_that_triton_does_not_know_is_found() -> None:
    """The message is the schema: what it refuses, the server refuses."""
    with pytest.raises(text_format.ParseError):
        triton_config.parse('name: "x" max_batch: 3')


@pytest.mark.parametrize("table", ["facts.csv", "triton_flags.csv", "model_formats.csv"])
def test_every_row_has_its_source(table: str) -> None:
    assert rows(table)
    for row in rows(table):
        assert None not in row, f"{table}: too many cells: {row}"
        assert row["source"], f"{table}: no source: {row}"
