"""`slipway store`: a stack's feature store in its cloud: status, backup, restore."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from cli.errors import USAGE, CliError
from cli.session import JSON, STACK, YES, Session, begin, confirm, print_json

app = typer.Typer(help="The stack's feature store in its cloud.", no_args_is_help=True)
BY_HAND = {  # until they are built here: the cloud's own commands
    "memorystore": "gcloud redis instances describe|export|import (Valkey: gcloud memorystore instances)",
    "bigtable": "gcloud bigtable instances describe; cbt or Dataflow export",
    "firestore": "gcloud firestore databases describe; gcloud firestore export|import",
    "elasticache": "aws elasticache describe-replication-groups|create-snapshot",
    "redis": "slipway status",
}


@app.command()
def status(context: typer.Context, stack: STACK, as_json: JSON = False) -> None:
    """What the store holds, how it is paid and protected, and its backups."""
    from cli.stores import dynamodb

    session = begin(context, stack, as_json=as_json)
    client, table = _dynamodb(session)
    found = dynamodb.status(client, table)
    if as_json:
        print_json(found)
        return
    for key, value in found.items():
        session.say(f"{key}: {', '.join(value) or 'none' if isinstance(value, list) else value}")


@app.command()
def backup(
    context: typer.Context,
    stack: STACK,
    name: Annotated[str, typer.Option(help="Name of the backup; the same name again goes on with it.")],
    yes: YES = False,
) -> None:
    """Make a backup that outlives the stack. It costs money until you delete it."""
    from cli.stores import dynamodb
    from infra.catalog import load

    session = begin(context, stack)
    client, table = _dynamodb(session)
    about = dynamodb.status(client, table)
    usd = dynamodb.month_usd(about["bytes"], load())
    price = "a price that the catalogue does not have" if usd is None else f"about ${usd} a month"
    confirm(f"Back up {about['entities']} entities of {table} for {price}?", yes)
    arn = dynamodb.backup(client, table, name, session.say)
    session.say(f"backup {name} is there: {arn}")
    session.say(f"next: slipway store restore {stack} {arn} TABLE")


@app.command()
def restore(
    context: typer.Context,
    stack: STACK,
    arn: Annotated[str, typer.Argument(help="The backup.")],
    table: Annotated[str, typer.Argument(help="A table that does not exist yet.")],
) -> None:
    """Restore a backup into a new table, beside the stack's: a table that stands is never written over."""
    from cli.stores import dynamodb

    session = begin(context, stack)
    client, own = _dynamodb(session)
    if table == own:
        raise CliError(f"{table} is the stack's own table. To fix: name one that does not exist", USAGE)
    count = dynamodb.restore(client, arn, table, session.say)
    session.say(f"table {table} is there with {count} entities")


def _dynamodb(session: Session) -> tuple[Any, str]:
    """The client and the table of the stack that stands."""
    url = (session.outputs().get("store") or {}).get("url", "")
    kind = (session.outputs().get("store") or {}).get("kind") or ("redis" if session.outputs().get("redis") else "")
    if not kind:
        raise CliError(f"stack '{session.stack}' has no store that stands. To fix: slipway up {session.stack}")
    if kind != "dynamodb":
        raise CliError(f"{kind} is not operated by this command yet. To fix: {BY_HAND[kind]}", USAGE)
    import boto3

    parts = urlsplit(str(url))
    boto = boto3.Session(region_name=parts.hostname)
    if boto.get_credentials() is None:
        raise CliError("no credentials of AWS. To fix: aws configure sso, or set AWS_PROFILE", USAGE)
    return boto.client("dynamodb"), parts.path.strip("/")
