"""The end of a stack: nothing is left, however it was hurt before; and the plugin ends with its engine."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from local_driver import Driver, Stack
from stack_project import free_block

from infra.clouds.local import inspect, slots
from infra.clouds.local.root import Root

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]


@pytest.fixture
def own() -> Iterator[Stack]:
    """A stack that the test itself takes down."""
    folder = Path(tempfile.mkdtemp(prefix="slipway-"))
    with Driver(folder / ".slipway" / "test") as driver:
        yield Stack(driver, free_block())
    for process in psutil.process_iter(["cmdline"]):
        if str(folder) in " ".join(process.info["cmdline"] or []):
            process.kill()
    shutil.rmtree(folder, ignore_errors=True)


def nothing_is_left(stack: Stack) -> None:
    root = Root(path=stack.driver.root, stack="test")
    assert not root.path.parent.exists(), list(root.path.parent.rglob("*"))
    assert [p for p in Path("/dev/shm").iterdir() if p.name.startswith(root.shm_prefix)] == []
    lines = [" ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])]
    assert [line for line in lines if str(root.path) in line] == []
    for offset in (0, 1, 2, 9, *range(10, 40)):
        with socket.socket() as s:
            assert s.connect_ex(("127.0.0.1", stack.base + offset)) != 0, f"port {stack.base + offset}"


def full(stack: Stack) -> None:
    for step in (stack.supervisor, stack.redis, stack.envoy):
        step()
    stack.models("aaaaaaaa")
    for index in (0, 1):
        stack.server("aaaaaaaa", index)
    stack.endpoints("server-0-aaaaaaaa", "server-1-aaaaaaaa")


def test_destroy_leaves_nothing(own: Stack) -> None:
    """No process, socket, shared memory or file; a second time is a no-op; then the stack can come back."""
    full(own)
    state = dict(own.driver.state)
    own.down()
    nothing_is_left(own)
    own.driver.state.update(state)
    own.down()
    nothing_is_left(own)
    own.supervisor()
    assert {p.name for p in inspect.processes(own.driver.root)} == {"supervisord", "watch"}
    own.down()
    nothing_is_left(own)


def test_destroy_of_a_stack_without_supervisor(own: Stack) -> None:
    """supervisord and watch are killed, the servers are alone: they are found by their records and ended."""
    full(own)
    pids = {p.name: p.pid for p in inspect.processes(own.driver.root)}
    for name in ("watch", "supervisord"):
        pid = pids[name]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    own.down()
    nothing_is_left(own)


def test_supervisor_takes_strays_along(own: Stack) -> None:
    """What an interrupted run left without an entry in any state goes with the folder."""
    full(own)
    own.driver.delete("Supervisor", "supervisor")
    nothing_is_left(own)


def test_foreign_process_on_a_slot_is_passed_over(own: Stack) -> None:
    """The server takes the next slot and serves there."""
    own.supervisor()
    own.models("aaaaaaaa")
    with socket.create_server(("127.0.0.1", own.base + slots.FIRST)):
        own.server("aaaaaaaa")
        assert own.driver.outputs("ModelServer", "server-0-aaaaaaaa")["http_port"] == own.base + 20
    assert own.server("aaaaaaaa") == "same", "it stays where it is"
    own.down()
    nothing_is_left(own)


def test_servers_outlive_the_plugin(own: Stack) -> None:
    """The plugin belongs to a run of an engine, the servers to the stack."""
    own.supervisor()
    own.redis()
    before = {p.name: p.pid for p in inspect.processes(own.driver.root)}
    own.driver.process.kill()
    own.driver.process.wait()
    with Driver(own.driver.root) as other:
        again = Stack(other, own.base)
        assert {p.name: p.pid for p in inspect.processes(own.driver.root)} == before
        other.state = own.driver.state
        assert (again.supervisor(), again.redis()) == ("same", "same")
        again.down()
    nothing_is_left(own)


def test_plugin_ends_with_its_engine() -> None:
    """An engine that is killed leaves no plugin behind."""
    code = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-u', '-m', 'infra.clouds.local.plugin'], stdout=subprocess.PIPE)\n"
        "p.stdout.readline(); print(p.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as engine:
        assert engine.stdout is not None
        plugin = int(engine.stdout.readline())
        assert psutil.pid_exists(plugin)
        engine.kill()
        engine.wait()
    deadline = time.monotonic() + 10
    while psutil.pid_exists(plugin) and psutil.Process(plugin).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.1)
