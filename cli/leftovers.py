"""What a stack may have left on this machine: processes, files, sockets, shared memory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

GRACE_S = 8.0  # a server that was told to end may need this long to be gone (Triton: 3.3-4.7 s measured)
SHOWN = 10


def wait_until_gone(root: Path, stack: str) -> list[str]:
    """What is left after a moment of grace; [] when nothing is."""
    deadline = time.monotonic() + GRACE_S
    while found := list(leftovers(root, stack)):
        if time.monotonic() > deadline:
            return found
        time.sleep(0.2)
    return found


def leftovers(root: Path, stack: str) -> Iterator[str]:
    yield from _processes(root)
    yield from _files(root)
    yield from _shared_memory(root, stack)


def _processes(root: Path) -> Iterator[str]:
    """Processes that name the stack's folder in their command, or stand in it."""
    import psutil

    inside = f"{root}{os.sep}"
    own = {os.getpid(), *(p.pid for p in psutil.Process().parents())}
    for process in psutil.process_iter(["pid", "cmdline", "cwd", "status"]):
        about = process.info
        if about["pid"] in own or about["status"] == psutil.STATUS_ZOMBIE:
            continue
        command = " ".join(about["cmdline"] or [])
        if inside in f"{command}{os.sep}" or f"{about['cwd'] or ''}{os.sep}".startswith(inside):
            yield f"process {about['pid']}: {command:.100}"


def _files(root: Path) -> Iterator[str]:
    if root.is_symlink() or root.is_file():
        yield f"file {root}"
    if not root.is_dir():
        return
    found = [root, *sorted(root.rglob("*"))]
    for path in found[:SHOWN]:
        kind = "socket" if path.is_socket() else "folder" if path.is_dir() else "file"
        yield f"{kind} {path}"
    if len(found) > SHOWN:
        yield f"{len(found) - SHOWN} more in {root}"


def _shared_memory(root: Path, stack: str) -> Iterator[str]:
    from infra.clouds.local.root import Root

    prefix = Root(path=root, stack=stack).shm_prefix
    for path in sorted(Path("/dev/shm").glob(f"{prefix}*")):
        yield f"shared memory {path}"
