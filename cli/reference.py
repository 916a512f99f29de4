"""Writes docs/command.md from the command itself: `python -m cli.reference > docs/command.md`."""

from __future__ import annotations

from typing import Any

from typer.main import get_command

from cli.errors import MEANING
from cli.main import app

INTRO = """\
# The command

Written by `python -m cli.reference` from the command's own help; a test says when it is not current.

`slipway [--engine auto|pulumi|embedded] [--project DIR] COMMAND STACK ...`

The stack comes first in every command. Progress is a table on a terminal and a line a step elsewhere; with `--json`
one JSON object is on stdout and everything else on stderr. Errors are plain text on stderr, all of them together.
A fault of Slipway itself is one line and the file with its traceback; `SLIPWAY_DEBUG=1` prints it instead.
"""

ENGINES = """\
## Engines

| `--engine` | what runs the stack |
|---|---|
| `auto` | the engine that holds the stack's state; for a new stack `pulumi` if it is on PATH, else the embedded engine. The choice and its reason are one line on stderr |
| `pulumi` | the Pulumi CLI, with its backend, login and passphrase as they are set up (`pulumi login`, `PULUMI_BACKEND_URL`, `PULUMI_CONFIG_PASSPHRASE`). The stack is made with `pulumi stack init` when it is new |
| `embedded` | Slipway's own engine, for local stacks and without Pulumi; state in `.slipway/state` |

A stack belongs to the engine that built it; the other one refuses it (exit code 4). To hand a stack of the embedded
engine over to Pulumi:

```
pulumi stack init local
slipway export local | pulumi stack import --stack local
rm .slipway/state/local.json
```
"""  # noqa: E501  (rows of a table)


def reference() -> str:
    """The whole page."""
    group: Any = get_command(app)
    parts = [INTRO, _options("Options before the command", group), ENGINES, _codes()]
    for name, command in group.commands.items():
        parts.append(_command(name, command))
        parts += [_command(f"{name} {n}", c) for n, c in getattr(command, "commands", {}).items()]
    return "\n".join(parts)


def _codes() -> str:
    rows = "\n".join(f"| {code} | {text} |" for code, text in MEANING.items())
    return f"## Exit codes\n\n| code | meaning |\n|---|---|\n{rows}\n"


def _command(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join(["slipway", name, *(_metavar(p) for p in arguments)])
    rows = "".join(f"| `{_metavar(p)}` | {p.help} |\n".replace("l|v", r"l\|v") for p in arguments if p.name != "stack")
    table = f"\n| argument | |\n|---|---|\n{rows}" if rows else ""
    return f"## {usage}\n\n{command.help}\n{table}{_options('', command)}"


def _options(title: str, command: Any) -> str:
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    if not options:
        return ""
    rows = "".join(f"| {_names(p)} | {p.help}{_default(p)} |\n" for p in options)
    heading = f"## {title}\n" if title else ""
    return f"{heading}\n| option | |\n|---|---|\n{rows}"


def _names(option: Any) -> str:
    value = "" if option.is_flag else f" {option.metavar or option.name.upper()}"
    return ", ".join(f"`{name}{value}`" for name in option.opts)


def _default(option: Any) -> str:
    shown = option.default
    return "" if shown in (None, False, []) or option.required else f" Default: {shown}."


def _metavar(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


if __name__ == "__main__":
    print(reference(), end="")
