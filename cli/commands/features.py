"""`slipway features`: load a file of features into a stack's store, and verify what is there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.errors import FAILED, USAGE, CliError
from cli.session import JSON, STACK, Session, begin, print_json

app = typer.Typer(help="Features in the stack's store.", no_args_is_help=True)
SOURCE = Annotated[
    Path | None, typer.Argument(help="An .npz file; by default features.source of the configuration.", metavar="FILE")
]
ARRAY = Annotated[str, typer.Option(help="Array of the file: a row an entity.")]
IDS = Annotated[str | None, typer.Option(help="Array of the ids; by default rows are numbered from 0.")]


@app.command()
def load(
    context: typer.Context,
    stack: STACK,
    source: SOURCE = None,
    array: ARRAY = "features",
    ids: IDS = None,
    as_json: JSON = False,
) -> None:
    """Write every entity of a file into the store; a load that was cut off goes on where it was."""
    session = begin(context, stack, as_json=as_json)
    done = _transfer(session, "load", source, array, ids)
    if as_json:
        print_json(done)
    session.say(f"loaded {done['loaded']} entities" + (f", {done['skipped']} were there" if done["skipped"] else ""))


@app.command()
def verify(
    context: typer.Context,
    stack: STACK,
    source: SOURCE = None,
    array: ARRAY = "features",
    ids: IDS = None,
    as_json: JSON = False,
) -> None:
    """Look every entity of a file up in the store and compare; exit code 1 if one is missing or different."""
    session = begin(context, stack, as_json=as_json)
    done = _transfer(session, "verify", source, array, ids)
    if as_json:
        print_json(done)
    if done["missing"] or done["different"]:
        what = f"{done['missing']} missing, {done['different']} different, such as {', '.join(done['some'])}"
        raise CliError(f"{what}. To fix: slipway features load {stack}", FAILED)
    session.say(f"all {done['verified']} entities are there")


def _transfer(session: Session, operation: str, source: Path | None, array: str, ids: str | None) -> dict[str, Any]:
    from cli.plans import specification
    from infra.stores.store import key_prefix

    spec = specification(session.project, session.stack, {})
    if source is None and spec.features is not None and spec.features.source is not None:
        source = session.project.folder / spec.features.source
    if source is None:
        raise CliError(f"no file. To fix: slipway features {operation} {session.stack} FILE", USAGE)
    if not source.is_file():
        raise CliError(f"{source}: no such file", USAGE)
    asked = {
        "operation": operation,
        "url": _url(session),
        "prefix": key_prefix(session.stack),
        "source": str(source),
        "array": array,
        "ids": ids,
        "ttl_s": spec.features.ttl_s if spec.features else None,
        "mark": str(session.project.folder / ".slipway" / f"features-{session.stack}.json"),
    }
    return _run(session, asked)


def _url(session: Session) -> str:
    outputs = session.outputs()
    url = outputs.get("redis") or (outputs.get("store") or {}).get("url")
    if not url:
        raise CliError(f"stack '{session.stack}' has no store that stands. To fix: slipway up {session.stack}")
    if str(url).startswith("rediss:"):
        raise CliError(
            f"{url} answers inside the stack's network alone. To fix: run the load there, as a pod with this project "
            "and SLIPWAY_STORE_PASSWORD, SLIPWAY_STORE_CA of the servers' secret"
        )
    return str(url)


def _run(session: Session, asked: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "cli.features.transfer"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        json.dump(asked, child.stdin)
        child.stdin.close()
        last: dict[str, Any] = {"error": "the transfer ended without a word"}
        for line in child.stdout:
            last = json.loads(line)
            if "done" in last:
                print(f"\r{last['done']} of {last['of']}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    if "error" in last or "done" in last:
        raise CliError(f"{last.get('error', 'the transfer was cut off')}. To go on: the same command", FAILED)
    return last
