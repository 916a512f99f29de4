"""pin: what a stack's tags and parameters mean today, written into its configuration."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.errors import FAILED, USAGE, CliError
from cli.session import JSON, STACK, Globals, print_json


def pin(
    context: typer.Context,
    stack: STACK,
    update: Annotated[bool, typer.Option("--update", help="Read also what is pinned already.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say; the configuration stays as it is.")] = False,
    as_json: JSON = False,
) -> None:
    """Read what the stack's image tags and boot images mean today, and write that into its configuration.

    A pin stays until it is read again with --update; what could not be read is named and stays a tag. The next `up`
    with other pins makes new servers beside the old ones."""
    from cli import plans
    from cli.configfile import write_key
    from cli.pins.look import look
    from cli.project import find

    given: Globals = context.obj or Globals()
    project = find(given.project)
    project.must_exist(stack)
    plan = plans.plan(project, stack, {})
    if plan.spec.cloud == "local":
        raise CliError(f"stack '{stack}' runs packages of this machine, no images: there is nothing to pin", USAGE)
    found = look(plan, update=update)
    changed = dict(found.pins) != dict(plan.spec.pins)
    if changed and not dry_run:
        write_key(project.config_file(stack), f"{plans.PREFIX}pins", found.pins)
    if as_json:
        print_json({"pins": found.pins, "read": found.read, "dropped": found.dropped, "failed": found.failed})
    else:
        for name, value in found.pins.items():
            typer.echo(f"{name} = {value}{'' if name in found.read else '  (as before)'}")
        for name in found.dropped:
            typer.echo(f"{name}: dropped, no longer used")
        typer.echo("unchanged" if not changed else "not written: --dry-run" if dry_run else "written")
    if found.failed:
        raise CliError(found.failed, FAILED)
