"""The program: configuration, specification, plan, transition, blueprint, outputs, each a line."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi

from infra.plan import Infeasible, Plan, make_plan, transition
from infra.spec import Problem, SpecError, parse
from infra.stores import protect
from stacks import config, outputs, registry
from stacks.past import announce, recall


async def deploy() -> None:
    """A fault of the user is told without a trace; nothing is declared before the plan holds."""
    try:
        await _deploy()
    except (SpecError, Infeasible) as e:
        raise pulumi.RunError(str(e)) from None


async def _deploy() -> None:
    spec = parse(config.read())
    past = await recall()
    held = protect.hold(spec, past.store)
    plan = make_plan(held.spec, registry.kinds(), registry.catalog(spec.cloud))
    change = transition(past.plan, plan, [g.plan for g in past.machines[1:]])
    announce(past, change)
    missing = registry.unbuilt(spec)
    refused = [*change.refused, *_store(plan, past.store, held.notes), *([missing] if missing else [])]
    if refused:
        raise SpecError(refused)
    blueprint = registry.blueprint(spec)
    stack = blueprint.build(plan, stack=pulumi.get_stack(), project=config.project(), past=past)
    outputs.export(stack)


def _store(plan: Plan, recorded: Mapping[str, object] | None, notes: tuple[str, ...]) -> tuple[Problem, ...]:
    """What an update would do to a store that stands: said, or refused."""
    kind = registry.store(plan.spec.feature_store)
    if kind is None or not hasattr(kind, "fields"):
        return ()
    verdict = protect.verdict(kind.KIND.name, recorded, kind.fields(plan, pulumi.get_stack()), plan.spec)
    for note in (*notes, *verdict.notes):
        pulumi.log.warn(note)
    return verdict.refused
