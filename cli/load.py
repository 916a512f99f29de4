"""Bounded load generator: clients that keep their connections, or a fixed rate; every request is counted once."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cli.errors import USAGE, CliError
from cli.senders import Sender, sender
from cli.wire import BadAnswerError, Request

MAX_SECONDS = 600.0
MAX_CLIENTS = 256
MAX_RATE = 5000.0  # what one core of asyncio can send with a margin
PAUSE_S = 0.02  # after a failure: a refused connection must not become a busy loop
ERRORS_KEPT = 5  # in full, with their time
TEXTS_KEPT = 50  # different ones, with their count


@dataclass(frozen=True, kw_only=True)
class LoadPlan:
    """What to send: `clients` one after another each, or `rate` a second over at most `clients` connections."""

    seconds: float
    clients: int
    rate: float | None = None
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        checks = [("--seconds", self.seconds, MAX_SECONDS), ("--clients", self.clients, MAX_CLIENTS)]
        checks += [("--rate", self.rate, MAX_RATE)] if self.rate is not None else []
        checks += [("--timeout", self.timeout_s, MAX_SECONDS)]
        wrong = [
            f"{name}: {value:g}; allowed: above 0, at most {most:g}"
            for name, value, most in checks
            if not 0 < value <= most
        ]
        if wrong:
            raise CliError(wrong, USAGE)


@dataclass
class Tally:
    """What happened on one protocol."""

    sent: int = 0
    latencies_s: array[float] = field(default_factory=lambda: array("d"))
    failures: dict[str, int] = field(default_factory=dict)
    first: list[tuple[float, str]] = field(default_factory=list)
    connections: int | None = None

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    def fail(self, at: float, text: str) -> None:
        if len(self.first) < ERRORS_KEPT:
            self.first.append((at, text))
        known = text in self.failures or len(self.failures) < TEXTS_KEPT
        key = text if known else "other"
        self.failures[key] = self.failures.get(key, 0) + 1


@dataclass(frozen=True, kw_only=True)
class Report:
    seconds: float
    tallies: Mapping[str, Tally]
    interrupted: bool = False

    @property
    def count(self) -> int:
        return sum(t.sent for t in self.tallies.values())

    @property
    def failed(self) -> int:
        return sum(t.failed for t in self.tallies.values())

    def to_json(self) -> dict[str, object]:
        every = array("d", itertools.chain.from_iterable(t.latencies_s for t in self.tallies.values()))
        return {
            **summary(self.count, self.failed, every, self.seconds),
            "seconds": round(self.seconds, 3),
            "interrupted": self.interrupted,
            "protocols": {name: _protocol(t, self.seconds) for name, t in self.tallies.items()},
        }


def _protocol(tally: Tally, seconds: float) -> dict[str, object]:
    return {
        **summary(tally.sent, tally.failed, tally.latencies_s, seconds),
        "connections": tally.connections,
        "errors": dict(sorted(tally.failures.items(), key=lambda item: -item[1])),
        "first_errors": [{"at_s": round(at, 3), "error": text} for at, text in tally.first],
    }


def summary(count: int, failed: int, latencies_s: Sequence[float], seconds: float) -> dict[str, object]:
    """Percentiles are of the requests that were answered rightly."""
    ordered = sorted(latencies_s)
    quantiles = {f"p{q}_ms": percentile(ordered, q) for q in (50, 90, 99)}
    rps = round((count - failed) / seconds, 1) if seconds > 0 else 0.0
    return {"count": count, "failed": failed, "rps": rps, **quantiles}


def percentile(ordered: Sequence[float], q: int) -> float | None:
    """Nearest rank, in milliseconds."""
    if not ordered:
        return None
    return round(1000 * ordered[max(0, -(-q * len(ordered) // 100) - 1)], 3)


async def run(
    plan: LoadPlan,
    urls: Mapping[str, str],
    model: str,
    requests: Sequence[Request],
    on_tick: Callable[[float, Mapping[str, Tally]], None] | None = None,
    stop: asyncio.Event | None = None,
) -> Report:
    """Sends to every protocol at once, each with its own clients or its own rate; `stop` ends early."""
    stop = stop or asyncio.Event()
    tallies = {protocol: Tally() for protocol in urls}
    start = time.monotonic()
    jobs = [
        _clients(
            plan, [sender(protocol, url, model, plan.timeout_s) for _ in range(plan.clients)], requests, tally, stop
        )
        for (protocol, url), tally in zip(urls.items(), tallies.values(), strict=True)
    ]
    ticker = asyncio.create_task(_tick(start, tallies, on_tick)) if on_tick else None
    try:
        await asyncio.gather(*jobs)
    finally:
        if ticker:
            ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticker
    return Report(seconds=time.monotonic() - start, tallies=tallies, interrupted=stop.is_set())


async def _tick(
    start: float, tallies: Mapping[str, Tally], on_tick: Callable[[float, Mapping[str, Tally]], None]
) -> None:
    while True:
        await asyncio.sleep(1)
        on_tick(time.monotonic() - start, tallies)


async def _clients(
    plan: LoadPlan, senders: Sequence[Sender], requests: Sequence[Request], tally: Tally, stop: asyncio.Event
) -> None:
    start = time.monotonic()
    turn = itertools.cycle(requests)
    slots = itertools.count()
    loops = [
        _closed(plan, s, turn, tally, start, stop)
        if plan.rate is None
        else _open(plan, plan.rate, s, turn, slots, tally, start, stop)
        for s in senders
    ]
    async with contextlib.AsyncExitStack() as stack:
        for s in senders:
            await stack.enter_async_context(s)
        await asyncio.gather(*loops)
        opened = [s.connections for s in senders if s.connections is not None]
        tally.connections = sum(opened) if opened else None


async def _closed(
    plan: LoadPlan, client: Sender, turn: Iterator[Request], tally: Tally, start: float, stop: asyncio.Event
) -> None:
    """The next request as soon as the last one is answered."""
    while (now := time.monotonic()) < start + plan.seconds and not stop.is_set():
        if not await _ask(client, next(turn), tally, start, now):
            await asyncio.sleep(PAUSE_S)


async def _open(
    plan: LoadPlan,
    rate: float,
    client: Sender,
    turn: Iterator[Request],
    slots: Iterator[int],
    tally: Tally,
    start: float,
    stop: asyncio.Event,
) -> None:
    """Requests at their scheduled times: latency counts from the schedule, so a stalled server cannot slow the load."""
    while not stop.is_set():
        due = start + next(slots) / rate
        if due >= start + plan.seconds:
            return
        while (wait := due - time.monotonic()) > 0 and not stop.is_set():
            await asyncio.sleep(min(wait, 0.2))
        if stop.is_set():
            return
        if time.monotonic() > start + plan.seconds + plan.timeout_s:
            tally.sent += 1
            tally.fail(due - start, f"not sent: all {plan.clients} connections were busy")
            continue
        await _ask(client, next(turn), tally, start, due)


async def _ask(client: Sender, request: Request, tally: Tally, start: float, since: float) -> bool:
    tally.sent += 1
    try:
        await client.ask(request)
    except BadAnswerError as e:
        tally.fail(time.monotonic() - start, str(e))
        return False
    tally.latencies_s.append(time.monotonic() - since)
    return True


def run_until_interrupted(
    plan: LoadPlan,
    urls: Mapping[str, str],
    model: str,
    requests: Sequence[Request],
    on_tick: Callable[[float, Mapping[str, Tally]], None] | None = None,
) -> Report:
    """For the command: Ctrl-C ends the load and still gives its report."""

    async def main() -> Report:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        return await run(plan, urls, model, requests, on_tick, stop)

    return asyncio.run(main())
