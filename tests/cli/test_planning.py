"""plan and compare: what a person reads, what a script gets, and that nothing is written or started."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app

ROOT = Path(__file__).resolve().parents[2]
STACKS = sorted(p.stem.removeprefix("Pulumi.") for p in (ROOT / "stacks/config").glob("Pulumi.*.yaml"))
DOCUMENTED = {
    "feasible", "pools", "replicas", "serving", "latency_ms", "max_rps_within_slo", "usd_per_month",
    "usd_per_million_predictions", "lines", "unpriced", "rejected", "binding_constraint", "problems", "model_versions",
}  # fmt: skip


def invoke(*args: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["--project", str(ROOT), *args])
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize("stack", STACKS)
def test_first_screen(stack: str) -> None:
    """Machines, servers, latency against the SLO, the bill and what binds are on the first screen."""
    plan = json.loads(invoke("plan", stack, "--json").stdout)
    lines = invoke("plan", stack).stdout.splitlines()
    assert len(lines) <= 50
    text = "\n".join(lines)
    assert all(pool["machine_type"] in text for pool in plan["pools"] if plan["usd_per_month"]["max"])
    assert f"{plan['latency_ms']['p99']:.1f} ms" in text
    assert plan["binding_constraint"] in text


@pytest.mark.parametrize("stack", STACKS)
def test_json_has_the_documented_keys(stack: str) -> None:
    """The keys that docs/plan.md promises to scripts are there, and the bill adds up."""
    plan = json.loads(invoke("plan", stack, "--json").stdout)
    assert set(plan) >= DOCUMENTED
    assert sum(line["usd"] for line in plan["lines"]) == pytest.approx(plan["usd_per_month"]["expected"], abs=0.02)


def test_no_plan_is_json_too() -> None:
    """A script gets the problems, and exit code 2, whether the configuration or the search says no."""
    for setting, path in (('slo={"p99_ms": 0.5}', "slo.p99_ms"), ("scalng=vertical", "scalng")):
        result = invoke("plan", "gke-gpu", "--json", "--set", setting, code=2)
        answer = json.loads(result.stdout)
        assert answer["feasible"] is False
        assert set(answer) >= DOCUMENTED - {"model_versions"}
        assert path in {p["path"] for p in answer["problems"]}


def test_compare_shows_six_pairs_in_both_shapes() -> None:
    """Both scaling modes and all cost modes, the stack's own first, as machines and as a cluster; no line is cut."""
    rows = json.loads(invoke("compare", "gke-gpu", "--json").stdout)["variants"]
    assert len({(r["scaling"], r["cost"]) for r in rows}) == 6
    assert [r["shape"] for r in rows] == ["kubernetes", "vm"] * 6
    own = json.loads(invoke("plan", "gke-gpu", "--json").stdout)
    assert rows[0]["generation"] == own["generation"]
    text = invoke("compare", "gke-gpu").stdout
    assert text.count("horizontal") == text.count("vertical") == 3, "a pair is named once, above its two shapes"
    assert text.count("kubernetes") == text.count(" vm ") == 6
    assert "g2-standard-4" in text
    assert all(len(line.rstrip()) <= 120 for line in text.splitlines())
    assert all(usd_per_month(r) in text for r in rows)


def usd_per_month(row: dict[str, Any]) -> str:
    return f"${row['usd_per_month']['expected']:,.0f}"


class Page(HTMLParser):
    """The words and the loaded addresses of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.loads: list[str] = []

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]


def test_page_is_one_file(tmp_path: Path) -> None:
    """The page needs nothing but itself, and has curve, bill, modes and the rejected machines."""
    file = tmp_path / "plan.html"
    invoke("plan", "gke-gpu", "--html", str(file))
    page = Page()
    page.feed(file.read_text())
    text = " ".join(page.words)
    assert page.loads == []
    assert all(
        word in text for word in ("Latency over the load", "SLO 100", "Bill of an expected month", "Modes", "Not taken")
    )
    assert file.read_text().count("<polyline") == 2


def test_page_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """A missing folder is the user's fault: exit code 2 and the reason."""
    result = invoke("plan", "local", "--html", str(tmp_path / "none" / "plan.html"), code=2)
    assert "cannot be written" in result.stderr
