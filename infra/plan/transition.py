"""From one plan to the next, as data: what is added, moved and removed, and what it takes on the way."""

from __future__ import annotations

from dataclasses import dataclass

from infra.plan.types import Plan


@dataclass(frozen=True, kw_only=True)
class Transition:
    """What happens between two plans; `kind` is none, create, resize or generation."""

    kind: str
    from_generation: str | None
    to_generation: str
    added: tuple[str, ...]
    moved: tuple[str, ...]
    removed: tuple[str, ...]
    surge: tuple[tuple[str, int], ...]  # machine type -> nodes beyond the larger of both plans while both stand
    quota: tuple[tuple[str, int], ...]  # machine type -> nodes of old and new together
    extra_usd: float
    expected_minutes: float


def transition(old: Plan | None, new: Plan) -> Transition:
    """What has to happen when `old` runs and `new` is wanted."""
    removed: tuple[str, ...] = ()
    new_nodes = {p.machine_type: p.start_nodes for p in new.pools}
    if old is None:
        kind, both = "create", new_nodes
    elif old.generation == new.generation:
        kind, both = ("none" if old.replicas == new.replicas else "resize"), new_nodes
    else:
        kind, both, removed = "generation", dict(new_nodes), (f"serving {old.generation}",)
        for p in old.pools:
            both[p.machine_type] = both.get(p.machine_type, 0) + p.max_nodes
    same = old is not None and old.generation == new.generation
    return Transition(
        kind=kind,
        from_generation=old.generation if old else None,
        to_generation=new.generation,
        added=() if same else (f"serving {new.generation}",),
        moved=("replicas",) if kind == "resize" else ("entry endpoints",) if kind == "generation" else (),
        removed=removed,
        surge=tuple(sorted((m, n - new_nodes.get(m, 0)) for m, n in both.items() if n > new_nodes.get(m, 0))),
        quota=tuple(sorted(both.items())),
        extra_usd=0.0,
        expected_minutes=0.5 if new.spec.cloud == "local" else 10.0,
    )
