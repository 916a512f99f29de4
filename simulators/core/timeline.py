"""When the steps of a run would have happened: from durations, dependencies and how many run at once."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from simulators.core.world import Operation

Needs = Callable[[Operation], Iterable[str]]


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """`steps` in order of start; `chain` is the longest chain of steps, first to last, `critical` its URNs."""

    steps: tuple[Operation, ...]
    makespan_s: float
    critical: tuple[str, ...]
    chain: tuple[Operation, ...] = ()


def schedule(operations: Sequence[Operation], dependencies: Mapping[str, Sequence[str]], parallel: int) -> Timeline:
    """`dependencies`: URN -> URNs that it needs, as the engine's state has them; deletes run in the other direction.

    As the engines do it: a step starts when all that it waits for is done and fewer than `parallel` run;
    deletes come after all creates and updates, except one before a replacement: it stands where its create does.
    """
    operations = sorted(operations, key=lambda o: o.seq)
    created = {o.urn: o.seq for o in operations if o.op == "create"}
    last = [o for o in operations if o.op == "delete" and created.get(o.urn, -1) < o.seq]
    late = {o.seq for o in last}
    first = [o for o in operations if o.seq not in late]
    dependents: dict[str, list[str]] = {}
    for urn, needed in dependencies.items():
        for one in needed:
            dependents.setdefault(one, []).append(urn)

    def upwards(one: Operation) -> Iterable[str]:
        found = dependencies.get(one.urn, ())
        return (*found, *dependents.get(one.urn, ())) if one.op == "delete" else found

    cause: dict[int, int] = {}
    steps = _run(first, upwards, parallel, None, cause)
    middle = max(steps, key=lambda s: s.end_s, default=None)
    steps += _run(last, lambda one: dependents.get(one.urn, ()), parallel, middle, cause)
    end = max(steps, key=lambda s: s.end_s, default=None)
    chain = _chain(end, {s.seq: s for s in steps}, cause) if end else ()
    return Timeline(
        steps=tuple(sorted(steps, key=lambda s: (s.start_s, s.seq))),
        makespan_s=end.end_s if end else 0.0,
        critical=tuple(dict.fromkeys(s.urn for s in chain)),
        chain=chain,
    )


def _run(
    operations: Sequence[Operation], needs: Needs, parallel: int, after: Operation | None, cause: dict[int, int]
) -> list[Operation]:
    """List scheduling in the order in which the steps were really taken, which keeps every dependency."""
    ends: dict[str, Operation] = {}
    running: list[tuple[float, int]] = []
    steps: list[Operation] = []
    for one in operations:
        waits = [ends[urn] for urn in (*needs(one), *one.after, one.urn) if urn in ends]
        waits += [after] if after is not None else []
        reason = max(waits, key=lambda s: s.end_s, default=None)
        ready, why = (reason.end_s, reason.seq) if reason is not None else (0.0, -1)
        if len(running) >= parallel:
            free, by = heapq.heappop(running)
            if free > ready:
                ready, why = free, by
        if why >= 0:
            cause[one.seq] = why
        done = replace(one, start_s=ready, end_s=ready + one.end_s - one.start_s)
        ends[one.urn] = done
        heapq.heappush(running, (done.end_s, done.seq))
        steps.append(done)
    return steps


def _chain(end: Operation, steps: Mapping[int, Operation], cause: Mapping[int, int]) -> tuple[Operation, ...]:
    chain = [end]
    while chain[0].seq in cause:
        chain.insert(0, steps[cause[chain[0].seq]])
    return tuple(chain)
