"""Programs that start with their packages imported: one process a Python keeps them, each program is a fork of it."""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

ZYGOTE = Path(__file__).with_name("zygote.py")
# What an imported package may have looked at: programs that differ in it share no process.
LOOKED_AT = ("PYTHON", "LD_", "GRPC_", "OPENBLAS_", "OMP_", "MKL_")
GONE = -signal.SIGKILL  # exit status of what ended with its process
Key = tuple[str, ...]


class Fork:
    """A program that runs; like a process as far as the engine needs one."""

    def __init__(self, nest: Nest, pid: int) -> None:
        self._nest = nest
        self._code: int | None = None
        try:
            self._handle: int | None = os.pidfd_open(pid)
        except ProcessLookupError:  # it has ended by now
            self._handle = None

    def wait(self) -> int:
        if self._code is None:
            self._code = self._nest.answer("code")
            if self._handle is not None:
                os.close(self._handle)
                self._handle = None
            self._nest.busy.release()
        return self._code

    def kill(self) -> None:
        if self._code is None and self._handle is not None:
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)


class Nest:
    """The process that keeps the packages; runs one program at a time."""

    def __init__(self, python: str, folder: Path, env: Mapping[str, str]) -> None:
        self.busy = threading.Lock()
        self._control, end = socket.socketpair()
        with end:
            self._process = subprocess.Popen(
                [python, "-u", str(ZYGOTE), str(end.fileno())],
                cwd=folder,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                process_group=0,
                pass_fds=(end.fileno(),),
            )
        self._answers = self._control.makefile("rb")

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def start(self, arguments: Sequence[str], folder: Path, env: Mapping[str, str], out: int) -> Fork | None:
        """The caller holds `busy`; the end of the program gives it back. None where this process was ended."""
        order = {"args": list(arguments), "cwd": str(folder), "env": dict(env)}
        text = json.dumps(order).encode() + b"\n"
        try:
            sent = socket.send_fds(self._control, [text], [out])
            self._control.sendall(text[sent:])
            pid = self.answer("pid")
        except OSError:
            pid = GONE
        if pid == GONE:
            self._process.wait()
            return None
        return Fork(self, pid)

    def answer(self, name: str) -> int:
        line = self._answers.readline()
        if not line:  # the process was ended, and what it ran with it
            return GONE
        return int(json.loads(line)[name])

    def close(self) -> None:
        self._answers.close()
        self._control.close()
        self._process.wait()


_nests: dict[Key, Nest] = {}
_lock = threading.Lock()


def free(python: str, folder: Path, env: Mapping[str, str]) -> Nest | None:
    """The nest of this Python, held for the caller; None while another program of it runs."""
    key = (python, *sorted(f"{k}={x}" for k, x in env.items() if k.startswith(LOOKED_AT)))
    with _lock:
        nest = _nests.get(key)
        if nest is None or not nest.alive:
            nest = _nests[key] = Nest(python, folder, env)
        return nest if nest.busy.acquire(blocking=False) else None


@atexit.register
def _close() -> None:
    for nest in _nests.values():
        nest.close()
