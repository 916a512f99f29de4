"""Executes steps: written down before and after, counted, told; a failure stops the run, or is gone past."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from engine.answers import ProviderError
from engine.api import Diagnostic, EngineError, Event, Request, Step
from engine.rows import Row, is_default_provider, needs, urn_name
from engine.state import State

PENDING = {  # what Pulumi calls the operation while it is open; a step that is not here changes nothing outside
    "create": "creating",
    "replace": "creating",
    "update": "updating",
    "delete": "deleting",
    "delete-replaced": "deleting",
    "read": "reading",
    "import": "importing",
    "import-replacement": "importing",
}
QUIET = ("delete-replaced", "remove-pending-replace")  # part of a replacement, which is counted once


class Stopped(Exception):  # noqa: N818
    """The run is ending: what was asked is not done."""


class StepFailed(Exception):  # noqa: N818
    """This step failed and the run goes on without it."""


class StepSkipped(Exception):  # noqa: N818
    """It needs what failed."""


@dataclass(frozen=True, kw_only=True)
class Commit:
    """What a step leaves in the state; with `error` it did so and failed nevertheless (a partial create)."""

    add: Row | None = None
    drop: Row | None = None
    mark: tuple[Row, Mapping[str, object]] | None = None
    alias: tuple[str, str] | None = None
    error: ProviderError | None = None


@dataclass
class Steps:
    request: Request
    state: State
    done: list[Step] = field(default_factory=list)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    changes: Counter[str] = field(default_factory=Counter)
    failed: bool = False
    on_stop: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.preview = self.request.command == "preview"
        self.stopped = threading.Event()
        self.out_of_reach: set[str] = set()  # what failed, and what needs it
        self._slots = threading.Semaphore(max(self.request.parallel, 1))
        self._lock, self._telling = threading.Lock(), threading.RLock()

    def perform(self, op: str, row: Row, work: Callable[[], Commit], *, keys: tuple[str, ...] = ()) -> None:
        """Raises Stopped or StepFailed unless the step succeeds."""
        quiet = op == "same" or is_default_provider(row)
        with self._slots:
            if self.stopped.is_set():
                raise Stopped
            if not self.out_of_reach.isdisjoint(needs(row)) and not op.startswith("delete"):
                self.out_of_reach.add(row["urn"])
                raise StepSkipped
            started = time.monotonic()
            if not quiet:
                self.emit("start", op, row)
            pending = PENDING.get(op) if not is_default_provider(row) or op != "delete" else None
            opened = self.state.begin(pending, row) if pending and not self.preview else None
            try:
                commit = work()
            except ProviderError as e:
                self.state.end(opened)
                self.fail(op, row, str(e))
                raise StepFailed(str(e)) from e
            except EngineError as e:
                self.state.end(opened)
                self.bail(row["urn"], str(e))
            self.state.end(
                opened, add=commit.add, drop=commit.drop, mark=commit.mark, alias=commit.alias, sync=opened is not None
            )
        if commit.error is not None:
            self.fail(op, row, str(commit.error))
            raise StepFailed(str(commit.error))
        self.succeed(op, row, keys)
        if not quiet:
            self.emit("done", op, row, seconds=time.monotonic() - started)

    def succeed(self, op: str, row: Row, keys: tuple[str, ...] = ()) -> None:
        if is_default_provider(row):
            return
        with self._lock:
            self.done.append(Step(op=op, urn=row["urn"], keys=keys))
            if op not in QUIET:
                self.changes["replace" if op == "import-replacement" else op] += 1

    def fail(self, op: str, row: Row, message: str, *, go_on: bool = False) -> None:
        with self._lock:
            self.failed = True
            self.out_of_reach.add(row["urn"])
            self.done.append(Step(op=op, urn=row["urn"], ok=False, error=message))
        self.say("error", message, row["urn"])
        self.emit("failed", op, row, message)
        if not (go_on or self.request.continue_on_error):
            self.stop()

    def bail(self, urn: str, message: str) -> NoReturn:
        """A fault in what was asked, not in a step: it ends the run, with continue-on-error too."""
        self.failed = True
        self.say("error", message, urn)
        self.stop()
        raise Stopped

    def drain(self) -> None:
        """Stops, and returns when the last step under way is over."""
        self.stopped.set()
        for _ in range(max(self.request.parallel, 1)):
            self._slots.acquire()
        for _ in range(max(self.request.parallel, 1)):
            self._slots.release()

    def stop(self) -> None:
        self.stopped.set()
        self.on_stop()

    def say(self, severity: str, message: str, urn: str = "") -> None:
        with self._lock:
            self.diagnostics.append(Diagnostic(severity=severity, message=message, urn=urn))
        self._tell(Event(kind="log", op=severity, urn=urn, detail=message, at=time.time()))

    def emit(self, kind: str, op: str, row: Row, detail: str = "", seconds: float = 0.0) -> None:
        self._tell(
            Event(
                kind=kind,
                op=op,
                urn=row["urn"],
                type=row["type"],
                name=urn_name(row["urn"]),
                detail=detail,
                at=time.time(),
                seconds=seconds,
            )
        )

    def out(self, line: str) -> None:
        self._tell(Event(kind="out", detail=line, at=time.time()))

    def _tell(self, event: Event) -> None:
        """One at a time, whichever thread it comes from."""
        if self.request.on_event is not None:
            with self._telling:
                self.request.on_event(event)
