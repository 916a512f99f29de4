"""plan, compare: know before you pay; nothing is started and no engine is asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.session import JSON, SET, STACK, Globals, print_json

if TYPE_CHECKING:
    from infra.plan import Plan, Variant
    from infra.spec import Spec, SpecError


def plan(
    context: typer.Context,
    stack: STACK,
    settings: SET = None,
    as_json: JSON = False,
    html: Annotated[Path | None, typer.Option(help="Write the plan with its charts to this file.")] = None,
) -> None:
    """Say what the stack would be: machines, replicas, latency against the SLO, the bill, and what binds."""
    from cli import planning
    from cli.errors import USAGE, CliError
    from infra.spec import SpecError

    try:
        spec = _spec(context, stack, settings)
        found = _plan(spec)
    except (SpecError, CliError) as e:
        refused = e if isinstance(e, SpecError) else e.__cause__
        if not isinstance(refused, SpecError):
            raise
        if as_json:
            print_json(_no_plan(refused))
            raise typer.Exit(USAGE) from None
        raise CliError([str(p) for p in refused.problems], USAGE) from None
    if html is not None:
        try:
            html.write_text(planning.page(stack, found, _variants(spec)))
        except OSError as e:
            raise CliError(f"--html {html}: cannot be written: {e.strerror}", USAGE) from None
    if as_json:
        print_json(found.to_json())
        return
    for line in planning.screen(stack, found):
        typer.echo(line)
    if html is not None:
        typer.echo(f"  page      {html}")


def compare(context: typer.Context, stack: STACK, settings: SET = None, as_json: JSON = False) -> None:
    """The stack in both scaling modes, all three cost modes, on VMs and on Kubernetes, in one table; its own first."""
    from cli import planning

    variants = _variants(_spec(context, stack, settings))
    if as_json:
        rows = [
            {"scaling": v.scaling, "cost": v.cost, "shape": v.shape}
            | (v.plan.to_json() if v.plan is not None else v.infeasible.to_json() if v.infeasible else {})
            for v in variants
        ]
        print_json({"variants": rows})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in planning.COLUMNS:
        wraps = column == "machines"
        table.add_column(column, no_wrap=not wraps, min_width=24 if wraps else None, overflow="fold")
    for row in planning.table(variants):
        table.add_row(*(row.get(c, "") for c in planning.COLUMNS))
    console = Console()
    # a pipe has no width; a narrow terminal scrolls rather than lose a column
    console.width = max(console.width, planning.TABLE) if console.is_terminal else planning.TABLE
    console.print(table)


def _spec(context: typer.Context, stack: str, settings: list[str] | None) -> Spec:
    from cli import plans
    from cli.project import find

    given: Globals = context.obj or Globals()
    project = find(given.project)
    project.must_exist(stack)
    return plans.specification(project, stack, plans.overrides(settings or []))


def _plan(spec: Spec) -> Plan:
    from infra.plan import make_plan
    from stacks import registry

    return make_plan(spec, registry.kinds(), registry.catalog(spec.cloud))


def _no_plan(error: SpecError) -> dict[str, object]:
    """The keys of a plan where there is none; without a specification nothing was searched, so nothing binds."""
    from infra.plan import Infeasible

    known = error if isinstance(error, Infeasible) else Infeasible(error.problems, "configuration")
    return known.to_json()


def _variants(spec: Spec) -> list[Variant]:
    from infra.plan import compare

    return compare(spec, _plan)
