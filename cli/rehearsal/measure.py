"""What one phase amounts to: its timeline from the clouds' log and the engine's dependencies, and its counts."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from cli.engines.base import Deployment
from cli.rehearsal.place import PARALLEL
from cli.rehearsal.report import Link, Phase, Step
from simulators.core import tables
from simulators.core.timeline import Timeline, schedule
from simulators.core.world import Operation

UNLIMITED = 1_000_000


def rows(deployment: Deployment | None) -> list[dict[str, Any]]:
    return list(((deployment or {}).get("deployment") or {}).get("resources") or [])


def needs(deployments: Iterable[Deployment | None]) -> dict[str, list[str]]:
    """URN -> URNs of cloud resources that it waits for; providers and components stand for what they need."""
    direct: dict[str, set[str]] = {}
    real: set[str] = set()
    for deployment in deployments:
        for row in rows(deployment):
            found = direct.setdefault(row["urn"], set())
            found.update(row.get("dependencies") or ())
            found.update(urn for urns in (row.get("propertyDependencies") or {}).values() for urn in urns)
            found.update(x for x in (row.get("parent"), row.get("deletedWith")) if x)
            if row.get("provider"):
                found.add(row["provider"].rpartition("::")[0])
            if row.get("custom") and not row["type"].startswith("pulumi:"):
                real.add(row["urn"])
    return {urn: sorted(_behind(urn, direct, real)) for urn in real}


def _behind(urn: str, direct: Mapping[str, set[str]], real: set[str]) -> set[str]:
    found: set[str] = set()
    todo, seen = list(direct[urn]), {urn}
    while todo:
        one = todo.pop()
        if one in seen:
            continue
        seen.add(one)
        if one in real:
            found.add(one)
        else:
            todo.extend(direct.get(one, ()))
    return found


def words(operations: Sequence[Operation], before: Deployment | None) -> dict[int, str]:
    """Each operation in the engine's words: a create of what was there is one for a replacement."""
    there = {row["urn"] for row in rows(before) if not row.get("delete")}
    created = {o.urn for o in operations if o.op == "create"}
    found = {}
    for o in operations:
        word = o.op
        if o.op == "create" and o.urn in there:
            word = "create-replacement"
        elif o.op == "delete" and o.urn in created:
            word = "delete-replaced"
        found[o.seq] = word
    return found


def phase(
    name: str,
    operations: Sequence[Operation],
    before: Deployment | None,
    after: Deployment | None,
    *,
    ok: bool,
    destroys: bool,
) -> tuple[Phase, Timeline]:
    """Timeline and counts; what serves and what it costs is added by others."""
    waits = needs((before, after))
    timeline = schedule(operations, waits, PARALLEL)
    longest = schedule(operations, waits, UNLIMITED)
    word = words(operations, before)
    steps = [_step(name, o, word[o.seq]) for o in timeline.steps]
    done = [s for s in steps if not s.result.startswith("failed")]
    count = {kind: len({s.urn for s in done if s.op == kind}) for kind in set(word.values())}
    lost = {s.urn for s in done if s.op in ("delete", "delete-replaced") and is_store(s.type)}
    return Phase(
        name=name,
        ok=ok,
        creates=count.get("create", 0),
        updates=count.get("update", 0),
        replaces=count.get("create-replacement", 0),
        deletes=count.get("delete", 0),
        makespan_s=round(timeline.makespan_s, 3),
        critical_path_s=round(longest.makespan_s, 3),
        stores_replaced=0 if destroys else len(lost),
        steps=tuple(steps),
        critical=tuple(_link(_step(name, o, word[o.seq])) for o in longest.chain),
    ), timeline


def _step(phase: str, o: Operation, op: str) -> Step:
    return Step(phase=phase, op=op, urn=o.urn, start_s=round(o.start_s, 3), end_s=round(o.end_s, 3), result=o.result)


def _link(step: Step) -> Link:
    kind = tables.kinds(tables.cloud_of(step.type)).get(step.type)
    if kind is None:
        return Link(step=step, median_s=0.0, samples=0, source="")
    verb = step.op.partition("-")[0]
    return Link(step=step, median_s=getattr(kind, f"{verb}_s"), samples=kind.samples, source=kind.source)


def is_store(token: str) -> bool:
    return any(fnmatchcase(token, glob) for glob in _stores())


@cache
def _stores() -> tuple[str, ...]:
    with Path(__file__).with_name("stores.csv").open(newline="", encoding="utf-8") as file:
        return tuple(row["type"] for row in csv.DictReader(file))
