"""What the command refuses, with which code and which words, and what it hands to an engine."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_project import ROOT, STACK, THING, Command, deployment, thing
from typer.testing import CliRunner

from cli import plans
from cli.errors import FAILED, LEFTOVERS, LOCKED, OK, REFUSED, USAGE
from cli.main import COMMANDS, app
from cli.project import find
from cli.reference import reference


def step(kind: str, op: str, urn: str = THING) -> dict[str, object]:
    return {kind: {"metadata": {"op": op, "urn": urn, "type": "x"}}}


DONE = [
    step("resourcePreEvent", "create"),
    step("resOutputsEvent", "create"),
    {"diagnosticEvent": {"severity": "info", "message": "<{%reset%}>add serving<{%reset%}>\n"}},
    {"diagnosticEvent": {"severity": "debug", "message": "noise"}},
    {"summaryEvent": {"resourceChanges": {"create": 1, "same": 2}}},
]
FAILURE = [
    step("resourcePreEvent", "create"),
    step("resOpFailedEvent", "create"),
    {"diagnosticEvent": {"severity": "error", "urn": THING, "message": "port 6379 is in use\n"}},
]


@pytest.mark.parametrize("command", [c.__name__ for c in COMMANDS])
def test_every_command_takes_the_stack_first_and_refuses_an_unknown_one(slipway: Command, command: str) -> None:
    more = {"switch": ["vertical"], "render": ["out"]}
    said = slipway(command, "locl", *more.get(command, []))
    assert said.code == USAGE
    assert "stack 'locl'" in said.err
    assert "Did you mean 'local'?" in said.err
    assert slipway(command).code == USAGE


@pytest.mark.parametrize("name", ["../x", "a b", "state", ""])
def test_a_stack_name_that_cannot_be_one(slipway: Command, name: str) -> None:
    said = slipway("status", name)
    assert (said.code, said.out) == (USAGE, "")
    assert said.err.startswith(f"stack '{name}': ")


def test_outside_of_a_project(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--project", str(tmp_path), "status", "local"])
    assert result.exit_code == USAGE
    assert "no Pulumi.yaml" in result.stderr


def test_a_project_is_found_from_below(slipway: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(slipway.folder / "stacks" / "config")
    result = CliRunner().invoke(app, ["export", "local"])
    assert result.exit_code == FAILED
    assert "nothing to export" in result.stderr


def test_every_problem_of_a_configuration_before_anything_starts(slipway: Command) -> None:
    slipway.pulumi()
    said = slipway("up", "local", "--set", "scaling=sideways", "--set", "slipway:prot=5")
    assert said.code == USAGE
    assert "scaling: 'sideways'" in said.err
    assert "prot: " in said.err
    assert not [c for c in slipway.calls() if c[0] == "up"]


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["up", "local", "--set", "scaling"], "--set scaling: not of the form key=value"),
        (["load", "local", "--seconds", "1000"], "--seconds: 1000; allowed: above 0, at most 600"),
        (["load", "local", "--clients", "2", "--rate", "3"], "--clients and --rate: give one of them"),
        (["load", "local", "--protocol", "tcp"], "--protocol tcp: no such protocol; allowed: http, grpc, both"),
        (["predict", "local", "--protocol", "both"], "--protocol both: no such protocol; allowed: http, grpc"),
        (["switch", "local", "diagonal"], "scaling: 'diagonal'"),
    ],
)
def test_bad_usage(slipway: Command, args: list[str], text: str) -> None:
    slipway.embedded_has(thing(), url_http="http://127.0.0.1:9", url_grpc="127.0.0.1:9", models=["digits"])
    before = slipway.config.read_text()
    said = slipway(*args)
    assert said.code == USAGE
    assert text in said.err
    assert slipway.config.read_text() == before


def test_auto_takes_pulumi_where_it_is_and_says_so(slipway: Command) -> None:
    slipway.pulumi(events=DONE)
    said = slipway("preview", "local", "--set", "port=19000")
    assert said.code == OK
    assert "engine: pulumi (" in said.err
    assert "add serving" in said.out
    assert "noise" not in said.out
    assert "1 to create, 2 unchanged" in said.out
    assert ["stack", "init", "--stack", "local", "--non-interactive", "--color", "never"] in slipway.calls()
    assert 'slipway:port: "19000"' in (slipway.bin / "config").read_text()
    assert "19000" not in slipway.config.read_text()


def test_without_pulumi_auto_takes_the_embedded_engine(slipway: Command) -> None:
    said = slipway("destroy", "local")
    assert said.code == OK
    assert "engine: embedded (no `pulumi` on PATH)" in said.err


def test_pulumi_asked_for_and_not_there(slipway: Command) -> None:
    said = slipway("up", "local", engine="pulumi")
    assert said.code == USAGE
    assert "no `pulumi` on PATH. To fix: install it" in said.err
    assert slipway("up", "local", engine="terraform").code == USAGE


def test_a_stack_of_the_other_engine_is_refused_with_the_way_over(slipway: Command) -> None:
    slipway.pulumi()
    slipway.embedded_has(thing())
    said = slipway("up", "local", engine="pulumi")
    assert said.code == REFUSED
    assert "slipway export local | pulumi stack import --stack local" in said.err
    slipway.state.unlink()
    slipway.pulumi(export={"version": 3, "deployment": {"resources": [thing()]}})
    said = slipway("up", "local", engine="embedded")
    assert said.code == REFUSED
    assert "--engine pulumi" in said.err
    slipway.embedded_has(thing())
    said = slipway("up", "local")
    assert said.code == REFUSED
    assert "state in both engines" in said.err


def test_a_real_cloud_is_refused_by_the_embedded_engine(slipway: Command) -> None:
    source = (ROOT / "stacks/config/Pulumi.gke-cpu.yaml").read_text()
    slipway.config.with_name("Pulumi.gke-cpu.yaml").write_text(source)
    said = slipway("up", "gke-cpu", engine="embedded")
    assert said.code == REFUSED
    assert "install Pulumi" in said.err


@pytest.mark.parametrize(
    ("stderr", "code", "text"),
    [
        (
            "error: PULUMI_ACCESS_TOKEN must be set for login during non-interactive CLI sessions",
            USAGE,
            "pulumi login --local",
        ),
        ("error: passphrase must be set with PULUMI_CONFIG_PASSPHRASE", USAGE, "it may be empty"),
        ("error: the stack is currently locked by 1 lock(s). x@h (pid 1)", LOCKED, "x@h (pid 1)"),
        ("error: something else", FAILED, "something else"),
    ],
)
def test_what_pulumi_says_has_a_code_and_a_way_out(slipway: Command, stderr: str, code: int, text: str) -> None:
    slipway.pulumi(export={"version": 3, "deployment": {}}, stderr=stderr, code=1)
    said = slipway("refresh", "local")
    assert said.code == code
    assert text in said.err


LOCK = "error: the stack is currently locked by 1 lock(s).\n  file:///l.json: created by x@{} (pid {}) at 2026"


def test_the_lock_of_a_dead_pulumi_is_removed(slipway: Command) -> None:
    """A killed `pulumi` with a file backend leaves its lock; what another machine holds is not ours to judge."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    slipway.pulumi(export={"version": 3, "deployment": {}}, stderr=LOCK.format("elsewhere", ended.pid), code=1)
    assert slipway("refresh", "local").code == LOCKED
    here = LOCK.format(socket.gethostname(), ended.pid)
    slipway.pulumi(export={"version": 3, "deployment": {}}, stderr=here, code=1)
    said = slipway("refresh", "local")
    assert said.code == OK
    assert f"removed the lock of pid {ended.pid}" in said.out
    assert [c[:3] for c in slipway.calls() if c[0] == "cancel"] == [["cancel", "local", "--yes"]]


