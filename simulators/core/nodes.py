"""The nodes of a simulated cluster: as many as its pools have, with labels, taints and what a pod may use."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from simulators.core import tables
from simulators.core.checks import number, text
from simulators.core.references import means
from simulators.core.values import Json, Properties, plain_properties
from simulators.core.world import Thing, World

POOLS = ("gcp:container/nodePool:NodePool", "aws:eks/nodeGroup:NodeGroup")
_GIB = Decimal(1024**3)
_CPU_KEPT = ((1, "0.06"), (1, "0.01"), (2, "0.005"), (10**6, "0.0025"))
_MEMORY_KEPT = ((4, "0.25"), (4, "0.20"), (8, "0.10"), (112, "0.06"), (10**6, "0.02"))
_EFFECTS = {"NO_SCHEDULE": "NoSchedule", "NO_EXECUTE": "NoExecute", "PREFER_NO_SCHEDULE": "PreferNoSchedule"}
_GKE_NAMES = {"T4": "nvidia-tesla-t4", "L4": "nvidia-l4", "A100-40": "nvidia-tesla-a100", "A100-80": "nvidia-a100-80gb"}


@dataclass(kw_only=True)
class Node:
    name: str
    pool: str
    labels: dict[str, str]
    taints: list[tuple[str, str, str]]
    free: dict[str, Decimal]


@dataclass(kw_only=True)
class Pool:
    """`most`: how many nodes the autoscaler may make; equal to `nodes` where none runs."""

    name: str
    nodes: int
    most: int
    labels: dict[str, str] = field(default_factory=dict)
    taints: list[tuple[str, str, str]] = field(default_factory=list)
    allocatable: dict[str, Decimal] = field(default_factory=dict)

    def node(self, index: int) -> Node:
        return Node(
            name=f"{self.name}-{index}",
            pool=self.name,
            labels=self.labels,
            taints=self.taints,
            free=dict(self.allocatable),
        )


def pools(world: World, cluster: Thing) -> list[Pool]:
    """Pools that refer to the cluster; GKE's own first pool unless it was removed."""
    found = []
    for thing in world.things.values():
        inputs = plain_properties(thing.outputs)
        if thing.token == POOLS[0] and means(inputs.get("cluster"), cluster, cluster.token):
            found.append(_gke(thing.name, inputs))
        if thing.token == POOLS[1] and means(inputs.get("clusterName"), cluster, cluster.token):
            found.append(_eks(world, cluster, thing.name, inputs))
    outputs = plain_properties(cluster.outputs)
    if cluster.cloud == "gcp" and outputs.get("initialNodeCount") and outputs.get("removeDefaultNodePool") is not True:
        count = outputs.get("initialNodeCount")
        config, place = outputs.get("nodeConfig") or {}, outputs.get("location")
        own: Properties = {"nodeCount": count, "nodeConfig": config, "location": place}
        found.append(_gke("default-pool", own))
    return found


def _gke(name: str, inputs: Properties) -> Pool:
    config = _object(inputs.get("nodeConfig"))
    locations = inputs.get("nodeLocations")
    regional = text(inputs.get("location")).count("-") == 1
    zones = len(locations) if isinstance(locations, list) and locations else 3 if regional else 1
    scaling = _object(inputs.get("autoscaling"))
    start = int(number(inputs.get("nodeCount")) or number(inputs.get("initialNodeCount")) or 0) * zones
    most = int(number(scaling.get("totalMaxNodeCount")) or (number(scaling.get("maxNodeCount")) or 0) * zones) or start
    machine = text(config.get("machineType")) or "e2-medium"
    pool = Pool(name=name, nodes=min(start, most), most=most, labels=_labels(config.get("labels")))
    pool.taints = [(text(t.get("key")), text(t.get("value")), _effect(t)) for t in _objects(config.get("taints"))]
    pool.allocatable = allocatable("gcp", machine)
    pool.labels |= {"cloud.google.com/gke-nodepool": name, "node.kubernetes.io/instance-type": machine}
    if config.get("spot") is True:
        pool.labels["cloud.google.com/gke-spot"] = "true"
    accelerators = _objects(config.get("guestAccelerators"))
    shape = _shape("gcp", machine)
    kind = text(accelerators[0].get("type")) if accelerators else _GKE_NAMES.get(shape["accelerator"], "")
    count = number(accelerators[0].get("count")) if accelerators else number(shape["count"])
    if kind and count:
        pool.labels["cloud.google.com/gke-accelerator"] = kind
        pool.taints.append(("nvidia.com/gpu", "present", "NoSchedule"))
        sharing = _object(accelerators[0].get("gpuSharingConfig")) if accelerators else {}
        clients = int(number(sharing.get("maxSharedClientsPerGpu")) or 1)
        pool.allocatable["nvidia.com/gpu"] = Decimal(int(count) * clients)
    return pool


def _eks(world: World, cluster: Thing, name: str, inputs: Properties) -> Pool:
    scaling = _object(inputs.get("scalingConfig"))
    types = inputs.get("instanceTypes")
    machine = text(types[0]) if isinstance(types, list) and types else "t3.medium"
    start = int(number(scaling.get("desiredSize")) or 0)
    scaled = has_workload(world, cluster, "cluster-autoscaler")
    pool = Pool(name=name, nodes=start, most=int(number(scaling.get("maxSize")) or start) if scaled else start)
    pool.labels = _labels(inputs.get("labels")) | {
        "eks.amazonaws.com/nodegroup": name,
        "eks.amazonaws.com/capacityType": text(inputs.get("capacityType")) or "ON_DEMAND",
        "node.kubernetes.io/instance-type": machine,
    }
    pool.taints = [(text(t.get("key")), text(t.get("value")), _effect(t)) for t in _objects(inputs.get("taints"))]
    pool.allocatable = allocatable("aws", machine)
    shape = _shape("aws", machine)
    builtin = text(inputs.get("amiType")).startswith("BOTTLEROCKET")
    if shape["count"] and (builtin or has_workload(world, cluster, "nvidia-device-plugin")):
        pool.allocatable["nvidia.com/gpu"] = Decimal(shape["count"])  # a GPU that no plugin announces is not there
    return pool


def has_workload(world: World, cluster: Thing, name: str) -> bool:
    """Whether something of that name was installed, as a chart or by hand."""
    for thing in world.things.values():
        if thing.cluster == cluster.key:
            chart = text(plain_properties(thing.inputs).get("chart"))
            if name in thing.name or chart.rstrip("/").endswith(name):
                return True
    return False


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


def _labels(value: Json) -> dict[str, str]:
    return {k: text(v) for k, v in _object(value).items()}
