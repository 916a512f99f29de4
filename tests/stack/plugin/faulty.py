"""The slipway provider with one fault: its n-th change fails, or kills the engine, before or after it was carried out.

SLIPWAY_TEST_FAULT is `fail:before:3`, `kill:after:2` and so on; without it the provider is as it is.
"""

# ruff: noqa: N802  (method names are the protocol's)
from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import grpc

from infra.clouds.local import plugin
from infra.clouds.local.provider import LocalProvider


def kill_engine() -> NoReturn:
    """SIGKILL for the engine and for this plugin, so that nothing goes on by itself."""
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("alive after SIGKILL")


class Faulty(LocalProvider):
    def __init__(self, fault: str) -> None:
        super().__init__()
        kind, self.when, number = fault.split(":")
        self.kill, self.number = kind == "kill", int(number)
        self.count, self.lock = 0, threading.Lock()

    def _strike(self, context: grpc.ServicerContext) -> None:
        if self.kill:
            kill_engine()
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"injected fault {self.when} change {self.number}")

    def _change(self, act: Callable[[Any, Any], Any], request: Any, context: grpc.ServicerContext) -> Any:
        if getattr(request, "preview", False):
            return act(request, context)
        with self.lock:
            self.count += 1
            mine = self.count == self.number
        if mine and self.when == "before":
            self._strike(context)
        result = act(request, context)
        if mine:
            self._strike(context)
        return result

    def Create(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._change(super().Create, request, context)

    def Update(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._change(super().Update, request, context)

    def Delete(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._change(super().Delete, request, context)


if __name__ == "__main__":
    wanted = os.environ.get("SLIPWAY_TEST_FAULT")
    plugin.main(Faulty(wanted) if wanted else None)
