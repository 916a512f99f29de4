"""What a container needs to run as a pod: probes, resources, files, writable folders, drain: plain data.

Values of `env` and of `init.env` are passed on untouched: text, a mapping such as {"valueFrom": …}, or an object that
only the caller understands (a resource's output).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Check:
    """A health check of the kubelet: a path, a command, or a connection alone."""

    port: str  # name of a container port
    path: str | None
    period_s: int
    failures: int
    timeout_s: int = 2
    command: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A writable folder of the pod, empty at its start."""

    mib: int
    memory: bool = False  # else the node's disk


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Requests, which are the limits as well: the machine is planned for just these pods.

    Of a machine whose size the catalogue does not say a little is asked for, and nothing limited but the disk.
    """

    cpu_milli: int
    memory_mib: int  # folders in memory included
    disk_mib: int
    limited: bool = True


@dataclass(frozen=True, kw_only=True)
class Init:
    """What runs to its end before the server starts."""

    name: str
    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    env: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """What runs beside the server for as long as it does, in the same folders."""

    name: str  # of the container and of its port
    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    port: int
    env: Mapping[str, object]
    resources: Resources
    startup: Check
    readiness: Check
    liveness: Check
    secrets: bool = True  # on a machine: whether it gets the server's secrets


@dataclass(frozen=True, kw_only=True)
class Pod:
    """The part of a container specification that only pods have."""

    image: str
    resources: Resources
    startup: Check
    readiness: Check
    liveness: Check
    pre_stop_s: int  # the entry sees within this that the pod is going; only then it gets SIGTERM
    grace_s: int  # from the order to stop to SIGKILL: longer than pre_stop_s and the exit time-out
    config_path: str  # folder of the files below, read-only
    config: Mapping[str, str] = field(default_factory=dict)  # relative path -> text
    folders: Mapping[str, Folder] = field(default_factory=dict)  # path -> writable folder
    env: Mapping[str, object] = field(default_factory=dict)
    init: Init | None = None
    sidecars: tuple[Sidecar, ...] = ()
    user: int = 1000
    ready_within_s: int = 600  # from the order for a pod to its readiness, a new node included
