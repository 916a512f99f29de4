"""What can be known before anything starts: folder, disk, memory, servers, libraries, ports. All of it together."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from infra.clouds.local import servers
from infra.clouds.local.kind import Fault
from infra.clouds.local.machine import free, holder, running
from infra.clouds.local.root import Root, read_json

SOCKET_BYTES = 100  # unix(7): 108 with the final zero; supervisord adds ".<pid>" while it binds
DISK_MIB = 512  # model files, Redis' append-only file and logs of a small stack
SHM_MIB = 64  # 1 MiB a model instance (measured), and room to grow


def preflight(root: Root, ports: Mapping[str, int]) -> list[Fault]:
    """Every problem of this machine for this stack; [] means that `up` can start."""
    return [*root_faults(root), *machine_faults(root), *port_faults(root, ports)]


def root_faults(root: Root) -> list[Fault]:
    found = []
    length = len(os.fsencode(root.socket)) + len(".4194304")
    if length > SOCKET_BYTES:
        reason = f"{root.socket} makes a socket path of {length} bytes; a UNIX socket takes {SOCKET_BYTES}."
        found.append(Fault(path="root", reason=reason, fix="move the project to a shorter path."))
    above = existing(root.path)
    if not os.access(above, os.W_OK | os.X_OK):
        reason = f"no permission to write in {above}."
        found.append(Fault(path="root", reason=reason, fix=f"run as the owner of {above}, or change its permissions."))
    if root.path.exists() and not root.ours and (not root.path.is_dir() or any(root.path.iterdir())):
        reason = f"{root.path} holds files that are not of a Slipway stack."
        found.append(Fault(path="root", reason=reason, fix="move them away, or give the stack another name."))
    return found


def machine_faults(root: Root) -> list[Fault]:
    found = servers.faults()
    for path, least, what in ((existing(root.path), DISK_MIB, "disk"), (Path("/dev/shm"), SHM_MIB, "shared memory")):
        left = shutil.disk_usage(path).free >> 20
        if left < least:
            reason = f"{left} MiB are left on {path}; the stack needs {least}."
            found.append(Fault(path=what, reason=reason, fix=f"free {least - left} MiB there."))
    return found


def port_faults(root: Root, ports: Mapping[str, int]) -> list[Fault]:
    """Fixed ports that somebody else holds."""
    own = own_ports(root)
    return [
        Fault(
            path=f"port {port} ({name})",
            reason=f"is in use by {holder(port)}.",
            fix="end that process, or give this stack other ports: pulumi config set slipway:port <first port>.",
        )
        for name, port in ports.items()
        if port not in own and not free(port)
    ]


def own_ports(root: Root) -> dict[int, str]:
    """Ports of programs of this stack that run now."""
    found = {}
    for path in sorted((root.path / "programs").glob("*.json")):
        program = read_json(path)
        ports = None if program is None else program.get("ports")
        if isinstance(ports, dict) and running(root, path.stem) is not None:
            found.update(dict.fromkeys(ports.values(), path.stem))
    return found


def existing(path: Path) -> Path:
    """The nearest folder above that exists."""
    while not path.exists():
        path = path.parent
    return path
