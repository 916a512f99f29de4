"""The nodes of a simulated cluster: as many as its pools have, with labels, taints and what a pod may use."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal

from simulators.core import charts, devices, fitting, paths, tables
from simulators.core.checks import number, text
from simulators.core.references import means
from simulators.core.values import Json, Properties, plain_properties, strings
from simulators.core.world import Thing, World

POOLS = ("gcp:container/nodePool:NodePool", "aws:eks/nodeGroup:NodeGroup")
_REPLICAS = tuple(f"values.config.map.*.sharing.{how}.resources[*].replicas" for how in ("timeSlicing", "mps"))
_GIB = Decimal(1024**3)
_CPU_KEPT = ((1, "0.06"), (1, "0.01"), (2, "0.005"), (10**6, "0.0025"))
_MEMORY_KEPT = ((4, "0.25"), (4, "0.20"), (8, "0.10"), (112, "0.06"), (10**6, "0.02"))
GKE_DISK_GIB, EKS_DISK_GIB = 100.0, 20.0  # where none is asked for
_EFFECTS = {"NO_SCHEDULE": "NoSchedule", "NO_EXECUTE": "NoExecute", "PREFER_NO_SCHEDULE": "PreferNoSchedule"}


@dataclass(kw_only=True)
class Node:
    name: str
    pool: str
    labels: dict[str, str]
    taints: list[tuple[str, str, str]]
    free: dict[str, Decimal]


@dataclass(kw_only=True)
class Pool:
    """`most`: nodes that the autoscaler may make; equal to `nodes` where none runs. `together`: nodes of a slice."""

    name: str
    nodes: int
    most: int
    least: int = 0
    key: str = ""
    cloud: str = ""
    spot: bool = False
    together: int = 1
    zones: tuple[str, ...] = ("",)
    lost: list[int] = field(default_factory=list)  # indexes of nodes that died and were not made again
    labels: dict[str, str] = field(default_factory=dict)
    taints: list[tuple[str, str, str]] = field(default_factory=list)
    allocatable: dict[str, Decimal] = field(default_factory=dict)

    def node(self, index: int) -> Node:
        name = f"{self.name}-{index}"
        zone = {"topology.kubernetes.io/zone": self.zones[index % len(self.zones)]} if self.zones[0] else {}
        return Node(
            name=name,
            pool=self.name,
            labels={**self.labels, **zone, "kubernetes.io/hostname": name},
            taints=self.taints,
            free=dict(self.allocatable),
        )


def pools(world: World, cluster: Thing) -> list[Pool]:
    """Pools that refer to the cluster; GKE's own first pool unless it was removed."""
    found = []
    for thing in world.things.values():
        if thing.token not in POOLS:
            continue
        inputs = plain_properties(thing.outputs)
        if thing.token == POOLS[0] and means(inputs.get("cluster"), cluster, cluster.token):
            found.append(_live(_gke(thing.name, inputs), thing))
        if thing.token == POOLS[1] and means(inputs.get("clusterName"), cluster, cluster.token):
            found.append(_live(_eks(world, cluster, thing.name, inputs), thing))
    outputs = plain_properties(cluster.outputs)
    if cluster.cloud == "gcp" and outputs.get("initialNodeCount") and outputs.get("removeDefaultNodePool") is not True:
        count = outputs.get("initialNodeCount")
        config, place = outputs.get("nodeConfig") or {}, outputs.get("location")
        own: Properties = {"nodeCount": count, "nodeConfig": config, "location": place}
        found.append(_live(_gke("default-pool", own), cluster))
    return found


def _live(pool: Pool, thing: Thing) -> Pool:
    """As many nodes as the autoscaler left, if it has acted."""
    pool.key, moved = thing.key, number(thing.state.get("nodes"))
    pool.lost = [int(n) for n in _numbers(thing.state.get("lost"))]
    if moved is not None:
        pool.nodes = min(int(moved), max(pool.most, pool.nodes) + len(pool.lost))
    return pool


def zones_of(inputs: Properties) -> int:
    locations = inputs.get("nodeLocations")
    regional = text(inputs.get("location")).count("-") == 1
    return len(locations) if isinstance(locations, list) and locations else 3 if regional else 1


