"""`slipway features`: a file's entities into a stack's store, look-ups by id, and how a stream of ids fares."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.errors import FAILED, USAGE, CliError
from cli.session import JSON, STACK, Session, begin, print_json

if TYPE_CHECKING:
    from infra.spec import Spec

app = typer.Typer(help="Features in the stack's store.", no_args_is_help=True)
SOURCE = Annotated[
    Path | None, typer.Argument(help="An .npz file; by default features.source of the configuration.", metavar="FILE")
]
ARRAY = Annotated[str, typer.Option(help="Array of the file: a row an entity.")]
COLUMN = Annotated[str | None, typer.Option("--ids", help="Array of the ids; by default rows are numbered from 0.")]
IDS = Annotated[list[str] | None, typer.Argument(help="Ids of entities.", metavar="ID...")]
FROM = Annotated[Path | None, typer.Option("--from", help="A text file with an id a line.")]
DATATYPE = Annotated[str, typer.Option(help="V2 datatype of the stored values.")]
CACHE = {"cache_entries": 10_000, "cache_ttl_s": 60.0}  # of `stats`: as large as the servers' own


@dataclass(frozen=True, kw_only=True)
class File:
    """Where entities come from."""

    source: Path | None
    array: str
    ids: str | None


@app.command()
def load(
    context: typer.Context,
    stack: STACK,
    source: SOURCE = None,
    array: ARRAY = "features",
    ids: COLUMN = None,
    as_json: JSON = False,
) -> None:
    """Write every entity of a file into the store; a load that was cut off goes on where it was."""
    session = begin(context, stack, as_json=as_json)
    done = _transfer(session, "load", File(source=source, array=array, ids=ids))
    if as_json:
        print_json(done)
    session.say(f"loaded {done['loaded']} entities" + (f", {done['skipped']} were there" if done["skipped"] else ""))


@app.command()
def verify(
    context: typer.Context,
    stack: STACK,
    source: SOURCE = None,
    array: ARRAY = "features",
    ids: COLUMN = None,
    as_json: JSON = False,
) -> None:
    """Look every entity of a file up in the store and compare; exit code 1 if one is missing or different."""
    session = begin(context, stack, as_json=as_json)
    done = _transfer(session, "verify", File(source=source, array=array, ids=ids))
    if as_json:
        print_json(done)
    if done["missing"] or done["different"]:
        what = f"{done['missing']} missing, {done['different']} different, such as {', '.join(done['some'])}"
        raise CliError(f"{what}. To fix: slipway features load {stack}", FAILED)
    session.say(f"all {done['verified']} entities are there")


@app.command()
def get(
    context: typer.Context,
    stack: STACK,
    ids: IDS = None,
    file: FROM = None,
    datatype: DATATYPE = "FP32",
    as_json: JSON = False,
) -> None:
    """Look entities up by id; exit code 1 if one is missing or cannot be read."""
    session = begin(context, stack, as_json=as_json)
    found = _lookup(session, "get", ids, file, datatype)
    if as_json:
        print_json(found)
    else:
        for key, values in found["features"].items():
            session.say(f"{key}: {' '.join(f'{v:g}' for v in _flat(values))}")
    wrong = [
        *(f"{k}: not in the store" for k in found["missing"]),
        *(f"{k}: {v}" for k, v in found["unreadable"].items()),
    ]
    if wrong:
        raise CliError(wrong, FAILED)


@app.command()
def stats(
    context: typer.Context,
    stack: STACK,
    ids: IDS = None,
    file: FROM = None,
    datatype: DATATYPE = "FP32",
    as_json: JSON = False,
) -> None:
    """How a stream of ids fares: schema, what is missing, hit rate of a cache as the servers', time of a look-up."""
    session = begin(context, stack, as_json=as_json)
    found = _lookup(session, "stats", ids, file, datatype, **CACHE)
    found["servers"] = _servers(session)
    if as_json:
        print_json(found)
        return
    schema = found.pop("schema")
    session.say(f"schema: {schema['datatype']} {schema['shape']}, {schema['bytes']} bytes")
    for key, value in found.items():
        if value not in (None, []):
            session.say(f"{key}: {', '.join(map(str, value)) if isinstance(value, list) else value}")


