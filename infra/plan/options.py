"""From the machines that a region sells to the search's options, and to the reasons of those that cannot serve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infra.plan.facts import fact, spot_fits, unfit
from infra.plan.modes import Numbers
from infra.plan.partitions import MIG, Partition, no_partition, partition
from infra.plan.search import Option
from infra.plan.server import Server, divide, least_p99
from infra.plan.sold import Beside, Sold
from infra.plan.types import Rejected
from infra.spec import Model, Spec


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A machine that can serve: its option for the search, and how it would be used."""

    machine: Sold
    option: Option
    server: Server
    zones: tuple[str, ...]
    spot: bool  # what is beyond the base
    usd_per_hour: float  # of a machine beyond the base


def candidates(
    spec: Spec, numbers: Numbers, models: Sequence[Model], machines: Sequence[Sold], extra: Beside
) -> tuple[list[Candidate], list[Rejected]]:
    """What could serve, and why the others of the asked kind could not."""
    found: list[Candidate] = []
    rejected: list[Rejected] = []
    for machine in machines:
        if not _asked(spec, machine):
            continue
        result = _candidate(spec, numbers, models, machine, extra)
        if isinstance(result, str):
            rejected.append(Rejected(machine_type=label(machine), reason=result))
        elif isinstance(result, Rejected):
            rejected.append(result)
        else:
            found.append(result)
    return found, rejected


def label(machine: Sold) -> str:
    """The machine type, with what is attached to it where the type does not say."""
    attached = machine.accelerator_count and machine.accelerator not in machine.machine_type
    return (
        f"{machine.machine_type} ({machine.accelerator_count} {machine.accelerator})"
        if attached
        else machine.machine_type
    )


def _asked(spec: Spec, machine: Sold) -> bool:
    """Whether the configuration asks for this kind of machine at all."""
    wanted = spec.accelerator
    if spec.machine_type is not None and machine.machine_type != spec.machine_type:
        return False
    if wanted.name == "auto":
        return True
    return machine.accelerator == wanted.name and wanted.count in (None, machine.accelerator_count)


def _candidate(
    spec: Spec, numbers: Numbers, models: Sequence[Model], machine: Sold, extra: Beside
) -> Candidate | Rejected | str:
    processor = "vcpu" if machine.accelerator == "none" else machine.accelerator
    zones = tuple(z for z in machine.zones if not spec.zones or z in spec.zones)
    unable = unfit(spec.cloud, machine.machine_type) or _unable(spec, machine) or _lacks_profile(models, processor)
    unable = unable or _undivided(spec, machine)
    if unable:
        return unable
    if machine.on_demand is None:
        return "the catalogue has no on-demand price for it in this region"
    if len(zones) < numbers.zones:
        return f"{len(zones)} of the stack's zones sell it, and cost {spec.cost} needs {numbers.zones}"
    most, replicas, slowdown = _slots(spec, numbers, machine)
    if most < 1:
        return f"{machine.vcpus:g} vCPUs leave none for the server"
    for slots in range(most, 0, -1):  # on a CPU, fewer instances need less memory
        server = divide(spec, models, processor, slots, slowdown)
        short = _memory(spec, machine, server, slowdown)
        if short is None or machine.accelerator != "none":
            break
    if short is not None:
        return short
    if server.max_rps <= 0:
        least = least_p99(server, spec.load.burst_cv)
        return Rejected(machine_type=label(machine), reason=too_slow(spec, server), least_p99_ms=least)
    spot = machine.spot if numbers.spot and spot_fits(spec) else None
    burst = machine.on_demand if spot is None else min(spot, machine.on_demand)
    option = Option(
        name=label(machine),
        rps=server.max_rps * replicas,
        replicas=replicas,
        base=machine.on_demand + extra.base,
        burst=burst + extra.burst,
        worst=(machine.on_demand if numbers.spot_fallback else burst) + extra.worst,
    )
    return Candidate(
        machine=machine, option=option, server=server, zones=zones, spot=burst < machine.on_demand, usd_per_hour=burst
    )


def too_slow(spec: Spec, server: Server) -> str:
    least = max(s.profile.tau_ms(1) for s in server.shares)
    return f"one item takes {least:g} ms of slo.p99_ms {spec.slo.p99_ms:g}, and what is left carries no load"


def _unable(spec: Spec, machine: Sold) -> str | None:
    """Why the server does not run on this machine."""
    if machine.arch == "arm64" and spec.image is None:
        if spec.server == "triton":
            return "its arm64 processor needs an image that was verified for it; set image"
        return "its processor is arm64, and tf-serving's images are amd64 alone (tensorflow/serving issues 1948, 1750)"
    if machine.tpu_topology is not None and (spec.server == "triton" or spec.image is None):
        return f"no stock server runs on {machine.accelerator}"
    if machine.accelerator == "v5e" and spec.shape == "vm":
        return "v5e is not sold to instance groups"
    return None


def _lacks_profile(models: Sequence[Model], processor: str) -> str | None:
    missing = [m.name for m in models if processor not in m.profile]
    return f"no profile of {', '.join(missing)} on {processor}" if missing else None


def _slots(spec: Spec, numbers: Numbers, machine: Sold) -> tuple[int, int, float]:
    """Processors a server, servers a machine, and how much slower sharing makes each."""
    if machine.accelerator == "none":
        return int(machine.vcpus - fact("reserved_vcpus", spec)), 1, 1.0
    count = machine.accelerator_count
    if machine.tpu_topology is not None or numbers.whole_machine:
        return count, 1, 1.0
    clients = spec.gpu_sharing.clients if numbers.sharing else 1
    part = _part(spec, machine)
    return 1, count * clients, part.slowdown if part else float(clients)


def _part(spec: Spec, machine: Sold) -> Partition | None:
    sharing = spec.gpu_sharing
    return partition(machine.accelerator, sharing.clients) if sharing.strategy == MIG else None


def _undivided(spec: Spec, machine: Sold) -> str | None:
    sharing = spec.gpu_sharing
    if sharing.strategy != MIG or machine.accelerator == "none":
        return None
    return no_partition(machine.accelerator, sharing.clients)


def _memory(spec: Spec, machine: Sold, server: Server, clients: float) -> str | None:
    """Why the models do not fit the memory; on an accelerator all of them stand on each one."""
    gate = spec.slo.accelerator_memory
    if machine.accelerator == "none":
        need = sum(s.model.instance_memory_mib * s.instances for s in server.shares)
        have = machine.memory_gib * 1024 * (1 - fact("reserved_memory", spec))
        what = "memory"
    elif (part := _part(spec, machine)) is not None:
        need = sum(s.model.instance_memory_mib for s in server.shares)
        have, what = part.memory_gib * 1024, f"memory of a {part.profile} of {machine.accelerator}"
    else:
        need = clients * sum(s.model.instance_memory_mib for s in server.shares)
        have, what = machine.accelerator_memory_gib * 1024, f"memory of one {machine.accelerator}"
    if need <= gate * have:
        return None
    return f"the models need {need:.0f} MiB of {what}, and slo.accelerator_memory {gate:g} allows {gate * have:.0f}"
