"""Keeps one server: starts it or takes over the running one, passes signals on, ends with it. Standard library only.

supervisord runs this, not the server itself, because a server has to outlive both: after `kill -9` of supervisord or
of this process the server goes on serving, and the next keeper takes it over by its record (pid and start time).
Usage: keep.py ROOT NAME      (reads ROOT/programs/NAME.json)
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

PR_SET_PDEATHSIG = 1  # prctl(2)
STEADY_SECONDS = 1.0  # a server that ran longer is started again at once
LOG_BYTES = 10_000_000  # a longer log is set aside when its server starts again


def start_time(pid: int) -> str | None:
    """When a process started (proc(5), field 22), None when it is gone or a zombie; names a process with its pid."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]


def recorded(record: Path) -> dict[str, object]:
    """The record of the running server, {} when there is none."""
    try:
        value = json.loads(record.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    pid = value.get("pid")
    return value if isinstance(pid, int) and start_time(pid) == value.get("started") else {}


class Keeper:
    """One server and its signals."""

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name = root, name
        text = (root / "programs" / f"{name}.json").read_bytes()
        self.program = json.loads(text)
        self.digest = hashlib.sha256(text).hexdigest()
        self.record = root / "run" / f"{name}.json"
        self.wake, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)

    def spawn(self) -> int:
        log = self.root / "log" / f"{self.name}.log"
        if log.exists() and log.stat().st_size > LOG_BYTES:
            os.replace(log, log.with_suffix(".log.1"))
        with open(log, "ab") as out:
            child = subprocess.Popen(
                self.program["command"],
                env=self.program["env"],
                cwd=self.program["cwd"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=self.sign,
            )
        return child.pid

    def sign(self) -> None:
        """In the child, before the server: its record exists before it can hold a port."""
        pid = os.getpid()
        beside = self.record.with_suffix(".tmp")
        beside.write_text(json.dumps({"pid": pid, "started": start_time(pid), "program": self.digest}))
        os.replace(beside, self.record)

    def end(self, pid: int) -> None:
        """Asks the server to stop, then insists."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, getattr(signal, self.program["stop_signal"]))
        deadline = time.monotonic() + self.program["stop_seconds"]
        with opened(pid) as process:
            if process is not None and not select.select([process], [], [], max(0.0, deadline - time.monotonic()))[0]:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
                select.select([process], [], [], 5)

    def clean(self, pid: int) -> None:
        """What a server can leave behind: processes of its session, shared memory of its prefix, its record."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        if prefix := self.program.get("shm_prefix"):
            for left in Path("/dev/shm").glob(f"{prefix}*"):
                left.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)

    def keep(self) -> int:
        """Until we are told to stop it (0), or it ends so soon that supervisord had better wait first (1)."""
        running = recorded(self.record)
        pid = running.get("pid")
        if isinstance(pid, int) and running.get("program") != self.digest:  # asked for something else since
            self.end(pid)
            self.clean(pid)
            pid = None
        while True:
            began = time.monotonic()
            if not isinstance(pid, int):
                pid = self.spawn()
            if self.told_to_stop(pid):
                self.end(pid)
                self.clean(pid)
                return 0
            code = reap(pid)
            self.clean(pid)
            print(f"{time.strftime('%F %T')} {self.name}: process {pid} ended by itself ({code})", flush=True)
            with open(self.root / "run" / f"{self.name}.exits", "a") as f:
                f.write(f"{time.time():.3f} {code}\n")
            if time.monotonic() - began < STEADY_SECONDS:
                return 1
            pid = None

    def told_to_stop(self, pid: int) -> bool:
        """Waits for a signal (True) or for the end of the server (False)."""
        with opened(pid) as process:
            if process is None or process in select.select([process, self.wake], [], [])[0]:
                return False
            os.read(self.wake, 64)
            return True


@contextlib.contextmanager
def opened(pid: int):  # type: ignore[no-untyped-def]
    """A descriptor that becomes readable when the process ends, or None when it has ended."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield process
    finally:
        os.close(process)


def reap(pid: int) -> str:
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:  # taken over: another parent learns its status
        return "exit status unknown"
    code = os.waitstatus_to_exitcode(status)
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit {code}"


def main() -> int:
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # the next supervisord brings its own keeper
    if os.getppid() != parent:
        return 1
    root, name = Path(sys.argv[1]), sys.argv[2]
    lock: IO[str]
    with open(root / "run" / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # not two keepers of one server
        os.set_inheritable(lock.fileno(), False)
        return Keeper(root, name).keep()


if __name__ == "__main__":
    sys.exit(main())
