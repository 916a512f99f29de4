"""What a node's accelerators are to a pod: GPUs whole, shared or in partitions, and the chips of a TPU slice."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from simulators.core import tables
from simulators.core.checks import number, text
from simulators.core.values import Properties

GPU, TPU = "nvidia.com/gpu", "google.com/tpu"
Taint = tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class Devices:
    """`slice_nodes`: nodes of a multi-host TPU slice, which come and go together; 1 elsewhere."""

    resource: str = ""
    units: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    slice_nodes: int = 1


def of_gke(machine: str, config: Properties, placement: Properties, shape: dict[str, str]) -> Devices:
    """GKE announces a pool's devices by itself: labels, the taint, and the allocatable resource."""
    tpu = _row("tpu", machine)
    if tpu is not None:
        return _tpu(tpu, text(placement.get("tpuTopology")))
    given = config.get("guestAccelerators")
    first = given[0] if isinstance(given, list) and given and isinstance(given[0], dict) else {}
    built_in = _row("gpu-label", shape["accelerator"])
    kind = text(first.get("type")) or (built_in["value"] if built_in is not None else "")
    count = int(number(first.get("count")) or number(shape["count"]) or 0)
    if not kind or not count:
        return Devices()
    labels = {"cloud.google.com/gke-accelerator": kind}
    units = count * _partitions(kind, text(first.get("gpuPartitionSize")), labels) * _shared(first, labels)
    return Devices(resource=GPU, units=units, labels=labels, taints=((GPU, "present", "NoSchedule"),))


def _partitions(kind: str, size: str, labels: dict[str, str]) -> int:
    if not size:
        return 1
    labels["cloud.google.com/gke-gpu-partition-size"] = size
    row = next(
        (r for r in tables.rows("devices") if (r["kind"], r["key"], r["value"]) == ("partition", size, kind)), None
    )
    return int(row["units"]) if row is not None else 0  # a GPU without that partition announces none


def partition_problem(config: Properties) -> str:
    """A partition that the GPU does not have; the API refuses the pool."""
    given = config.get("guestAccelerators")
    for one in given if isinstance(given, list) else []:
        size, kind = (text(one.get(k)) for k in ("gpuPartitionSize", "type")) if isinstance(one, dict) else ("", "")
        sizes = [r["key"] for r in tables.rows("devices") if r["kind"] == "partition" and r["value"] == kind]
        if size and size not in sizes:
            return f"gpu_partition_size {size} is not one of {kind}: {', '.join(sizes) or 'it has no partitions'}"
    return ""


def _shared(accelerator: Properties, labels: dict[str, str]) -> int:
    sharing = accelerator.get("gpuSharingConfig")
    if not isinstance(sharing, dict):
        return 1
    clients = int(number(sharing.get("maxSharedClientsPerGpu")) or 1)
    strategy = text(sharing.get("gpuSharingStrategy")).lower().replace("_", "-")
    labels["cloud.google.com/gke-gpu-sharing-strategy"] = strategy
    labels["cloud.google.com/gke-max-shared-clients-per-gpu"] = str(clients)
    return clients


def _tpu(row: dict[str, str], topology: str) -> Devices:
    kind, _, own = row["value"].partition(":")
    chips = math.prod(int(side) for side in (topology or own).split("x"))
    labels = {
        "cloud.google.com/gke-tpu-accelerator": kind,
        "cloud.google.com/gke-tpu-topology": topology or own,
        "cloud.google.com/gke-accelerator-count": row["units"],
    }
    nodes = max(1, chips // int(row["units"]))
    taints = ((TPU, "present", "NoSchedule"),)
    return Devices(resource=TPU, units=int(row["units"]), labels=labels, taints=taints, slice_nodes=nodes)


def _row(kind: str, key: str) -> dict[str, str] | None:
    return next((r for r in tables.rows("devices") if key and (r["kind"], r["key"]) == (kind, key)), None)
