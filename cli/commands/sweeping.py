"""sweep: what bears a stack's tag, label or name in its cloud, and costs money."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cli.errors import LEFTOVERS, USAGE, CliError
from cli.session import JSON, STACK, begin, print_json

if TYPE_CHECKING:
    from cli.sweep.found import Thing
    from infra.spec import Spec


def sweep(
    context: typer.Context,
    stack: STACK,
    everything: Annotated[bool, typer.Option("--all", help="Also what costs nothing by itself.")] = False,
    as_json: JSON = False,
) -> None:
    """List what of the stack is in its cloud though no state knows it. Removes nothing; exit code 5 if there is any."""
    from cli.engines.base import resources
    from cli.plans import specification

    session = begin(context, stack, as_json=as_json)
    spec = specification(session.project, stack, {})
    others = tuple(session.project.stacks())
    known = {str(r.get("id", "")) for r in resources(session.engine.export(stack)) if r.get("id")}
    found = [t for t in _things(spec, stack, others) if not _stands(t.name, known)]
    shown = [t for t in found if everything or t.billable]
    if as_json:
        print_json({"ok": not shown, "leftovers": [asdict(t) for t in shown]})
    for thing in [] if as_json else shown:
        remove = f"  remove: {thing.remove}" if thing.remove else ""
        typer.echo(f"{thing.kind} {thing.name} (by {thing.by}){remove}")
    if shown:
        raise CliError(f"{len(shown)} things of stack '{stack}' are in no state", LEFTOVERS)
    session.say(f"nothing of stack '{stack}' is left that no state knows" if known else f"nothing of '{stack}' is left")


def _things(spec: Spec, stack: str, others: tuple[str, ...]) -> Iterator[Thing]:
    if spec.cloud == "aws":
        import boto3

        from cli.sweep import aws

        session = boto3.Session(region_name=spec.region)
        if session.get_credentials() is None:
            raise CliError("no credentials of AWS. To fix: aws configure sso, or set AWS_PROFILE", USAGE)
        return aws.things(stack, session.client, others)
    if spec.cloud == "gcp":
        from cli.sweep import gcp

        return gcp.things(stack, str(spec.project), gcp.asking(), others)
    raise CliError(f"cloud {spec.cloud} has no account to sweep; slipway destroy looks at this machine", USAGE)


def _stands(name: str, known: set[str]) -> bool:
    """Whether a resource of the state is this: ids are names, paths or ARNs, and so are names here."""
    return name in known or any(name.endswith(f"/{k}") or k.endswith((f"/{name}", f":{name}")) for k in known)