def _flat(values: Any) -> list[float]:
    return [x for v in values for x in _flat(v)] if isinstance(values, list) else [values]


def _transfer(session: Session, operation: str, file: File) -> dict[str, Any]:
    from cli.plans import specification

    spec = specification(session.project, session.stack, {})
    source = file.source
    if source is None and spec.features is not None and spec.features.source is not None:
        source = session.project.folder / spec.features.source
    if source is None:
        raise CliError(f"no file. To fix: slipway features {operation} {session.stack} FILE", USAGE)
    if not source.is_file():
        raise CliError(f"{source}: no such file", USAGE)
    mark = str(session.project.folder / ".slipway" / f"features-{session.stack}.json")
    asked = {"source": str(source), "array": file.array, "ids": file.ids, "mark": mark}
    return _asked(session, spec, operation, asked)


def _lookup(
    session: Session, operation: str, ids: list[str] | None, file: Path | None, datatype: str, **more: Any
) -> dict[str, Any]:
    """The values' number is the configuration's: their bytes by those of the datatype."""
    from cli.plans import specification
    from infra.plan.store import features_of
    from serving.features_types import DATATYPES, Schema

    spec = specification(session.project, session.stack, {})
    wanted = list(ids or [])
    if file is not None:
        if not file.is_file():
            raise CliError(f"{file}: no such file", USAGE)
        wanted += [line.strip() for line in file.read_text().splitlines() if line.strip()]
    if not wanted:
        raise CliError(f"no ids. To fix: slipway features {operation} {session.stack} ID... or --from FILE", USAGE)
    if datatype not in DATATYPES:
        raise CliError(f"--datatype {datatype}: no such type; allowed: {', '.join(DATATYPES)}", USAGE)
    each = Schema(datatype=datatype, shape=(1,)).nbytes
    shape = [features_of(spec).value_bytes // each]
    return _asked(session, spec, operation, {"wanted": wanted, "datatype": datatype, "shape": shape, **more})


def _asked(session: Session, spec: Spec, operation: str, more: dict[str, Any]) -> dict[str, Any]:
    from cli.features.reach import reached
    from infra.plan.store import features_of
    from infra.stores.store import key_prefix

    with reached(session, spec) as way:
        asked = {
            "operation": operation,
            "prefix": key_prefix(session.stack),
            "ttl_s": features_of(spec).ttl_s,
            **way.to_json(),
            **more,
        }
        return _run(asked)


def _run(asked: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "cli.features.transfer"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        json.dump(asked, child.stdin)
        child.stdin.close()
        last: dict[str, Any] = {"error": "the transfer ended without a word"}
        told = False
        for line in child.stdout:
            last = json.loads(line)
            if "done" in last:
                print(f"\r{last['done']} of {last['of']}", end="", file=sys.stderr, flush=True)
                told = True
    if told:
        print(file=sys.stderr)
    if "error" in last or "done" in last:
        raise CliError(f"{last.get('error', 'the transfer was cut off')}. To go on: the same command", FAILED)
    return last


def _servers(session: Session) -> dict[str, float] | None:
    """What the servers' own caches did, where their metrics can be read from here; else the reason is said."""
    from cli.features.served import counters, rated

    outputs = session.outputs()
    addresses = [str(u) for u in outputs.get("url_metrics") or ()]
    if addresses:
        return counters(addresses)
    if not outputs.get("kubeconfig_command"):
        return None
    from cli.features import cluster

    try:
        return rated(cluster.counters(str(outputs["kubeconfig_command"])))
    except CliError as e:
        session.say(f"the servers' own hit rate was not read: {e.problems[0]}")
        return None
