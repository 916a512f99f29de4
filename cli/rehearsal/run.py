"""Conducts a rehearsal: phase after phase in the child, faults, retries after them, and what each phase amounts to."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cli.engines.base import Deployment, Event
from cli.project import Project
from cli.rehearsal import faults, measure, scenario
from cli.rehearsal.child import Child
from cli.rehearsal.faults import Rule
from cli.rehearsal.judges import Case, Judge
from cli.rehearsal.place import Place, prepared
from cli.rehearsal.report import Phase, Report
from simulators.core import kubernetes
from simulators.core.world import Leftover, World

REVERT = "switch-revert"
RETRY = "-retry"

Hear = Callable[[str, Event], None]
Lacking = Callable[[World, Mapping[str, Any]], tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What was asked for. `binary`: the `pulumi` to run, or None for the embedded engine."""

    project: Project
    stack: str
    phases: tuple[str, ...]
    first: Mapping[str, str]  # settings of the whole rehearsal
    changed: Mapping[str, str]  # what `switch` sets beside them
    rules: tuple[Rule, ...] = ()
    binary: str | None = None
    judges: tuple[Judge, ...] = ()
    updates: int = 1  # runs that a switch takes
    lacking: Lacking = lambda world, outputs: ()  # what forbids the next of them


@dataclass
class _Run:
    wanted: Wanted
    place: Place
    child: Child
    hear: Hear
    rules: tuple[Rule, ...]
    config: Mapping[str, str]
    state: Deployment | None = None
    outputs: Mapping[str, Any] = field(default_factory=dict)
    serves: bool = False  # from the first up that ended well until a destroy
    phases: list[Phase] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    leftovers: dict[tuple[str, str, str], Leftover] = field(default_factory=dict)


def rehearse(wanted: Wanted, hear: Hear) -> Report:
    """Everything happens in a place of its own, which is gone afterwards."""
    nonce = secrets.token_hex(16)
    engine = "embedded" if wanted.binary is None else "pulumi"
    with (
        prepared(wanted.project, wanted.stack, nonce) as place,
        Child(place, wanted.binary or "embedded") as child,
    ):
        child.prove(nonce)
        run = _Run(wanted, place, child, hear, wanted.rules, wanted.first)
        for name in wanted.phases:
            _phase(run, name)
        run.problems += [
            f"--fault {r.text}: no operation matched it, so it tested nothing" for r in run.rules if not r.struck
        ]
        notes = [f"{key}: its encrypted value is not opened, a placeholder stands for it" for key in place.placeholders]
        return Report(
            stack=wanted.stack,
            engine=engine,
            phases=tuple(run.phases),
            problems=tuple(dict.fromkeys(run.problems)),
            leftovers=tuple(run.leftovers.values()),
            notes=tuple(notes),
        )


def _phase(run: _Run, name: str) -> None:
    kind = scenario.KINDS[name]
    broken = bool(run.phases) and not run.phases[-1].ok
    if broken and kind.command == "up" and not _stands(run.phases[-1]):
        run.problems.append(f"{name}: not run, because {run.phases[-1].name} failed")
        return
    before = run.config
    run.config = {
        "first": run.wanted.first,
        "changed": {**run.wanted.first, **run.wanted.changed},
        "current": run.config,
    }[kind.config]
    if _updates(run, name, kind) or not run.wanted.rules or kind.still:
        return
    if name == "switch":
        run.config = before
        _engine(run, REVERT, kind)
    else:
        _engine(run, name + RETRY, kind)


def _updates(run: _Run, name: str, kind: scenario.Kind) -> bool:
    """All runs that a phase takes. Between two of a switch the balancer is asked, as `slipway switch` does."""
    times = run.wanted.updates if name in ("switch", "switch-back") else 1
    for number in range(times):
        if not _engine(run, name, kind, last=number == times - 1):
            return False
        if number < times - 1 and (lacking := run.wanted.lacking(_world(run.place), run.outputs)):
            run.problems += [f"{name}: {text}, so what was there is not taken away" for text in lacking]
            return False
    return True


def _stands(phase: Phase) -> bool:
    """A phase that did something wrong and yet ended well, such as a no-op that changed something."""
    return phase.name in ("noop", "destroy-again")


def _engine(run: _Run, name: str, kind: scenario.Kind, *, last: bool = True) -> bool:
    """One run of the engine, with another where a rule killed it; whether the phase is well."""
    started = time.monotonic()
    world = _world(run.place)
    known, told = len(world.operations), len(world.notices)
    which = faults.of_phase(run.rules, name)
    while True:
        ended = run.child.run(
            kind.command, run.wanted.stack, run.config, faults.rows(run.rules, which), lambda e: run.hear(name, e)
        )
        gone_on, world = len(world.operations), _world(run.place)
        earlier, run.rules = run.rules, faults.counted(run.rules, which, world.faults)
        if not faults.killed(earlier, run.rules) or len(world.operations) == gone_on:  # no run after one without a step
            break
    after = run.child.export(run.wanted.stack)
    operations = world.operations[known:]
    phase, timeline = measure.phase(name, operations, run.state, after, ok=ended.ok, destroys=kind.command == "destroy")
    problems = [f"{name}: {error}" for error in ended.errors]
    if kind.still and phase.steps:
        problems.append(f"{name}: {_moved(phase)}, and nothing was to change")
    destroys = kind.command == "destroy"
    for judge in run.wanted.judges:
        case = Case(
            world=world, timeline=timeline, phase=phase, outputs=ended.outputs, config=run.config,
            served=run.serves and not destroys, destroys=destroys,
        )  # fmt: skip
        phase, more = judge(case)
        problems += [f"{name}: {text}" for text in more]
    run.outputs = ended.outputs
    run.serves = False if destroys else run.serves or ended.ok
    if kind.command == "up" and ended.ok and last:
        problems += [f"{name}: {text}" for text in (*kubernetes.conflicts(world), *world.notices[told:])]
    ok = ended.ok and not (kind.still and phase.steps)
    run.phases.append(replace(phase, ok=ok, seconds=time.monotonic() - started))
    run.problems += problems
    run.state = after
    if kind.command == "destroy" and ended.ok:
        run.leftovers |= {(x.cloud, x.type, x.name): x for x in world.leftovers()}
    return ok


def _moved(phase: Phase) -> str:
    told = [f"{s.op} of {s.type} {s.name}" for s in phase.steps]
    return ", ".join(told[:4]) + (f" and {len(told) - 4} more" if len(told) > 4 else "")


def _world(place: Place) -> World:
    world = World(path=place.world, private=True)
    if place.world.exists():
        world.restore()
    return world
