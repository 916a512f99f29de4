"""What a person sees while an engine works: a live table on a terminal, one line a step elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from cli.engines.base import Event

if TYPE_CHECKING:
    from rich.console import RenderableType

QUIET = ("same", "read")  # nothing happens to the resource
OWN = ("pulumi:pulumi:Stack", "pulumi:pulumi:StackReference", "pulumi:providers:pulumi")  # of the engine, not the stack
WORDS = {  # the engines' words for a step -> a person's
    "create-replacement": "replace: create new",
    "delete-replaced": "replace: delete old",
    "discard-replaced": "replace: forget old",
    "read-replacement": "replace: read",
    "remove-pending-replace": "replace: delete pending",
}
COLOURS = {"create": "green", "update": "yellow", "delete": "red", "refresh": "blue"}
SHOWN = 18  # rows of the table: a screen has 24
COUNTED = {  # op -> its word in the summary, in the order of a sentence
    "create": "created",
    "update": "updated",
    "replace": "replaced",
    "delete": "deleted",
    "import": "imported",
    "refresh": "refreshed",
    "read": "read",
    "same": "unchanged",
}


@dataclass
class Step:
    op: str
    type: str
    name: str
    started: float
    ended: float | None = None
    failed: bool = False

    @property
    def seconds(self) -> float:
        return (self.ended or time.monotonic()) - self.started

    @property
    def word(self) -> str:
        return WORDS.get(self.op, self.op)


class Progress:
    """Give it every event; `live` is the table, else lines. Steps that change nothing are only counted."""

    def __init__(self, stream: TextIO | None = None, *, live: bool | None = None, doing: str = "") -> None:
        self.stream = stream or sys.stdout
        self.live = self.stream.isatty() if live is None else live
        self.doing, self.started = doing, time.monotonic()
        self.steps: dict[tuple[str, str], Step] = {}
        self.same = 0
        self._shown: object = None

    def __enter__(self) -> Self:
        if self.live:
            from rich.console import Console
            from rich.live import Live

            self._shown = Live(console=Console(file=self.stream), get_renderable=self.table, refresh_per_second=8)
            self._shown.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self._shown.stop()  # type: ignore[attr-defined]

    def hear(self, event: Event) -> None:
        if event.kind == "message":
            return self._message(event)
        if event.op in QUIET or event.type in OWN:
            self.same += event.kind == "done" and event.op in QUIET
            return None
        key = (event.urn, event.op)
        if event.kind == "start" or key not in self.steps:
            self.steps[key] = Step(op=event.op, type=event.type, name=event.name, started=time.monotonic())
        if event.kind in ("done", "failed"):
            step = self.steps[key]
            step.ended, step.failed = time.monotonic(), event.kind == "failed"
            if not self.live:
                self._line(step, event.text)
        return None

    def _line(self, step: Step, text: str) -> None:
        state = "FAILED" if step.failed else "done"
        about = f": {text}" if step.failed and text else ""
        print(
            f"{state:<7}{step.word:<20}{step.seconds:6.1f} s  {step.type} {step.name}{about}",
            file=self.stream,
            flush=True,
        )

    def _message(self, event: Event) -> None:
        if event.severity == "error":
            return  # told once, whole, at the end
        text = event.text if event.severity == "info" else f"{event.severity}: {event.text}"
        if self.live:
            self._shown.console.print(text, highlight=False, markup=False)  # type: ignore[attr-defined]
        else:
            print(text, file=self.stream, flush=True)

    def table(self) -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        elapsed = time.monotonic() - self.started
        running = sum(s.ended is None for s in self.steps.values())
        title = f"{self.doing}  {elapsed:.0f} s  {len(self.steps)} steps, {running} running, {self.same} unchanged"
        table = Table(box=None, padding=(0, 2, 0, 0), title=title, title_justify="left", title_style="bold")
        for heading in ("step", "type", "resource", "state"):
            table.add_column(heading, no_wrap=True, overflow="ellipsis")
        table.add_column("time", justify="right", no_wrap=True)
        rows = sorted(self.steps.values(), key=lambda s: (s.ended is None, s.ended or s.started))
        if len(rows) > SHOWN:
            table.add_row(Text(f"… {len(rows) - SHOWN} more", style="dim"))
        for step in rows[-SHOWN:]:
            state, style = (
                ("running", "bold") if step.ended is None else ("FAILED", "red") if step.failed else ("done", "dim")
            )
            colour = COLOURS.get(step.op, "")
            kind = step.type.removeprefix("slipway:local:")
            table.add_row(
                Text(step.word, style=colour), kind, step.name, Text(state, style=style), f"{step.seconds:.1f} s"
            )
        return table


def counted(changes: Mapping[str, int], preview: bool = False) -> str:
    """ "3 created, 2 unchanged": every kind that occurred."""
    words = {op: (f"to {op}" if preview and op != "same" else word) for op, word in COUNTED.items()}
    parts = [f"{changes[op]} {word}" for op, word in words.items() if changes.get(op)]
    parts += [f"{n} {op}" for op, n in changes.items() if n and op not in COUNTED]
    return ", ".join(parts) or "nothing to do"
