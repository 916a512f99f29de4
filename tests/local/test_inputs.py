"""What the provider refuses before anything starts: all problems together, each with its way out."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest
from stack_project import free_block

from infra.clouds.local import preflight, servers, slots
from infra.clouds.local.endpoints import Endpoints
from infra.clouds.local.envoy import Envoy
from infra.clouds.local.features import FeatureSet
from infra.clouds.local.kind import Fault
from infra.clouds.local.model_server import ModelServer
from infra.clouds.local.probe import difference
from infra.clouds.local.redis_server import Redis
from infra.clouds.local.repository import ModelRepository
from infra.clouds.local.root import Root, write_json
from infra.clouds.local.supervisor import Supervisor

NO_DATA = b'{"outputs": [{"name": "C", "datatype": "FP32", "shape": [1]}]}'
SERVER = {"name": "s", "command": ["x"], "repository": "/r", "probes": [{}], "generation": "aaaaaaaa", "index": 0}


def paths(faults: list[Fault]) -> set[str]:
    return {f.path for f in faults}


def test_all_problems_at_once(root: Root) -> None:
    """A wrong type, a missing and an unknown property are three faults of one answer."""
    faults = Redis().check(root, {"port": "eighty", "colour": 1}, {}).faults
    assert paths(faults) == {"name", "port", "colour"}
    (unknown,) = (f for f in faults if f.path == "colour")
    assert "max_memory_mib, name, port" in str(unknown)


def test_repository_refuses_paths_outside_and_missing_files(root: Root, tmp_path: Path) -> None:
    """A repository is written by names that the configuration gives: none may leave its folder."""
    files = {"../x": {"text": ""}, "/y": {"text": ""}, "m/1/model.onnx": {"source": str(tmp_path / "none")}, "e": {}}
    faults = ModelRepository().check(root, {"name": "m", "files": files}, {}).faults
    assert paths(faults) == {'files["../x"]', 'files["/y"]', 'files["m/1/model.onnx"]', 'files["e"]'}
    assert "storage_uri" in next(str(f) for f in faults if "onnx" in f.path)


def test_repository_knows_content(root: Root, tmp_path: Path) -> None:
    """The digest of a source is an input, so that a file trained again is a difference."""
    source = tmp_path / "model.onnx"
    digests = []
    for content in (b"one", b"two", b"one"):
        source.write_bytes(content)
        files = {"m/1/model.onnx": {"source": str(source)}}
        checked = ModelRepository().check(root, {"name": "m", "files": files}, {}).inputs["files"]
        assert isinstance(checked, dict)
        digests.append(checked["m/1/model.onnx"]["sha256"])
    assert digests[0] == digests[2] != digests[1]


def test_servers_need_probes_and_endpoints_targets(root: Root) -> None:
    """Without a probe nothing says whether a model answers; without a target the entry answers nothing."""
    assert paths(ModelServer().check(root, {**SERVER, "probes": [], "base_port": 20000}, {}).faults) == {"probes"}
    inputs = {"name": "e", "admin_port": 1, "clusters": ["http", "grpc"], "targets": []}
    assert paths(Endpoints().check(root, inputs, {}).faults) == {"targets"}
    inputs["targets"] = [{"name": "a", "http": 1}]
    assert "grpc" in str(Endpoints().check(root, inputs, {}).faults[0])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "is missing"),
        (b"not a zip", "not an .npz"),
        ({"ids": np.array(["a"]), "rows": np.zeros((1, 2))}, "no array 'features'; it has ids, rows"),
    ],
)
def test_features_that_cannot_be_loaded(root: Root, tmp_path: Path, content: object, told: str) -> None:
    """The file is looked into before Redis is touched."""
    source = tmp_path / "features.npz"
    if isinstance(content, bytes):
        source.write_bytes(content)
    elif isinstance(content, dict):
        np.savez(source, **content)
    inputs = {"name": "f", "port": 1, "prefix": "t:", "source": str(source)}
    (fault,) = FeatureSet().check(root, inputs, {}).faults
    assert told in str(fault)


def test_a_taken_port_names_its_holder(root: Root) -> None:
    """Fixed ports: the fault names the process and the way out; the stack's own ports are not taken."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (fault,) = Redis().check(root, {"name": "r", "port": port}, {}).faults
        assert f"process {os.getpid()} (" in str(fault)
        assert "slipway:port" in str(fault)
        assert not Redis().check(root, {"name": "r", "port": port}, {"port": port}).faults
        ports = {"http": port, "grpc": port, "admin": port}
        envoy = {"name": "e", "config": "", "ports": ports, "clusters": []}
        assert len(Envoy().check(root, envoy, {}).faults) == 3
        first = Supervisor().check(root, {"name": "s", "ports": {"HTTP entry": port}}, {})
        assert f"port {port} (HTTP entry)" in paths(first.faults)


