"""The promise of a switch: no failed request, stores and entry untouched, back to the same state."""

from __future__ import annotations

import json

import pytest
from stack_project import Project, differences, finished, leftovers, load, resources

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]

ROUND_TRIPS = 5


def pids(project: Project) -> dict[str, int]:
    rows = json.loads(project.run("status", "local", "--json").stdout)["processes"]
    return {row["name"]: row["pid"] for row in rows}


def kept(project: Project) -> dict[str, int]:
    return {name: pid for name, pid in pids(project).items() if "redis" in name or "envoy" in name}


def test_five_round_trips_under_load(project: Project) -> None:
    """Eight HTTP and eight gRPC clients see no failure over ten switches; Redis and Envoy live on."""
    project.run("up", "local", "--yes")
    start, entry = resources(project), kept(project)
    assert len(entry) == 2
    running = load(project, 400)
    try:
        for _ in range(ROUND_TRIPS):
            project.run("switch", "local", "vertical", "--yes")
            project.run("switch", "local", "horizontal", "--yes")
    finally:
        running.send_signal(2)  # the generator reports what it has when it is interrupted
    report = finished(running)
    assert report["failed"] == 0, report
    assert report["count"] > 1000
    assert kept(project) == entry
    assert differences(start, resources(project)) == []
    project.run("destroy", "local", "--yes")
    assert leftovers(project) == []
    assert "nothing" in project.run("destroy", "local", "--yes").stdout.lower()
