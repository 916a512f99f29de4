"""The program: configuration, specification, plan, transition, blueprint, outputs, each a line."""

from __future__ import annotations

import pulumi

from infra.plan import Infeasible, make_plan, transition
from infra.spec import SpecError, parse
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
    plan = make_plan(spec, registry.kinds(), registry.catalog(spec.cloud))
    past = await recall()
    change = transition(past.plan, plan)
    announce(past, change)
    if change.refused:
        raise SpecError(change.refused)
    missing = registry.unbuilt(spec)
    if missing is not None:
        raise SpecError([missing])
    stack = registry.blueprint(spec.shape).build(plan, stack=pulumi.get_stack(), project=config.project())
    outputs.export(stack)