def test_slots_do_not_depend_on_the_order_of_asking(root: Root) -> None:
    """Server i takes the i-th free slot, whoever is asked first and whether its siblings stand already."""
    base = free_block()
    kind = ModelServer()

    def ask(generation: str, index: int) -> object:
        inputs = {**SERVER, "name": f"s-{index}-{generation}", "base_port": base, "index": index}
        return kind.check(root, {**inputs, "generation": generation}, {}).inputs["ports"]

    def stand(generation: str, index: int) -> None:
        ports = ask(generation, index)
        record = {"generation": generation, "index": index, "base_port": base, "ports": ports}
        write_json(root.record("ModelServer", f"s-{index}-{generation}"), record)

    assert ask("a", 1) == slots.ports(base, 1)
    stand("a", 0)
    assert ask("a", 1) == slots.ports(base, 1)
    stand("a", 1)
    assert ask("b", 0) == slots.ports(base, 2)
    stand("b", 0)
    for index in (0, 1):
        root.record("ModelServer", f"s-{index}-a").unlink()
    assert ask("a", 1) == slots.ports(base, 1), "back on the ports it began with"
    with socket.create_server(("127.0.0.1", base + slots.FIRST)):
        assert ask("a", 0) == slots.ports(base, 1), "a foreign process is passed over"
        assert ask("a", 1) == slots.ports(base, 3)


def test_no_slot_left_is_an_error(root: Root) -> None:
    """Ten servers do not fit nine slots; the error says what holds them."""
    base = free_block()
    for index in range(slots.SLOTS):
        record = {"generation": "a", "index": index, "base_port": base, "ports": slots.ports(base, index)}
        write_json(root.record("ModelServer", f"s-{index}"), record)
    (fault,) = ModelServer().check(root, {**SERVER, "base_port": base, "index": 9}, {}).faults
    assert "9 are used by this stack" in str(fault)


def test_preflight_tells_everything_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long path, a missing library, a missing server, no room: one list, nothing tried in between."""
    monkeypatch.setattr(servers, "envoy", lambda: None)
    monkeypatch.setattr(servers, "missing_libraries", lambda: ["libpython3.11.so.1.0"])
    monkeypatch.setattr(preflight, "DISK_MIB", 1 << 40)
    root = Root(path=tmp_path / ("x" * 100) / ".slipway" / "s", stack="s")
    faults = preflight.preflight(root, {})
    assert {"root", "Envoy", "libpython3.11.so.1.0", "disk"} <= paths(faults)
    assert any("apt-get install libpython3.11" in f.fix for f in faults)
    assert all(f.fix for f in faults)


def test_this_machine_passes_its_own_preflight(root: Root) -> None:
    """Where the tests run, the stack runs."""
    assert [str(f) for f in preflight.preflight(root, {})] == []


def test_files_of_others_are_never_taken_over(tmp_path: Path) -> None:
    """A folder with files and without our mark is refused at up, and left alone at destroy."""
    root = Root(path=tmp_path / "s", stack="s")
    root.path.mkdir()
    (root.path / "thesis.txt").write_text("years of work")
    assert paths(preflight.root_faults(root)) == {"root"}
    root.remove()
    assert (root.path / "thesis.txt").is_file()


def test_no_write_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told before anything starts, with the folder."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    (fault,) = preflight.root_faults(Root(path=tmp_path / "s", stack="s"))
    assert f"no permission to write in {tmp_path}" in str(fault)


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ({"name": "C", "datatype": "FP32", "shape": [1], "data": [1.0005]}, ""),
        ({"name": "C", "datatype": "FP32", "shape": [1], "data": [1.1]}, "expected [1.0]"),
        ({"name": "C", "datatype": "FP32", "shape": [2], "data": [1, 1]}, "shape"),
        ({"name": "C", "datatype": "INT64", "shape": [1], "data": [1]}, "datatype"),
        ({"name": "D", "datatype": "FP32", "shape": [1], "data": [1]}, "missing"),
    ],
)
def test_probe_compares_answers(output: dict[str, object], told: str) -> None:
    """Shape, type and values within the tolerance; anything else is a wrong answer."""
    probe: dict[str, object] = {
        "outputs": [{"name": "C", "datatype": "FP32", "shape": [1], "data": [1.0]}],
        "relative_tolerance": 1e-3,
    }
    found = difference(json.dumps({"outputs": [output]}).encode(), probe)
    assert told in found
    assert bool(found) == bool(told)


@pytest.mark.parametrize("text", [b"", b"[]", b'{"outputs": 3}', b'{"outputs": [{"name": "C"}]}', b"\xff", NO_DATA])
def test_probe_survives_any_answer(text: bytes) -> None:
    """A server in trouble may answer anything: it is a wrong answer, never an exception."""
    probe: dict[str, object] = {"outputs": [{"name": "C", "datatype": "FP32", "shape": [1], "data": [1.0]}]}
    assert difference(text, probe)