def _gke(name: str, inputs: Properties) -> Pool:
    config, zones = _object(inputs.get("nodeConfig")), zones_of(inputs)
    scaling = _object(inputs.get("autoscaling"))
    given = number(inputs.get("nodeCount"))
    start = int(given if given is not None else number(inputs.get("initialNodeCount")) or 0) * zones
    least, most = (_bound(scaling, side, zones) for side in ("Min", "Max"))
    if not scaling:
        least, most = start, start
    machine = text(config.get("machineType")) or "e2-medium"
    pool = Pool(
        name=name, nodes=min(max(start, least), most), least=least, most=most, cloud="gcp", zones=_zones(inputs)
    )
    pool.taints = [(text(t.get("key")), text(t.get("value")), _effect(t)) for t in _objects(config.get("taints"))]
    pool.allocatable = allocatable("gcp", machine) | _disk(number(config.get("diskSizeGb")) or GKE_DISK_GIB)
    pool.labels = _labels(config.get("labels")) | {
        "cloud.google.com/gke-nodepool": name,
        "node.kubernetes.io/instance-type": machine,
        "kubernetes.io/arch": "arm64" if machine.partition("-")[0] in ("t2a", "c4a", "n4a") else "amd64",
        "kubernetes.io/os": "linux",
    }
    if config.get("spot") is True:
        pool.spot = True
        pool.labels |= {"cloud.google.com/gke-spot": "true", "cloud.google.com/gke-provisioning": "spot"}
    found = devices.of_gke(machine, config, _object(inputs.get("placementPolicy")), _shape("gcp", machine))
    pool.labels |= found.labels
    pool.taints += [t for t in found.taints if t[0] not in {have[0] for have in pool.taints}]
    pool.together = found.slice_nodes
    if found.resource:
        pool.allocatable[found.resource] = Decimal(found.units)
    return pool


def _bound(scaling: Properties, side: str, zones: int) -> int:
    total = number(scaling.get(f"total{side}NodeCount"))
    return int(total) if total else int(number(scaling.get(f"{side.lower()}NodeCount")) or 0) * zones


def _zones(inputs: Properties) -> tuple[str, ...]:
    locations, place = inputs.get("nodeLocations"), text(inputs.get("location"))
    if isinstance(locations, list) and locations:
        return tuple(text(z) for z in locations)
    return tuple(f"{place}-{z}" for z in "abc") if place.count("-") == 1 else (place,)


def _eks(world: World, cluster: Thing, name: str, inputs: Properties) -> Pool:
    scaling = _object(inputs.get("scalingConfig"))
    types = inputs.get("instanceTypes")
    machine = text(types[0]) if isinstance(types, list) and types else "t3.medium"
    start = int(number(scaling.get("desiredSize")) or 0)
    scaled = has_workload(world, cluster, "cluster-autoscaler")
    most = int(number(scaling.get("maxSize")) or start) if scaled else start
    least = int(number(scaling.get("minSize")) or 0) if scaled else start
    pool = Pool(name=name, nodes=start, least=least, most=most, cloud="aws")
    pool.zones, pool.spot = _subnet_zones(world, inputs), text(inputs.get("capacityType")) == "SPOT"
    pool.labels = _labels(inputs.get("labels")) | {
        "eks.amazonaws.com/nodegroup": name,
        "eks.amazonaws.com/capacityType": text(inputs.get("capacityType")) or "ON_DEMAND",
        "node.kubernetes.io/instance-type": machine,
        "kubernetes.io/arch": "arm64" if "ARM_64" in text(inputs.get("amiType")) else "amd64",
        "kubernetes.io/os": "linux",
    }
    pool.taints = [(text(t.get("key")), text(t.get("value")), _effect(t)) for t in _objects(inputs.get("taints"))]
    pool.allocatable = allocatable("aws", machine) | _disk(_eks_disk(world, inputs))
    shape = _shape("aws", machine)
    if shape["count"] and (per_gpu := _announced(world, cluster, pool, text(inputs.get("amiType")))):
        pool.allocatable[devices.GPU] = Decimal(shape["count"]) * per_gpu
    return pool


def _announced(world: World, cluster: Thing, pool: Pool, ami: str) -> int:
    """How often a GPU counts: nobody announces it (0) unless the image does or a device plugin runs on that node."""
    shares = 1 if ami.startswith("BOTTLEROCKET") and "NVIDIA" in ami else 0
    for thing in world.things.values():
        if thing.cluster == cluster.key and (pod := _plugin(thing)) is not None and _runs_on(pod, pool):
            shares = max(shares, _replicas(plain_properties(thing.inputs)))
    return shares


