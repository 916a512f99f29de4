"""`predict --check`: one right prediction over each wire, then every known entity by id, its accuracy and latency."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cli.errors import CliError
from cli.load import summary
from cli.predict import Prediction, Samples, Signature, Target, predict, rows, signature, tensor
from cli.wire import BadAnswerError, Outputs, request

ACCURACY = 0.97  # what the sample network must reach over all digits (serving/samples/digits/train.py)
CLIENTS = 4


@dataclass
class Checked:
    """Every prediction once, in the order of the ids."""

    labels: dict[int, int] = field(default_factory=dict)
    latencies_s: array[float] = field(default_factory=lambda: array("d"))
    errors: list[str] = field(default_factory=list)


def check(where: Target, known: Samples, model: str, tell: Callable[[str], None]) -> dict[str, object]:
    """Raises at the first thing that is not right; returns the figures."""
    if known.labels is None:
        raise CliError("--check needs `labels` in the file of features.source")
    takes = signature(where, model)
    singles: dict[str, object] = {}
    for protocol in where.urls:
        one = _single(where, known, takes, protocol)
        singles[protocol] = one.to_json()
        shown = f" (probability {max(one.probabilities):.4f})" if one.probabilities else ""
        tell(f"{protocol.upper():<5} {where.url(protocol)}: {model} of id {one.entity} is {one.label}{shown}: right")
    started = time.monotonic()
    done = asyncio.run(_all(where, known, takes))
    seconds = time.monotonic() - started
    figures = _figures(known, done, seconds)
    by = "by id" if takes.by_id else "by features"
    tell(
        f"ALL   {figures['right']} of {len(known.ids)} right {by}: accuracy {figures['accuracy']:.4f}; "
        f"p50 {figures['p50_ms']} ms, p99 {figures['p99_ms']} ms at {CLIENTS} clients, {figures['rps']} a second"
    )
    return {"model": model, "single": singles, **figures}


def _single(where: Target, known: Samples, takes: Signature, protocol: str) -> Prediction:
    assert known.labels is not None
    answer = predict(where, protocol, takes.model, request(takes.model, [tensor(takes, known, [0])]))
    (one,) = rows(answer, known.ids[:1], known.labels[:1])
    if one.label != one.truth:
        raise CliError(f"{takes.model} over {protocol}: id {one.entity} is {one.label}; right is {one.truth}")
    return one


def _figures(known: Samples, done: Checked, seconds: float) -> dict[str, object]:
    assert known.labels is not None
    right = sum(known.labels[i] == label for i, label in done.labels.items())
    accuracy = right / len(known.ids)
    if done.errors:
        raise CliError([f"{len(done.errors)} of {len(known.ids)} predictions failed:", *sorted(set(done.errors))[:5]])
    if accuracy < ACCURACY:
        raise CliError(f"accuracy {accuracy:.4f} over {len(known.ids)} entities; at least {ACCURACY} is right")
    figures = summary(len(known.ids), len(done.errors), done.latencies_s, seconds)
    return {**figures, "right": right, "accuracy": round(accuracy, 4), "seconds": round(seconds, 2)}


async def _all(where: Target, known: Samples, takes: Signature) -> Checked:
    from cli.senders import sender

    done = Checked()
    turn = iter(range(len(known.ids)))

    async def client() -> None:
        async with sender("http", where.url("http"), takes.model, 10.0) as one:
            for i in turn:
                asked = request(takes.model, [tensor(takes, known, [i])])
                started = time.monotonic()
                try:
                    answer = await one.ask(asked)
                except BadAnswerError as e:
                    done.errors.append(str(e))
                    continue
                done.latencies_s.append(time.monotonic() - started)
                done.labels[i] = _label(answer)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return done


def _label(answer: Outputs) -> int:
    labels: Sequence[int] = answer["label"].data if "label" in answer else [-1]
    return int(labels[0])
