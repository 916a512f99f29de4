"""Replacements: the new thing first and the old one at the end, or the old one first with all that goes with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine import values as v
from engine.answers import Server
from engine.goals import Goal
from engine.rows import Row, dependants, split_ref
from engine.values import UNKNOWN

if TYPE_CHECKING:
    from engine.register import Registry


def replace(
    registry: Registry, goal: Goal, row: Row, old: Row, server: Server | None, delete_first: bool, keys: tuple[str, ...]
) -> Row:
    if row.get("protect") and old.get("protect"):
        registry.steps.bail(
            row["urn"],
            f'unable to replace resource "{row["urn"]}"\nas it is currently marked for protection. '
            "To unprotect the resource, remove the "
            "`protect` flag from the resource in your Pulumi program and run `up`",
        )
    if goal.import_id:
        registry.steps.bail(
            row["urn"],
            "previously-imported resources that still specify an ID may not be replaced; remove `import_`",
        )
    registry.replaced.add(row["urn"])
    if server is not None:
        registry.check(goal, row, None, server)  # defaults are no longer carried over from the old one
    if goal.delete_before_replace is not None:
        delete_first = goal.delete_before_replace
    if not delete_first and not old.get("pendingReplacement"):
        return registry.create_replacement(row, old, server, keys, keep=True)
    if not old.get("pendingReplacement"):
        _delete_first(registry, row["urn"], old)
    return registry.create_replacement(row, old, server, keys)


def _delete_first(registry: Registry, urn: str, old: Row) -> None:
    """The old thing, before it all that must be replaced with it; those come again, or are gone."""
    with registry.lock:
        chain = [old, *_replaced_with(registry, old)]
        for row in chain[1:]:
            if row.get("protect"):
                registry.steps.bail(
                    urn,
                    f'unable to replace resource "{row["urn"]}" as part of replacing "{urn}" '
                    "as it is currently marked for protection",
                )
        registry.condemned.update(r["urn"] for r in chain[1:])
    for row in reversed(chain):
        if not row.get("pendingReplacement"):
            registry.delete(row, "delete-replaced", {r["urn"] for r in chain}, keep=True)


def _replaced_with(registry: Registry, root: Row) -> list[Row]:
    """Dependants that a change of the root would replace too: asks their providers with unknowns in its place."""
    base = registry.state.base
    going, found = {root["urn"]}, []
    for place in dependants(base, next(p for p, r in enumerate(base) if r is root)):
        row = base[place]
        if id(row) in registry.operated or row.get("delete") or row["urn"] in registry.condemned:
            continue
        if row["custom"] and not row.get("external") and _goes_with(registry, row, going):
            going.add(row["urn"])
            found.append(row)
    return found


def _goes_with(registry: Registry, row: Row, going: set[str]) -> bool:
    if row.get("deletedWith") in going or split_ref(row.get("provider", ""))[0] in going:
        return True
    inputs = dict(row.get("inputs", {}))
    changing = [k for k, urns in row.get("propertyDependencies", {}).items() if going & set(urns) and k in inputs]
    if not changing:
        return False
    inputs.update(dict.fromkeys(changing, UNKNOWN))
    server = registry.server(row)
    assert server is not None
    diff = server.diff(row, inputs, row.get("ignoreChanges", []))
    patterns = row.get("replaceOnChanges", [])
    return bool(diff.replaces) or (
        diff.changes and any(v.covers(p, k) for p in patterns for k in (*diff.keys, *diff.detailed))
    )
