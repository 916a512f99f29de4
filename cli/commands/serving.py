"""predict and load: what a client of the stack does."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.errors import FAILED, USAGE, CliError
from cli.session import JSON, STACK, begin, print_json

if TYPE_CHECKING:
    from cli.load import Tally
    from cli.predict import Samples, Signature, Target
    from cli.wire import Request

MODEL = Annotated[
    str | None, typer.Option(help="Which model; by default the one that predicts by id, if there is one.")
]
REQUESTS = 64  # different ones, sent in turn
CLIENTS_OF_A_RATE = 64  # connections that a fixed rate may use at once


def predict(
    context: typer.Context,
    stack: STACK,
    model: MODEL = None,
    ids: Annotated[list[str] | None, typer.Option("--id", help="Id of an entity; may be repeated.")] = None,
    file: Annotated[Path | None, typer.Option("--input", help="Inputs as JSON: a V2 request, or rows.")] = None,
    protocol: Annotated[str, typer.Option(help="http or grpc.")] = "http",
    batch: Annotated[int, typer.Option(help="Entities in the one request, from the first id on.")] = 1,
    check: Annotated[
        bool, typer.Option("--check", help="Both protocols, then every entity: accuracy, latency.")
    ] = False,
    as_json: JSON = False,
) -> None:
    """Predict: by entity id, or with inputs from a file."""
    from cli import check as checking
    from cli import predict as predicting

    session = begin(context, stack, as_json=as_json)
    where = predicting.target(stack, session.outputs(), session.project.folder)
    _known_protocol(protocol, ("http", "grpc"))
    name = predicting.choose_model(where, model)
    if check:
        figures = checking.check(where, _samples(where), name, session.say)
        return print_json({"ok": True, **figures}) if as_json else None
    if file is not None:
        outputs = predicting.predict(where, protocol, name, predicting.from_file(file, name, where))
        plain = {t.name: {"datatype": t.datatype, "shape": t.shape, "data": list(t.data)} for t in outputs.values()}
        return print_json({"model": name, "protocol": protocol, "outputs": plain})
    known = _samples(where)
    indices = _indices(known, ids or [], batch)
    asked = _request(predicting.signature(where, name), known, indices)
    outputs = predicting.predict(where, protocol, name, asked)
    truths = [None if known.labels is None else known.labels[i] for i in indices]
    rows = predicting.rows(outputs, [known.ids[i] for i in indices], truths)
    if as_json:
        return print_json({"model": name, "protocol": protocol, "predictions": [r.to_json() for r in rows]})
    for row in rows:
        print(f"{name} over {protocol}: id {row.entity} is {row.label}" + _truth(row.label, row.truth))
        print("  " + "  ".join(f"{i}: {p:.4f}" for i, p in enumerate(row.probabilities)))
    return None


def load(
    context: typer.Context,
    stack: STACK,
    seconds: Annotated[float, typer.Option(help="How long; at most 600.")] = 10.0,
    clients: Annotated[int | None, typer.Option(help="One after another each, of each protocol; at most 256.")] = None,
    rate: Annotated[float | None, typer.Option(help="Requests a second of each protocol, at their times.")] = None,
    protocol: Annotated[str, typer.Option(help="http, grpc or both.")] = "both",
    model: MODEL = None,
    batch: Annotated[int, typer.Option(help="Entities in each request.")] = 1,
    timeout: Annotated[float, typer.Option(help="Seconds until a request without an answer is a failure.")] = 10.0,
    as_json: JSON = False,
) -> None:
    """Send requests and count: failures, p50, p90, p99. Ends with 1 if any request failed."""
    from cli import predict as predicting
    from cli.load import LoadPlan, run_until_interrupted

    if clients is not None and rate is not None:
        raise CliError("--clients and --rate: give one of them", USAGE)
    _known_protocol(protocol, ("http", "grpc", "both"))
    count = clients if clients is not None else CLIENTS_OF_A_RATE if rate is not None else 8
    plan = LoadPlan(seconds=seconds, clients=count, rate=rate, timeout_s=timeout)
    session = begin(context, stack, as_json=as_json)
    where = predicting.target(stack, session.outputs(), session.project.folder)
    name = predicting.choose_model(where, model)
    requests = _requests(where, name, batch)
    urls = {p: where.url(p) for p in (("http", "grpc") if protocol == "both" else (protocol,))}
    told = _tick if sys.stderr.isatty() else None
    report = run_until_interrupted(plan, urls, name, requests, told)
    if as_json:
        print_json({"model": name, "batch": batch, "clients": count, "rate": rate, **report.to_json()})
    else:
        _show(name, report.to_json())
    if report.failed:
        raise CliError(f"{report.failed} of {report.count} requests failed", FAILED)


def _requests(where: Target, model: str, batch: int) -> list[Request]:
    """Requests with their right answers, as the stack gives them one by one now."""
    from cli import predict as predicting
    from cli.wire import Request

    known = _samples(where)
    signature = predicting.signature(where, model)
    found = []
    for n in range(min(REQUESTS, len(known.ids))):
        indices = [(n * batch + i) % len(known.ids) for i in range(batch)]
        asked = _request(signature, known, indices)
        expected = predicting.predict(where, "http", model, asked)
        found.append(Request(http=asked.http, grpc=asked.grpc, expected=expected))
    return found


def _request(signature: Signature, known: Samples, indices: list[int]) -> Request:
    from cli.predict import tensor
    from cli.wire import request

    return request(signature.model, [tensor(signature, known, indices)])


def _samples(where: Target) -> Samples:
    from cli import predict as predicting

    known = predicting.samples(where)
    if known is None:
        raise CliError(
            f"stack '{where.stack}' has no features.source: give inputs with predict --input FILE.json", USAGE
        )
    return known


def _indices(known: Samples, ids: list[str], batch: int) -> list[int]:
    if batch < 1:
        raise CliError(f"--batch {batch}: allowed: 1 and more", USAGE)
    if batch > 1 and len(ids) > 1:
        raise CliError("--batch and several --id: give one of them", USAGE)
    found = [known.index(i) for i in ids] or [0]
    return found if batch == 1 else [(found[0] + i) % len(known.ids) for i in range(batch)]


def _known_protocol(protocol: str, allowed: tuple[str, ...]) -> None:
    if protocol not in allowed:
        raise CliError(f"--protocol {protocol}: no such protocol; allowed: {', '.join(allowed)}", USAGE)


def _truth(label: int | None, truth: int | None) -> str:
    return "" if truth is None else " (right)" if label == truth else f" (WRONG: it is {truth})"


def _tick(seconds: float, tallies: Mapping[str, Tally]) -> None:
    sent, failed = sum(t.sent for t in tallies.values()), sum(t.failed for t in tallies.values())
    print(f"\r{seconds:5.0f} s  {sent} sent, {failed} failed ", end="", file=sys.stderr, flush=True)


def _show(model: str, report: dict[str, object]) -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    protocols = report["protocols"]
    assert isinstance(protocols, dict)
    print(f"{model}, {report['seconds']} s" + (", interrupted" if report["interrupted"] else ""))
    print(f"{'':8}{'count':>9}{'failed':>8}{'a second':>10}{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}")
    for name, row in [*protocols.items(), ("total", report)]:
        cells = [
            row[k] if row[k] is not None else "-" for k in ("count", "failed", "rps", "p50_ms", "p90_ms", "p99_ms")
        ]
        print(f"{name:8}{cells[0]:>9}{cells[1]:>8}{cells[2]:>10}{cells[3]:>9}{cells[4]:>9}{cells[5]:>9}")
    for name, row in protocols.items():
        for text, count in row["errors"].items():
            print(f"{name}: {count} x {text}")
