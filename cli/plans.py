"""The specification and the plan of a stack as its configuration file says, before any engine starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cli.errors import USAGE, CliError
from cli.project import NAME, Project

if TYPE_CHECKING:
    from infra.plan import Plan, Transition
    from infra.spec import Spec, SpecError

PREFIX = f"{NAME}:"


def overrides(settings: list[str]) -> dict[str, str]:
    """--set key=value, with or without the namespace."""
    wrong = [f"--set {s}: not of the form key=value" for s in settings if "=" not in s or not s.split("=")[0].strip()]
    if wrong:
        raise CliError(wrong, USAGE)
    pairs = [(key.strip(), value) for key, _, value in (s.partition("=") for s in settings)]
    return {key if ":" in key else PREFIX + key: value for key, value in pairs}


def specification(project: Project, stack: str, changed: Mapping[str, str]) -> Spec:
    """What the configuration asks for, or every problem of it with its fix."""
    from infra.spec import SpecError, parse

    config: dict[str, Any] = {**project.config(stack), **changed}
    values = {key.removeprefix(PREFIX): value for key, value in config.items() if key.startswith(PREFIX)}
    try:
        return parse(values)
    except SpecError as e:
        raise _told(project, stack, e) from e


def plan(project: Project, stack: str, changed: Mapping[str, str]) -> Plan:
    """The plan, or every problem of the configuration with its fix."""
    from infra.plan import Infeasible, make_plan
    from infra.spec import SpecError
    from stacks import registry

    spec = specification(project, stack, changed)
    try:
        return make_plan(spec, registry.kinds(), registry.catalog(spec.cloud))
    except (SpecError, Infeasible) as e:
        raise _told(project, stack, e) from e


def _told(project: Project, stack: str, error: SpecError) -> CliError:
    where = project.config_file(stack).relative_to(project.folder)
    return CliError([f"{where}: {p}" for p in error.problems], USAGE)


def recorded(outputs: Mapping[str, Any]) -> Plan | None:
    """The plan of the last successful update; None when there is none that this version can read."""
    from infra.plan import Plan
    from infra.spec import SpecError

    try:
        return Plan.from_json(outputs["plan"])
    except (SpecError, KeyError, TypeError):
        return None


def standing(outputs: Mapping[str, Any]) -> list[Plan]:
    """Plans of older generations of machines that the last update left beside its own, as far as they can be read."""
    from stacks.standing import unpack

    try:
        return [unpack(record).plan for record in (outputs.get("machines") or ())[1:]]
    except ValueError:
        return []


def lines(change: Transition) -> list[str]:
    """A transition for a person."""
    if change.kind == "none":
        return [f"generation {change.to_generation} stays: nothing to move"]
    steps = (("add", change.added), ("move", change.moved), ("remove", change.removed))
    said = [f"{word:<6} {', '.join(names)}" for word, names in steps if names]
    said += [f"surge  {count} x {machine} while old and new both stand" for machine, count in change.surge]
    if change.updates > 1:
        said.append(
            "in two updates: the old ones go with the second, when the load balancer reports the new ones healthy"
        )
    return [*said, f"about {change.expected_minutes:g} min, ${change.extra_usd:.2f} extra"]


def summary(plan: Plan) -> str:
    """What a plan amounts to, in a line."""
    serving, replicas = plan.serving, plan.replicas
    count = f"{replicas.start}" if replicas.min == replicas.max else f"{replicas.min} to {replicas.max}"
    money = "" if not plan.usd_per_month.max else f", ${plan.usd_per_month.expected:.0f} a month"
    return (
        f"{plan.spec.scaling}: {count} server{'' if count == '1' else 's'} x {serving.instances} "
        f"instance{'' if serving.instances == 1 else 's'} of each model, batches up to {serving.max_batch}, "
        f"p99 {plan.latency_ms.p99:.1f} ms predicted{money}"
    )
