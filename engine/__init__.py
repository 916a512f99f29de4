"""The embedded engine: runs the same Pulumi program where the Pulumi CLI is not installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.api import Diagnostic, EngineError, Event, Locked, Refused, Request, Result, Step

if TYPE_CHECKING:
    from engine.runner import export_state, import_state, run, settle
    from engine.settlement import settle_deployment

__all__ = [
    "Diagnostic",
    "EngineError",
    "Event",
    "Locked",
    "Refused",
    "Request",
    "Result",
    "Step",
    "export_state",
    "import_state",
    "run",
    "settle",
    "settle_deployment",
]
# These load gRPC and the SDK, which takes a quarter of a second.
_RUNNER = ("run", "settle", "export_state", "import_state")
_LATER = {**dict.fromkeys(_RUNNER, "engine.runner"), "settle_deployment": "engine.settlement"}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module 'engine' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_LATER[name]), name)
