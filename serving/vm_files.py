"""Files of a virtual machine that runs one container as a service: settings, commands, environment, systemd units."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from serving.container import ContainerSpec
from serving.facts import facts
from serving.pod import Init, Pod, Sidecar

HOME = "/etc/slipway"
VOLUME = "slipway-{name}{path}"
LIMITS = ("memlock=-1:-1", "stack=67108864:67108864", "nofile=1048576:1048576")


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of the machine; unless it is said otherwise root alone reads it."""

    path: str
    text: str
    mode: str = "0600"


@dataclass(frozen=True, kw_only=True)
class Host:
    """The machine's kind, and what is known of it."""

    cloud: str
    kind: str  # none, gpu or tpu
    values: Mapping[str, str]  # rows of vm_rows.csv by name
    log_group: str | None = None

    def logs(self) -> list[str]:
        if self.log_group is not None and "log_driver_group" in self.values:
            return self.values["log_driver_group"].format(group=shlex.quote(self.log_group)).split()
        return self.values["log_driver"].split()


def settings(host: Host) -> str:
    """Of the machine, for all that runs on it."""
    return _assigned(
        {
            "HELPER": host.values["helper"],
            "RUNTIME": host.values["runtime"],
            "DRIVER": host.values["driver"],
            "HEALTH_RANGES": host.values["health_ranges"],
            "BACKOFF_S": facts("vm")["backoff_s"],
        }
    )


def server(name: str, container: ContainerSpec, host: Host, secrets: Mapping[str, str]) -> Iterator[File]:
    """A container's own files; vm.sh reads them by its name."""
    pod = container.pod
    assert pod is not None
    ports = dict.fromkeys((container.ports.http, container.ports.grpc, container.ports.metrics))
    own = {
        "IMAGE": pod.image,
        "PORTS": " ".join(str(p) for p in ports),
        "DEVICES": host.values["devices"],
        "OWNER": _owner(pod, host),
        "VOLUMES": " ".join(VOLUME.format(name=name, path=end) for end, _ in _volumes(name, pod)),
        "SECRETS": "".join(f"{variable} {address}\n" for variable, address in secrets.items()),
        "INIT_IMAGE": pod.init.image if pod.init else "",
        "BESIDE": " ".join(_beside_name(name, s) for s in pod.sidecars),
        "BESIDE_IMAGES": " ".join(dict.fromkeys(s.image for s in pod.sidecars)),
        "READY_URLS": " ".join(_ready_urls(container, pod)),
        "READY_COMMAND": " ".join(pod.startup.command),
        "READY_S": pod.startup.period_s * pod.startup.failures,
        "LAG_S": pod.pre_stop_s,
    }
    yield File(path=f"{HOME}/{name}.settings", text=_assigned(own))
    beside = {k: v for s in pod.sidecars for k, v in s.env.items()}
    yield File(path=f"{HOME}/{name}.env", text=_exported({**beside, **pod.env}))
    started = "".join(_beside(name, s, pod, host, secrets) for s in pod.sidecars)
    yield File(path=f"{HOME}/{name}.run", text=started + _run(name, container, pod, host, secrets))
    if pod.init is not None:
        yield File(path=f"{HOME}/{name}.models.env", text=_exported(pod.init.env))
        yield File(path=f"{HOME}/{name}.models.run", text=_init(name, pod, pod.init, host))


def server_unit(name: str, container: ContainerSpec) -> str:
    """The service: tried again for ever, each time after a longer pause (vm.sh); it is up when it is ready.

    A start is bounded by the script, which says why it ended; the stop by the drain.
    """
    pod, script = container.pod, f"/bin/sh {HOME}/vm.sh"
    assert pod is not None
    return _unit(
        {
            "Unit": {
                "Description": f"Slipway {container.name}",
                "Wants": "network-online.target docker.service",
                "After": "network-online.target docker.service",
                "StartLimitIntervalSec": 0,
            },
            "Service": {
                "ExecStartPre": f"{script} prepare {name}",
                "ExecStart": f"{script} serve {name}",
                "ExecStartPost": f"{script} ready {name}",
                "ExecStop": f"{script} stop {name}",
                "Restart": "always",
                "RestartSec": facts("vm")["backoff_s"],
                "TimeoutStartSec": "infinity",
                "TimeoutStopSec": pod.grace_s + facts("vm")["stop_margin_s"],
            },
            "Install": {"WantedBy": "multi-user.target"},
        }
    )


