"""What the program knows of its own past: the plan and the store that its last successful update recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi

from infra.plan import Plan, Transition
from infra.spec import SpecError


@dataclass(frozen=True, kw_only=True)
class Past:
    """None of it the first time."""

    plan: Plan | None
    store: Mapping[str, object] | None = None  # fields that a store was made with
    note: str = ""


async def recall() -> Past:
    """Asks Pulumi for this stack's own outputs (works in preview and up; nothing the first time)."""
    name = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
    itself = pulumi.StackReference(name)
    recorded = await itself.get_output_details("plan")
    store = (await itself.get_output_details("store")).value
    if recorded.value is None:
        return Past(plan=None, store=store)
    try:
        return Past(plan=Plan.from_json(recorded.value), store=store)
    except (SpecError, KeyError, TypeError) as e:
        note = f"the recorded plan of an earlier version cannot be read ({e}); it is written anew"
        return Past(plan=None, store=store, note=note)


def announce(past: Past, change: Transition) -> None:
    """The transition in words, before anything happens."""
    if past.note:
        pulumi.log.warn(past.note)
    if change.kind == "none":
        pulumi.log.info(f"Generation {change.to_generation} stays.")
        return
    surge = "".join(f", {count} x {machine} more while both stand" for machine, count in change.surge)
    steps = [f"{word} {', '.join(names)}" for word, names in _steps(change) if names]
    pulumi.log.info(f"{'; '.join(steps)}{surge}; about {change.expected_minutes:g} min, ${change.extra_usd:.2f} extra.")


def _steps(change: Transition) -> list[tuple[str, tuple[str, ...]]]:
    return [("add", change.added), ("move", change.moved), ("remove", change.removed)]
