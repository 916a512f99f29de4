"""sweep: what bears a stack's tag, label or name in its cloud, and costs money."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.errors import LEFTOVERS, CliError
from cli.session import JSON, STACK, begin, print_json


def sweep(
    context: typer.Context,
    stack: STACK,
    everything: Annotated[bool, typer.Option("--all", help="Also what costs nothing by itself.")] = False,
    as_json: JSON = False,
) -> None:
    """List what of the stack is in its cloud though no state knows it. Removes nothing; exit code 5 if there is any.

    Backups are meant to stay: they are listed with what they cost a month, and are no leftovers."""
    from cli.plans import specification
    from cli.sweep.look import look

    session = begin(context, stack, as_json=as_json)
    seen = look(session, specification(session.project, stack, {}), everything=everything)
    if as_json:
        print_json({"ok": not seen.left, **seen.to_json()})
    else:
        for thing in seen.left:
            remove = f"  remove: {thing.remove}" if thing.remove else ""
            typer.echo(f"{thing.kind} {thing.name} (by {thing.by}){remove}")
        for backup in seen.backups:
            typer.echo(f"kept: {backup}")
    if seen.left:
        raise CliError(f"{len(seen.left)} things of stack '{stack}' are in no state", LEFTOVERS)
    session.say(f"nothing of stack '{stack}' is left that no state knows")
