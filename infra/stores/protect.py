"""What must not happen to a store: refused before anything is declared, with the way there all the same. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from infra.plan import store as sizes
from infra.spec import Fix, Problem, Spec
from infra.spec.problems import problem
from infra.stores.store import Field, recorded_fields
from infra.stores.store import fields as rows

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Held:
    """The specification with what the store was made with, where nothing else is asked for."""

    spec: Spec
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    refused: tuple[Problem, ...]
    notes: tuple[str, ...]  # what stays as it was made, though the program would make it otherwise today


def hold(spec: Spec, recorded: Mapping[str, object] | None) -> Held:
    """Replicas and engine that cannot change in place stay as the store was made: bill, plan and stack agree."""
    made = recorded_fields(spec.feature_store, recorded)
    if not made or spec.features is None:
        return Held(spec=spec, notes=())
    features, notes = spec.features, []
    if features.engine is None and made.get("engine") not in (None, sizes.engine(spec)):
        features = replace(features, engine=str(made["engine"]))
        notes.append(f"The store keeps its engine, {made['engine']}.")
    wanted = sizes.replicas(spec)
    kept = _replicas(made, wanted)
    if features.replicas is None and kept != wanted:
        features = replace(features, replicas=kept)
        notes.append(
            f"The store keeps {kept} replicas, as it was made: this cost mode would make it with {wanted}, which "
            "replaces it. To move: a second stack, loaded from a backup."
        )
    return Held(spec=replace(spec, features=features), notes=tuple(notes))


def _replicas(made: Mapping[str, object], wanted: int) -> int:
    """The nearest number of replicas to the wanted one that the store can have without being replaced."""
    tier = made.get("tier")
    if tier is None:
        return wanted  # it changes in place
    if tier == "BASIC":
        return 0
    return max(2, wanted) if made.get("readReplicasMode") == "READ_REPLICAS_ENABLED" else 1


def verdict(kind: str, recorded: Mapping[str, object] | None, wanted: Mapping[str, object], spec: Spec) -> Verdict:
    """Compares what stands with what is wanted (the `fields` of the store's module)."""
    made = recorded_fields(kind, recorded)
    refused = list(sizes.too_large(spec))
    notes: list[str] = []
    for row in _of(kind, made, wanted):
        before, after = made[row.path], wanted[row.path]
        if row.key:
            refused.append(_replaces(row, before, after))
        else:
            notes.append(f"The store keeps {row.path} = {before}; today it would be made with {after}.")
    refused += _shrinks(made, wanted)
    return Verdict(refused=tuple(refused), notes=tuple(notes))


def _of(kind: str, made: Mapping[str, object], wanted: Mapping[str, object]) -> Iterator[Field]:
    """The row of each field that differs; an engine that differs makes the rest two different services."""
    prefixes = _TYPES[kind]
    seen: set[str] = set()
    for row in rows():
        if row.path in seen or not row.type.startswith(prefixes):
            continue
        if row.path in made and row.path in wanted and made[row.path] != wanted[row.path]:
            seen.add(row.path)
            yield row
            if row.path == "engine":
                return


_TYPES = {
    "memorystore": ("store:memorystore", "gcp:redis/", "gcp:memorystore/"),
    "bigtable": ("gcp:bigtable/",),
    "firestore": ("gcp:firestore/",),
    "dynamodb": ("aws:dynamodb/",),
    "elasticache": ("store:elasticache", "aws:elasticache/"),
}


def _replaces(row: Field, before: object, after: object) -> Problem:
    return problem(
        tuple(row.key.split(".")),
        f"the store was made with {row.path} {before}, and {after} would replace it ({row.reason})",
        to_fix=f"put {row.key} back; to change it: {row.way}",
        fix=Fix(steps=tuple(row.key.split(".")), op="remove") if row.key.startswith("features.") else None,
    )


def _shrinks(made: Mapping[str, object], wanted: Mapping[str, object]) -> Iterator[Problem]:
    """Entities that nobody deleted are still there, however few the configuration now names."""
    held, room = made.get("data_bytes"), wanted.get("capacity_bytes")
    if isinstance(held, int) and isinstance(room, int) and room < held:
        yield problem(
            ("features", "keys"),
            f"the store was sized for {held / GIB:.2f} GiB of entities, and what is wanted holds {room / GIB:.2f} GiB",
            to_fix="put features.keys and features.value_bytes back; to shrink: a second stack loaded with what is "
            "still wanted",
        )