def watch_unit() -> str:
    """Asks whether the machine is to go, and takes it out in order."""
    return _unit(
        {
            "Unit": {
                "Description": "Slipway notice of the machine's end",
                "Wants": "network-online.target",
                "After": "network-online.target",
                "StartLimitIntervalSec": 0,
            },
            "Service": {
                "ExecStart": f"/bin/sh {HOME}/vm.sh watch",
                "Restart": "on-failure",
                "RestartSec": facts("vm")["backoff_s"],
            },
            "Install": {"WantedBy": "multi-user.target"},
        }
    )


def _owner(pod: Pod, host: Host) -> int:
    return pod.user if "{user}" in host.values["bounds"] else 0


def _volumes(name: str, pod: Pod) -> list[tuple[str, str]]:
    """Folders on the machine's disk, as the end of a volume's name and the path in the container."""
    return [(path.replace("/", "-"), path) for path, folder in pod.folders.items() if not folder.memory]


def _bounds(name: str, pod: Pod, host: Host) -> Iterator[str]:
    """What every container of the machine is held to."""
    yield from ("--network", "host", "--pull", "never", "--read-only")
    yield from host.values["bounds"].format(user=pod.user).split()
    yield from host.logs()
    yield from ("--mount", f"type=bind,source={HOME}/config,target={pod.config_path},readonly")
    for end, path in _volumes(name, pod):
        source = VOLUME.format(name=name, path=end)
        yield from ("--mount", f"type=volume,source={source},target={path},volume-nocopy")
    for path, folder in pod.folders.items():
        if folder.memory and PurePosixPath(path) != PurePosixPath("/dev/shm"):
            yield from ("--tmpfs", f"{path}:rw,mode=1777,size={folder.mib}m")


def _run(name: str, container: ContainerSpec, pod: Pod, host: Host, secrets: Mapping[str, str]) -> str:
    words = ["docker", "run", "--name", f"slipway-{name}", "--stop-timeout", str(math.ceil(container.stop_timeout_s))]
    words += _bounds(name, pod, host)
    for limit in LIMITS:
        words += ["--ulimit", limit]
    if container.shm_mib:
        words += ["--shm-size", f"{container.shm_mib}m"]
    words += host.values["flags"].split()
    # Values come from the environment: a command line is read by everybody, and is a line.
    for variable in (*pod.env, *(() if pod.sidecars else secrets)):
        words += ["--env", variable]
    entry, *rest = [*container.command, *container.args]
    return f"exec {shlex.join(words)} $devices {shlex.join(['--entrypoint', entry, pod.image, *rest])}\n"


def _ready_urls(container: ContainerSpec, pod: Pod) -> Iterator[str]:
    yield f"http://127.0.0.1:{container.ports.http}{container.ready_path}"
    for sidecar in pod.sidecars:
        if sidecar.readiness.path is not None:
            yield f"http://127.0.0.1:{sidecar.port}{sidecar.readiness.path}"


def _beside_name(name: str, sidecar: Sidecar) -> str:
    return f"slipway-{name}-{sidecar.name}"


def _beside(name: str, sidecar: Sidecar, pod: Pod, host: Host, secrets: Mapping[str, str]) -> str:
    """Started before the server and kept by docker; with the server's next start it is made anew."""
    words = ["docker", "run", "--detach", "--restart", "always", "--name", _beside_name(name, sidecar)]
    words += _bounds(name, pod, host)
    for variable in (*sidecar.env, *(secrets if sidecar.secrets else ())):
        words += ["--env", variable]
    entry, *rest = [*sidecar.command, *sidecar.args]
    command = shlex.join([*words, "--entrypoint", entry, sidecar.image, *rest])
    told = '"$RUN/beside.log"'
    return f'{command} >/dev/null 2>{told} || fail "{sidecar.name}: $(tail -n 1 {told})"\n'


def _init(name: str, pod: Pod, init: Init, host: Host) -> str:
    words = ["docker", "run", "--rm", "--name", f"slipway-{name}-models", *_bounds(name, pod, host)]
    for variable in init.env:
        words += ["--env", variable]
    entry, *rest = [*init.command, *init.args]
    return shlex.join([*words, "--entrypoint", entry, init.image, *rest]) + "\n"


def _exported(env: Mapping[str, object]) -> str:
    """Values of many lines too, which a file for docker cannot hold."""
    for variable, value in env.items():
        if not isinstance(value, str):
            raise TypeError(f"{variable} is {type(value).__name__}: a machine is told text alone")
    return "".join(f"export {variable}={shlex.quote(str(value))}\n" for variable, value in env.items())


def _assigned(values: Mapping[str, object]) -> str:
    return "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in values.items())


def _unit(sections: Mapping[str, Mapping[str, object]]) -> str:
    return "\n".join(
        f"[{section}]\n" + "".join(f"{key}={value}\n" for key, value in values.items())
        for section, values in sections.items()
    )
