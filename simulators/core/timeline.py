"""When the steps of a run would have happened: from durations, dependencies and how many run at once."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from simulators.core.world import Operation


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """`steps` in order of start; `critical` are the URNs of the longest chain, first to last."""

    steps: tuple[Operation, ...]
    makespan_s: float
    critical: tuple[str, ...]


def schedule(operations: Sequence[Operation], dependencies: Mapping[str, Sequence[str]], parallel: int) -> Timeline:
    """`dependencies`: URN -> URNs that it needs, as the engine's state has them; deletes run in the other direction.

    As the engines do it: a step starts when all that it waits for is done and fewer than `parallel` run;
    deletes come after all creates and updates.
    """
    makes = [o for o in operations if o.op != "delete"]
    deletes = [o for o in operations if o.op == "delete"]
    cause: dict[str, str] = {}
    steps = _run(makes, lambda urn: dependencies.get(urn, ()), parallel, 0.0, cause)
    middle = max((s.end_s for s in steps), default=0.0)
    dependents: dict[str, list[str]] = {}
    for urn, needed in dependencies.items():
        for one in needed:
            dependents.setdefault(one, []).append(urn)
    steps += _run(deletes, lambda urn: dependents.get(urn, ()), parallel, middle, cause)
    last = max(steps, key=lambda s: s.end_s, default=None)
    return Timeline(
        steps=tuple(sorted(steps, key=lambda s: (s.start_s, s.seq))),
        makespan_s=last.end_s if last else 0.0,
        critical=_chain(last.urn, cause) if last else (),
    )


def _run(
    operations: Sequence[Operation],
    needs: Callable[[str], Sequence[str]],
    parallel: int,
    start: float,
    cause: dict[str, str],
) -> list[Operation]:
    """List scheduling in the order in which the steps were really taken, which keeps every dependency."""
    ends: dict[str, float] = {}
    running: list[float] = []
    steps: list[Operation] = []
    for one in operations:
        waits = {urn: ends[urn] for urn in (*needs(one.urn), *one.after, one.urn) if urn in ends}
        ready = max([start, *waits.values()])
        if len(running) >= parallel:
            ready = max(ready, heapq.heappop(running))
        if waits and max(waits.values()) > start:
            cause[one.urn] = max(waits, key=lambda urn: waits[urn])
        end = ready + one.end_s - one.start_s
        ends[one.urn] = end
        heapq.heappush(running, end)
        steps.append(replace(one, start_s=ready, end_s=end))
    return steps


def _chain(urn: str, cause: Mapping[str, str]) -> tuple[str, ...]:
    chain = [urn]
    while chain[0] in cause and cause[chain[0]] not in chain:
        chain.insert(0, cause[chain[0]])
    return tuple(chain)
