"""Each kind on this machine, over real gRPC: created once, left alone, repaired when it drifts, gone when deleted."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
import redis
from local_driver import BODY, CONFIG, FILES, MODEL, PROBE, Stack

from infra.clouds.local import inspect, supervision
from infra.clouds.local.eds import hosts
from infra.clouds.local.root import Root

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def predict(stack: Stack) -> list[float]:
    url = f"http://127.0.0.1:{stack.base}/v2/models/add/infer"
    with urllib.request.urlopen(url, json.dumps(BODY).encode(), timeout=10) as answer:
        data: list[float] = json.load(answer)["outputs"][0]["data"]
    return data


def pids(stack: Stack) -> dict[str, int | None]:
    return {p.name: p.pid for p in inspect.processes(stack.driver.root)}


def here(stack: Stack) -> Root:
    return Root(path=stack.driver.root, stack="test")


def again(stack: Stack) -> list[str]:
    """What an `up` without changes does to each resource."""
    return [
        stack.supervisor(),
        stack.redis(),
        stack.envoy(),
        stack.models("aaaaaaaa"),
        stack.server("aaaaaaaa"),
        stack.endpoints("server-0-aaaaaaaa"),
    ]


def test_second_up_does_nothing(stack: Stack) -> None:
    """No difference, no update, no process touched; the entry answers."""
    before = pids(stack)
    assert again(stack) == ["same"] * 6
    assert pids(stack) == before
    assert predict(stack) == [2, 3]


def test_create_adopts_what_stands(stack: Stack) -> None:
    """An engine that lost its state creates everything again: the same processes, nothing made twice."""
    before, state = pids(stack), dict(stack.driver.state)
    stack.driver.state.clear()
    assert again(stack) == ["create"] * 6
    assert stack.driver.state == state
    assert pids(stack) == before


def test_read_needs_no_state(stack: Stack) -> None:
    """By its name alone a resource tells the inputs it was made with; a name that nothing bears is gone."""
    for urn, (ident, inputs, _) in stack.driver.state.items():
        kind = urn.split("::")[2].split(":")[2]
        found = stack.driver.read(kind, ident)
        assert found is not None
        assert found[0] == inputs
        assert found[1]["status"] == "as asked"
        assert stack.driver.read(kind, "other") is None


@pytest.mark.parametrize(
    "file", ["envoy/envoy.yaml", "envoy/http.json", "models/models-aaaaaaaa/add/1/model.py", "conf.d/redis.conf"]
)
@pytest.mark.parametrize("change", ["edited", "removed"])
def test_a_file_changed_by_hand_is_repaired(stack: Stack, file: str, change: str) -> None:
    """A read tells it, the next `up` writes it again, everything else is left alone, and the entry answers."""
    path = stack.driver.root / file
    before = path.read_text()
    if change == "edited":
        path.write_text(before + "\n# by hand\n")
    else:
        path.unlink()
    told = [stack.driver.read(urn.split("::")[2].split(":")[2], ident) for urn, (ident, _, _) in drifted(stack)]
    assert len(told) == 1
    assert sorted(again(stack)) == ["same"] * 5 + ["update"]
    assert path.read_text() == before
    assert again(stack) == ["same"] * 6
    until(lambda: predict(stack) == [2, 3])


def test_an_entry_file_edited_by_hand_costs_no_request(stack: Stack) -> None:
    """Envoy read the right file when it started: it is written again and Envoy left alone, unless it has since died."""
    path, before = stack.driver.root / "envoy/envoy.yaml", pids(stack)
    right = path.read_text()
    path.write_text(right + " ")
    assert stack.envoy() == "update"
    assert pids(stack) == before
    path.write_text(right.replace('"slipway"', '"edited"'))
    pid = before["envoy"]
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: pids(stack)["envoy"] not in (None, pid))
    until(lambda: answers(stack))
    edited = pids(stack)["envoy"]
    assert stack.envoy() == "update"
    assert pids(stack)["envoy"] != edited, "it runs with the edited file"
    until(lambda: answers(stack))


def drifted(stack: Stack) -> list[tuple[str, tuple[str, dict[str, object], dict[str, object]]]]:
    """Resources that a read finds different from what was asked, in their inputs or their status."""
    found = []
    for urn, entry in stack.driver.state.items():
        read = stack.driver.read(urn.split("::")[2].split(":")[2], entry[0])
        if read is None or read[0] != entry[1] or read[1]["status"] != "as asked":
            found.append((urn, entry))
    return found


def test_a_stopped_process_is_repaired(stack: Stack) -> None:
    """Somebody stops a program in supervisord: nothing restarts it by itself, `up` does."""
    supervision.stop(here(stack), "redis")
    assert [urn.split("::")[3] for urn, _ in drifted(stack)] == ["redis"]
    assert stack.redis() == "update"
    assert stack.redis() == "same"


@pytest.mark.parametrize("victim", ["redis", "envoy", "server-0-aaaaaaaa", "watch", "supervisord", "worker", "keeper"])
def test_a_killed_process_comes_back(stack: Stack, victim: str) -> None:
    """`kill -9` of any process of the stack: it is replaced without `up`, and the other servers keep their pids."""
    before = pids(stack)
    pid = before.get(victim)
    if victim == "worker":
        import psutil

        pid = psutil.Process(before["server-0-aaaaaaaa"]).children()[0].pid
    elif victim == "keeper":
        pid = supervision.pids(here(stack))["server-0-aaaaaaaa"]
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: pid not in {*pids(stack).values(), *supervision.pids(here(stack)).values()})
    until(lambda: all(p.state == "running" and not p.problem for p in inspect.processes(stack.driver.root, probe=True)))
    until(lambda: answers(stack))
    changed = {name for name, p in pids(stack).items() if p != before[name]}
    expected = {"supervisord": {"supervisord", "watch"}, "worker": {"server-0-aaaaaaaa"}, "keeper": set[str]()}
    assert changed == expected.get(victim, {victim})
    assert again(stack) == ["same"] * 6


def answers(stack: Stack) -> bool:
    try:
        return predict(stack) == [2, 3]
    except OSError:
        return False


def test_supervisord_and_watch_killed_together(stack: Stack) -> None:
    """Nobody is left to restart anything: the servers serve on, and `up` takes them over as they are."""
    before = pids(stack)
    for name in ("watch", "supervisord"):
        pid = before[name]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    assert predict(stack) == [2, 3]
    assert again(stack)[0] == "update"
    until(lambda: all(p.state == "running" for p in inspect.processes(stack.driver.root)))
    after = pids(stack)
    assert {n for n in before if before[n] != after[n]} == {"supervisord", "watch"}
    assert predict(stack) == [2, 3]


def test_features_are_loaded_and_kept(stack: Stack, tmp_path: Path) -> None:
    """Every row by its id; lost keys are loaded again, a changed file replaces its own, a crash of Redis loses none."""
    source = tmp_path / "features.npz"
    rows = np.arange(12, dtype="f4").reshape(4, 3)
    np.savez(source, ids=np.array(["a", "b", "c", "d"]), features=rows)
    assert stack.features(source) == "create"
    with redis.Redis(port=stack.base + 2) as client:
        assert client.get("t:b") == rows[1].tobytes()
        assert stack.features(source) == "same"
        client.set("t:own", "of somebody else")
        client.set("t:a", "updated since")
        client.delete("t:b")
        assert stack.features(source) == "update"
        assert client.get("t:b") == rows[1].tobytes()
        assert client.get("t:a") == b"updated since"
        time.sleep(1.1)  # appendfsync everysec
        pid = pids(stack)["redis"]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda: pids(stack)["redis"] not in (None, pid))
        until(lambda: stack.features(source) == "same")
        np.savez(source, ids=np.array(["a", "e"]), features=rows[:2])
        assert stack.features(source) == "update"
        assert sorted(client.scan_iter("t:*")) == [b"t:a", b"t:e", b"t:own"]
        assert client.get("t:a") == rows[0].tobytes()
        stack.driver.delete("FeatureSet", "features")
        assert list(client.scan_iter()) == [b"t:own"]


def test_switch_drains_and_stops_the_old(stack: Stack) -> None:
    """New in and healthy, old out of the entry, then stopped; its ports, memory and files are gone."""
    before = pids(stack)
    assert stack.models("bbbbbbbb") == "create"
    assert stack.server("bbbbbbbb") == "create"
    ports = stack.driver.outputs("ModelServer", "server-0-bbbbbbbb")["ports"]
    assert ports["http"] == stack.base + 20
    assert stack.endpoints("server-0-bbbbbbbb") == "update"
    assert {port for (cluster, port) in hosts(stack.base + 9) if cluster == "http"} == {stack.base + 20}
    stack.driver.delete("ModelServer", "server-0-aaaaaaaa")
    stack.driver.delete("ModelRepository", "models-aaaaaaaa")
    assert predict(stack) == [2, 3]
    assert {n: p for n, p in pids(stack).items() if n in ("redis", "envoy")} == {
        n: before[n] for n in ("redis", "envoy")
    }
    left = [
        p.name for p in Path("/dev/shm").iterdir() if "server-0-aaaaaaaa" in p.name and here(stack).shm_prefix in p.name
    ]
    assert left == []
    assert stack.models("aaaaaaaa") == "create"  # and back, for the tests after this one
    assert stack.server("aaaaaaaa") == "create"
    assert stack.driver.outputs("ModelServer", "server-0-aaaaaaaa")["ports"]["http"] == stack.base + 10
    assert stack.endpoints("server-0-aaaaaaaa") == "update"
    stack.driver.delete("ModelServer", "server-0-bbbbbbbb")
    stack.driver.delete("ModelRepository", "models-bbbbbbbb")


BROKEN = {
    "does not load": (
        {"text": MODEL.replace("class TritonPythonModel", "raise ValueError('no weights')\nclass X")},
        "no weights",
    ),
    "answers wrongly": ({"text": MODEL.replace("float32(1)", "float32(2)")}, "expected [2, 3]"),
    "fails": ({"text": MODEL.replace("answers = []", "raise ValueError('no luck')")}, "no luck"),
}


@pytest.mark.parametrize("way", list(BROKEN))
def test_a_bad_model_never_serves(stack: Stack, way: str) -> None:
    """Its server is an error that says why; nothing of it is left; the stack that worked goes on serving."""
    before = pids(stack)
    file, told = BROKEN[way]
    assert stack.models("cccccccc", {**FILES, "add/1/model.py": file}) == "create"
    with pytest.raises(grpc.RpcError) as raised:
        stack.server("cccccccc")
    assert told in (raised.value.details() or "")
    assert "server-0-cccccccc" in (raised.value.details() or "")
    stack.driver.delete("ModelRepository", "models-cccccccc")
    assert pids(stack) == before
    assert predict(stack) == [2, 3]
    assert again(stack) == ["same"] * 6


def test_a_server_that_never_gets_ready(stack: Stack) -> None:
    """Triton hangs without a word when model.py is missing (measured): the startup time ends that."""
    before = pids(stack)
    assert stack.models("cccccccc", {"add/config.pbtxt": {"text": CONFIG}, "add/1/other.py": {"text": ""}}) == "create"
    with pytest.raises(grpc.RpcError, match=r"worker process \d+ has died|not ready after 2 s"):
        stack.server("cccccccc", startup_seconds=2)
    stack.driver.delete("ModelRepository", "models-cccccccc")
    assert pids(stack) == before


def test_a_port_taken_while_away(stack: Stack) -> None:
    """A server that ends by itself at once (a port of it is taken) is an error with its log, not a loop."""
    assert stack.models("cccccccc") == "create"
    taken = {"http": stack.base + 30, "grpc": stack.base + 1, "metrics": stack.base + 32}  # Envoy's
    with pytest.raises(grpc.RpcError, match=r"(?s)ended by itself \(exit 1\).*in use|bind"):
        stack.server("cccccccc", ports=taken)
    stack.driver.delete("ModelRepository", "models-cccccccc")
    assert again(stack) == ["same"] * 6


def test_a_wrong_entry_configuration_changes_nothing(stack: Stack) -> None:
    """Envoy is asked before the running one goes."""
    before = pids(stack)
    inputs = {"config": "{no: envoy}", "ports": {"admin": stack.base + 9}, "clusters": ["http", "grpc"]}
    with pytest.raises(grpc.RpcError, match="refuses its configuration"):
        stack.driver.up("Envoy", "envoy", inputs)
    assert again(stack) == ["same"] * 6
    assert pids(stack) == before


def test_new_servers_that_envoy_finds_dead(stack: Stack) -> None:
    """An update of the endpoints to servers that are not there fails, and the old ones go on serving."""
    dead = [{"name": "ghost", "http": stack.base + 80, "grpc": stack.base + 81}]
    inputs = {"admin_port": stack.base + 9, "clusters": ["http", "grpc"], "targets": dead, "healthy_seconds": 2}
    with pytest.raises(grpc.RpcError, match="the old ones go on serving"):
        stack.driver.up("Endpoints", "endpoints", inputs)
    assert predict(stack) == [2, 3]
    assert stack.endpoints("server-0-aaaaaaaa") == "same"


def test_probe_is_part_of_the_server(stack: Stack) -> None:
    """Other expectations are another input of the server, and no reason to stop it."""
    other = {**PROBE, "outputs": [{"name": "C", "datatype": "FP32", "shape": [1, 2]}]}
    before = pids(stack)
    assert stack.server("aaaaaaaa", probes=[other]) == "update"
    assert stack.server("aaaaaaaa") == "update"
    assert pids(stack) == before
