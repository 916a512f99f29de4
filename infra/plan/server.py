"""One server: how its processor is divided among the models, what rate it carries within the SLO, at which latency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from infra.plan import capacity
from infra.spec import Model, Slo, Spec

NOTHING = 1e-3  # of its capacity: a server that keeps the SLO only when it idles carries nothing


@dataclass(frozen=True, kw_only=True)
class Share:
    """One model's part of a server: its own instances, each as slow as `slowdown` says."""

    model: Model
    part: float  # of the requests
    instances: int
    profile: capacity.Profile  # slowdown included
    slowdown: float
    batching: capacity.Batching
    max_rps: float  # of this model's requests, within the SLO and the utilisation gate

    @property
    def total_rps(self) -> float:
        """The rate of all models together at which this one is at its largest."""
        return self.max_rps / self.part if self.part else float("inf")


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server's division and the total rate that it carries."""

    shares: tuple[Share, ...]
    max_rps: float
    binding: str  # what a higher rate would break

    @property
    def narrowest(self) -> Share:
        return min(self.shares, key=lambda s: s.total_rps)

    def latency(self, rps: float, burst_cv: float) -> capacity.Latency:
        """Of the requests of all models together: the mean, and the worst 99th percentile."""
        each = [
            (s.part, capacity.latency(s.profile, rps * s.part, s.batching.max_batch, s.instances, burst_cv))
            for s in self.shares
        ]
        return capacity.Latency(mean_ms=sum(p * x.mean_ms for p, x in each), p99_ms=max(x.p99_ms for _, x in each))


def parts(models: Sequence[Model]) -> list[float]:
    """Each model's part of the load: names without one divide what the others leave, versions divide their name's."""
    shares = {m.name: m.share for m in models}
    stated = sum(s for s in shares.values() if s is not None)
    silent = sum(1 for s in shares.values() if s is None)
    rest = max(0.0, 1.0 - stated) / silent if silent else 0.0
    of_name = {n: rest if s is None else s for n, s in shares.items()}
    return [of_name[m.name] / sum(1 for x in models if x.name == m.name) for m in models]


@cache
def _carried(
    profile: capacity.Profile, slo: Slo, max_batch: int, instances: int, cv: float
) -> tuple[capacity.Batching, float]:
    """The batching to use and the rate that it carries within the SLO and the utilisation gate."""
    batching = capacity.best_batch(profile, slo.p99_ms, max_batch, instances, cv)
    within = capacity.max_rps(profile, slo.p99_ms, batching.max_batch, instances, cv)
    saturated = capacity.capacity_rps(profile, batching.max_batch, instances)
    carried = min(within, slo.accelerator_utilization * saturated)
    return batching, carried if carried > NOTHING * saturated else 0.0


def _share(spec: Spec, model: Model, part: float, processor: str, instances: int, slowdown: float) -> Share:
    measured = model.profile[processor]
    profile = capacity.Profile(base_ms=measured.base_ms * slowdown, per_item_ms=measured.per_item_ms * slowdown)
    batching, carried = _carried(profile, spec.slo, model.max_batch, instances, spec.load.burst_cv)
    return Share(
        model=model,
        part=part,
        instances=instances,
        profile=profile,
        slowdown=slowdown,
        batching=batching,
        max_rps=carried,
    )


def least_p99(server: Server, burst_cv: float) -> float:
    """The least 99th percentile with which this division would carry something."""
    return max(
        min(
            capacity.latency(
                s.profile, 2 * NOTHING * capacity.capacity_rps(s.profile, b, s.instances), b, s.instances, burst_cv
            ).p99_ms
            for b in {1, 2, 4, capacity.largest_size(s.model.max_batch)}
            if b <= s.model.max_batch
        )
        for s in server.shares
    )


def divide(spec: Spec, models: Sequence[Model], processor: str, slots: int, slowdown: float = 1.0) -> Server:
    """Divides `slots` equal processors (vCPUs or accelerators) among the models.

    With a slot for each model, each has its own, and the others go where the load is largest for what it has. With
    fewer, every model has an instance on every slot; a busy one then gets at least 1/len(models) of it, so its batches
    are taken to last that much longer, which is never optimistic. `slowdown` is that of others on the same processors.
    """
    each = list(zip(models, parts(models), strict=True))
    if len(models) > slots:
        return _server(spec, [_share(spec, m, p, processor, slots, slowdown * len(models)) for m, p in each])
    counts = _instances([p * _busy_ms(m, processor) for m, p in each], slots)
    return _server(spec, [_share(spec, m, p, processor, n, slowdown) for (m, p), n in zip(each, counts, strict=True)])


def _busy_ms(model: Model, processor: str) -> float:
    """Of a processor, for each request, in full batches."""
    measured = model.profile[processor]
    return measured.base_ms / model.max_batch + measured.per_item_ms


def _instances(loads: Sequence[float], slots: int) -> list[int]:
    """One slot each, then one after the other to the model with the largest load a slot."""
    counts = [1] * len(loads)
    for _ in range(slots - len(loads)):
        counts[max(range(len(loads)), key=lambda i: loads[i] / counts[i])] += 1
    return counts


def _server(spec: Spec, shares: Sequence[Share]) -> Server:
    narrow = min(shares, key=lambda s: s.total_rps)
    gate = spec.slo.accelerator_utilization * capacity.capacity_rps(
        narrow.profile, narrow.batching.max_batch, narrow.instances
    )
    binding = "slo.accelerator_utilization" if narrow.max_rps >= gate else "slo.p99_ms"
    return Server(shares=tuple(shares), max_rps=narrow.total_rps, binding=binding)
