"""More recordings of Pulumi, where a collection of them lies beside the project."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import harness  # noqa: E402

COLLECTION = HERE.parents[1].parent / "shared" / "conformance"
NAMES = sorted(p.stem for p in (COLLECTION / "golden").glob("*.json"))


class ProbeBench(harness.Bench):
    """That collection has a provider, a log and a world of its own."""

    def __init__(self, source: Path, folder: Path, scenario: str) -> None:
        super().__init__(source, folder, scenario)
        self.env |= {"PROBE_LOG": str(self.diary), "PROBE_WORLD": str(self.shelf), "PROBE_PYTHON": sys.executable}

    def prepare(self, place: int, step: Any) -> None:
        self.env["STEP"] = str(place)
        self.diary.write_text("")
        if not (step.world or step.world_adopt):
            return
        world = json.loads(self.shelf.read_text()) if self.shelf.exists() else {"serial": 0, "things": {}}
        if step.world_adopt:
            world["things"]["id-99"] = {"name": "adopted", "inputs": {"value": 7}, "out": "adopted/99"}
        for name, inputs in (step.world or {}).items():
            for id_, thing in list(world["things"].items()):
                if thing["name"] == name and inputs is None:
                    del world["things"][id_]
                elif thing["name"] == name:
                    thing["inputs"] = {**thing["inputs"], **inputs}
        self.shelf.write_text(json.dumps(world))


def expected(row: harness.Record) -> harness.Record:
    want = dict(row)
    if "summary" in row:
        want["changes"] = harness.counts(row["summary"])
    if "preview" in row:
        want["changes"] = row["change_summary"]
        want["reasons"] = {s["urn"]: sorted(s["replaceReasons"]) for s in row["preview"] if s.get("replaceReasons")}
        want["preview"] = {s["urn"]: s["op"] for s in row["preview"] if s["op"] != "same"}
    return want


@pytest.mark.slow
@pytest.mark.skipif(not NAMES, reason="no further recordings lie beside the project")
@pytest.mark.parametrize("name", NAMES)
def test_as_recorded(name: str, tmp_path: Path) -> None:
    """The same rules as for the project's own recordings."""
    scenarios = harness.load("probe_scenarios", COLLECTION / "program/scenarios.py").S
    engine = harness.Embedded(ProbeBench(COLLECTION, tmp_path, name))
    before = None
    rows = json.loads((COLLECTION / "golden" / f"{name}.json").read_text())["steps"]
    for place, (step, row) in enumerate(zip(scenarios[name], rows, strict=True)):
        want = expected(row)
        got = engine.step(place, step)
        found = harness.differences(got, want, before)
        assert not found, f"step {place} ({step.cmd}):\n" + "\n".join([*found, f"errors: {got['errors']}"])
        before = want
