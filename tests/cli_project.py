"""A project to run the command on, and a `pulumi` whose answers the test writes."""

from __future__ import annotations

import json
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from cli.main import app

ROOT = Path(__file__).resolve().parents[1]
FAKE = ROOT / "tests/cli/fake/pulumi.py"
STACK = "urn:pulumi:local::slipway::pulumi:pulumi:Stack::slipway-local"
THING = "urn:pulumi:local::slipway::slipway:local:Redis::redis"


def deployment(*resources: dict[str, Any], **outputs: Any) -> dict[str, Any]:
    stack = {"urn": STACK, "type": "pulumi:pulumi:Stack", "custom": False, "outputs": outputs}
    return {"version": 3, "deployment": {"resources": [stack, *resources]}}


def thing(**more: Any) -> dict[str, Any]:
    return {"urn": THING, "type": "slipway:local:Redis", "custom": True, "id": "local-redis", **more}


@dataclass
class Said:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Command:
    """`slipway` in this process, on a project folder of its own."""

    folder: Path
    bin: Path
    answers: dict[str, Any] = field(default_factory=dict)

    def __call__(self, *args: str, engine: str = "auto") -> Said:
        result = CliRunner().invoke(app, ["--project", str(self.folder), "--engine", engine, *args])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Said(result.exit_code, result.stdout, result.stderr)

    @property
    def config(self) -> Path:
        return self.folder / "stacks/config/Pulumi.local.yaml"

    @property
    def state(self) -> Path:
        return self.folder / ".slipway/state/local.json"

    def embedded_has(self, *resources: dict[str, Any], **outputs: Any) -> None:
        self.state.parent.mkdir(parents=True, exist_ok=True)
        self.state.write_text(json.dumps(deployment(*resources, **outputs)))

    def pulumi(self, *, code: int = 0, stderr: str = "", export: Any = None, events: list[Any] | None = None) -> None:
        """Puts a `pulumi` on PATH: its state, what its runs say, and how they end."""
        answers = {"code": code, "stderr": stderr, "export": export, "events": events or []}
        (self.bin / "answers.json").write_text(json.dumps(answers))
        path = self.bin / "pulumi"
        path.write_text(f"#!{sys.executable}\n" + FAKE.read_text())
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def calls(self) -> list[list[str]]:
        path = self.bin / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
