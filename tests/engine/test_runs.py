"""Whole runs that no recording covers: refusals, ends of plugins, settling, what an export is worth."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine import EngineError, Refused, Request, Result, export_state, import_state, run, settle_deployment

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import harness  # noqa: E402

LAB = harness.load("lab_provider", HERE / "lab/provider/lab.py")
Make = Callable[..., Result]


@pytest.fixture
def up(tmp_path: Path) -> Make:
    """Runs a program given as text, with the lab in this process."""
    bench = harness.Bench(HERE / "lab", tmp_path, "none")
    servicer = LAB.Lab(bench.diary, bench.shelf)

    def go(program: str = "", command: Any = "up", **more: Any) -> Result:
        head = "import pulumi\nfrom scenarios import Box, Crate, Lab, Opts\n"
        (bench.project / "__main__.py").write_text(head + textwrap.dedent(program))
        given = {"providers": {"lab": servicer}, **more}
        return run(
            Request(
                command=command,
                project=bench.project,
                stack="dev",
                state_dir=tmp_path / "state",
                env=bench.env,
                **given,
            )
        )

    return go


def test_a_real_cloud_is_refused(up: Make) -> None:
    """A plugin that the project does not give by path is never looked for, and the way out is told."""
    result = up("pulumi.CustomResource('gcp:storage/bucket:Bucket', 'b', {})")
    assert not result.ok
    assert "provider 'gcp': the embedded engine runs only plugins that Pulumi.yaml gives by path" in result.errors[0]
    assert "install Pulumi" in result.errors[0]


HOOK = """
hook = pulumi.ResourceHook('h', lambda args: None)
Box('a', Opts(hooks=pulumi.ResourceHookBinding(before_create=[hook])), content=1)
"""


@pytest.mark.parametrize(
    ("program", "named"),
    [
        ("pulumi.runtime.register_resource_transform(lambda args: None)", "transforms"),
        ("Box('a', Opts(transforms=[lambda args: None]), content=1)", "transforms"),
        (HOOK, "hooks"),
        ("Box('a', Opts(replace_with=[Box('b', content=1)]), content=1)", "replace_with"),
        ("pulumi.ComponentResource('lab:index:Far', 'far', {}, None, remote=True)", "remote components"),
        ("pulumi.StackReference('organization/lab/other')", "stack reference 'organization/lab/other'"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(up: Make, program: str, named: str) -> None:
    """No silent difference to Pulumi."""
    result = up(program)
    assert not result.ok
    assert any(named in e for e in result.errors), result.errors
    assert not any("Traceback" in e for e in result.errors)


def test_a_name_is_used_once(up: Make) -> None:
    """Two resources of one URN would be one row; whether the first was made by then is an accident."""
    result = up("Box('a', content=1)\nBox('a', content=2)")
    assert not result.ok
    assert "Duplicate resource URN 'urn:pulumi:dev::lab::lab:index:Box::a'" in result.errors[0]


def test_a_user_fault_has_no_trace_and_a_bug_has_one(up: Make) -> None:
    """RunError is its message; any other exception shows the program's own lines."""
    assert up("raise pulumi.RunError('say it plainly')").errors == ("say it plainly",)
    trace = up("def f():\n    raise ValueError('a bug')\nf()").errors[0]
    assert "ValueError: a bug" in trace
    assert "runpy" not in trace


def test_a_program_that_fails_keeps_what_it_exported_before(up: Make) -> None:
    """As Pulumi 3.260 does (measured): new outputs are merged in; the next run still finds its past."""
    assert up("pulumi.export('x', 1)\npulumi.export('y', 5)").outputs == {"x": 1, "y": 5}
    refused = up("raise pulumi.RunError('refused')")
    assert not refused.ok
    assert refused.outputs == {"x": 1, "y": 5}
    partly = up("pulumi.export('x', 2)\npulumi.export('z', 5)\nraise pulumi.RunError('refused')")
    assert partly.outputs == {"x": 2, "y": 5, "z": 5}
    assert up("pulumi.export('x', 3)").outputs == {"x": 3}


