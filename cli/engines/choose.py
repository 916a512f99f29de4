"""Which engine runs a stack: the one asked for, or the one that owns its state; a stack is never built twice."""

from __future__ import annotations

import shutil

from cli.engines.base import Engine, pending, resources
from cli.engines.embedded import EmbeddedEngine
from cli.engines.pulumi import INSTALL, PulumiEngine
from cli.errors import REFUSED, USAGE, CliError
from cli.project import Project

CHOICES = ("auto", "pulumi", "embedded")


def choose(project: Project, stack: str, wanted: str, *, changes: bool) -> tuple[Engine, str]:
    """The engine and the reason. `changes`: the command writes, so Pulumi is asked as well whose stack it is."""
    if wanted not in CHOICES:
        raise CliError(f"--engine {wanted}: no such engine; allowed: {', '.join(CHOICES)}", USAGE)
    embedded = EmbeddedEngine(project)
    owned = _has_stack(embedded, stack)
    binary = shutil.which("pulumi")
    pulumi = None if binary is None else PulumiEngine(project, binary)
    if wanted == "pulumi":
        if pulumi is None:
            raise CliError(f"--engine pulumi: no `pulumi` on PATH. To fix: install it ({INSTALL})", USAGE)
        if owned:
            raise CliError(_move(stack), REFUSED)
        return pulumi, "as asked"
    if owned or wanted == "embedded":
        if changes and pulumi is not None and _pulumi_has(pulumi, stack):
            raise CliError(_both(stack, embedded) if owned else _pulumis(stack), REFUSED)
        return embedded, "as asked" if wanted == "embedded" else "it holds this stack's state"
    if pulumi is not None:
        return pulumi, f"{binary} is on PATH"
    return embedded, "no `pulumi` on PATH"


def _has_stack(engine: Engine, stack: str) -> bool:
    deployment = engine.export(stack)
    return bool(resources(deployment) or pending(deployment))


def _pulumi_has(pulumi: PulumiEngine, stack: str) -> bool:
    """A Pulumi without a login or a passphrase has no stacks that this user could have built with it."""
    try:
        return _has_stack(pulumi, stack)
    except CliError as e:
        if e.code == USAGE:
            return False
        raise


def _move(stack: str) -> str:
    return (
        f"stack '{stack}' was built by the embedded engine, which holds its state; Pulumi would build it again. "
        f"To fix: `--engine embedded`, or hand it over: pulumi stack init {stack} && slipway export {stack} | "
        f"pulumi stack import --stack {stack} && rm .slipway/state/{stack}.json"
    )


def _pulumis(stack: str) -> str:
    return (
        f"stack '{stack}' was built by Pulumi, which holds its state; the embedded engine would build it again. "
        f"To fix: `--engine pulumi`"
    )


def _both(stack: str, embedded: EmbeddedEngine) -> str:
    return (
        f"stack '{stack}' has state in both engines. If it was handed over to Pulumi, remove "
        f"{embedded.state_file(stack)}; if not, `pulumi stack rm --force {stack}` makes Pulumi forget it"
    )
