"""One run of an engine from the command's side: checks before, progress during, the result after."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cli import plans
from cli.engines.base import Command, Event, Outcome, unsettled
from cli.errors import REFUSED, USAGE, CliError
from cli.progress import Progress, counted
from cli.session import Session, print_json

if TYPE_CHECKING:
    from infra.plan import Plan

HIDDEN = ("plan", "next", "machines")  # outputs that are told in words, or mean nothing to a person


def ready(session: Session, changed: Mapping[str, str]) -> Plan:
    """The plan, or every problem of the configuration; a real cloud needs Pulumi."""
    plan = plans.plan(session.project, session.stack, changed)
    if session.engine.name == "embedded" and plan.spec.cloud != "local":
        from cli.engines.pulumi import INSTALL

        raise CliError(
            f"stack '{session.stack}' is on the cloud '{plan.spec.cloud}': the embedded engine only runs local stacks. "
            f"To fix: install Pulumi ({INSTALL}), then: slipway --engine pulumi up {session.stack}",
            REFUSED,
        )
    return plan


def preflight(session: Session, plan: Plan) -> None:
    """What this machine lacks for a local stack, all of it, before anything starts."""
    if plan.spec.cloud != "local":
        return
    from infra.clouds.local import preflight as machine
    from infra.clouds.local.place import Ports
    from infra.clouds.local.root import Root

    ports = Ports.of(plan.spec.port)
    wanted = {"HTTP entry": ports.http, "gRPC entry": ports.grpc, "Envoy's admin": ports.admin}
    if plan.spec.feature_store != "none":
        wanted["Redis"] = ports.redis
    root = Root(path=session.project.place(session.stack), stack=session.stack)
    faults = machine.preflight(root, wanted)
    if faults:
        raise CliError([str(f) for f in faults], USAGE)


def say_transition(session: Session, plan: Plan) -> str:
    """From what the last update recorded to what is wanted now; what the program will say of it once more."""
    from infra.plan import transition
    from stacks.past import announcement

    outputs = session.outputs()
    change = transition(plans.recorded(outputs), plan, plans.standing(outputs))
    for line in plans.lines(change):
        session.say(f"  {line}")
    return announcement(change)


def settle(session: Session) -> None:
    """Ends what an interrupted run left pending; silent when there is nothing."""
    if unsettled(session.engine.export(session.stack)):
        for line in session.engine.settle(session.stack):
            session.say(f"settled: {line}")


def run(session: Session, command: Command, changed: Mapping[str, str] | None = None, *, told: str = "") -> Outcome:
    """Runs the engine with progress; `told`: a message of the program that a person has read already."""
    stream = sys.stderr if session.json else sys.stdout
    with Progress(stream, doing=f"{command} {session.stack}") as progress:

        def hear(event: Event) -> None:
            if not (told and event.kind == "message" and event.text.strip() == told):
                progress.hear(event)

        outcome = session.engine.run(command, session.stack, changed or {}, hear)
    session.say(f"{command} {session.stack}: {counted(outcome.changes, command == 'preview')}")
    return outcome


def retire(session: Session, first: Outcome, plan: Plan) -> Outcome:
    """The second update of a switch, where there is one; until the new machines are healthy old and new serve."""
    if not first.ok or not plans.standing(first.outputs):
        return first
    lacking = _unhealthy(session, first.outputs, plan)
    return run(session, "up") if not lacking else replace(first, ok=False, errors=(*lacking, NOTHING_TAKEN))


def may_retire(session: Session, plan: Plan) -> None:
    """Before an update that takes old machines away, because an earlier one made the new ones: do those serve?"""
    outputs = session.outputs()
    now = plans.recorded(outputs)
    if now is None or now.generation != plan.generation or not plans.standing(outputs):
        return
    lacking = _unhealthy(session, outputs, plan)
    if lacking:
        raise CliError([*lacking, NOTHING_TAKEN])


NOTHING_TAKEN = "so nothing was taken away: old and new serve, and both are paid for"


def _unhealthy(session: Session, outputs: Mapping[str, Any], plan: Plan) -> list[str]:
    """What the load balancer still lacks after the longest start of a machine."""
    from cli import balancer

    found = balancer.backends(session.engine.export(session.stack), str(outputs["generation"]))
    if not found:
        return [f"no machine of generation {outputs['generation']} is behind the load balancer"]
    limit = limit_s(plan)
    session.say(f"waiting up to {limit:.0f} s until the load balancer reports the new machines healthy")
    return balancer.wait(found, balancer.asking(), within_s=limit, tell=lambda text: session.say(f"  {text}"))


def limit_s(plan: Plan) -> float:
    return plan.serving.startup_budget_s


def finish(session: Session, outcome: Outcome, failed_hint: str = "") -> None:
    """The result for a script or a person, and the errors of a run that failed."""
    if session.json:
        print_json(outcome.to_json())
    elif outcome.ok:
        show_outputs(outcome.outputs)
    if not outcome.ok:
        problems = outcome.errors or ("the engine gave no reason",)
        raise CliError([*problems, *([failed_hint] if failed_hint else [])], outcome.exit_code)


def show_outputs(outputs: Mapping[str, Any]) -> None:
    if not outputs:
        return
    recorded = plans.recorded(outputs) if "plan" in outputs else None
    rows = {k: v for k, v in sorted(outputs.items()) if k not in HIDDEN}
    width = max(len(k) for k in (*rows, "plan"))
    print()
    for key, value in rows.items():
        text = "  ".join(str(v) for v in value) if isinstance(value, list) else str(value)
        print(f"{key:<{width}}  {text}")
    if recorded is not None:
        print(f"{'plan':<{width}}  {plans.summary(recorded)}")
    for i, command in enumerate(outputs.get("next") or []):
        print(f"{'' if i else 'next':<{width}}  {command}")
