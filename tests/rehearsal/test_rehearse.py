"""`slipway rehearse`: its documented JSON, its exit codes, faults, leaks, the page, and what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cli_project import ROOT
from typer.testing import CliRunner

from cli.main import app

for _package in ("pulumi_gcp", "pulumi_aws", "pulumi_kubernetes", "botocore"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (extra `simulators`)")

HERE = Path(__file__).resolve().parent
SAMPLES = ROOT / "tests" / "simulators" / "projects"
PHASE = {
    "name", "ok", "creates", "updates", "replaces", "deletes", "makespan_s", "critical_path_s", "failed_requests",
    "min_capacity_ratio", "stores_replaced", "extra_cost_usd", "quota_peak",
}  # fmt: skip


@dataclass
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def phase(self, name: str) -> dict[str, Any]:
        return next(p for p in self.json["phases"] if p["name"] == name)


def run(*arguments: str, project: Path = HERE / "project", engine: str = "embedded") -> Said:
    result = CliRunner().invoke(app, ["--project", str(project), "--engine", engine, *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Said(result.exit_code, result.stdout, result.stderr)


def rehearse(*options: str, **more: Any) -> Said:
    return run("rehearse", "dev", "--json", *options, **more)


@pytest.mark.slow
def test_the_whole_scenario_as_documented(tmp_path: Path) -> None:
    """Every key of the issue and no other; the project's folder is left as it was; a generation is no replacement."""
    before = sorted(p.name for p in (HERE / "project").iterdir())
    said = rehearse("--change", "generation=two", "--html", str(tmp_path / "page.html"))
    found = said.json
    assert said.code == 0, found["problems"]
    assert set(found) == {"engine", "phases", "steps", "problems", "leftovers"}
    assert found["engine"] == "embedded"
    names = ["up", "noop", "switch", "switch-back", "destroy", "destroy-again", "up-again"]
    assert [p["name"] for p in found["phases"]] == names
    for phase in found["phases"]:
        assert set(phase) == PHASE
        steps = [s for s in found["steps"] if s["phase"] == phase["name"]]
        assert phase["makespan_s"] == max((s["end_s"] for s in steps), default=0)
        assert phase["critical_path_s"] <= phase["makespan_s"]
        assert len(steps) == phase["creates"] + phase["updates"] + 2 * phase["replaces"] + phase["deletes"]
    assert all(set(s) == {"phase", "op", "urn", "start_s", "end_s", "result"} for s in found["steps"])
    counts = {p["name"]: (p["creates"], p["updates"], p["replaces"], p["deletes"]) for p in found["phases"]}
    assert counts["up"] == (5, 0, 0, 0) == counts["up-again"]
    assert counts["noop"] == (0, 0, 0, 0) == counts["destroy-again"]
    assert counts["switch"] == (1, 0, 0, 1) == counts["switch-back"]
    assert counts["destroy"] == (0, 0, 0, 5)
    switch = {s["op"]: s for s in found["steps"] if s["phase"] == "switch"}
    assert switch["delete"]["start_s"] >= switch["create"]["end_s"], "the old goes after the new is there"
    assert sorted(p.name for p in (HERE / "project").iterdir()) == before
    page = (tmp_path / "page.html").read_text()
    assert "<svg" in page
    assert not [w for w in ("http://", "https://", "src=", "@import") if w in page], "one file, nothing from elsewhere"
    assert "&lt;" not in page.split("<body>")[0]


@pytest.mark.slow
def test_a_store_that_is_replaced_and_a_leak_are_told() -> None:
    """What was in the store is gone; what is retained is left, which is exit code 5 after phases that are all ok."""
    said = rehearse("--change", "tier=STANDARD_HA", "--set", "keep=true", "--scenario", "up,switch,destroy")
    assert said.phase("switch")["stores_replaced"] == 1
    assert said.phase("switch")["replaces"] == 1
    order = [s["op"] for s in said.json["steps"] if s["phase"] == "switch"]
    assert order == ["delete-replaced", "create-replacement"], "the program asks for deletion first"
    assert said.phase("destroy")["stores_replaced"] == 0, "a destroy is asked to delete it"
    assert [x["type"] for x in said.json["leftovers"]] == ["gcp:secretmanager/secret:Secret"]
    assert set(said.json["leftovers"][0]) == {"cloud", "type", "name", "why"}
    assert all(p["ok"] for p in said.json["phases"])
    assert said.code == 5


