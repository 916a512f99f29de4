"""A rehearsal for a person: what happens while it runs, and afterwards its tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.engines.base import Event
from cli.rehearsal.report import Phase, Report

if TYPE_CHECKING:
    from rich.console import RenderableType

BAR, CLOCK = 40, 6  # characters of a bar and of a time, which a narrow terminal does not take away
QUIET = ("same", "read", "refresh")
COLUMNS = ("phase", "", "create", "update", "replace", "delete", "takes", "longest chain", "serving", "failed", "extra")


@contextmanager
def watching(stream: TextIO, stack: str) -> Iterator[Callable[[str, Event], None]]:
    """A line that moves on a terminal; a line a phase elsewhere."""
    console = Console(file=stream)
    count: dict[str, int] = {}
    with console.status(f"rehearse {stack}") if console.is_terminal else _nothing() as status:

        def hear(phase: str, event: Event) -> None:
            if phase not in count:
                count[phase] = 0
                if status is None:
                    print(f"{phase} …", file=stream, flush=True)
            if event.kind in ("done", "failed") and event.op not in QUIET:
                count[phase] += 1
            if status is not None:
                status.update(f"rehearse {stack}: {phase}, {count[phase]} steps")

        yield hear


@contextmanager
def _nothing() -> Iterator[None]:
    yield None


def show(report: Report) -> None:
    console = Console()
    console.width = max(console.width, 110) if console.is_terminal else 160
    for note in report.notes:
        console.print(f"note: {escape(note)}", highlight=False)
    console.print(_phases(report))
    for phase in report.phases:
        if phase.steps:
            console.print(_timeline(phase))
    for phase in report.phases:
        if phase.critical:
            console.print(_critical(phase))
    for line in _ending(report):
        console.print(escape(line), highlight=False)


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _phases(report: Report) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("phase", "") else "right", no_wrap=True)
    for p in report.phases:
        table.add_row(
            p.name,
            "[green]ok[/]" if p.ok else "[bold red]FAILED[/]",
            *(str(n) for n in (p.creates, p.updates, p.replaces, p.deletes)),
            clock(p.makespan_s),
            clock(p.critical_path_s),
            "-" if p.min_capacity_ratio is None else f"{p.min_capacity_ratio:.0%} of demand",
            "-" if p.failed_requests is None else str(p.failed_requests),
            "-" if p.extra_cost_usd is None else f"${p.extra_cost_usd:.2f}",
        )
    return table


def _timeline(phase: Phase) -> RenderableType:
    table = Table(title=f"\n{phase.name}, {clock(phase.makespan_s)} (min:s, simulated)", title_justify="left", box=None)
    table.add_column("", min_width=BAR, no_wrap=True)
    table.add_column("step", no_wrap=True, overflow="ellipsis", min_width=20)
    table.add_column("type", no_wrap=True, overflow="ellipsis", min_width=10, style="dim")
    table.add_column("from", no_wrap=True, justify="right", min_width=CLOCK)
    table.add_column("to", no_wrap=True, justify="right", min_width=CLOCK)
    longest = {(link.step.urn, link.step.op) for link in phase.critical}
    whole = max(phase.makespan_s, 1.0)
    for s in phase.steps:
        start, end = int(s.start_s / whole * BAR), max(int(s.end_s / whole * BAR), int(s.start_s / whole * BAR) + 1)
        colour = "red" if not s.ok else "yellow" if (s.urn, s.op) in longest else "blue"
        bar = " " * start + f"[{colour}]{'━' * (end - start)}[/]" + " " * (BAR - end)
        table.add_row(bar, escape(f"{s.op} {s.name}"), escape(s.type), clock(s.start_s), clock(s.end_s))
    return table


def _critical(phase: Phase) -> RenderableType:
    table = Table(
        title=f"\n{phase.name}: longest chain, {clock(phase.critical_path_s)}", title_justify="left", box=None
    )
    for name in ("step", "type", "takes", "median", "n"):
        table.add_column(name, justify="right" if name in ("takes", "median", "n") else "left", no_wrap=True)
    for link in phase.critical:
        took = clock(link.step.end_s - link.step.start_s)
        known = str(link.samples) if link.samples else link.source
        table.add_row(escape(f"{link.step.op} {link.step.name}"), link.step.type, took, clock(link.median_s), known)
    return table


def _ending(report: Report) -> Iterator[str]:
    yield ""
    for phase in report.phases:
        if phase.quota_peak and phase.steps:
            yield f"{phase.name}: quota at its peak: " + ", ".join(f"{k} {v:g}" for k, v in phase.quota_peak.items())
        if phase.stores_replaced:
            yield f"{phase.name}: {phase.stores_replaced} stores replaced or deleted, with what was in them"
        if phase.unpriced:
            yield f"{phase.name}: not priced: {', '.join(phase.unpriced)}"
    yield from (f"problem: {text}" for text in report.problems)
    yield from (f"left behind: {x.cloud} {x.type} {x.name}: {x.why}" for x in report.leftovers)
    if report.ok and not report.leftovers:
        yield "Every phase is ok, nothing failed, nothing is left."
