"""Keeps the keepers: starts supervisord again when it died, and a server whose worker died or that works no more.

One a stack, run by supervisord itself. A server is judged by real inferences and by its worker processes, because
Triton reports itself healthy with a dead Python stub and never starts one again. An overloaded server is not a dead
one: while the count of a model's executions rises it is left alone, for a new start would only lengthen the queue.
Usage: python -m infra.clouds.local.watch ROOT STACK
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from infra.clouds.local import supervision
from infra.clouds.local.kind import LocalError
from infra.clouds.local.machine import dead_worker, running, workers
from infra.clouds.local.probe import ask, executions
from infra.clouds.local.root import Inputs, Root

LOOK_SECONDS = 0.5  # at processes
ASK_SECONDS = 3.0  # real inferences
FAILURES = 3  # in a row before a server that gives no answer is started again
START_SECONDS = 2.0  # whoever starts a server looks after it so long, and has the better error message
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
        self.executions: dict[tuple[int, str], int] = {}  # by pid and probe
        self.workers: dict[int, list[int]] = {}
        self.asked = 0.0

    def look(self) -> bool:
        """One round; False when this watch is over because a new supervisord brings its own."""
        if os.getppid() != self.parent:
            return not self.revive()
        ask_now = time.monotonic() - self.asked >= ASK_SECONDS
        if ask_now:
            self.asked = time.monotonic()
        for name, server in self.root.records("ModelServer").items():
            pid = running(self.root, name)
            if pid is None:
                continue
            age = time.monotonic() - self.since.setdefault(pid, time.monotonic())
            if ask_now or pid not in self.workers:
                self.workers[pid] = workers(pid)
            reason = dead_worker(self.workers[pid]) if age > START_SECONDS else ""
            reason = reason or (self.silent(pid, server) if ask_now else "")
            if reason and supervision.states(self.root).get(name) == "RUNNING":
                say(f"{name}: {reason}; starting it again")
                supervision.restart(self.root, name)
        return True

    def silent(self, pid: int, server: Inputs) -> str:
        """Why a server has to be started again: it has given no answer several times in a row."""
        ports, probes = server["ports"], server["probes"]
        assert isinstance(ports, dict)
        assert isinstance(probes, list)
        for probe in probes:
            answer = ask(ports["http"], probe)
            if answer.dead and not answer.told and self.works(pid, ports["http"], probe):
                self.failures[pid] = 0
                return ""
            if answer.dead:
                young = pid not in self.failures and time.monotonic() - self.since[pid] < GRACE_SECONDS
                if not young:
                    self.failures[pid] = self.failures.get(pid, 0) + 1
                return answer.reason if self.failures.get(pid, 0) >= FAILURES else ""
            if not answer.ok:
                say(f"{server['name']}: {answer.reason}")
        self.failures[pid] = 0
        return ""

    def works(self, pid: int, port: int, probe: dict[str, object]) -> bool:
        """Whether the model has executed batches since it was last asked: then the probe waits in its queue."""
        now = executions(port, probe)
        if now is None:
            return False
        key = (pid, str(probe["path"]))
        before = self.executions.get(key)
        self.executions[key] = now
        return before is not None and now > before

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
