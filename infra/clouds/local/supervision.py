"""supervisord of one stack: start it, give it programs, ask it what runs."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
import xmlrpc.client
from dataclasses import asdict, dataclass
from pathlib import Path

from infra.clouds.local import keep
from infra.clouds.local.kind import LocalError
from infra.clouds.local.machine import alive, end, remove_shared_memory, running, tail
from infra.clouds.local.root import Root, read_json, write_text

START_SECONDS = 60.0  # measured: 0.4 s idle, more where the cores are busy
KEEPER_SECONDS = 5  # beyond the server's own stop time
_PYTHON = [sys.executable, "-I", "-S"]

_SUPERVISORD = """\
[unix_http_server]
file=%(here)s/s.sock
chmod=0700
[supervisord]
logfile=%(here)s/log/supervisord.log
logfile_maxbytes=2MB
logfile_backups=1
pidfile=%(here)s/supervisord.pid
childlogdir=%(here)s/log
nodaemon=true
minfds=1024
identifier={identifier}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://%(here)s/s.sock
[include]
files=%(here)s/conf.d/*.conf
"""

_PROGRAM = """\
; {digest}
[program:{name}]
command={command}
autorestart=true
startsecs={start_seconds}
startretries=1000000
stopsignal=TERM
stopwaitsecs={stop_seconds}
redirect_stderr=true
stdout_logfile={log}
stdout_logfile_maxbytes=1MB
stdout_logfile_backups=0
"""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A server to keep running: what its keeper reads."""

    name: str
    command: list[str]
    env: dict[str, str]
    cwd: str
    stop_signal: str = "SIGTERM"
    stop_seconds: float = 10.0
    shm_prefix: str = ""
    ports: dict[str, int]


class _Unix(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def make_connection(self, host: object) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("localhost", timeout=60)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection = (str(host), connection)  # what close() closes
        connection.sock.settimeout(60)
        connection.sock.connect(str(self.path))
        return connection


def call(root: Root, method: str, *arguments: object) -> object:
    """One question to supervisord; OSError or HTTPException when it is not there, Fault when it refuses."""
    transport = _Unix(root.socket)
    with xmlrpc.client.ServerProxy("http://localhost/RPC2", transport=transport, allow_none=True) as server:
        return getattr(server.supervisor, method)(*arguments)


def pid(root: Root) -> int | None:
    """The pid of a supervisord that answers, or None."""
    try:
        value = call(root, "getPID")
    except (OSError, http.client.HTTPException, xmlrpc.client.Error):
        return None
    return value if isinstance(value, int) else None


def configuration(root: Root) -> str:
    return _SUPERVISORD.format(identifier=f"slipway-{root.stack}")


def start(root: Root) -> int:
    """The pid of the running supervisord, started when there is none: in its own session, child of init."""
    with root.lock():
        found = pid(root)
        if found is not None:
            return found
        root.socket.unlink(missing_ok=True)
        write_text(root.path / "supervisord.conf", configuration(root))
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(root.path / "supervisord.conf")]
        with open(root.log("supervisord.out"), "ab") as out:
            launch = [*_PYTHON, "-c", _DETACH, *command]
            subprocess.run(launch, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=True, cwd=root.path)
        deadline = time.monotonic() + START_SECONDS
        while (found := pid(root)) is None:
            if time.monotonic() > deadline:
                reason = tail(root.log("supervisord.out"))
                raise LocalError(f"supervisord did not answer within {START_SECONDS:.0f} s:\n{reason}")
            time.sleep(0.05)
        return found


# Starts a command whose parent is gone at once, so that init, not a plugin that may live for minutes, reaps it.
_DETACH = "import os, subprocess, sys; subprocess.Popen(sys.argv[1:], start_new_session=True, stdin=subprocess.DEVNULL)"


def rendered(root: Root, program: Program) -> tuple[str, str]:
    """The two files of a program: the keeper's and supervisord's."""
    spec = json.dumps(asdict(program), sort_keys=True, indent=1)
    digest = hashlib.sha256(spec.encode()).hexdigest()[:16]
    command = [*_PYTHON, str(Path(keep.__file__).resolve()), str(root.path), program.name]
    conf = _PROGRAM.format(
        name=program.name,
        digest=digest,
        command=" ".join(_quoted(c) for c in command),
        start_seconds=1,
        stop_seconds=int(program.stop_seconds) + KEEPER_SECONDS,
        log=str(root.log(f"{program.name}.keeper")).replace("%", "%%"),
    )
    return spec, conf


def _quoted(argument: str) -> str:
    """For supervisord: shlex splits the command, and % starts an expansion."""
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def stale(root: Root, program: Program) -> list[str]:
    """Which of a program's files differ from what they should say."""
    spec, conf = rendered(root, program)
    found = []
    for path, text in ((root.program(program.name), spec), (root.conf(program.name), conf)):
        if not path.is_file() or path.read_text() != text:
            found.append(f"{path.relative_to(root.path)} was changed or removed")
    return found


def supervise(root: Root, program: Program) -> None:
    """supervisord runs this program as written; others are not touched. Nothing happens when it already does."""
    changed = bool(stale(root, program))
    start(root)
    with root.lock():
        spec, conf = rendered(root, program)
        if changed:
            (root.path / "run" / f"{program.name}.exits").unlink(missing_ok=True)
            write_text(root.program(program.name), spec)
            write_text(root.conf(program.name), conf)
        call(root, "reloadConfig")
        state = states(root).get(program.name)
        if changed and state is not None:
            stop(root, program.name)
            call(root, "removeProcessGroup", program.name)
            state = None
        if state is None:
            call(root, "addProcessGroup", program.name)
        elif state not in ("RUNNING", "STARTING", "BACKOFF"):
            call(root, "startProcess", program.name, False)


def states(root: Root) -> dict[str, str]:
    """Program -> supervisord's word for it; empty when supervisord does not answer."""
    try:
        infos = call(root, "getAllProcessInfo")
    except (OSError, http.client.HTTPException):
        return {}
    assert isinstance(infos, list)
    return {info["name"]: info["statename"] for info in infos}


def pids(root: Root) -> dict[str, int]:
    """Program -> pid of what supervisord started for it (a server's keeper, or the watch itself)."""
    try:
        infos = call(root, "getAllProcessInfo")
    except (OSError, http.client.HTTPException):
        return {}
    assert isinstance(infos, list)
    return {info["name"]: info["pid"] for info in infos if info["pid"]}


def stop(root: Root, name: str) -> None:
    """Stops a program and waits for its end."""
    try:
        call(root, "stopProcess", name, False)
    except xmlrpc.client.Fault as fault:
        if "NOT_RUNNING" not in fault.faultString:
            raise
    while states(root).get(name) not in (None, "STOPPED", "EXITED", "FATAL", "UNKNOWN"):
        time.sleep(0.05)


def restart(root: Root, name: str) -> None:
    """Kills a server that is beyond asking; its keeper ends and supervisord starts both again."""
    server = running(root, name)
    if server is not None:
        os.killpg(server, 9)


def unsupervise(root: Root, name: str) -> None:
    """The program is gone from supervisord, from the machine and from the disk; fine when it already is."""
    program = read_json(root.program(name)) or {}
    if pid(root) is not None:
        if name in states(root):
            stop(root, name)
        with root.lock():
            root.conf(name).unlink(missing_ok=True)
            call(root, "reloadConfig")
            if name in states(root):
                call(root, "removeProcessGroup", name)
    server_pid = running(root, name)
    if server_pid is not None:  # supervisord was not there to stop it
        end(server_pid, float(str(program.get("stop_seconds", 10.0))))
        if alive(server_pid):
            raise LocalError(f"process {server_pid} of {name} does not end")
    if prefix := program.get("shm_prefix"):
        remove_shared_memory(str(prefix))
    for left in (root.conf(name), root.program(name), root.run(name), *(root.path / "run").glob(f"{name}.*")):
        left.unlink(missing_ok=True)


def exits(root: Root, name: str) -> list[str]:
    """How a program's server ended by itself since it was last set up."""
    path = root.path / "run" / f"{name}.exits"
    return [line.partition(" ")[2] for line in path.read_text().splitlines()] if path.is_file() else []
