"""What the command asks of an engine: one interface over Pulumi's CLI and the embedded engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

Command = Literal["preview", "up", "destroy", "refresh"]
Deployment = dict[str, Any]  # what `pulumi stack export` gives: {"version": 3, "deployment": {…}}


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something happened to a resource, or somebody said something."""

    kind: str  # start, done, failed, message
    op: str = ""
    urn: str = ""
    text: str = ""
    severity: str = "info"

    @property
    def type(self) -> str:
        return self.urn.split("::")[2].rpartition("$")[2] if self.urn.count("::") >= 3 else ""

    @property
    def name(self) -> str:
        return self.urn.split("::", 3)[3] if self.urn.count("::") >= 3 else self.urn


OnEvent = Callable[[Event], None]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended."""

    ok: bool
    changes: Mapping[str, int] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    exit_code: int = 1  # when not ok

    def silent(self) -> Outcome:
        """The same without its outputs, where they were not asked for."""
        return replace(self, outputs={})

    def to_json(self) -> dict[str, object]:
        return {
            "ok": self.ok,
            "changes": dict(self.changes),
            "outputs": dict(self.outputs),
            "errors": list(self.errors),
        }


class Engine(Protocol):
    name: str

    def export(self, stack: str) -> Deployment | None:
        """The stack's deployment; None when this engine knows nothing of the stack."""

    def replace(self, stack: str, deployment: Deployment) -> None:
        """Stores an edited deployment."""

    def run(self, command: Command, stack: str, config: Mapping[str, str], on_event: OnEvent) -> Outcome:
        """Runs to its end; raises where nothing could start."""

    def settle(self, stack: str) -> list[str]:
        """Ends what an interrupted run left pending; a line for each operation."""

    def forget(self, stack: str) -> None:
        """Removes what an empty stack leaves, as far as this engine owns it."""


def resources(deployment: Deployment | None) -> list[dict[str, Any]]:
    """The resources of a deployment, without stack and providers."""
    found = ((deployment or {}).get("deployment") or {}).get("resources") or []
    return [r for r in found if r["type"] != "pulumi:pulumi:Stack" and not r["type"].startswith("pulumi:providers:")]


def pending(deployment: Deployment | None) -> list[dict[str, Any]]:
    found = ((deployment or {}).get("deployment") or {}).get("pending_operations") or []
    return list(found)


def unsettled(deployment: Deployment | None) -> bool:
    """Whether settling has something to do."""
    from engine.settlement import unready

    return bool(pending(deployment)) or unready(resources(deployment))


def outputs(deployment: Deployment | None) -> dict[str, Any]:
    """The stack's outputs as its last update recorded them."""
    for resource in ((deployment or {}).get("deployment") or {}).get("resources") or []:
        if resource["type"] == "pulumi:pulumi:Stack" and not resource.get("delete"):
            return dict(resource.get("outputs") or {})
    return {}
