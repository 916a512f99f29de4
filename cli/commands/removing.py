"""destroy and export: the end of a stack, and its state for another engine."""

from __future__ import annotations

import copy
from typing import Annotated

import typer

from cli.engines.base import Deployment, pending, resources
from cli.errors import LEFTOVERS, REFUSED, CliError
from cli.session import JSON, STACK, YES, Session, begin, confirm, print_json


def destroy(
    context: typer.Context,
    stack: STACK,
    yes: YES = False,
    unprotect: Annotated[bool, typer.Option("--unprotect", help="Also destroy what is protected.")] = False,
    as_json: JSON = False,
) -> None:
    """Destroy the stack, then look for anything that is left and say so. A second time is a no-op."""
    from cli import lifecycle

    session = begin(context, stack, changes=True, as_json=as_json)
    deployment = session.engine.export(stack)
    count, unfinished = len(resources(deployment)), len(pending(deployment))
    if count or unfinished:
        _unprotect(session, deployment or {}, unprotect)
        confirm(f"Destroy {count} resources of stack '{stack}'?", yes)
        lifecycle.settle(session)
        outcome = lifecycle.run(session, "destroy")
        if not outcome.ok:
            lifecycle.finish(session, outcome, f"To go on after the cause is gone: slipway destroy {stack}")
    else:
        session.say(f"stack '{stack}': nothing to destroy")
    left = _left(session)
    if not left:
        session.engine.forget(stack)
    if as_json:
        print_json({"ok": not left, "destroyed": count, "leftovers": left})
    if left:
        fix = f"To fix: slipway up {stack} adopts what bears the stack's names; then destroy again"
        raise CliError(["left behind:", *(f"  {line}" for line in left), fix], LEFTOVERS)
    if count or unfinished:
        session.say(f"stack '{stack}' is gone: no process, socket, shared memory or file is left")


def export(context: typer.Context, stack: STACK) -> None:
    """Print the deployment as Pulumi keeps it: slipway export STACK | pulumi stack import --stack STACK."""
    session = begin(context, stack)
    deployment = session.engine.export(stack)
    if deployment is None:
        raise CliError(f"stack '{stack}' has no state: nothing to export. To fix: slipway up {stack}")
    print_json(deployment)


def _unprotect(session: Session, deployment: Deployment, wanted: bool) -> None:
    protected = [r["urn"] for r in resources(deployment) if r.get("protect")]
    if not protected:
        return
    if not wanted:
        names = [f"  {urn.rpartition('::')[2]} ({urn})" for urn in protected]
        fix = "To fix: slipway destroy --unprotect destroys them as well"
        raise CliError([f"{len(protected)} resources are protected:", *names, fix], REFUSED)
    changed = copy.deepcopy(deployment)
    for resource in changed["deployment"]["resources"]:
        resource.pop("protect", None)
    session.engine.replace(session.stack, changed)
    session.say(f"unprotected {len(protected)} resources")


def _left(session: Session) -> list[str]:
    from cli.leftovers import wait_until_gone

    return wait_until_gone(session.project.place(session.stack), session.stack)
