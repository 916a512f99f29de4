"""Keeps the keepers: starts supervisord again when it died, and a server whose worker died or that answers no more.

One a stack, run by supervisord itself. A server is judged by real inferences and by its worker processes, because
Triton reports itself healthy with a dead Python stub and never starts one again.
Usage: python -m infra.clouds.local.watch ROOT STACK
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from infra.clouds.local import supervision
from infra.clouds.local.kind import LocalError
from infra.clouds.local.machine import running
from infra.clouds.local.probe import ask
from infra.clouds.local.root import Inputs, Root, read_json

LOOK_SECONDS = 0.5  # at processes
ASK_SECONDS = 3.0  # real inferences
FAILURES = 3  # in a row before a server that gives no answer is started again
LOG_BYTES = 1_000_000
GRACE_SECONDS = 120.0  # for a server that has not answered yet since it started


def say(text: str) -> None:
    print(f"{time.strftime('%F %T')} {text}", flush=True)


class Watch:
    """The state of one look after the other."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self.parent = os.getppid()
        self.failures: dict[int, int] = {}  # by pid: a server that was started again begins anew
        self.since: dict[int, float] = {}
        self.asked = 0.0

    def look(self) -> bool:
        """One round; False when this watch is over because a new supervisord brings its own."""
        if os.getppid() != self.parent:
            return not self.revive()
        ask_now = time.monotonic() - self.asked >= ASK_SECONDS
        if ask_now:
            self.asked = time.monotonic()
        for path in sorted((self.root.path / "programs").glob("*.json")):
            program = read_json(path)
            pid = running(self.root, path.stem)
            if program is None or pid is None or not program["probes"]:
                continue
            self.since.setdefault(pid, time.monotonic())
            reason = dead_worker(pid) or (self.silent(pid, program) if ask_now else "")
            if reason and supervision.states(self.root).get(path.stem) == "RUNNING":
                say(f"{path.stem}: {reason}; starting it again")
                supervision.restart(self.root, path.stem)
        return True

    def silent(self, pid: int, program: Inputs) -> str:
        """Why a server has to be started again: it has given no answer several times in a row."""
        ports, probes = program["ports"], program["probes"]
        assert isinstance(ports, dict)
        assert isinstance(probes, list)
        for probe in probes:
            answer = ask(ports["http"], probe)
            if answer.dead:
                young = pid not in self.failures and time.monotonic() - self.since[pid] < GRACE_SECONDS
                if not young:
                    self.failures[pid] = self.failures.get(pid, 0) + 1
                return answer.reason if self.failures.get(pid, 0) >= FAILURES else ""
            if not answer.ok:
                say(f"{program['name']}: {answer.reason}")
        self.failures[pid] = 0
        return ""

    def revive(self) -> bool:
        """supervisord is gone: start it again. True when one runs."""
        if not self.root.ours:
            return True  # the stack was destroyed
        say("supervisord is gone; starting it again")
        try:
            supervision.start(self.root)
        except LocalError as failure:
            say(str(failure))
            time.sleep(2)
            return False
        return True


def dead_worker(pid: int) -> str:
    """A child of the server that ended and that nobody reaps."""
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children():
            with suppress(psutil.NoSuchProcess):
                if child.status() == psutil.STATUS_ZOMBIE:
                    time.sleep(0.2)  # a server that reaps its children has done so by then
                    if child.is_running() and child.status() == psutil.STATUS_ZOMBIE:
                        return f"its worker process {child.pid} has died"
    return ""


def write_to(log: Path) -> None:
    """Into a file of our own: a pipe to supervisord would break just when there is something to say."""
    if log.exists() and log.stat().st_size > LOG_BYTES:
        os.replace(log, log.with_suffix(".log.1"))
    with open(log, "ab") as f:
        os.dup2(f.fileno(), 1)
        os.dup2(f.fileno(), 2)


def main() -> None:
    watch = Watch(Root(path=Path(sys.argv[1]), stack=sys.argv[2]))
    write_to(watch.root.log("watch"))
    while watch.look():
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    main()
