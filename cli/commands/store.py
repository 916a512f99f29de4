"""`slipway store`: a stack's feature store in its cloud: status, backup, restore, size, failover, maintenance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.errors import USAGE, CliError
from cli.session import JSON, STACK, YES, Session, begin, confirm, print_json

if TYPE_CHECKING:
    from cli.stores.remote import Standing
    from infra.spec import Spec

app = typer.Typer(help="The stack's feature store in its cloud.", no_args_is_help=True)
BESIDE = ("dynamodb", "elasticache", "valkey")  # they restore into something new alone
FILES = ("memorystore", "firestore", "bigtable")  # whose backups are files of a bucket alone
RENEWED = {"memorystore": "the whole instance", "firestore": "documents of the same ids", "bigtable": "the same rows"}
NAME = Annotated[str | None, typer.Option(help="Name of the backup; the same name again goes on with it.")]
EXPORT = Annotated[bool, typer.Option("--export", help="To backup_uri, readable without the store; read again.")]


@app.command()
def status(context: typer.Context, stack: STACK, as_json: JSON = False) -> None:
    """What the store holds, how it is sized and protected, and its backups."""
    from cli.stores import keep
    from cli.stores.remote import work

    session = begin(context, stack, as_json=as_json)
    its, spec = _store(session)
    found = work(session, its, "status")
    found["exports"] = [row["where"] for row in keep.listed(session, spec)]
    if as_json:
        print_json(found)
        return
    for key, value in found.items():
        text = ", ".join(str(v) for v in value) or "none" if isinstance(value, list) else value
        session.say(f"{key}: {text}")


@app.command()
def backup(context: typer.Context, stack: STACK, name: NAME = None, export: EXPORT = False, yes: YES = False) -> None:
    """Make a backup that outlives the stack. It costs money until you delete it."""
    from cli.stores import keep
    from cli.stores.remote import work

    session = begin(context, stack)
    its, spec = _store(session)
    name = name or keep.today()
    export = export or its.store in FILES
    where = keep.folder(spec, stack, name) if export else "the cloud's own backups"
    _say_costs(session, its, spec, "backup", export)
    confirm(f"Back up the store of stack '{stack}' as {name} into {where}?", yes)
    if export:
        keep.kept(session, its, spec, name)
        session.say(f"next: slipway store restore {stack} {name}")
        return
    done = work(session, its, "backup", name=name)
    session.say(f"backup {name} is there: {done['backup']}")
    session.say(f"next: slipway store restore {stack} {done['backup']} TARGET")


@app.command()
def restore(
    context: typer.Context,
    stack: STACK,
    backup: Annotated[str, typer.Argument(help="Name of an export; else a name or ARN of the cloud's own backup.")],
    target: Annotated[
        str, typer.Argument(help="New for dynamodb, elasticache and valkey, standing for others; else the stack's own.")
    ] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Into the stack's own store.")] = False,
    of: Annotated[str | None, typer.Option(help="The stack whose export it is; by default the same.")] = None,
    yes: YES = False,
) -> None:
    """Restore a backup: beside the stack's store, or with --overwrite into it, where the service can."""
    from cli.stores import keep
    from cli.stores.remote import work

    session = begin(context, stack)
    its, spec = _store(session)
    _check_target(its, target, overwrite)
    whose = of or stack
    exports = {row["name"] for row in keep.listed(session, spec, whose)}
    exported = backup in exports and (its.store in FILES or its.store == "dynamodb")
    if its.store in FILES and not exported:
        raise CliError(f"{keep.folder(spec, whose, backup)}: no such backup; allowed: {', '.join(exports)}", USAGE)
    _say_costs(session, its, spec, "restore", exported)
    into = target or f"the stack's own store; {RENEWED.get(its.store, '')} will be replaced"
    confirm(f"Restore {backup} into {into}?", yes)
    more = {"folder": keep.folder(spec, whose, backup)} if exported else {}
    done = work(session, its, "restore", name=backup, target=target, **more)
    count = f" with {done['entities']} entities" if done.get("entities") is not None else ""
    session.say(f"{done['into']} is there{count}")


