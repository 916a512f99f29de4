"""Failed and killed runs of the whole local stack, at every change that a provider is asked for."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from stack_project import (
    Project,
    differences,
    finished,
    leftovers,
    load,
    make_project,
    resources,
    stop_all,
    temporary,
)

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(1500)]

PLUGIN = Path(__file__).parent / "plugin"
KILLED = -9
MOST = 30  # more changes than any operation here has: a walk that does not end is a fault of the walk


@pytest.fixture
def faulty() -> Iterator[Project]:
    """A project whose provider fails or kills its engine where SLIPWAY_TEST_FAULT says so."""
    with temporary() as folder:
        project = make_project(folder, plugin=PLUGIN)
        try:
            yield project
        finally:
            stop_all(project)


def strike(project: Project, fault: str, *args: str) -> subprocess.CompletedProcess[str]:
    return project.run(*args, code=None, env={"SLIPWAY_TEST_FAULT": fault})


def whole(project: Project) -> dict[str, Any]:
    """The stack serves, nothing is pending, nothing stands twice."""
    deployment = project.deployment()
    assert not deployment.get("pending_operations")
    assert not [r["urn"] for r in deployment["resources"] if r.get("delete")]
    urns = [r["urn"] for r in deployment["resources"]]
    assert len(urns) == len(set(urns))
    answer = json.loads(project.run("predict", "local", "--id", "7", "--json").stdout)
    assert answer, "no prediction"
    running = json.loads(project.run("status", "local", "--json").stdout)["processes"]
    names = [p["name"] for p in running]
    assert len(names) == len(set(names))
    assert all(p["state"] == "running" for p in running), running
    servers = [line for line in project.processes().values() if line.split()[0].endswith("/tritonserver")]
    assert len(servers) == sum("-server-" in n for n in names), (servers, names)
    return resources(project)


def test_failed_at_each_step_then_reverted(faulty: Project) -> None:
    """A switch that fails at any change, before or after it took effect, and is reverted, ends where it began."""
    faulty.run("up", "local", "--yes")
    start = resources(faulty)
    running = load(faulty, 590)
    try:
        for when in ("before", "after"):
            for number in range(1, MOST):
                done = strike(faulty, f"fail:{when}:{number}", "switch", "local", "vertical", "--yes")
                reverted = faulty.run("switch", "local", "horizontal", "--yes")
                told = f"{when} {number}\n{done.stdout}{done.stderr}\n{reverted.stdout}"
                assert differences(start, resources(faulty)) == [], told
                if done.returncode == 0:
                    break
                assert "injected fault" in done.stdout + done.stderr
            assert number > 5, "a switch has more changes than that"
    finally:
        running.send_signal(2)
    report = finished(running)
    assert report["failed"] == 0, report


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_each_step_of_up_and_destroy(faulty: Project, when: str) -> None:
    """After `kill -9` around any change the next `up` or `destroy` completes: nothing orphaned, nothing twice."""
    first: dict[str, Any] = {}
    for number in range(1, MOST):
        up = strike(faulty, f"kill:{when}:{number}", "up", "local", "--yes")
        assert up.returncode in (0, KILLED), up.stderr
        faulty.run("up", "local", "--yes")
        first = first or whole(faulty)
        assert differences(first, whole(faulty)) == [], f"{when} {number}"
        down = strike(faulty, f"kill:{when}:{number}", "destroy", "local", "--yes")
        assert down.returncode in (0, KILLED), down.stderr
        faulty.run("destroy", "local", "--yes")
        assert leftovers(faulty) == [], f"{when} {number}"
        if up.returncode == down.returncode == 0:
            break
    assert number > 7, "the stack has more resources than that"


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_each_step_of_a_switch(faulty: Project, when: str) -> None:
    """A switch killed around any change is completed by the next `up`, and the old generation is gone."""
    faulty.run("up", "local", "--yes")
    states = {"horizontal": whole(faulty)}
    for number in range(1, MOST):
        mode = ("vertical", "horizontal")[(number + 1) % 2]
        done = strike(faulty, f"kill:{when}:{number}", "switch", "local", mode, "--yes")
        assert done.returncode in (0, KILLED), done.stderr
        assert yaml.safe_load(faulty.config_file.read_text())["config"]["slipway:scaling"] == mode
        faulty.run("up", "local", "--yes")
        state = whole(faulty)
        assert differences(states.setdefault(mode, state), state) == [], f"{when} {number}"
        if done.returncode == 0:
            break
    assert number > 5, "a switch has more changes than that"
