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

pytestmark = pytest.mark.slow

SCENARIOS = harness.load("lab_scenarios", HERE / "lab/program/scenarios.py").SCENARIOS
LAB = harness.load("lab_provider", HERE / "lab/provider/lab.py")
RECORDINGS = HERE / "recordings"
# Calls of which the recording has several at once and all fail: one that had not begun when the first failed is not
# made any more, and whether it had differs from run to run of the real engine.
RACES = {"old_one_of_a_replacement_cannot_be_deleted": "Delete"}  # two old copies, one after each failed replacement


def recorded(name: str) -> list[harness.Record]:
    steps: list[harness.Record] = json.loads((RECORDINGS / f"{name}.json").read_text())["steps"]
    return steps


def compare(engine: Any, name: str) -> None:
    before = None
    for place, (step, want) in enumerate(zip(SCENARIOS[name], recorded(name), strict=True)):
        assert want["command"] == step.cmd, "the recording is of another scenario: make it anew with record.py"
        got = engine.step(place, step)
        allowed = raced(want, name)
        found = harness.differences(once(got, allowed), once(want, allowed), before)
        assert not found, f"step {place} ({step.cmd}):\n" + "\n".join([*found, f"errors: {got['errors']}"])
        before = want


def raced(want: harness.Record, name: str) -> str:
    """The call whose number is an accident in this step; none: every number counts."""
    call = RACES.get(name, "")
    several = [c for c in want["provider_calls"] if c["call"] == call]
    return call if len(several) > 1 and not want["exit_is_zero"] else ""


def once(record: harness.Record, call: str) -> harness.Record:
    """The same with the first of these calls alone."""
    calls: list[harness.Record] = []
    for one in record["provider_calls"]:
        if one["call"] != call or not any(c["call"] == call for c in calls):
            calls.append(one)
    return {**record, "provider_calls": calls}


def test_a_race_is_allowed_in_its_own_step_alone() -> None:
    """One Delete for two is let pass where both were tried at once, none is not, and no other step is read so."""
    (name,) = RACES
    steps = recorded(name)
    assert [raced(step, name) for step in steps] == ["", "", "", "Delete"]
    assert [raced(step, "life") for step in recorded("life")] == [""] * len(recorded("life"))
    fewer = {**steps[3], "provider_calls": steps[3]["provider_calls"][:-1]}
    none = {**steps[3], "provider_calls": steps[3]["provider_calls"][:-2]}
    assert not harness.differences(once(fewer, "Delete"), once(steps[3], "Delete"), steps[2])
    assert harness.differences(once(none, "Delete"), once(steps[3], "Delete"), steps[2])


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
