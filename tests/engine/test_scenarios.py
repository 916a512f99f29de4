"""The embedded engine does what Pulumi did in the recordings; where Pulumi is on PATH, Pulumi still does so."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import harness  # noqa: E402

SCENARIOS = harness.load("lab_scenarios", HERE / "lab/program/scenarios.py").SCENARIOS
LAB = harness.load("lab_provider", HERE / "lab/provider/lab.py")
RECORDINGS = HERE / "recordings"


def recorded(name: str) -> list[harness.Record]:
    steps: list[harness.Record] = json.loads((RECORDINGS / f"{name}.json").read_text())["steps"]
    return steps


def compare(engine: Any, name: str) -> None:
    before = None
    for place, (step, want) in enumerate(zip(SCENARIOS[name], recorded(name), strict=True)):
        assert want["command"] == step.cmd, "the recording is of another scenario: make it anew with record.py"
        got = engine.step(place, step)
        found = harness.differences(got, want, before)
        assert not found, f"step {place} ({step.cmd}):\n" + "\n".join([*found, f"errors: {got['errors']}"])
        before = want


def test_each_scenario_is_recorded() -> None:
    """A scenario without a recording would prove nothing, a recording without one would rot."""
    assert {p.stem for p in RECORDINGS.glob("*.json")} == set(SCENARIOS)


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_as_recorded(name: str, tmp_path: Path) -> None:
    """Provider calls, their fixed order, state, outputs, success and counts are those of the real engine."""
    bench = harness.Bench(HERE / "lab", tmp_path, name)
    compare(harness.Embedded(bench, servicer=LAB.Lab(bench.diary, bench.shelf)), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["life", "deleted_first_with_what_it_replaces", "provider_updated_and_replaced"])
def test_as_recorded_with_plugins_that_are_executables(name: str, tmp_path: Path) -> None:
    """A plugin given by path is started, spoken to and ended like one in this process."""
    compare(harness.Embedded(harness.Bench(HERE / "lab", tmp_path, name)), name)


@pytest.mark.parametrize("name", ["components", "create_fails_and_others_go_on", "refresh", "options"])
def test_as_recorded_with_steps_in_parallel(name: str, tmp_path: Path) -> None:
    """Many steps at once change no order that dependencies fix."""
    bench = harness.Bench(HERE / "lab", tmp_path, name)
    compare(harness.Embedded(bench, 16, LAB.Lab(bench.diary, bench.shelf)), name)


@pytest.mark.pulumi
@pytest.mark.skipif(shutil.which("pulumi") is None, reason="the Pulumi CLI is not on PATH")
@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_pulumi_does_it_so(name: str, tmp_path: Path) -> None:
    """The recordings are true of the Pulumi that is installed here."""
    compare(harness.Cli(harness.Bench(HERE / "lab", tmp_path, name)), name)
