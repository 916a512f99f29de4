"""What a person sees while an engine works: a live table on a terminal, one line a step elsewhere."""

from __future__ import annotations

import sys
import threading
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
STYLES = {"running": "bold", "done": "dim", "FAILED": "bold red"}
REFRESH_S = 0.125
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
    def state(self) -> str:
        return "running" if self.ended is None else "FAILED" if self.failed else "done"

    @property
    def word(self) -> str:
        return WORDS.get(self.op, self.op)


class Progress:
    """Give it every event; `live` is the table, else lines. Steps that change nothing are only counted."""

    def __init__(self, stream: TextIO | None = None, *, live: bool | None = None, doing: str = "") -> None:
        self.stream = stream or sys.stdout
        self.doing, self.started = doing, time.monotonic()
        self.steps: dict[tuple[str, str], Step] = {}
        self.same = 0
        self.mutex = threading.RLock()  # events come from the engine's threads
        wanted = self.stream.isatty() if live is None else live
        self.screen = _Screen(self) if wanted else None

    def __enter__(self) -> Self:
        if self.screen:
            self.screen.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.screen:
            self.screen.stop()

    def hear(self, event: Event) -> None:
        with self.mutex:
            if event.kind == "message":
                self._message(event)
            elif event.op in QUIET or event.type in OWN:
                self.same += event.kind == "done" and event.op in QUIET
            else:
                self._step(event)

    def _step(self, event: Event) -> None:
        key = (event.urn, event.op)
        if event.kind == "start" or key not in self.steps:
            self.steps[key] = Step(op=event.op, type=event.type, name=event.name, started=time.monotonic())
        if event.kind in ("done", "failed"):
            step = self.steps[key]
            step.ended, step.failed = time.monotonic(), event.kind == "failed"
            if not self.screen:
                self._say(f"{step.state:<7}{step.word:<20}{step.seconds:6.1f} s  {step.type} {step.name}")

    def _message(self, event: Event) -> None:
        if event.severity == "error":
            return  # told once, whole, at the end
        self._say(event.text if event.severity == "info" else f"{event.severity}: {event.text}")

    def _say(self, text: str) -> None:
        if self.screen:
            self.screen.say(text)
        else:
            print(text, file=self.stream, flush=True)


class _Screen:
    """The live table. One lock over every write: two threads that draw would each move the cursor for the other."""

    def __init__(self, progress: Progress) -> None:
        from rich.console import Console
        from rich.live import Live

        self.progress = progress
        self.console = Console(file=progress.stream, highlight=False)
        self.live = Live(console=self.console, auto_refresh=False, get_renderable=self.render)
        self.over = threading.Event()
        self.ticker = threading.Thread(target=self._tick, daemon=True)

    def start(self) -> None:
        self.live.start()
        self.ticker.start()

    def stop(self) -> None:
        self.over.set()
        self.ticker.join()
        with self.progress.mutex:
            self.live.stop()

    def say(self, text: str) -> None:
        with self.progress.mutex:
            self.console.print(text, markup=False)

    def _tick(self) -> None:
        while not self.over.wait(REFRESH_S):
            with self.progress.mutex:
                self.live.refresh()

    def render(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        steps = self.progress.steps.values()
        elapsed = time.monotonic() - self.progress.started
        running = sum(s.ended is None for s in steps)
        counts = f"{len(steps)} steps, {running} running, {self.progress.same} unchanged"
        title = Text(f"{self.progress.doing}  {elapsed:.0f} s  {counts}", style="bold", no_wrap=True)
        return Group(title, self._table()) if steps else title

    def _table(self) -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("step", "type", "resource", "state"):
            table.add_column(heading, no_wrap=True, overflow="ellipsis")
        table.add_column("time", justify="right", no_wrap=True)
        rows = sorted(self.progress.steps.values(), key=lambda s: (s.ended is None, s.ended or s.started))
        if len(rows) > SHOWN:
            table.add_row(Text(f"… {len(rows) - SHOWN} more", style="dim"))
        for step in rows[-SHOWN:]:
            word = Text(step.word, style=COLOURS.get(step.op, ""))
            state = Text(step.state, style=STYLES[step.state])
            table.add_row(word, step.type.removeprefix("slipway:local:"), step.name, state, f"{step.seconds:.1f} s")
        return table


def counted(changes: Mapping[str, int], preview: bool = False) -> str:
    """ "3 created, 2 unchanged": every kind that occurred."""
    words = {op: (f"to {op}" if preview and op != "same" else word) for op, word in COUNTED.items()}
    parts = [f"{changes[op]} {word}" for op, word in words.items() if changes.get(op)]
    parts += [f"{n} {op}" for op, n in changes.items() if n and op not in COUNTED]
    return ", ".join(parts) or "nothing to do"
