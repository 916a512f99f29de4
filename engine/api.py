"""What callers of the engine see: the request, the result, events and errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pulumi.runtime.proto.provider_pb2_grpc import ResourceProviderServicer

    from engine.goals import Goal

Command = Literal["up", "preview", "destroy", "refresh"]


class EngineError(Exception):
    """The run cannot start or go on; the message says why and what to do."""


class Refused(EngineError):  # noqa: N818  (it is what the engine did)
    """Asked for something that only Pulumi itself does, or a real cloud."""


class Locked(EngineError):  # noqa: N818
    """Another run holds the stack."""

    def __init__(self, message: str, holder: Mapping[str, object]) -> None:
        super().__init__(message)
        self.holder = dict(holder)


@dataclass(frozen=True, kw_only=True)
class Event:
    """kind: `start` and `done` and `failed` of a step, `log` (op is the level), `out` (a line the program printed)."""

    kind: str
    at: float
    op: str = ""
    urn: str = ""
    type: str = ""
    name: str = ""
    detail: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Step:
    op: str
    urn: str
    ok: bool = True
    keys: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Diagnostic:
    severity: str
    message: str
    urn: str = ""


@dataclass(frozen=True, kw_only=True)
class Request:
    """`crash_at` is for tests: `before:N` or `after:N` kills the process around the N-th write of state.

    `on_goal` hears of each resource as the program declares it, inputs and options. `warm` keeps the packages that
    programs import in a process of their own, from which later runs fork: for who runs many programs.
    """

    command: Command
    project: Path
    stack: str
    state_dir: Path | None = None
    config: Mapping[str, str] | None = None
    parallel: int = 16
    continue_on_error: bool = False
    expect_no_changes: bool = False
    settle: bool = False
    providers: Mapping[str, ResourceProviderServicer | Callable[[], ResourceProviderServicer]] | None = None
    on_event: Callable[[Event], None] | None = None
    on_goal: Callable[[Goal], None] | None = None
    crash_at: str | None = None
    organization: str = "organization"
    warm: bool = False
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Result:
    """`outputs` are plain values, secrets opened; `secret_outputs` names those that hold one."""

    ok: bool
    changes: Mapping[str, int]
    steps: tuple[Step, ...]
    outputs: Mapping[str, object]
    diagnostics: tuple[Diagnostic, ...]
    secret_outputs: tuple[str, ...] = ()
    settled: tuple[str, ...] = ()

    @property
    def errors(self) -> tuple[str, ...]:
        return tuple(d.message for d in self.diagnostics if d.severity == "error")
