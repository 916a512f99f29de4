"""How one machine of a group comes to serve: boot, GPU driver, image, server; and why it never does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from simulators.core import contents, lifecycle, paths, pods, tables
from simulators.core.checks import number, text
from simulators.core.groups import Machine
from simulators.core.lifecycle import CloudError
from simulators.core.values import plain_properties
from simulators.core.world import Thing, World


@dataclass(frozen=True, kw_only=True)
class Start:
    """Seconds of each part; `never`: the container is started for ever and does not serve."""

    running_s: float
    boot_s: float
    driver_s: float
    pull_s: float
    server_s: float
    never: str = ""

    @property
    def seconds(self) -> float:
        return self.boot_s + self.driver_s + self.pull_s + self.server_s

    def __str__(self) -> str:
        parts = (
            ("boot", self.boot_s),
            ("GPU driver", self.driver_s),
            ("image", self.pull_s),
            ("server", self.server_s),
        )
        return f"{self.seconds:.0f} s ({', '.join(f'{name} {s:.0f} s' for name, s in parts if s)})"


def of(world: World, machine: Machine) -> Start:
    row = next(
        r for r in tables.rows("boots") if r["cloud"] == machine.cloud and fnmatchcase(machine.image, r["image"])
    )
    gpu = has_gpu(machine)
    times = [pods.image_times({"containers": [{"image": image}]}) for image in machine.told.images]
    pull, start = sum(t[0] for t in times), max((t[1] for t in times), default=0.0)  # pulled one after the other
    return Start(
        running_s=lifecycle.limit(machine.cloud, "machine_running_s"), boot_s=float(row["boot_s"]),
        driver_s=float(row["driver_s"]) if gpu else 0.0, pull_s=pull, server_s=start,
        never=next(_wrong(world, machine, row, gpu), ""),
    )  # fmt: skip


def has_gpu(machine: Machine) -> bool:
    return machine.accelerators > 0 and not machine.accelerator.startswith(("v", "ct", "Inferentia"))


def _wrong(world: World, machine: Machine, row: dict[str, str], gpu: bool) -> Iterator[str]:
    told = machine.told
    if told.problem:
        yield told.problem
    for image in told.images:
        if any(fnmatchcase(image, gone) for gone in world.no_images):
            yield f"docker: Error response from daemon: manifest for {image} not found: manifest unknown"
    if gpu:
        yield from _without_driver(machine, row)
    buckets = sorted(set(re.findall(r"\b(?:gs|s3)://([a-z0-9][a-z0-9._-]+)", told.text)))
    for bucket in buckets:
        try:
            if not contents.keys(world, machine.cloud, bucket, ""):
                yield f"failed to load the models: the bucket {bucket} holds no object"
        except CloudError as error:
            yield f"failed to load the models: {error} ({bucket})"


def _without_driver(machine: Machine, row: dict[str, str]) -> Iterator[str]:
    said = f"{machine.told.text}\n{machine.metadata}"
    if row["driver"] and not re.search(row["driver"], said):
        yield (
            f"the server finds no GPU driver: the image {machine.image or '(unknown)'} has none, "
            f"and nothing installs it ({row['driver'].replace('|', ' or ')})"
        )
    command = "\n".join(machine.told.commands)
    if row["refused_flag"] and (found := re.search(row["refused_flag"], command)):
        yield f"docker: could not select device driver with capabilities [[gpu]]: {found[0]} fails on this image"
    if not re.search(row["flag"], f"{command}\n{machine.told.text}"):
        yield f"the server finds no GPU: its container is not given one ({row['flag']})"


# --- health checks


@dataclass(frozen=True, kw_only=True)
class Check:
    """A health check as both clouds have one. `port` 0: the port that serves."""

    name: str
    port: int
    path: str
    interval_s: float
    healthy: int
    unhealthy: int
    timeout_s: float

    @property
    def sees_s(self) -> float:
        return self.interval_s * self.healthy

    @property
    def refused_s(self) -> float:
        """Until it leaves out a machine that refuses it; no answer at all takes a time-out more."""
        return self.interval_s * self.unhealthy

    @property
    def misses_s(self) -> float:
        return self.interval_s * self.unhealthy + self.timeout_s


def check_of(thing: Thing) -> Check:
    """Of a health check of Compute Engine."""
    given = plain_properties(thing.outputs)
    kinds = [k for k in given if k.endswith("HealthCheck") and isinstance(given[k], dict)]
    inner = given[kinds[0]] if kinds else {}
    said = inner if isinstance(inner, dict) else {}
    http = bool(kinds) and "http" in kinds[0]
    return Check(
        name=thing.name, port=int(number(said.get("port")) or 0),
        path=(text(said.get("requestPath")) or "/") if http else "",
        interval_s=number(given.get("checkIntervalSec")) or 5.0, timeout_s=number(given.get("timeoutSec")) or 5.0,
        healthy=int(number(given.get("healthyThreshold")) or 2),
        unhealthy=int(number(given.get("unhealthyThreshold")) or 2),
    )  # fmt: skip


def target_check(target: Thing) -> Check:
    """Of a target group, with the provider's defaults."""
    given = plain_properties(target.outputs)
    inner = paths.get(given, ("healthCheck",))
    said = inner if isinstance(inner, dict) else {}
    port, protocol = text(said.get("port")), text(said.get("protocol")) or text(given.get("protocol"))
    return Check(
        name=target.name, port=int(port) if port.isdigit() else int(number(given.get("port")) or 0),
        path=(text(said.get("path")) or "/") if protocol.startswith("HTTP") else "",
        interval_s=number(said.get("interval")) or 30.0, timeout_s=number(said.get("timeout")) or 5.0,
        healthy=int(number(said.get("healthyThreshold")) or 3),
        unhealthy=int(number(said.get("unhealthyThreshold")) or 3),
    )  # fmt: skip


def unanswered(machine: Machine, check: Check, grpc: bool = False) -> str:
    """Why the server does not answer a check on that port and path, though it runs."""
    told = machine.told
    if told.problem:
        return ""
    if told.ports is not None and check.port and check.port not in told.ports:
        shown = ", ".join(str(p) for p in sorted(told.ports)) or "none"
        return f"health check {check.name}: connection refused on port {check.port}; the containers publish {shown}"
    rows = [r for i in told.images for r in tables.rows("servers") if fnmatchcase(i, r["image"])]
    strangers = [i for i in told.images if not any(fnmatchcase(i, r["image"]) for r in tables.rows("servers"))]
    own = any(check.port == int(r["port"]) for r in rows)
    judged = check.path and rows and (own or not strangers) and not grpc
    if judged and not any(re.search(r["path"], check.path.partition("?")[0]) for r in rows):
        return f"health check {check.name}: HTTP 404 at {check.path}: {rows[0]['image'].strip('*')} does not serve it"
    return ""
