"""status and logs: what runs, how it feels, what it wrote."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.errors import FAILED, USAGE, CliError
from cli.session import JSON, STACK, begin, print_json

if TYPE_CHECKING:
    from cli.status import Status

CHUNK = 64 * 1024


def status(context: typer.Context, stack: STACK, as_json: JSON = False) -> None:
    """Processes, endpoints, models, plan, drift. Ends with 1 when something is not as it should be."""
    from cli.status import gather

    session = begin(context, stack, as_json=as_json)
    found = gather(session)
    if as_json:
        print_json(found.to_json())
    else:
        _show(found)
    if not found.healthy:
        raise CliError(
            f"stack '{stack}' is {'not as it should be' if found.up else 'not up'}. To fix: slipway up {stack}", FAILED
        )


def logs(
    context: typer.Context,
    stack: STACK,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One process; by default all of them.")] = None,
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, max=100_000, help="Last lines of each log.")] = 20,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what is written from now on.")] = False,
) -> None:
    """What the stack's processes wrote."""
    from infra.clouds.local import inspect

    session = begin(context, stack)
    found = {p.name: p.log for p in inspect.processes(session.project.place(stack))}
    if not found:
        raise CliError(f"stack '{stack}' runs nothing on this machine. To fix: slipway up {stack}", FAILED)
    if name is not None and name not in found:
        raise CliError(f"{name}: no such process; allowed: {', '.join(found)}", USAGE)
    wanted = {n: path for n, path in found.items() if name in (None, n)}
    for each, path in wanted.items():
        _print(each, _tail(path, lines), len(wanted) > 1)
    if follow:
        _follow(wanted)


def _show(found: Status) -> None:
    from rich.console import Console
    from rich.table import Table

    print(f"stack {found.stack}  engine {found.engine}  generation {found.generation or '-'}")
    print(f"plan  {found.plan or '-'}")
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    if found.processes:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("process", "pid", "state", "ports", "up", "RSS MiB", "problem"):
            table.add_column(heading, overflow="fold")
        for p in found.processes:
            ports = " ".join(f"{kind}:{port}" for kind, port in p.ports.items())
            cells = [p.name, p.pid, p.state, ports, _age(p.up_s), p.rss_mib, p.problem]
            table.add_row(*("-" if c is None else str(c) for c in cells), style=None if p.ok else "bold red")
        console.print(table)
    for check in found.checks:
        print(f"{check.name:<22} {'ok' if not check.fault else 'FAULT: ' + check.fault:<6} {check.where}")
    if found.redis_keys is not None:
        print(f"{'Redis':<22} ok     {found.redis_keys} keys")
    for line in found.drift:
        print(f"drift: {line}")


def _age(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    minutes = int(seconds) // 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"


def _tail(path: Path, lines: int) -> list[str]:
    """The last lines, read from the end."""
    if not path.is_file():
        return []
    data, at = b"", path.stat().st_size
    with path.open("rb") as file:
        while at > 0 and data.count(b"\n") <= lines:
            step = min(CHUNK, at)
            at -= step
            file.seek(at)
            data = file.read(step) + data
    return data.decode(errors="replace").splitlines()[-lines:]


def _print(name: str, lines: Sequence[str], named: bool) -> None:
    for line in lines:
        print(f"{name}: {line}" if named else line)
    sys.stdout.flush()


def _follow(wanted: dict[str, Path]) -> None:
    """Until Ctrl-C; a log that was cut or replaced is read from its start."""
    at = {name: path.stat().st_size if path.is_file() else 0 for name, path in wanted.items()}
    rest = dict.fromkeys(wanted, b"")
    while True:
        for name, path in wanted.items():
            size = path.stat().st_size if path.is_file() else 0
            if size < at[name]:
                at[name] = 0
            if size > at[name]:
                with path.open("rb") as file:
                    file.seek(at[name])
                    data = rest[name] + file.read(size - at[name])
                at[name] = size
                *done, rest[name] = data.split(b"\n")
                _print(name, [d.decode(errors="replace") for d in done], len(wanted) > 1)
        time.sleep(0.3)