def test_secrets_never_leave_in_the_open(up: Make, tmp_path: Path) -> None:
    """Neither the state nor an export holds them, unless it is asked for."""
    secret = "Box('a', Opts(additional_secret_outputs=['key']), content=pulumi.Output.secret('hush'))"
    result = up(f"a = {secret}\npulumi.export('key', a.key)")
    assert result.outputs["key"] == "key of a"
    assert result.secret_outputs == ("key",)
    files = "".join(p.read_text() for p in (tmp_path / "state").iterdir())
    assert "hush" not in files
    assert "key of a" not in files
    assert "hush" in json.dumps(export_state(tmp_path / "program", "dev", tmp_path / "state", show_secrets=True))


def test_a_provider_that_does_not_keep_secrets_gets_plain_values(up: Make, tmp_path: Path) -> None:
    """And what it returns under the same name is secret again."""
    servicer = LAB.Lab(tmp_path / "diary", tmp_path / "shelf.json", keeps_secrets=False)
    up("Box('a', content=pulumi.Output.secret('hush'))", providers={"lab": servicer})
    assert json.loads((tmp_path / "shelf.json").read_text())["things"]["id-1"]["inputs"]["content"] == "hush"
    rows = export_state(tmp_path / "program", "dev", tmp_path / "state")["deployment"]["resources"]  # type: ignore[index]
    assert "hush" not in json.dumps(rows)


def test_an_export_can_be_imported_and_nothing_changes(up: Make, tmp_path: Path) -> None:
    """Taken over by another state folder, the next run is all `same`."""
    program = "a = Box('a', content=pulumi.Output.secret('hush'))\nBox('b', content=a.serial)"
    assert up(program).ok
    document = export_state(tmp_path / "program", "dev", tmp_path / "state", show_secrets=True)
    import_state(tmp_path / "program", "dev", document, tmp_path / "state")
    assert "hush" not in (tmp_path / "state/dev.json").read_text()
    assert dict(up(program, expect_no_changes=True).changes) == {"same": 3}
    with pytest.raises(EngineError, match="is not of stack 'other'"):
        import_state(tmp_path / "program", "other", document, tmp_path / "state")


def test_parallel_steps_overlap(up: Make) -> None:
    """Eight creates that wait half a second each take far less than four seconds."""
    times: list[tuple[str, float]] = []
    slow = "".join(f"Box('b{n}', content={n}, wait=0.5)\n" for n in range(8))
    assert up(slow, on_event=lambda e: times.append((e.kind, e.at)) if e.type == "lab:index:Box" else None).ok
    first_done = min(at for kind, at in times if kind == "done")
    assert sum(1 for kind, at in times if kind == "start" and at < first_done) >= 4