def _plugin(thing: Thing) -> Properties | None:
    """The pod specification of a device plugin that a chart or a DaemonSet runs."""
    if charts.of(thing) == "nvidia-device-plugin":
        return next((w.pod for w in charts.workloads(thing)), None)
    inputs = plain_properties(thing.inputs) if thing.token.endswith(":DaemonSet") else {}
    if any("k8s-device-plugin" in s for s in strings(inputs)):
        return _object(paths.get(inputs, ("spec", "template", "spec")))
    return None


def _runs_on(pod: Properties, pool: Pool) -> bool:
    """Only on nodes that its pods may use. By default the chart asks for a label that nobody sets on EKS."""
    node = pool.node(0)
    return fitting.selected(node.labels, pod) and not fitting.untolerated(node.taints, pod)


def _replicas(values: Properties) -> int:
    """Time-slicing or MPS in the plugin's configuration: `replicas: N` of nvidia.com/gpu, as values or as text."""
    found = [int(n) for s in strings(values) for n in re.findall(r"replicas:\s*(\d+)", s)]
    found += [int(n) for at in _REPLICAS for _, v in paths.places(values, paths.parse(at)) if (n := number(v))]
    return max(found, default=1)


def _subnet_zones(world: World, inputs: Properties) -> tuple[str, ...]:
    wanted = inputs.get("subnetIds")
    ids = {text(i) for i in wanted} if isinstance(wanted, list) else set()
    zones = [text(t.outputs.get("availabilityZone")) for t in world.things.values() if t.id in ids]
    return tuple(sorted({z for z in zones if z})) or ("",)


def has_workload(world: World, cluster: Thing, name: str) -> bool:
    """Whether something of that name was installed, as a chart or by hand."""
    for thing in world.things.values():
        if thing.cluster == cluster.key:
            chart = text(plain_properties(thing.inputs).get("chart"))
            if name in thing.name or chart.rstrip("/").endswith(name):
                return True
    return False


def _disk(gib: float) -> dict[str, Decimal]:
    """What a node's disk leaves to pods: the system's part, and the tenth at which the kubelet begins to evict."""
    whole = Decimal(str(gib))
    kept = min(whole / 2, 6 + whole * Decimal("0.35"), Decimal(100)) + whole / 10
    return {"ephemeral-storage": (whole - kept) * _GIB}


def _eks_disk(world: World, inputs: Properties) -> float:
    """Of the group, or of its launch template."""
    wanted = text(_object(inputs.get("launchTemplate")).get("id"))
    at = paths.parse("blockDeviceMappings[*].ebs.volumeSize")
    for thing in (t for t in world.things.values() if wanted and t.id == wanted):
        for _, size in paths.places(plain_properties(thing.inputs), at):
            return number(size) or EKS_DISK_GIB
    return number(inputs.get("diskSize")) or EKS_DISK_GIB


def allocatable(cloud: str, machine: str) -> dict[str, Decimal]:
    shape = _shape(cloud, machine)
    cpu, memory = Decimal(shape["vcpus"]), Decimal(shape["memory_gib"])
    return {
        "cpu": cpu - _kept(cpu, _CPU_KEPT),
        "memory": (memory - _kept(memory, _MEMORY_KEPT)) * _GIB - Decimal(100 * 1024**2),
        "pods": Decimal(110),
    }


def _shape(cloud: str, machine: str) -> dict[str, str]:
    """A type that the table lacks counts as two vCPU and 8 GiB times its size number: said in docs/rehearsal.md."""
    for row in tables.rows("machines"):
        if row["cloud"] == cloud and row["type"] == machine:
            return row
    size = machine.rpartition("-")[2]
    cpus = int(size) if size.isdigit() else 2
    return {"vcpus": str(cpus), "memory_gib": str(cpus * 4), "accelerator": "", "count": ""}


def _kept(amount: Decimal, scale: tuple[tuple[int, str], ...]) -> Decimal:
    kept = Decimal(0)
    for width, share in scale:
        part = min(amount, Decimal(width))
        kept += part * Decimal(share)
        amount -= part
    return kept


def _effect(taint: Properties) -> str:
    return _EFFECTS.get(text(taint.get("effect")), text(taint.get("effect")))


def _object(value: Json) -> Properties:
    return value if isinstance(value, dict) else {}


def _objects(value: Json) -> list[Properties]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _numbers(value: Json) -> list[float]:
    return [n for v in value if (n := number(v)) is not None] if isinstance(value, list) else []


def _labels(value: Json) -> dict[str, str]:
    return {k: text(v) for k, v in _object(value).items()}
