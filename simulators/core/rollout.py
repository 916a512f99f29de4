"""Rollouts, step by step: surge and unavailable pods, start-up times, and what keeps one from finishing."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from simulators.core import paths, pods, scheduler
from simulators.core.checks import text
from simulators.core.pods import Start, Stop
from simulators.core.scheduler import NODE_START_S, Board
from simulators.core.values import Json, Properties, plain_properties
from simulators.core.world import PodEvent, Thing, World


@dataclass(frozen=True, kw_only=True)
class Change:
    """`ready` pods more or fewer, `at_s` after the start of the operation."""

    at_s: float
    ready: int
    stop: Stop | None = None
    why: str = ""
    told: bool = True


@dataclass(kw_only=True)
class Outcome:
    seconds: float = 0.0
    reason: str = ""
    changes: list[Change] = field(default_factory=list)
    placed: list[str] = field(default_factory=list)
    ready: int = 0


def create(world: World, cluster: Thing, thing: Thing) -> Outcome:
    """Every pod at once, as far as there is room."""
    board, pod = scheduler.board(world, cluster), scheduler.pod_of(thing)
    outcome = (
        _daemon(board, thing, pod)
        if scheduler.kind(thing) == "DaemonSet"
        else _fill(board, thing, pod, scheduler.replicas_of(thing))
    )
    _keep(world, board, thing, outcome)
    return outcome


def update(world: World, cluster: Thing, before: Thing, thing: Thing) -> Outcome:
    """A changed template rolls; a changed number is filled up or cut; anything else lets the pods be."""
    old_pod, pod = scheduler.pod_of(before), scheduler.pod_of(thing)
    board = _board_before(world, cluster, before, thing)
    old = board.found.get(f"{thing.key}#pods", [])
    if scheduler.kind(thing) == "DaemonSet":
        for node in old:
            board.give_back(node, before, old_pod)
        outcome = _daemon(board, thing, pod, had=len(old))
    elif _template(before) != _template(thing) and scheduler.kind(thing) in ("Deployment", "StatefulSet"):
        outcome = _roll(board, before, thing, old)
    else:
        outcome = _scale(board, thing, pod, old)
    _keep(world, board, thing, outcome)
    return outcome


def record(world: World, thing: Thing, changes: list[Change], offset_s: float = 0.0, seq: int | None = None) -> None:
    """Writes down what happened to the ready pods, for the capacity over time."""
    at = len(world.operations) if seq is None else seq
    for one in changes:
        stop = one.stop or Stop(lingers_s=0.0, grace_s=0.0, exit_s=0.0)
        world.pods.append(
            PodEvent(
                seq=at, offset_s=offset_s + one.at_s, workload=thing.key, cluster=thing.cluster, ready=one.ready,
                lingers_s=stop.lingers_s, grace_s=stop.grace_s, exit_s=stop.exit_s, why=one.why,
                told=one.told,
            )
        )  # fmt: skip


def moved(event: PodEvent, seq: int) -> PodEvent:
    """The same, counted from the start of another operation."""
    return replace(event, seq=seq)


def ready_of(thing: Thing) -> int:
    value = thing.state.get("ready")
    return int(value) if isinstance(value, int | float) else 0


def _template(thing: Thing) -> Json:
    return paths.get(plain_properties(thing.inputs), ("spec", "template"))


def _board_before(world: World, cluster: Thing, before: Thing, thing: Thing) -> Board:
    """The cluster with the workload's pods as they were: they keep their size until they are replaced."""
    now, thing.inputs = thing.inputs, before.inputs
    try:
        return scheduler.board(world, cluster)
    finally:
        thing.inputs = now


def _keep(world: World, board: Board, thing: Thing, outcome: Outcome) -> None:
    thing.state["pods"], thing.state["ready"] = list(outcome.placed), outcome.ready
    scheduler.keep_nodes(world, board.pools)


def _fill(board: Board, thing: Thing, pod: Properties, count: int, kept: list[str] | None = None) -> Outcome:
    """Places pods until there are `count`, beside those that run."""
    begin, outcome = pods.starting(thing, pod), Outcome(placed=list(kept or []))
    outcome.ready = len(outcome.placed)
    while len(outcome.placed) < count:
        node, added, why = board.place(thing, pod)
        if why:
            outcome.reason = f"{len(outcome.placed)} of {count} pods run, {count - len(outcome.placed)} pending: {why}"
            break
        outcome.placed.append(node)
        _began(outcome, begin, added)
    if begin.never and len(outcome.placed) > len(kept or []):
        outcome.reason = begin.never
    return outcome


def _began(outcome: Outcome, begin: Start, added: bool, at_s: float = 0.0) -> None:
    """One pod more starts; it counts when it is ready."""
    if begin.never:
        return
    seconds = at_s + begin.seconds + (NODE_START_S if added else 0.0)
    outcome.ready += 1
    outcome.changes.append(Change(at_s=seconds, ready=1))
    outcome.seconds = max(outcome.seconds, seconds)


