"""Talks to the child that runs the engine; starts another one when a fault rule killed it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import psutil

from cli.engines.base import Deployment, Event, OnEvent
from cli.errors import CliError
from cli.rehearsal.place import MARK, Place

KILLED = -9


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How one run of the engine ended."""

    ok: bool
    errors: tuple[str, ...] = ()
    outputs: Mapping[str, Any] = field(default_factory=dict)


class Child:
    """Of one rehearsal; what it started is ended with it, whoever is its parent by then."""

    def __init__(self, place: Place, engine: str) -> None:
        self.place, self.engine = place, engine
        self.process: subprocess.Popen[str] | None = None
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed with the child)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None:
            self._close(self.process)
        self._end_all()
        self.said.close()

    def run(
        self, command: str, stack: str, config: Mapping[str, str], faults: list[dict[str, Any]], hear: OnEvent
    ) -> Ended:
        order = {"do": "run", "command": command, "config": dict(config), "faults": faults}
        answer = self._ask({**order, "project": str(self.place.project.folder), "stack": stack}, hear)
        return _ended(answer)

    def export(self, stack: str) -> Deployment | None:
        order = {"do": "export", "project": str(self.place.project.folder), "stack": stack}
        answer = self._ask(order, lambda event: None)
        found: Deployment | None = (answer or {}).get("deployment")
        return found

    def render(self, stack: str, config: Mapping[str, str]) -> dict[str, Any]:
        order = {"do": "render", "config": dict(config), "project": str(self.place.project.folder), "stack": stack}
        answer = self._ask(order, lambda event: None)
        assert answer is not None
        return answer

    def prove(self, nonce: str) -> None:
        """Before anything else: the engine is asked, by a program of its own, which providers it starts."""
        order = {"do": "run", "command": "up", "config": {}, "faults": [], "project": str(self.place.probe)}
        ended = _ended(self._ask({**order, "stack": "probe"}, lambda event: None))
        from simulators import CLOUDS

        strange = [cloud for cloud in CLOUDS if ended.outputs.get(cloud) != nonce]
        if not ended.ok or strange:
            raise CliError(
                [
                    f"the providers that the engine starts could not be proven to be simulators "
                    f"({', '.join(strange) or 'the probe failed'}): nothing was rehearsed",
                    *ended.errors,
                ]
            )

    def _ask(self, order: Mapping[str, Any], hear: OnEvent) -> dict[str, Any] | None:
        """The answer; None when the child was killed before it gave one."""
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            answer = json.loads(line)
            if "event" in answer:
                hear(Event(**answer["event"]))
            elif "refused" in answer:
                raise CliError(answer["refused"], answer["code"])
            else:
                done: dict[str, Any] = answer["done"]
                return done
        self._close(process)
        code, self.process = process.returncode, None
        self._end_all()
        if code != KILLED:
            self.said.seek(0)
            raise RuntimeError(f"the engine of the rehearsal ended with code {code}\n{self.said.read()[-4000:]}")
        return None

    def _started(self) -> subprocess.Popen[str]:
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "cli.rehearsal.worker", str(self.place.world), self.engine],
                cwd=self.place.folder,
                env=dict(self.place.env),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.said,
                text=True,
            )
        return self.process

    def _close(self, process: subprocess.Popen[str]) -> None:
        """It ends when its orders end."""
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def _end_all(self) -> None:
        """Processes of this rehearsal that lost their parent: known by the nonce in their environment."""
        ours = [p for p in psutil.process_iter() if _marked(p, self.place.env[MARK])]
        for process in ours:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(ours, timeout=5)


def _marked(process: psutil.Process, nonce: str) -> bool:
    try:
        return bool(process.environ().get(MARK) == nonce)
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return False


def _ended(answer: Mapping[str, Any] | None) -> Ended:
    if answer is None:
        return Ended(ok=False, errors=("the engine was killed",))
    outcome = answer["outcome"]
    return Ended(ok=outcome["ok"], errors=tuple(outcome["errors"]), outputs=outcome["outputs"])
