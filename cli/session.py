"""What every command begins with: project, stack, engine, and where to talk."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.engines.base import Engine, outputs
from cli.errors import CliError
from cli.project import Project, find

STACK = Annotated[str, typer.Argument(metavar="STACK", help="Name of the stack: stacks/config/Pulumi.STACK.yaml.")]
JSON = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, everything else on stderr.")]
YES = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
SET = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A configuration key for this run only; it is not written."),
]


@dataclass
class Globals:
    """Options before the command."""

    engine: str = "auto"
    project: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Session:
    project: Project
    stack: str
    engine: Engine
    json: bool = False

    def say(self, text: str) -> None:
        """To a person: stdout, or stderr where stdout belongs to a script."""
        print(text, file=sys.stderr if self.json else sys.stdout, flush=True)

    def outputs(self) -> dict[str, Any]:
        return outputs(self.engine.export(self.stack))


def begin(context: typer.Context, stack: str, *, changes: bool = False, as_json: bool = False) -> Session:
    """Finds the project and the engine; a command that changes things says which engine and why."""
    from cli.engines.choose import choose

    given: Globals = context.obj or Globals()
    project = find(given.project)
    project.must_exist(stack)
    engine, why = choose(project, stack, given.engine, changes=changes)
    if changes:
        print(f"engine: {engine.name} ({why})", file=sys.stderr, flush=True)
    return Session(project=project, stack=stack, engine=engine, json=as_json)


def print_json(value: Mapping[str, Any]) -> None:
    print(json.dumps(value, indent=2, default=str))


def confirm(question: str, yes: bool) -> None:
    """Asks a person; a script without a terminal has said what it wants."""
    if not yes and sys.stdin.isatty() and not typer.confirm(question):
        raise CliError("not done: answered no")