@pytest.mark.slow
def test_an_engine_that_is_killed_goes_on() -> None:
    """Killed before it hears of what it made: the next run finds it, makes nothing twice, and the phase is ok."""
    said = rehearse("--scenario", "up,noop,destroy", "--fault", "killed@2")
    assert said.code == 0, said.out
    creates = [s["urn"] for s in said.json["steps"] if s["op"] == "create"]
    assert len(creates) == len(set(creates)) == 5


@pytest.mark.slow
def test_a_switch_that_fails_is_reverted() -> None:
    """The old generation still stands, so the way back is the deletion of what the new one left, or nothing."""
    said = rehearse("--change", "generation=two", "--scenario", "up,switch,noop,destroy", "--fault", "fail-switch@1")
    names = [(p["name"], p["ok"]) for p in said.json["phases"]]
    assert names == [("up", True), ("switch", False), ("switch-revert", True), ("noop", True), ("destroy", True)]
    assert said.phase("switch-revert")["creates"] == 0
    assert any("internalError" in p for p in said.json["problems"])
    assert said.json["leftovers"] == []
    assert said.code == 1


@pytest.mark.slow
def test_a_failed_up_is_tried_again_and_what_was_not_run_is_said() -> None:
    """Once more after a fault; without one, what is wrong is the program, and the half-built stack is destroyed."""
    said = rehearse(
        "--scenario", "up,noop,destroy", "--fault", "expired,type=gcp:redis/*", "--fault", "drift,name=nobody"
    )
    assert [(p["name"], p["ok"]) for p in said.json["phases"]] == [
        ("up", False), ("up-retry", True), ("noop", True), ("destroy", True),
    ]  # fmt: skip
    assert said.code == 1
    broken = rehearse("--set", "tier=GOLDEN", "--scenario", "up,noop,destroy")
    assert [p["name"] for p in broken.json["phases"]] == ["up", "destroy"]
    assert any(p.startswith("noop: not run, because up failed") for p in broken.json["problems"])
    assert any("tier" in p for p in broken.json["problems"])
    assert broken.code == 1


@pytest.mark.slow
def test_a_fault_that_hits_nothing_is_a_problem() -> None:
    said = rehearse("--scenario", "up,destroy", "--fault", "fail,type=aws:*")
    assert said.code == 1
    assert [p for p in said.json["problems"] if "no operation matched it" in p]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--scenario", "up,swich"], "Did you mean 'switch'?"),
        (["--scenario", "up,switch"], "what changes?"),
        (["--scenario", "up", "--fault", "explode"], "no kind 'explode'; allowed: "),
        (["--scenario", "up", "--fault", "fail,colour=red"], "no key 'colour'; allowed: "),
        (["--scenario", "up", "--fault", "fail,times=-1"], "times: '-1' is no number"),
        (["--scenario", "up", "--fault", "fail-switch@1"], "phase 'switch' is not in the scenario"),
        (["--scenario", "up", "--set", "tier"], "not of the form key=value"),
        (["--scenario", "up", "--html", "/nowhere/page.html"], "there is no folder"),
    ],
)
def test_wrong_usage_starts_nothing(options: list[str], told: str) -> None:
    said = rehearse(*options)
    assert said.code == 2
    assert told in said.err


def test_the_local_stack_is_real_already() -> None:
    said = run("rehearse", "local", project=ROOT)
    assert said.code == 4
    assert "slipway up local" in said.err


@pytest.mark.slow
@pytest.mark.pulumi
@pytest.mark.parametrize(("cloud", "change"), [("gcp", "machine=e2-standard-8"), ("aws", "machine=m6i.2xlarge")])
def test_both_engines_take_the_same_steps(cloud: str, change: str) -> None:
    """At least 30 resources: up, no-op, change, destroy on the Pulumi CLI as on the embedded engine."""
    if shutil.which("pulumi") is None:
        pytest.skip("the Pulumi CLI is not on PATH")
    options = ["--change", change, "--scenario", "up,noop,switch,destroy"]
    ours, theirs = (rehearse(*options, project=SAMPLES / cloud, engine=e) for e in ("embedded", "pulumi"))
    assert (ours.code, theirs.code) == (0, 0), (ours.out, theirs.out)
    assert theirs.json["engine"] == "pulumi"
    assert ours.phase("up")["creates"] >= 30
    taken = [sorted((s["phase"], s["op"], s["urn"], s["result"]) for s in x.json["steps"]) for x in (ours, theirs)]
    assert taken[0] == taken[1]
    chains = [[p["critical_path_s"] for p in x.json["phases"]] for x in (ours, theirs)]
    assert chains[0] == chains[1], "16 at once may come in another order, what waits for what does not"