def engine(folder: Path, *args: str) -> subprocess.Popen[str]:
    bench = harness.Bench(HERE / "lab", folder, "none")
    (bench.project / "__main__.py").write_text("from scenarios import Box\nBox('a', content=1, faults=['hang'])\n")
    command = [
        sys.executable,
        "-m",
        "engine",
        *args,
        "--project",
        str(bench.project),
        "--stack",
        "dev",
        "--state-dir",
        str(folder / "state"),
    ]
    return subprocess.Popen(
        command, env={**harness.ambient(), **bench.env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.slow
def test_nothing_outlives_a_killed_engine(tmp_path: Path) -> None:
    """Program and plugins go with it; the open operation is on record, and settling finds what became of it."""
    process = engine(tmp_path, "up", "--json")
    try:
        shelf = tmp_path / "shelf.json"
        for _ in range(600):
            if shelf.exists() and "id-1" in shelf.read_text():
                break
            time.sleep(0.1)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) == 2, "the program and one plugin"
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    alive = psutil.wait_procs(children, timeout=10)[1]
    assert not alive
    document: Any = export_state(tmp_path / "program", "dev", tmp_path / "state")
    assert [o["type"] for o in document["deployment"]["pending_operations"]] == ["creating"]
    where = ["--project", str(tmp_path / "program"), "--stack", "dev", "--state-dir", str(tmp_path / "state")]
    env = {"LAB_DIARY": str(tmp_path / "diary"), "LAB_SHELF": str(shelf), "LAB_PYTHON": sys.executable}
    command = [sys.executable, "-m", "engine", "settle", *where]
    settled = subprocess.run(command, env={**harness.ambient(), **env}, capture_output=True, text=True)
    assert settled.stdout.strip() == "creating a: imported (id id-1)", settled.stderr


class Shelf:
    """What a provider answers, for settling a deployment that some engine left."""

    def __init__(self, **things: dict[str, Any]) -> None:
        self.things = things

    def read(self, row: Any, id_: str, inputs: Any, state: Any) -> Any:
        from engine.answers import Found

        return Found(id=id_, inputs=self.things[id_], outputs=self.things[id_]) if id_ in self.things else None

    def invoke(self, token: str, args: Any) -> Any:
        return {"unknown": True}, []


BASE = "urn:pulumi:dev::p::slipway:local:Redis::"


def made(name: str, **more: Any) -> dict[str, Any]:
    return {
        "urn": BASE + name,
        "custom": True,
        "type": "slipway:local:Redis",
        "id": name,
        "provider": "p::1",
        "inputs": {"name": name},
        **more,
    }


@pytest.mark.parametrize(
    ("kind", "rows", "operation", "things", "outcome", "left"),
    [
        ("creating", [], made("a"), {"a": {"name": "a"}}, "imported", ["a"]),
        ("creating", [], made("a"), {}, "never made", []),
        ("creating", [made("a", id="old")], made("a"), {"a": {"name": "a"}}, "imported", ["a", "old"]),
        ("creating", [made("a", pendingReplacement=True)], made("a"), {"a": {"name": "a"}}, "imported", ["a"]),
        ("creating", [], made("a", type="strange:x:Y"), {}, "not known", []),
        ("deleting", [made("a")], made("a"), {}, "gone", []),
        ("deleting", [made("a")], made("a"), {"a": {"name": "a"}}, "still there", ["a"]),
        ("deleting", [made("a"), made("b", dependencies=[BASE + "a"])], made("a"), {"b": {}}, "gone", ["a", "b"]),
        ("updating", [made("a")], made("a"), {"a": {"name": "a", "x": 1}}, "updated", ["a"]),
        ("updating", [made("a")], made("a"), {}, "gone", []),
        ("reading", [], made("a"), {}, "dropped", []),
    ],
)
def test_settling(kind: str, rows: list[Any], operation: Any, things: Any, outcome: str, left: list[str]) -> None:
    """For each kind of operation and each state of the world: what is true is written down."""
    deployment = {
        "version": 3,
        "deployment": {"resources": rows, "pending_operations": [{"type": kind, "resource": operation}]},
    }
    settled, report = settle_deployment(deployment, lambda ref: Shelf(**things))
    assert [r.outcome for r in report] == [outcome]
    assert [r["id"] for r in settled["deployment"]["resources"]] == left
    assert ("pending_operations" in settled["deployment"]) is (outcome == "not known")


def test_import_is_quick() -> None:
    """The command line must not pay for gRPC before it needs it."""
    code = "import sys, engine; print([m for m in ('grpc', 'pulumi', 'cryptography', 'yaml') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_refusals_and_faults_have_exit_codes(tmp_path: Path) -> None:
    """2: the project or the stack is wrong; and nothing was started."""
    empty = subprocess.run(
        [sys.executable, "-m", "engine", "up", "--project", str(tmp_path), "--stack", "dev"],
        capture_output=True,
        text=True,
    )
    assert empty.returncode == 2
    assert "no Pulumi.yaml there" in empty.stderr
    assert not list(tmp_path.iterdir())


def test_refused_is_an_engine_error() -> None:
    """So that one `except` suffices, and the command can tell them apart."""
    assert issubclass(Refused, EngineError)
