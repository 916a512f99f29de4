"""A stack goes from one engine to the other and back, and neither sees a difference."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from engine import Request, export_state, import_state, run

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import harness  # noqa: E402

PROGRAM = """
import pulumi
from scenarios import Box, Crate, Lab, Opts
lab = Lab("lab", account="1")
kept = Opts(provider=lab, protect=True, additional_secret_outputs=["key"])
first = Box("first", kept, content=pulumi.Output.secret("hush"))
Box("second", Opts(deleted_with=first, custom_timeouts=pulumi.CustomTimeouts(create="2m")), content=first.serial)
Crate("crate", ["a", "b"], inner=["c"], content={"x": [1, 2.5, None, True]})
past = pulumi.StackReference(f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}")
pulumi.export("key", first.key)
"""


@pytest.mark.pulumi
@pytest.mark.skipif(shutil.which("pulumi") is None, reason="the Pulumi CLI is not on PATH")
def test_there_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pulumi stack import` takes the export, its preview expects no changes; its own export comes back so."""
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "")
    bench = harness.Bench(HERE / "lab", tmp_path, "none")
    (bench.project / "__main__.py").write_text(PROGRAM)
    state = tmp_path / "state"
    request = {"project": bench.project, "stack": "dev", "state_dir": state, "env": bench.env}
    assert run(Request(command="up", **request)).ok  # type: ignore[arg-type]
    exported = tmp_path / "exported.json"
    exported.write_text(json.dumps(export_state(bench.project, "dev", state, show_secrets=True)))
    cli = harness.Cli(bench)
    took = cli.pulumi("stack", "import", "--stack", "dev", "--file", str(exported))
    assert took.returncode == 0, took.stderr
    agreed = cli.pulumi("preview", "--stack", "dev", "--expect-no-changes", "--non-interactive")
    assert agreed.returncode == 0, agreed.stdout + agreed.stderr
    back = json.loads(cli.pulumi("stack", "export", "--stack", "dev", "--show-secrets").stdout)
    import_state(bench.project, "dev", back, state)
    result = run(Request(command="up", expect_no_changes=True, **request))  # type: ignore[arg-type]
    assert result.ok, result.errors
    assert result.outputs["key"] == "key of first"
