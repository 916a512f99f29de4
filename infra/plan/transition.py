"""From one plan to the next, as data: what is added, moved and removed, what it takes on the way, what is refused.

Where a cloud keeps all backends of a balancer in one resource, the first of two updates leaves the old generations
standing beside the new one (`standing`), and the second retires them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from infra.plan.facts import drain_s, fact
from infra.plan.groups import scaling
from infra.plan.modes import numbers
from infra.plan.types import Plan, Pool
from infra.spec import Fix, Problem, Spec, to_values
from infra.spec.problems import problem

# Of the stack, not of a generation: key -> what would be lost or move, and the way to get there all the same.
FIXED = {
    "cloud": ("everything would be made anew", "a second stack, then move the traffic and destroy this one"),
    "shape": ("the entry and its address would move", "a second stack, then move the traffic and destroy this one"),
    "region": ("everything would be made anew", "a second stack, then move the traffic and destroy this one"),
    "project": ("everything would be made anew", "a second stack, then move the traffic and destroy this one"),
    "exposure": ("the entry and its address would be replaced", "a second stack, then move the traffic"),
    "port": ("the entry would move", "destroy the stack and make it again, or a second stack"),
    "feature_store": (
        "the store and its content would be deleted",
        "a second stack, loaded from a backup",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Transition:
    """What happens between two plans; `kind` is none, create, resize, generation, or retire: what was old goes."""

    kind: str
    from_generation: str | None
    to_generation: str
    added: tuple[str, ...]
    moved: tuple[str, ...]
    removed: tuple[str, ...]
    surge: tuple[tuple[str, int], ...]  # machine type -> nodes beyond the new plan's while both stand
    quota: tuple[tuple[str, int], ...]  # vcpus and accelerators of old and new together
    extra_usd: float  # at most: the old machines, all of them, for as long as it takes
    expected_minutes: float
    updates: int = 1  # on GCE the backends are one list in one resource: attach the new, then detach the old
    refused: tuple[Problem, ...] = ()

    def shortage(self, available: Mapping[str, int]) -> tuple[Problem, ...]:
        """What the account's quota lacks for old and new together; a unit that is not there is not limited."""
        return tuple(
            problem(
                ("quota", unit),
                f"{needed} are needed for old and new together, and the quota is {available[unit]}",
                to_fix=f"raise the quota by {needed - available[unit]}, or switch with --allow-degraded",
            )
            for unit, needed in self.quota
            if unit in available and available[unit] < needed
        )


def transition(old: Plan | None, new: Plan, standing: Sequence[Plan] = ()) -> Transition:
    """What has to happen when `old` runs and `new` is wanted; `standing` are older ones that no update retired yet."""
    kind = _kind(old, new, standing)
    gone = [*([old] if old is not None and kind == "generation" else []), *standing]
    gone = [p for p in gone if kind == "retire" or p.generation != new.generation]
    leaving = tuple(pool for p in gone for pool in p.pools)
    minutes = _minutes(new) if kind in ("create", "generation") else drain_s(new.spec) / 60 if kind == "retire" else 0.0
    made = kind in ("create", "generation") and all(p.generation != new.generation for p in standing)
    return Transition(
        kind=kind,
        from_generation=old.generation if old else None,
        to_generation=new.generation,
        added=(*_named(new.pools), f"serving {new.generation}") if made else (),
        moved={"resize": ("replicas",), "generation": ("entry endpoints",)}.get(kind, ()),
        removed=(*(f"serving {p.generation}" for p in gone), *_named(leaving)) if leaving else (),
        surge=tuple(sorted(_nodes(leaving).items())) if kind == "generation" else (),
        quota=tuple(sorted(_units([*gone, new]).items())),  # of retiring ones as well: they still count
        extra_usd=sum(p.max_nodes * p.usd_per_hour for p in leaving) * minutes / 60,
        expected_minutes=round(minutes, 1),
        updates=2 if kind == "generation" and one_list(new.spec) else 1,
        refused=tuple(_refused(old, new)) if old else (),
    )


def one_list(spec: Spec) -> bool:
    """Whether the balancer's backends are one list in one resource: a group in it cannot be made and another deleted in
    one update without a moment when neither serves."""
    return (spec.cloud, spec.shape) == ("gcp", "vm")


def _kind(old: Plan | None, new: Plan, standing: Sequence[Plan]) -> str:
    if old is None:
        return "create"
    if old.generation != new.generation:
        return "generation"
    if standing:
        return "retire"
    counts = [[(p.min_nodes, p.max_nodes) for p in x.pools] for x in (old, new)]
    same = counts[0] == counts[1] and (old.replicas.min, old.replicas.max) == (new.replicas.min, new.replicas.max)
    return "none" if same else "resize"


def _named(pools: tuple[Pool, ...]) -> tuple[str, ...]:
    """Pools as a person reads them; this machine is no pool."""
    return tuple(
        f"{p.role} pool of {p.start_nodes} {p.machine_type} {p.capacity_type}" for p in pools if p.usd_per_hour > 0
    )


def _nodes(pools: tuple[Pool, ...]) -> dict[str, int]:
    nodes: dict[str, int] = {}
    for p in pools:
        if p.usd_per_hour > 0:
            nodes[p.machine_type] = nodes.get(p.machine_type, 0) + p.max_nodes
    return nodes


def _units(plans: Sequence[Plan]) -> dict[str, int]:
    """What clouds count against quota: vCPUs, and accelerators by kind, spot apart."""
    units: dict[str, int] = {}
    for p, nodes in (found for plan in plans for found in _most(plan)):
        spot = "spot " if p.capacity_type == "spot" else ""
        name = "vcpus" if p.accelerator == "none" else p.accelerator
        amount = int(p.vcpus) if p.accelerator == "none" else p.accelerator_count
        units[spot + name] = units.get(spot + name, 0) + nodes * amount
    return units


def _most(plan: Plan) -> Iterator[tuple[Pool, int]]:
    """Each pool with as many machines as it may ever have, those that stand in for spot ones among them."""
    groups = plan.spec.shape == "vm" and plan.spec.cloud != "local"
    for p in plan.pools:
        yield p, scaling(plan, p).most if groups else p.max_nodes
        if p.capacity_type == "spot" and not groups and numbers(plan.spec).spot_fallback:
            yield replace(p, capacity_type="on-demand"), p.max_nodes


def _minutes(new: Plan) -> float:
    """Until the new generation answers and the old one is gone."""
    if new.spec.cloud == "local":
        return fact("local_switch", new.spec) / 60
    return (new.serving.startup_budget_s + drain_s(new.spec)) / 60


def _refused(old: Plan, new: Plan) -> Iterator[Problem]:
    was = to_values(old.spec)
    for name, (lost, way) in FIXED.items():
        before, after = getattr(old.spec, name), getattr(new.spec, name)
        added = name == "feature_store" and before == "none"
        if before != after and not added:
            back = Fix(steps=(name,), value=was[name]) if name in was else Fix(steps=(name,), op="remove")
            reason = f"{after} would replace {before}: {lost}, which no update does"
            yield problem((name,), reason, allowed=(str(before),), to_fix=f"{back}; to change it: {way}", fix=back)
    version = (old.spec.kubernetes_version, new.spec.kubernetes_version)
    if None not in version and _minor(version[1]) < _minor(version[0]):
        fix = Fix(steps=("kubernetes_version",), value=version[0])
        yield problem(("kubernetes_version",), f"a cluster does not go back from {version[0]} to {version[1]}", fix=fix)


def _minor(version: str | None) -> int:
    return int((version or "1.0").split(".")[1])
