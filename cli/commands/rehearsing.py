"""rehearse and render: a stack against simulated clouds, and what it declares, without an account."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.errors import FAILED, LEFTOVERS, REFUSED, USAGE, CliError
from cli.project import NAME
from cli.session import JSON, SET, STACK, Globals, print_json

if TYPE_CHECKING:
    from cli.project import Project
    from cli.rehearsal.judges import Judge
    from cli.rehearsal.run import Wanted
    from infra.plan import Plan

ALL = "up,noop,switch,switch-back,destroy,destroy-again,up-again"
CHANGE = Annotated[
    list[str] | None,
    typer.Option("--change", metavar="KEY=VALUE", help="What the phase switch sets; by default the other scaling."),
]
FAULT = Annotated[
    list[str] | None,
    typer.Option(
        "--fault",
        metavar="RULE",
        help="KIND[@N][,type=GLOB][,name=GLOB][,op=OP][,skip=N][,times=N][,phase=PHASE]; the kinds: docs/rehearsal.md.",
    ),
]


def rehearse(
    context: typer.Context,
    stack: STACK,
    phases: Annotated[str, typer.Option("--scenario", metavar="PHASES", help="Phases in order.")] = ALL,
    rules: FAULT = None,
    engine: Annotated[
        str | None, typer.Option(help="auto, pulumi or embedded; like the option before the command.")
    ] = None,
    settings: SET = None,
    changes: CHANGE = None,
    as_json: JSON = False,
    html: Annotated[Path | None, typer.Option(help="Write the timeline and everything else to this page.")] = None,
) -> None:
    """Run up, switch, faults and destroy of a cloud stack against simulated clouds: no account, no credentials."""
    from cli.rehearsal import screen
    from cli.rehearsal.run import rehearse as conduct

    given: Globals = context.obj or Globals()
    wanted = _wanted(given, stack, phases, rules or [], engine or given.engine, settings or [], changes or [])
    if html is not None and not html.parent.is_dir():
        raise CliError(f"--html {html}: there is no folder {html.parent}", USAGE)
    name = "embedded" if wanted.binary is None else "pulumi"
    print(f"engine: {name}, simulated clouds, in a temporary copy of the project", file=sys.stderr, flush=True)
    with screen.watching(sys.stderr if as_json else sys.stdout, stack) as hear:
        report = conduct(wanted, hear)
    if html is not None:
        from cli.rehearsal.page import page

        html.write_text(page(report))
    if as_json:
        print_json(report.to_json())
    else:
        screen.show(report)
        if html is not None:
            typer.echo(f"page: {html}")
    if not report.ok:
        raise typer.Exit(FAILED)
    if report.leftovers:
        raise typer.Exit(LEFTOVERS)


def render(
    context: typer.Context,
    stack: STACK,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder, or that of an earlier render.")],
    settings: SET = None,
    as_json: JSON = False,
) -> None:
    """Write what a cloud stack declares: DIR/manifests/*.yaml for kubectl and DIR/resources.json, secrets masked."""
    import secrets

    from cli import rendering
    from cli.rehearsal import scenario
    from cli.rehearsal.child import Child
    from cli.rehearsal.place import prepared
    from cli.rehearsal.project import open_project

    given: Globals = context.obj or Globals()
    project, name = open_project(given.project, stack)
    changed = scenario.pairs("--set", settings or [], name)
    _refuse_local(name, stack, {**project.config(stack), **changed})
    rendering.refuse_foreign(folder)
    nonce = secrets.token_hex(16)
    with prepared(project, stack, nonce) as place, Child(place, "embedded") as child:
        child.prove(nonce)
        answer = child.render(stack, changed)
    if answer["errors"]:
        raise CliError([*answer["errors"], f"{folder}: nothing was written, because the stack cannot be built"])
    rendering.write(folder, answer["resources"], answer["objects"])
    if as_json:
        print_json({"resources": len(answer["resources"]), "manifests": len(answer["objects"]), "folder": str(folder)})
    else:
        typer.echo(f"{folder}: {len(answer['resources'])} resources, {len(answer['objects'])} manifests")


def _wanted(
    given: Globals, stack: str, phases: str, rules: list[str], engine: str, settings: list[str], changes: list[str]
) -> Wanted:
    from cli.rehearsal import faults, scenario, waits
    from cli.rehearsal.project import open_project
    from cli.rehearsal.run import Wanted

    project, name = open_project(given.project, stack)
    order = scenario.parse(phases)
    first = scenario.pairs("--set", settings, name)
    config = {**project.config(stack), **first}
    _refuse_local(name, stack, config)
    changed = scenario.pairs("--change", changes, name) or scenario.other_scaling(config, f"{name}:scaling")
    if "switch" in order and not changed:
        raise CliError(f"--scenario switch: what changes? To fix: --change KEY=VALUE, or set {name}:scaling", USAGE)
    planned = _planner(project, stack)
    ours = name == NAME  # only of this project is known what its configuration means
    return Wanted(
        project=project,
        stack=stack,
        phases=order,
        first=first,
        changed=changed,
        rules=faults.parse(rules, order),
        binary=_binary(engine),
        judges=tuple(_judges(planned if ours else None)),
        updates=waits.updates(planned, first, {**first, **changed}) if ours else 1,
        lacking=waits.lacking,
    )


def _planner(project: Project, stack: str) -> Callable[[Mapping[str, str]], Plan | None]:
    from cli import plans

    def planned(config: Mapping[str, str]) -> Plan | None:
        try:
            return plans.plan(project, stack, config)
        except CliError:
            return None  # the phase has told why

    return planned


def _judges(planned: Callable[[Mapping[str, str]], Plan | None] | None) -> Iterator[Judge]:
    """Quota and money of any project; requests where a plan says how many there are and what a server carries."""
    from cli import plans
    from cli.rehearsal import judges
    from cli.rehearsal.prices import CatalogPrices
    from infra.catalog import load

    yield judges.quota
    yield judges.Money(prices=CatalogPrices(catalog=load()))
    if planned is None:
        return
    from serving.kubernetes import parts

    yield judges.Traffic(planned=planned, read=plans.recorded, parts=parts)


def _refuse_local(name: str, stack: str, config: dict[str, object]) -> None:
    if name == NAME and config.get(f"{NAME}:cloud") == "local":
        raise CliError(
            f"stack '{stack}' runs on this machine, for real and at no cost: there is no cloud to simulate. "
            f"To fix: slipway up {stack}, slipway switch {stack} vertical, slipway destroy {stack}",
            REFUSED,
        )


def _binary(engine: str) -> str | None:
    """The `pulumi` to run; None for the embedded engine."""
    import shutil

    from cli.engines.choose import CHOICES
    from cli.engines.pulumi import INSTALL

    if engine not in CHOICES:
        raise CliError(f"--engine {engine}: no such engine; allowed: {', '.join(CHOICES)}", USAGE)
    found = None if engine == "embedded" else shutil.which("pulumi")
    if engine == "pulumi" and found is None:
        raise CliError(f"--engine pulumi: no `pulumi` on PATH. To fix: install it ({INSTALL})", USAGE)
    return found