def test_a_switch_that_fails_says_how_to_go_back(slipway: Command) -> None:
    plan = plans.plan(find(slipway.folder), "local", {})
    slipway.pulumi(export=deployment(plan=plan.to_json()), events=FAILURE, code=1)
    said = slipway("switch", "local", "vertical")
    assert said.code == FAILED
    assert "horizontal -> vertical" in said.out
    assert f"remove serving {plan.generation}" in said.out
    assert "To go back: slipway switch local horizontal" in said.err
    assert "slipway:scaling: vertical\n" in slipway.config.read_text()


def test_a_failed_step_is_told_once_and_whole(slipway: Command) -> None:
    slipway.pulumi(export={"version": 3, "deployment": {}}, events=FAILURE, code=1)
    said = slipway("refresh", "local")
    assert said.code == FAILED
    assert said.err.count("port 6379 is in use") == 1
    assert "FAILED create" in said.out
    as_json = slipway("refresh", "local", "--json")
    assert as_json.code == FAILED
    assert as_json.json()["errors"] == ["port 6379 is in use"]


def test_protected_resources_stop_a_destroy_before_it_begins(slipway: Command) -> None:
    export = {"version": 3, "deployment": {"resources": [thing(protect=True)]}}
    slipway.pulumi(export=export)
    said = slipway("destroy", "local")
    assert said.code == REFUSED
    assert "1 resources are protected" in said.err
    assert not [c for c in slipway.calls() if c[0] == "destroy"]
    said = slipway("destroy", "local", "--unprotect")
    assert said.code == OK
    answers = json.loads((slipway.bin / "answers.json").read_text())
    assert "protect" not in answers["export"]["deployment"]["resources"][0]


