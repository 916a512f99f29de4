"""preview, up, switch, settle, refresh: what makes the stack as its configuration says."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.session import JSON, SET, STACK, YES, begin, confirm, print_json


def preview(context: typer.Context, stack: STACK, settings: SET = None, as_json: JSON = False) -> None:
    """Say what `up` would do, without doing it."""
    from cli import lifecycle, plans

    session = begin(context, stack, changes=True, as_json=as_json)
    changed = plans.overrides(settings or [])
    plan = lifecycle.ready(session, changed)
    session.say(plans.summary(plan))
    told = lifecycle.say_transition(session, plan)
    outcome = lifecycle.run(session, "preview", changed, told=told)
    if as_json:
        return lifecycle.finish(session, outcome)
    return lifecycle.finish(session, outcome.silent())


def up(context: typer.Context, stack: STACK, settings: SET = None, yes: YES = False, as_json: JSON = False) -> None:
    """Build or change the stack until it is what the configuration says."""
    from cli import lifecycle, plans

    session = begin(context, stack, changes=True, as_json=as_json)
    changed = plans.overrides(settings or [])
    plan = lifecycle.ready(session, changed)
    lifecycle.preflight(session, plan)
    session.say(plans.summary(plan))
    if plan.usd_per_month.max > 0:
        confirm(f"Up to ${plan.usd_per_month.max:.0f} a month. Go on?", yes)
    lifecycle.settle(session)
    lifecycle.may_retire(session, plan)
    outcome = lifecycle.run(session, "up", changed)
    lifecycle.finish(session, outcome, f"To go on after the cause is gone: slipway up {stack}")


def switch(
    context: typer.Context,
    stack: STACK,
    scaling: Annotated[str, typer.Argument(metavar="horizontal|vertical", help="The scaling to switch to.")],
    yes: YES = False,
    as_json: JSON = False,
) -> None:
    """Switch between horizontal and vertical scaling; the new servers are ready before the old ones go."""
    from cli import configfile, lifecycle, plans
    from cli.errors import FAILED, CliError

    session = begin(context, stack, changes=True, as_json=as_json)
    changed = {f"{plans.PREFIX}scaling": scaling}
    plan = lifecycle.ready(session, changed)  # nothing is written before the new plan holds
    old = plans.recorded(session.outputs())
    if old is None:
        raise CliError(f"stack '{stack}' is not up: there is nothing to switch. To fix: slipway up {stack}", FAILED)
    lifecycle.preflight(session, plan)
    if plan.usd_per_month.max > old.usd_per_month.max:
        confirm(f"Up to ${plan.usd_per_month.max:.0f} a month instead of ${old.usd_per_month.max:.0f}. Go on?", yes)
    before = str(old.spec.scaling)
    session.say(f"{before} -> {scaling}: {plans.summary(plan)}")
    told = lifecycle.say_transition(session, plan)
    ((key, value),) = changed.items()
    configfile.write_key(session.project.config_file(stack), key, value)
    lifecycle.settle(session)
    lifecycle.may_retire(session, plan)
    outcome = lifecycle.retire(session, lifecycle.run(session, "up", told=told), plan)
    back = before if before != scaling else {"horizontal": "vertical"}.get(scaling, "horizontal")
    lifecycle.finish(session, outcome, f"To go back: slipway switch {stack} {back}. To go on: slipway up {stack}")


def settle(context: typer.Context, stack: STACK, as_json: JSON = False) -> None:
    """End what an interrupted run left pending: ask the provider, then adopt the thing or clear the entry."""
    session = begin(context, stack, changes=True, as_json=as_json)
    report = session.engine.settle(stack)
    for line in report:
        session.say(f"settled: {line}")
    if as_json:
        print_json({"ok": True, "settled": report})
    elif not report:
        session.say("nothing is pending")


def refresh(context: typer.Context, stack: STACK, as_json: JSON = False) -> None:
    """Read what is really there into the state; `up` then repairs what differs from the configuration."""
    from cli import lifecycle

    session = begin(context, stack, changes=True, as_json=as_json)
    lifecycle.settle(session)
    outcome = lifecycle.run(session, "refresh")
    lifecycle.finish(session, outcome if as_json else outcome.silent())
