"""Writing so that a reader finds the old or the new, never a part; and the place where tests pull the plug."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from engine.api import EngineError


class Crash:
    """Kills the process around the N-th write of state: tests walk every N."""

    def __init__(self, at: str | None) -> None:
        when, _, n = (at or "").partition(":")
        if at and (when not in ("before", "after") or not n.isdigit()):
            raise EngineError(f"crash_at: '{at}' is no place; allowed: before:N, after:N")
        self.when, self.n, self.count = when, int(n or 0), 0

    def point(self, when: str) -> None:
        self.count += when == "before"
        if when == self.when and self.count == self.n:
            os.kill(os.getpid(), signal.SIGKILL)


def write_whole(file: Path, text: str) -> bytes:
    """Writes a file so that at any moment the old or the new one is there in full."""
    temporary = file.with_name(file.name + ".new")
    raw = text.encode()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as out:
            out.write(raw)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(file)
        sync_folder(file.parent)
    except OSError as e:
        raise EngineError(f"{file}: cannot be written ({e.strerror}); the state on disk is as it was") from e
    return raw


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