def _daemon(board: Board, thing: Thing, pod: Properties, had: int = 0) -> Outcome:
    fits = [n.name for n in board.nodes.values() if not board.why_not(n, thing, pod)]
    for node in fits:
        board.take(node, thing, pod)
    begin = pods.starting(thing, pod)
    seconds = begin.seconds if fits else 0.0
    changes = [Change(at_s=seconds, ready=len(fits) - had)] if fits and len(fits) != had else []
    reason = begin.never if fits else ""
    return Outcome(seconds=seconds, reason=reason, changes=changes, placed=fits, ready=0 if reason else len(fits))


def _scale(board: Board, thing: Thing, pod: Properties, old: list[str]) -> Outcome:
    wanted = scheduler.replicas_of(thing)
    if wanted >= len(old):
        outcome = _fill(board, thing, pod, wanted, kept=old)
        begin = pods.starting(thing, pod)
        lame = len(old) - min(ready_of(thing), len(old))
        if lame and not outcome.reason:  # placed and never ready: the same specification, the same end
            outcome.reason = begin.never
        outcome.ready -= lame if begin.never else 0
        return outcome
    stop = pods.stopping(pod)
    cut = Change(at_s=0.0, ready=wanted - len(old), stop=stop, why="scaled down")
    return Outcome(changes=[cut], placed=old[:wanted], ready=min(wanted, ready_of(thing)))


@dataclass(kw_only=True)
class _Rolling:
    """The state of a rolling update."""

    board: Board
    before: Thing
    thing: Thing
    old: list[str]
    lame: int  # of the old ones, those that are not ready: they go first
    wanted: int
    surge: int
    unavailable: int
    now: float = 0.0
    starting: list[tuple[float, str]] = field(default_factory=list)
    leaving: list[tuple[float, str]] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    ready: int = 0
    changes: list[Change] = field(default_factory=list)
    why: str = ""


def _roll(board: Board, before: Thing, thing: Thing, old: list[str]) -> Outcome:
    wanted = scheduler.replicas_of(thing)
    strategy = paths.get(plain_properties(thing.inputs), ("spec", "strategy"))
    given = strategy if isinstance(strategy, dict) else {}
    surge = pods.share(paths.get(given, ("rollingUpdate", "maxSurge")), wanted, True, "25%")
    unavailable = pods.share(paths.get(given, ("rollingUpdate", "maxUnavailable")), wanted, False, "25%")
    if scheduler.kind(thing) == "StatefulSet" or not (surge or unavailable):
        surge, unavailable = (0, 1) if scheduler.kind(thing) == "StatefulSet" else (1, 0)
    if text(given.get("type")) == "Recreate":
        surge, unavailable = 0, max(wanted, len(old))
    lame = len(old) - min(len(old), ready_of(before))
    state = _Rolling(
        board=board, before=before, thing=thing, old=list(old), lame=lame, wanted=wanted, surge=surge,
        unavailable=unavailable,
    )  # fmt: skip
    begin = pods.starting(thing, scheduler.pod_of(thing))
    for _ in _steps(state, begin):
        pass
    placed = [*state.old, *state.fresh]
    ready = state.ready + len(state.old) - state.lame
    reason = ""
    if state.old or state.ready < wanted:
        done = f"{state.ready} of {wanted} updated pods are ready, {len(state.old)} old ones stay"
        reason = f"the rollout does not finish: {done}: {begin.never or state.why}"
    return Outcome(seconds=state.now, reason=reason, changes=state.changes, placed=placed, ready=ready)


def _steps(state: _Rolling, begin: Start) -> Iterator[None]:
    """Each turn does what may be done now, then waits for the next pod that is ready or gone."""
    pod, stop = scheduler.pod_of(state.thing), pods.stopping(scheduler.pod_of(state.before))
    while True:
        _remove_old(state, stop)
        _add_new(state, begin, pod)
        if not state.starting and not state.leaving:
            return
        if not state.leaving or (state.starting and state.starting[0] <= state.leaving[0]):
            state.now, _ = heapq.heappop(state.starting)
            state.ready += 1
            state.changes.append(Change(at_s=state.now, ready=1))
        else:
            state.now, node = heapq.heappop(state.leaving)
            state.board.give_back(node, state.before, scheduler.pod_of(state.before))
        yield


def _add_new(state: _Rolling, begin: Start, pod: Properties) -> None:
    while len(state.fresh) < state.wanted and len(state.fresh) + len(state.old) < state.wanted + state.surge:
        node, added, state.why = state.board.place(state.thing, pod)
        if state.why:
            return
        state.fresh.append(node)
        if not begin.never:
            seconds = begin.seconds + (NODE_START_S if added else 0.0)
            heapq.heappush(state.starting, (state.now + seconds, node))


def _remove_old(state: _Rolling, stop: Stop) -> None:
    while state.old:
        serving = state.ready + len(state.old) - state.lame
        if not state.lame and serving - 1 < state.wanted - state.unavailable:
            return
        node = state.old.pop()
        heapq.heappush(state.leaving, (state.now + stop.gone_s, node))
        if state.lame:
            state.lame -= 1
        else:
            state.changes.append(Change(at_s=state.now, ready=-1, stop=stop, why="replaced by the rollout"))
