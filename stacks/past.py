"""What the program knows of its own past: the plan and the store that its last successful update recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pulumi

from infra.plan import Plan, Transition
from infra.spec import SpecError
from stacks.standing import Generation, unpack


@dataclass(frozen=True, kw_only=True)
class Past:
    """None of it the first time."""

    plan: Plan | None
    store: Mapping[str, object] | None = None  # fields that a store was made with
    generation: str | None = None
    machines: tuple[Generation, ...] = ()  # groups of machines that stand, its own first
    note: str = ""


async def recall() -> Past:
    """Asks Pulumi for this stack's own outputs (works in preview and up; nothing the first time)."""
    name = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
    itself = pulumi.StackReference(name)
    found = {}
    for key in ("plan", "store", "generation", "machines"):
        found[key] = (await itself.get_output_details(key)).value
    past = Past(plan=None, store=found["store"])
    if found["plan"] is None:
        return past
    try:
        past = replace(past, plan=Plan.from_json(found["plan"]), generation=found["generation"])
    except (SpecError, KeyError, TypeError) as e:
        note = f"the recorded plan of an earlier version cannot be read ({e}); it is written anew"
        return replace(past, note=note)
    try:
        return replace(past, machines=tuple(unpack(record) for record in found["machines"] or ()))
    except ValueError as e:
        lost = "another generation than the one that stands replaces it in one update: requests may fail meanwhile"
        return replace(past, note=f"{e}; {lost}")


def announce(past: Past, change: Transition) -> None:
    """The transition in words, before anything happens."""
    if past.note:
        pulumi.log.warn(past.note)
    pulumi.log.info(announcement(change))


def announcement(change: Transition) -> str:
    """In one line, for whoever runs Pulumi; the command says it in its own way and leaves this out."""
    if change.kind == "none":
        return f"Generation {change.to_generation} stays."
    surge = "".join(f", {count} x {machine} more while both stand" for machine, count in change.surge)
    second = "; what is removed goes with a second update" if change.updates > 1 else ""
    steps = [f"{word} {', '.join(names)}" for word, names in _steps(change) if names]
    return f"{'; '.join(steps)}{surge}{second}; about {change.expected_minutes:g} min, ${change.extra_usd:.2f} extra."


def _steps(change: Transition) -> list[tuple[str, tuple[str, ...]]]:
    return [("add", change.added), ("move", change.moved), ("remove", change.removed)]