def test_destroy_finds_what_no_state_knows(slipway: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process, a file: the machine is asked, not the state."""
    monkeypatch.setattr("cli.leftovers.GRACE_S", 0.3)
    place = slipway.folder / ".slipway" / "local"
    place.mkdir(parents=True)
    script = place / "server.py"
    script.write_text("import time; time.sleep(60)")
    process = subprocess.Popen([sys.executable, str(script)])
    try:
        said = slipway("destroy", "local")
    finally:
        process.kill()
        process.wait()
    assert said.code == LEFTOVERS
    assert f"process {process.pid}: " in said.err
    assert f"file {script}" in said.err
    script.unlink()
    place.rmdir()
    assert slipway("destroy", "local").code == OK


def test_a_destroy_of_an_empty_stack_leaves_no_file(slipway: Command) -> None:
    slipway.embedded_has()
    assert slipway("destroy", "local").code == OK
    assert not (slipway.folder / ".slipway").exists()


def test_export_is_what_pulumi_imports(slipway: Command) -> None:
    slipway.embedded_has(thing(), url_http="u")
    exported = slipway("export", "local").json()
    assert exported["version"] == 3
    assert [r["urn"] for r in exported["deployment"]["resources"]] == [STACK, THING]


def test_settle_without_anything_pending(slipway: Command) -> None:
    slipway.pulumi(export={"version": 3, "deployment": {}})
    assert "nothing is pending" in slipway("settle", "local").out
    assert slipway("settle", "local", "--json").json() == {"ok": True, "settled": []}


def test_status_of_what_is_not_up(slipway: Command) -> None:
    said = slipway("status", "local", "--json")
    assert said.code == FAILED
    assert (said.json()["up"], said.json()["processes"]) == (False, [])
    assert "To fix: slipway up local" in said.err
    assert slipway("logs", "local").code == FAILED
    assert slipway("predict", "local").code == FAILED
    said = slipway("switch", "local", "vertical")
    assert said.code == FAILED
    assert "is not up" in said.err
    assert "scaling: horizontal" in slipway.config.read_text()


def test_the_reference_is_current() -> None:
    """To fix: python -m cli.reference > docs/command.md"""
    assert (ROOT / "docs/command.md").read_text() == reference()


def test_help_loads_no_heavy_library() -> None:
    """`slipway --help` answers at once: the SDK, gRPC and the like are loaded by the commands that need them."""
    heavy = ("pulumi", "grpc", "aiohttp", "numpy", "scipy", "psutil", "yaml", "rich.table")
    code = f"import sys, cli.main; print([m for m in {heavy} if m in sys.modules])"
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", f"after {time.monotonic() - started:.1f} s"


def test_a_missing_library_is_named(slipway: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    slipway.embedded_has(thing(), url_http="http://127.0.0.1:9", url_grpc="127.0.0.1:9", models=["digits"])
    file = slipway.folder / "in.json"
    file.write_text('{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}')
    monkeypatch.delitem(sys.modules, "cli.senders", raising=False)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    said = slipway("predict", "local", "--input", str(file))
    assert said.code == USAGE
    assert "the package aiohttp is not installed. To fix: make setup" in said.err


def test_an_unexpected_fault_is_one_line_and_its_trace_is_kept(slipway: Command, tmp_path: Path) -> None:
    slipway.state.parent.mkdir(parents=True)
    slipway.state.write_text('{"version": 3, "deployment": {"resources": [{}]}}')
    command = [
        sys.executable,
        "-c",
        "from cli.main import main; main()",
        "--project",
        str(slipway.folder),
        "status",
        "local",
    ]
    env = {"PATH": "/nonexistent", "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT)
    assert done.returncode == FAILED
    assert done.stderr.count("\n") == 2
    (trace,) = tmp_path.glob("slipway-error-*.txt")
    assert str(trace) in done.stderr
    assert "Traceback" in trace.read_text()
    done = subprocess.run(command, capture_output=True, text=True, env={**env, "SLIPWAY_DEBUG": "1"}, cwd=ROOT)
    assert "Traceback" in done.stderr
