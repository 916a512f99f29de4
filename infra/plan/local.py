"""The plan of a local stack: how many model instances the peak needs, on the vCPUs that it may use."""

from __future__ import annotations

from collections.abc import Sequence

from infra.plan.errors import Infeasible
from infra.plan.facts import exit_timeout_s
from infra.plan.generation import digest
from infra.plan.modes import LocalNumbers, local_numbers
from infra.plan.options import too_slow
from infra.plan.server import Server, divide, least_p99
from infra.plan.types import LatencyMs, ModelServing, Plan, Pool, Rejected, Replicas, Serving, UsdPerMonth
from infra.spec import Fix, Model, Spec
from infra.spec.problems import problem


def plan_local(spec: Spec, models: Sequence[Model]) -> Plan:
    """N processes of one instance, or one process of N: the same N, from the case that carries less."""
    numbers = local_numbers(spec)
    single = divide(spec, models, "vcpu", 1)
    count = _instances(spec, numbers, single)
    processes = numbers.processes or count
    each = count // processes
    server = divide(spec, models, "vcpu", each)
    serving = settings(spec, server)
    pool = Pool(
        role="serving",
        machine_type="local",
        capacity_type="on-demand",
        min_nodes=1,
        max_nodes=1,
        start_nodes=1,
        expected_nodes=1,
        vcpus=spec.local_vcpus,
        replicas_per_node=processes,
        node_rps=server.max_rps * processes,
        models=serving.models,
    )
    at_peak = server.latency(spec.load.peak_rps / processes, spec.load.burst_cv)
    return Plan(
        spec=spec,
        pools=(pool,),
        replicas=Replicas(min=processes, max=processes, start=processes),
        serving=serving,
        latency_ms=LatencyMs(mean=at_peak.mean_ms, p99=at_peak.p99_ms),
        max_rps_within_slo=server.max_rps * processes,
        generation=digest(spec, (pool,), serving, models),
        usd_per_month=UsdPerMonth(min=0.0, expected=0.0, max=0.0),
        usd_per_million_predictions=0.0,
        binding_constraint=server.binding,
    )


def settings(spec: Spec, server: Server) -> Serving:
    """The server settings of a division."""
    models = tuple(
        ModelServing(
            name=s.model.name,
            version=s.model.version,
            instances=s.instances,
            max_batch=s.batching.max_batch,
            queue_delay_us=s.batching.queue_delay_us,
            preferred_batch=s.batching.preferred_batch_sizes,
            part=s.part,
            slowdown=s.slowdown,
        )
        for s in server.shares
    )
    narrow = models[server.shares.index(server.narrowest)]
    return Serving(
        instances=narrow.instances,
        max_batch=narrow.max_batch,
        queue_delay_us=narrow.queue_delay_us,
        preferred_batch=narrow.preferred_batch,
        models=models,
        exit_timeout_s=exit_timeout_s(spec),
        gpu_sharing=spec.gpu_sharing.strategy,
        gpu_clients=spec.gpu_sharing.clients,
    )


def _instances(spec: Spec, numbers: LocalNumbers, single: Server) -> int:
    """The least count whose single instances carry the peak."""
    wanted = spec.load.peak_rps * numbers.headroom
    count = numbers.least_instances
    while count <= spec.local_vcpus and count * single.max_rps < wanted:
        count += 1
    if count <= spec.local_vcpus:
        return count
    if single.max_rps <= 0:
        reason = too_slow(spec, single)
        slow = Rejected(machine_type="local", reason=reason, least_p99_ms=least_p99(single, spec.load.burst_cv))
        raise Infeasible([problem(("slo", "p99_ms"), reason)], "slo.p99_ms", [slow])
    carried = spec.local_vcpus * single.max_rps / numbers.headroom
    reason = (
        f"{spec.local_vcpus} vCPUs carry {carried:.0f} requests/s within slo.p99_ms {spec.slo.p99_ms:g}, "
        f"and load.peak_rps is {spec.load.peak_rps:g} (at least {numbers.least_instances} instances)"
    )
    fix = Fix(steps=("local_vcpus",), value=max(numbers.least_instances, int(-(-wanted // single.max_rps))))
    raise Infeasible([problem(("local_vcpus",), reason, fix=fix)], "local_vcpus")
