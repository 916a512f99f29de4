"""The embedded engine (`engine/`) in this process: for local stacks and rehearsals, where Pulumi is not installed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from cli.engines.base import Command, Deployment, Event, OnEvent, Outcome
from cli.errors import FAILED, LOCKED, REFUSED, CliError
from cli.project import Project

STEPS = ("start", "done", "failed")


class EmbeddedEngine:
    """Keeps its state in .slipway/state, in Pulumi's deployment format."""

    name = "embedded"

    def __init__(self, project: Project) -> None:
        self.project = project
        self.folder = project.folder / ".slipway" / "state"

    def state_file(self, stack: str) -> Path:
        return self.folder / f"{stack}.json"

    def export(self, stack: str) -> Deployment | None:
        if not self.state_file(stack).exists() and not (self.folder / f"{stack}.journal").exists():
            return None
        import engine

        with _told():
            return engine.export_state(self.project.folder, stack)

    def replace(self, stack: str, deployment: Deployment) -> None:
        import engine

        with _told():
            engine.import_state(self.project.folder, stack, deployment)

    def run(self, command: Command, stack: str, config: Mapping[str, str], on_event: OnEvent) -> Outcome:
        import engine

        def hear(event: engine.Event) -> None:
            if event.kind in STEPS:
                on_event(Event(kind=event.kind, op=event.op, urn=event.urn, text=event.detail))
            else:  # a log entry with its level, or a line that the program printed
                severity = event.op if event.kind == "log" else "info"
                on_event(Event(kind="message", urn=event.urn, text=event.detail, severity=severity))

        request = engine.Request(
            command=command, project=self.project.folder, stack=stack, config=dict(config), on_event=hear
        )
        with _told():
            result = engine.run(request)
        outputs = {k: "[secret]" if k in result.secret_outputs else v for k, v in result.outputs.items()}
        errors = () if result.ok else result.errors
        return Outcome(ok=result.ok, changes=result.changes, outputs=outputs, errors=errors, exit_code=FAILED)

    def settle(self, stack: str) -> list[str]:
        import engine

        if self.export(stack) is None:
            return []
        with _told():
            return list(engine.settle(self.project.folder, stack))

    def forget(self, stack: str) -> None:
        """Removes the state of an empty stack, and the folders above it when nothing else is in them."""
        for kind in ("json", "journal", "lock", "key"):
            (self.folder / f"{stack}.{kind}").unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another stack has its state here
            self.folder.rmdir()
            self.folder.parent.rmdir()


class _told(contextlib.AbstractContextManager[None]):  # noqa: N801  (used as a statement)
    """The engine's errors with the command's exit codes."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        import engine

        if isinstance(error, engine.Locked):
            raise CliError(str(error), LOCKED) from None
        if isinstance(error, engine.EngineError):
            raise CliError(str(error), REFUSED if isinstance(error, engine.Refused) else FAILED) from None
