"""The command against a real stack: every word that a user types, on one stack from up to destroy."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from stack_project import Project, leftovers, make_project, stop_all, temporary

from cli.errors import FAILED, LOCKED, USAGE

pytestmark = pytest.mark.real


@pytest.fixture
def project() -> Iterator[Project]:
    with temporary() as folder:
        made = make_project(folder)
        try:
            yield made
        finally:
            stop_all(made)


def test_one_stack_from_up_to_destroy(project: Project) -> None:
    up = json.loads(project.run("up", "local", "--json").stdout)
    assert up["ok"]
    assert up["changes"]["create"] >= 9
    assert up["outputs"]["url_http"] == f"http://127.0.0.1:{project.port}"

    checked = json.loads(project.run("predict", "local", "--check", "--json").stdout)
    assert checked["accuracy"] >= 0.97
    assert (checked["count"], checked["failed"]) == (1797, 0)
    assert checked["single"]["http"]["label"] == checked["single"]["grpc"]["label"] == 0
    _predictions(project)
    _load(project)

    status = json.loads(project.run("status", "local", "--json").stdout)
    assert status["healthy"]
    assert len(status["processes"]) >= 6
    assert status["redis_keys"] >= 1797
    name = status["processes"][2]["name"]
    lines = project.run("logs", "local", name, "-n", "3").stdout.splitlines()
    assert 1 <= len(lines) <= 3
    assert "allowed: " in project.run("logs", "local", "nobody", code=USAGE).stderr

    _one_at_a_time(project)
    assert "nothing is pending" in project.run("settle", "local").stdout
    project.run("refresh", "local")
    assert "0 failed" not in project.run("destroy", "local").stdout
    assert leftovers(project) == []
    assert not (project.folder / ".slipway").exists()
    assert "nothing to destroy" in project.run("destroy", "local").stdout
    assert project.run("status", "local", code=FAILED).stderr


def _predictions(project: Project) -> None:
    by_id = json.loads(project.run("predict", "local", "--id", "7", "--id", "11", "--json").stdout)
    pixels = ("predict", "local", "--model", "digits", "--id", "7", "--protocol", "grpc", "--batch", "3", "--json")
    rows = json.loads(project.run(*pixels).stdout)["predictions"]
    assert [p["id"] for p in by_id["predictions"]] == ["7", "11"]
    assert [p["id"] for p in rows] == ["7", "8", "9"]
    assert rows[0]["label"] == by_id["predictions"][0]["label"] == rows[0]["truth"]
    file = project.folder / "rows.json"
    file.write_text(json.dumps([[0.0] * 64, [8.0] * 64]))
    answer = json.loads(project.run("predict", "local", "--model", "digits", "--input", str(file)).stdout)
    assert answer["outputs"]["label"]["shape"] == [2, 1]
    file.write_text(json.dumps([[0.0] * 63]))
    assert "HTTP 400" in project.run("predict", "local", "--model", "digits", "--input", str(file), code=FAILED).stderr
    assert "allowed: 0 to 1796" in project.run("predict", "local", "--id", "9999", code=USAGE).stderr


def _load(project: Project) -> None:
    rate = project.run("load", "local", "--seconds", "2", "--rate", "20", "--model", "digits", "--batch", "4", "--json")
    report = json.loads(rate.stdout)
    assert (report["count"], report["failed"]) == (80, 0)
    assert set(report["protocols"]) == {"http", "grpc"}
    assert 0 < report["p50_ms"] <= report["p90_ms"] <= report["p99_ms"]


def _one_at_a_time(project: Project) -> None:
    """While one `up` runs another is told who holds the stack."""
    running = project.start("up", "local")
    lock = project.folder / ".slipway/state/local.lock"
    deadline = time.monotonic() + 60
    while not (lock.exists() and lock.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.02)
    said = project.run("up", "local", code=LOCKED).stderr
    assert f"pid {running.pid}" in said
    out, err = running.communicate(timeout=120)
    assert running.returncode == 0, out + err
