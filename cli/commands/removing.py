"""destroy and export: the end of a stack, and its state for another engine."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.commands import ending
from cli.engines.base import Deployment, pending, resources
from cli.errors import LEFTOVERS, REFUSED, CliError
from cli.session import JSON, STACK, YES, Session, begin, confirm, print_json


def destroy(
    context: typer.Context,
    stack: STACK,
    yes: YES = False,
    unprotect: Annotated[bool, typer.Option("--unprotect", help="Also destroy what is protected.")] = False,
    backup: Annotated[
        bool, typer.Option("--backup", help="First the store's content to backup_uri, read again and counted.")
    ] = False,
    as_json: JSON = False,
) -> None:
    """Destroy the stack, then look for anything that is left and say so. A second time is a no-op."""
    from cli import lifecycle

    session = begin(context, stack, changes=True, as_json=as_json)
    deployment = session.engine.export(stack)
    count, unfinished = len(resources(deployment)), len(pending(deployment))
    if count or unfinished:
        protected = _protected(deployment, unprotect)
        confirm(f"Destroy {count} resources of stack '{stack}'?", yes)
        lifecycle.settle(session)
        if backup:
            ending.back_up(session)
        if protected:
            ending.unprotect(session, protected)
        outcome = lifecycle.run(session, "destroy")
        if not outcome.ok:
            lifecycle.finish(session, outcome, f"To go on after the cause is gone: slipway destroy {stack}")
    else:
        session.say(f"stack '{stack}': nothing to destroy")
    left = _left(session)
    seen = ending.swept(session)
    left += [f"{t.kind} {t.name}" + (f"  remove: {t.remove}" if t.remove else "") for t in seen.left]
    for one in seen.backups:
        session.say(f"kept: {one}")
    if not left:
        ending.forget(session)
    if as_json:
        backups = seen.to_json()["backups"]
        print_json({"ok": not left, "destroyed": count, "leftovers": left, "backups": backups})
    if left:
        fix = f"To fix: slipway up {stack} adopts what bears the stack's names; then destroy again"
        raise CliError(["left behind:", *(f"  {line}" for line in left), fix], LEFTOVERS)
    if count or unfinished:
        session.say(f"stack '{stack}' is gone: {ending.looked(seen)}")


def export(context: typer.Context, stack: STACK) -> None:
    """Print the deployment as Pulumi keeps it: slipway export STACK | pulumi stack import --stack STACK."""
    session = begin(context, stack)
    deployment = session.engine.export(stack)
    if deployment is None:
        raise CliError(f"stack '{stack}' has no state: nothing to export. To fix: slipway up {stack}")
    print_json(deployment)


def _protected(deployment: Deployment | None, wanted: bool) -> list[str]:
    """What refuses to be destroyed; an error where that was not asked for."""
    protected = [str(r["urn"]) for r in resources(deployment) if r.get("protect")]
    if protected and not wanted:
        names = [f"  {urn.rpartition('::')[2]} ({urn})" for urn in protected]
        fix = "To fix: slipway destroy --unprotect destroys them as well"
        raise CliError([f"{len(protected)} resources are protected:", *names, fix], REFUSED)
    return protected


def _left(session: Session) -> list[str]:
    from cli.leftovers import wait_until_gone

    return wait_until_gone(session.project.place(session.stack), session.stack)
