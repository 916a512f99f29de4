"""What this machine runs: processes by record, and who holds a port."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

import psutil

from infra.clouds.local.keep import recorded, start_time
from infra.clouds.local.root import Root

COMPLAINT = re.compile(r"^E\d{4} |[Ee]rror|Exception|critical|Fatal|Can't|failed to", re.MULTILINE)


def running(root: Root, name: str) -> int | None:
    """The pid of a program's server, or None when it does not run."""
    pid = recorded(root.run(name)).get("pid")
    return pid if isinstance(pid, int) else None


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    return start_time(pid) is not None


def end(pid: int, seconds: float, *, group: bool = False) -> None:
    """Ends a process: SIGTERM, then SIGKILL after `seconds`."""
    started = start_time(pid)
    if started is None:
        return
    send = os.killpg if group else os.kill
    with suppress(ProcessLookupError):
        send(pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while start_time(pid) == started and time.monotonic() < deadline:
        time.sleep(0.05)
    if start_time(pid) == started:
        with suppress(ProcessLookupError):
            send(pid, signal.SIGKILL)
        while start_time(pid) == started and time.monotonic() < deadline + 5:
            time.sleep(0.02)


def free(port: int) -> bool:
    """Whether a server could bind the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def holder(port: int) -> str:
    """Who holds a port, for an error message."""
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and tuple(connection.laddr)[1:] == (port,):
            if connection.pid is None:
                return "a process of another user"
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(connection.pid)
                command = " ".join(process.cmdline()) or process.name()
                return f"process {connection.pid} ({command:.120})"
    return "a process that is just ending"


def answers(port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        with socket.create_connection(("127.0.0.1", port), 0.5):
            return True
    except OSError:
        return False


def tail(path: Path, lines: int = 15) -> str:
    """The end of a log, for an error message: its complaints where there are any, else its last lines."""
    if not path.is_file():
        return "(no log)"
    with open(path, "rb") as f:
        f.seek(max(0, path.stat().st_size - 65_536))
        text = f.read().decode(errors="replace").splitlines()
    text = [line for line in text if not line.startswith(("|", "+--")) and line.strip()]  # Triton's tables
    complaints = list(dict.fromkeys(line for line in text if COMPLAINT.search(line)))
    return "\n".join((complaints or text)[-lines:])


def remove_shared_memory(prefix: str) -> None:
    for left in Path("/dev/shm").glob(f"{prefix}*"):
        left.unlink(missing_ok=True)


def workers(pid: int) -> list[int]:
    """The processes that a server started; reads every process of the machine, so not to be asked all the time."""
    with suppress(psutil.NoSuchProcess):
        return [child.pid for child in psutil.Process(pid).children()]
    return []


def dead_worker(pids: list[int]) -> str:
    """A worker that ended and that its server does not reap, as one that looks would have done a moment later."""
    for pid in pids:
        if _zombie(pid):
            time.sleep(0.2)
            if _zombie(pid):
                return f"its worker process {pid} has died"
    return ""


def _zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
