"""Who speaks inside a cluster: groups of pods, the Services in front of them, and the nodes that they run on."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import yaml

from simulators.core import charts, fitting, nodes, paths, scheduler
from simulators.core.checks import number, text
from simulators.core.fitting import objects
from simulators.core.references import means
from simulators.core.values import Json, Properties, plain_properties, strings
from simulators.core.world import Thing, World

SERVICE = "kubernetes:core/v1:Service"


@dataclass(frozen=True, kw_only=True)
class Pods:
    """The pods of one workload. `pools`: names of the node pools that they run on."""

    key: str
    name: str
    namespace: str
    labels: dict[str, str]
    ports: dict[str, int]
    spec: Properties
    pools: tuple[str, ...]
    texts: tuple[str, ...] = field(default=(), repr=False)  # files that ConfigMaps put into them

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def find(world: World, value: Json, pattern: str) -> Thing | None:
    """The thing that a reference names."""
    return next((t for t in world.things.values() if fnmatchcase(t.token, pattern) and means(value, t, t.token)), None)


def pods_in(world: World, cluster: Thing) -> list[Pods]:
    found: list[Pods] = []
    for thing in scheduler.workloads(world, cluster):
        if scheduler.kind(thing) in scheduler.CONTROLLERS:
            spec = scheduler.pod_of(thing)
            found.append(
                Pods(
                    key=thing.key, name=thing.name.rpartition("/")[2], namespace=scheduler.namespace_of(thing),
                    labels=scheduler.labels_of(thing), ports=_ports(spec), spec=spec, pools=_pools(thing, "pods"),
                    texts=tuple(_files(world, thing, spec)),
                )
            )  # fmt: skip
            continue
        for work in charts.workloads(thing):
            found.append(
                Pods(
                    key=f"{thing.key}#{work.name}", name=work.name, namespace=scheduler.namespace_of(thing),
                    labels=work.labels, ports=work.ports, spec=work.pod, pools=_pools(thing, f"pods:{work.name}"),
                )
            )  # fmt: skip
    return found


def _ports(spec: Properties) -> dict[str, int]:
    found: dict[str, int] = {}
    for container in objects(spec.get("containers")):
        for port in objects(container.get("ports")):
            value = number(port.get("containerPort"))
            if value is not None:
                found[text(port.get("name")) or str(int(value))] = int(value)
    return found


def _pools(thing: Thing, name: str) -> tuple[str, ...]:
    placed = thing.state.get(name)
    return tuple(sorted({str(n).rpartition("-")[0] for n in placed})) if isinstance(placed, list) else ()


def _files(world: World, thing: Thing, spec: Properties) -> Iterator[str]:
    """Texts of the ConfigMaps that a pod mounts or takes its environment from."""
    wanted = {text(v) for v in _config_maps(spec)}
    for one in world.things.values():
        if one.token != "kubernetes:core/v1:ConfigMap" or one.cluster != thing.cluster:
            continue
        if one.name.rpartition("/")[2] in wanted and scheduler.namespace_of(one) == scheduler.namespace_of(thing):
            yield from strings(plain_properties(one.inputs).get("data"))


def _config_maps(value: Json) -> Iterator[Json]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("configMap", "configMapRef", "configMapKeyRef") and isinstance(item, dict):
                yield item.get("name")
            yield from _config_maps(item)
    elif isinstance(value, list):
        for item in value:
            yield from _config_maps(item)


def services(world: World, cluster: Thing) -> list[Thing]:
    return [t for t in world.things.values() if t.token == SERVICE and t.cluster == cluster.key]


def behind(service: Thing, everybody: list[Pods]) -> list[Pods]:
    """Pods that a Service selects."""
    selector = paths.get(plain_properties(service.inputs), ("spec", "selector"))
    if not isinstance(selector, dict) or not selector:
        return []
    space = scheduler.namespace_of(service)
    return [p for p in everybody if p.namespace == space and fitting.matches({"matchLabels": selector}, p.labels)]


def target_port(service: Thing, port: int, pods: Pods, by: str = "port") -> int | None:
    """The container's port behind a Service's `port` or `nodePort`; None: the Service does not have it."""
    spec = plain_properties(service.inputs).get("spec")
    given = spec if isinstance(spec, dict) else {}
    if text(given.get("clusterIP")) == "None" and by == "port":
        return port  # a headless Service is addresses only: the caller's port is the pod's
    for one in objects(given.get("ports")):
        if number(one.get(by)) == port:
            wanted = one.get("targetPort") or one.get("port")
            return pods.ports.get(text(wanted)) if number(wanted) is None else int(number(wanted) or 0)
    return None


@dataclass(frozen=True, kw_only=True)
class Upstream:
    service: str
    namespace: str
    port: int | None


def upstreams(pods: Pods) -> list[Upstream]:
    """Services that a proxy's configuration names (`X.NS.svc`), with the port beside the address."""
    return list(dict.fromkeys(u for content in pods.texts for u in _named(content)))


@functools.lru_cache(maxsize=256)
def _document(content: str) -> Json:
    """A file of settings: JSON (read a hundred times faster), else YAML, else the text itself."""
    try:
        found: Json = json.loads(content)
    except ValueError:
        try:
            found = yaml.safe_load(content)
        except yaml.YAMLError:
            return content
    return found


@functools.lru_cache(maxsize=256)
def _named(content: str) -> tuple[Upstream, ...]:
    """The same file is looked at after every step of a phase."""
    if ".svc" not in content:
        return ()
    found: list[Upstream] = []
    for address, port in _addresses(_document(content)):
        match = re.search(r"(?:^|//|\b)([a-z0-9-]+)\.([a-z0-9-]+)\.svc\b", address)
        if match:
            found.append(Upstream(service=match[1], namespace=match[2], port=port))
    return tuple(found)


def _addresses(value: Json) -> Iterator[tuple[str, int | None]]:
    if isinstance(value, dict):
        if isinstance(value.get("address"), str):
            port = number(value.get("port_value"))
            yield str(value["address"]), int(port) if port is not None else None
            return
        for item in value.values():
            yield from _addresses(item)
    elif isinstance(value, list):
        for item in value:
            yield from _addresses(item)
    elif isinstance(value, str) and ".svc" in value:
        yield value, None


def refresh_s(pods: Pods) -> float | None:
    """How often a proxy asks for names again, if its configuration says so."""
    found = [float(n) for t in pods.texts for n in re.findall(r"dns_refresh_rate\W+([0-9.]+)s", t)]
    return max(found, default=None)


def detects_s(pods: Pods) -> float | None:
    """How long a proxy's own health checks take to leave out a server that is dead; None: it has none."""
    found = [s for t in pods.texts for s in _checked(t)]
    return max(found, default=None)


@functools.lru_cache(maxsize=256)
def _checked(content: str) -> tuple[float, ...]:
    if "health_checks" not in content:
        return ()
    return tuple(
        (number(one.get("unhealthy_threshold")) or 1) * (number(one.get("interval")) or 0)
        + (number(one.get("timeout")) or 0)
        for one in _health_checks(_document(content))
    )


def _health_checks(value: Json) -> Iterator[Properties]:
    if isinstance(value, dict):
        yield from objects(value.get("health_checks"))
        for item in value.values():
            yield from _health_checks(item)
    elif isinstance(value, list):
        for item in value:
            yield from _health_checks(item)


def pool_things(world: World, cluster: Thing, names: tuple[str, ...]) -> list[Thing]:
    """The pools of these names; every pool of the cluster where nothing is known."""
    keys = {p.key for p in nodes.pools(world, cluster) if not names or p.name in names}
    return [world.things[k] for k in keys if k in world.things]