def _check_target(its: Standing, target: str, overwrite: bool) -> None:
    own = its.resource.rpartition("/")[2]
    if its.store in BESIDE and (not target or target == own):
        raise CliError(
            f"{its.store} restores into something new alone. To fix: name what does not exist yet, as the last word",
            USAGE,
        )
    if not target and not overwrite:
        raise CliError(
            f"this replaces {RENEWED[its.store]} of the stack's own store. To fix: --overwrite, or name another one",
            USAGE,
        )


@app.command()
def resize(
    context: typer.Context,
    stack: STACK,
    keys: Annotated[int | None, typer.Option(help="features.keys: number of entities.")] = None,
    value_bytes: Annotated[int | None, typer.Option(help="features.value_bytes: size of one.")] = None,
    reads: Annotated[float | None, typer.Option(help="features.reads_per_s.")] = None,
    writes: Annotated[float | None, typer.Option(help="features.writes_per_s.")] = None,
    now: Annotated[
        bool, typer.Option("--now", help="Also change the store at once, without the rest of `up`.")
    ] = False,
    yes: YES = False,
) -> None:
    """Size the store for other numbers: sets them in the configuration, so that no later `up` takes it back."""
    from cli.stores import resizing
    from cli.stores.remote import work

    session = begin(context, stack)
    its, _ = _store(session)
    asked = {"keys": keys, "value_bytes": value_bytes, "reads_per_s": reads, "writes_per_s": writes}
    change = resizing.change(session, its, {k: v for k, v in asked.items() if v is not None})
    for line in change.lines:
        session.say(line)
    confirm("Set these numbers" + (" and change the store now?" if now else "?"), yes)
    resizing.write(session, change)
    if not now or not change.sizes:
        session.say(f"next: slipway up {stack}")
        return
    done = work(session, its, "resize", sizes=dict(change.sizes))
    session.say(f"{done['before']} -> {done['now']}; the next `up` asks for the same")


@app.command()
def failover(context: typer.Context, stack: STACK, yes: YES = False) -> None:
    """Make a replica the primary, as a rehearsal of a lost zone. Connections drop; the last writes may be lost."""
    _operate(context, stack, "failover", "Fail the store over to its replica", yes)


@app.command()
def maintenance(
    context: typer.Context,
    stack: STACK,
    to: Annotated[str, typer.Option(help="now, next (window), or a time such as 2026-12-01T03:00:00Z.")],
    yes: YES = False,
) -> None:
    """Move maintenance that the cloud has planned for a memorystore."""
    _operate(context, stack, "maintenance", f"Move the store's maintenance to {to}", yes, target=to)


def _operate(context: typer.Context, stack: str, operation: str, question: str, yes: bool, **more: Any) -> None:
    from cli.stores.remote import work

    session = begin(context, stack)
    its, _ = _store(session)
    confirm(f"{question}?", yes)
    done = work(session, its, operation, **more)
    session.say(f"{done['before']} -> {done['now']}")


def _store(session: Session) -> tuple[Standing, Spec]:
    from cli.plans import specification
    from cli.stores.remote import standing

    return standing(session), specification(session.project, session.stack, {})


def _say_costs(session: Session, its: Standing, spec: Spec, operation: str, bucket: bool) -> None:
    """Bytes are the store's own where it says them, else those that it is sized for."""
    from cli.stores import costs
    from cli.stores.remote import work
    from infra.catalog import load
    from infra.plan import store as sizes

    said = work(session, its, "status")
    size = int(said.get("bytes") or 0) or sizes.data_bytes(spec)
    entities = int(said.get("entities") or sizes.features_of(spec).keys)
    session.say(f"{entities:,} entities, at most {size / 1e9:.3f} GB")
    for line in costs.of(operation, its.store, spec, load(), size=size, entities=entities, bucket=bucket):
        session.say(line)
