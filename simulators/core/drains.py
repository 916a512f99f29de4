"""Pods whose node goes: drained within a disruption budget where somebody asked for it, at once where nobody did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from simulators.core import fitting, lifecycle, paths, pods, rollout, scheduler
from simulators.core.pods import Start, Stop
from simulators.core.rollout import Change
from simulators.core.scheduler import NODE_START_S, Board
from simulators.core.values import Properties, plain_properties
from simulators.core.world import Thing, World

# Fields of a pool whose change makes its nodes anew, in place: GKE and EKS drain and replace them one after another.
REBUILDS: Final = {
    "gcp:container/nodePool:NodePool": (
        "nodeConfig.machineType", "nodeConfig.diskType", "nodeConfig.diskSizeGb", "nodeConfig.imageType", "version",
        "nodeConfig.labels", "nodeConfig.taints", "nodeConfig.tags",
    ),
    "aws:eks/nodeGroup:NodeGroup": ("version", "releaseVersion", "launchTemplate.version", "launchTemplate.id"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Loss:
    """How nodes go: `asked` for (a drain, which respects budgets), else with so much notice and after such a delay."""

    asked: bool
    why: str
    notice_s: float = 0.0
    seen_after_s: float = 0.0  # until the control plane knows and takes the endpoints out
    again_after_s: float = 0.0  # until the pods are made again


def rebuilt(before: Thing, thing: Thing) -> bool:
    """Whether an update of a pool makes its nodes anew."""
    old, new = plain_properties(before.inputs), plain_properties(thing.inputs)
    return any(paths.get(old, paths.parse(p)) != paths.get(new, paths.parse(p)) for p in REBUILDS.get(thing.token, ()))


def after_loss(world: World, cluster: Thing, loss: Loss, victims: dict[str, list[str]] | None = None) -> float:
    """Moves the pods of nodes that are gone (or of `victims`: workload -> nodes); returns how long a drain takes."""
    board, seconds = scheduler.board(world, cluster), 0.0
    limit = lifecycle.limit(cluster.cloud, "drain_limit_s")
    for thing in scheduler.workloads(world, cluster):
        if scheduler.kind(thing) not in scheduler.CONTROLLERS:
            continue
        placed = thing.state.get("pods")
        have = [str(n) for n in placed] if isinstance(placed, list) else []
        kept = list(board.found.get(f"{thing.key}#pods", []))
        if victims is not None:
            for node in victims.get(thing.key, []):
                kept.remove(node)
                board.give_back(node, thing, scheduler.pod_of(thing))
        lost = len(have) - len(kept)
        if lost:
            seconds = max(seconds, _move(world, board, thing, kept, lost, loss, limit))
    scheduler.keep_nodes(world, board.pools)
    return seconds


def budget(world: World, thing: Thing) -> int | None:
    """How many pods of a workload may be away at once; None: nobody said."""
    allowed: list[int] = []
    count = scheduler.replicas_of(thing)
    for one in world.things.values():
        if one.token != "kubernetes:policy/v1:PodDisruptionBudget" or one.cluster != thing.cluster:
            continue
        spec = plain_properties(one.inputs).get("spec")
        given = spec if isinstance(spec, dict) else {}
        same = scheduler.namespace_of(one) == scheduler.namespace_of(thing)
        if same and fitting.matches(given.get("selector"), scheduler.labels_of(thing)):
            if given.get("maxUnavailable") is not None:
                allowed.append(pods.share(given.get("maxUnavailable"), count, True, "1"))
            elif given.get("minAvailable") is not None:
                allowed.append(max(0, count - pods.share(given.get("minAvailable"), count, True, "1")))
    return min(allowed, default=None)


def _move(world: World, board: Board, thing: Thing, kept: list[str], lost: int, loss: Loss, limit: float) -> float:
    """Takes `lost` pods away, in steps where a budget asks for it, and places them anew."""
    pod = scheduler.pod_of(thing)
    begin, stop = pods.starting(thing, pod), _stop(pod, loss)
    daemon = scheduler.kind(thing) == "DaemonSet"
    room = budget(world, thing) if loss.asked and not daemon else None
    step = lost if room is None else max(room, 1)
    changes: list[Change] = []
    now, remaining, placed, stuck = 0.0, lost, list(kept), room == 0
    if stuck:  # a budget of none: the drain waits as long as the cloud lets it, then the pods go all the same
        now, step = limit, lost
        world.notices.append(f"{thing.name}: its disruption budget allows no pod to go: the drain waits {limit:.0f} s")
    while remaining > 0:
        batch = min(step, remaining)
        remaining -= batch
        changes.append(Change(at_s=now + loss.seen_after_s, ready=-batch, stop=stop, why=loss.why))
        if daemon:
            continue
        ready_at, missing = _replace(board, thing, pod, begin, batch, now + loss.again_after_s, placed, changes)
        if missing and remaining and loss.asked:
            now = limit
            step = remaining
            world.notices.append(f"{thing.name}: {missing}; the drain waits {limit:.0f} s for the disruption budget")
        else:
            now = max(now, ready_at)
        if missing:
            world.notices.append(f"{thing.name}: {loss.why}: {missing}")
    rollout.record(world, thing, changes)
    ready = rollout.ready_of(thing) + sum(c.ready for c in changes)
    thing.state["pods"], thing.state["ready"] = list(placed), max(0, ready)
    return now if loss.asked else 0.0


def _replace(
    board: Board, thing: Thing, pod: Properties, begin: Start, count: int, now: float, placed: list[str],
    changes: list[Change],
) -> tuple[float, str]:  # fmt: skip
    """(when the last new pod is ready, why some are pending)."""
    last = now
    for index in range(count):
        node, added, why = board.place(thing, pod)
        if why:
            return last, f"{count - index} of its pods are pending: {why}"
        placed.append(node)
        if not begin.never:
            ready_at = now + begin.seconds + (NODE_START_S if added else 0.0)
            changes.append(Change(at_s=ready_at, ready=1))
            last = max(last, ready_at)
    return last, ""


def _stop(pod: Properties, loss: Loss) -> Stop:
    """A drain lets pods leave as they wish; a notice cuts that short; a dead node stops at once."""
    own = pods.stopping(pod)
    if loss.asked:
        return own
    if not loss.notice_s:
        return Stop(lingers_s=-loss.seen_after_s, grace_s=0.0, exit_s=0.0)
    return Stop(lingers_s=min(own.lingers_s, loss.notice_s), grace_s=min(own.grace_s, loss.notice_s), exit_s=own.exit_s)
