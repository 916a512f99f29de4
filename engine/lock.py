"""One run at a time for a stack: a file lock that the kernel drops with the process, and words about who holds it."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.api import EngineError, Locked
from engine.state import now


@contextmanager
def locked(file: Path, command: str) -> Iterator[None]:
    """Raises Locked at once if another process holds it. The file stays: removing it would let two runs in."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as e:
        raise EngineError(
            f"{file}: cannot be written ({e.strerror}). To fix: give this user write permission there"
        ) from e
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _taken(file) from None
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "user": getpass.getuser(), "since": now()}
        os.ftruncate(handle, 0)
        os.pwrite(handle, (json.dumps({**holder, "command": command}) + "\n").encode(), 0)
        yield
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _taken(file: Path) -> Locked:
    try:
        holder = json.loads(file.read_text())
    except ValueError:  # the holder is just writing it
        holder = {}
    who = ", ".join(f"{k} {holder[k]}" for k in ("command", "pid", "user", "host", "since") if k in holder)
    return Locked(
        f"stack '{file.stem}': another run holds it ({who or 'it has only just started'}). "
        "To fix: wait for it, or end that process; its lock goes with it",
        holder,
    )
