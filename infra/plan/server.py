"""One server: how its processor is divided among the models, what rate it carries within the SLO, at which latency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infra.plan import capacity
from infra.spec import Model, Spec


@dataclass(frozen=True, kw_only=True)
class Share:
    """One model's part of a server: its own instances, each as slow as `slowdown` says."""

    model: Model
    part: float  # of the requests
    instances: int
    profile: capacity.Profile
    batching: capacity.Batching
    max_rps: float  # of this model's requests, within the SLO and the utilisation gate


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server's division and the total rate that it carries."""

    shares: tuple[Share, ...]
    max_rps: float
    binding: str  # what a higher rate would break

    @property
    def narrowest(self) -> Share:
        return min(self.shares, key=lambda s: s.max_rps / s.part if s.part else float("inf"))

    def latency(self, rps: float, burst_cv: float) -> capacity.Latency:
        """Of the requests of all models together: the mean, and the worst 99th percentile."""
        each = [
            (s.part, capacity.latency(s.profile, rps * s.part, s.batching.max_batch, s.instances, burst_cv))
            for s in self.shares
        ]
        return capacity.Latency(mean_ms=sum(p * x.mean_ms for p, x in each), p99_ms=max(x.p99_ms for _, x in each))


def parts(models: Sequence[Model]) -> list[float]:
    """Each model's part of the load; those without a share divide evenly what the others leave."""
    stated = sum(m.share for m in models if m.share is not None)
    silent = sum(1 for m in models if m.share is None)
    rest = max(0.0, 1.0 - stated) / silent if silent else 0.0
    return [rest if m.share is None else m.share for m in models]


def _share(spec: Spec, model: Model, part: float, processor: str, instances: int, slowdown: float) -> Share:
    measured = model.profile[processor]
    profile = capacity.Profile(base_ms=measured.base_ms * slowdown, per_item_ms=measured.per_item_ms * slowdown)
    cv = spec.load.burst_cv
    batching = capacity.best_batch(profile, spec.slo.p99_ms, model.max_batch, instances, cv)
    within = capacity.max_rps(profile, spec.slo.p99_ms, batching.max_batch, instances, cv)
    gate = spec.slo.accelerator_utilization * capacity.capacity_rps(profile, batching.max_batch, instances)
    return Share(
        model=model,
        part=part,
        instances=instances,
        profile=profile,
        batching=batching,
        max_rps=min(within, gate),
    )


def divide(spec: Spec, models: Sequence[Model], processor: str, slots: int) -> Server:
    """Divides `slots` equal processors (vCPUs or accelerators) among the models.

    With a slot for each model, each has its own, and the next slot goes where the rate is narrowest. With fewer,
    every model has an instance on every slot; a busy one then gets at least 1/len(models) of it, so its batches are
    taken to last that much longer, which is never optimistic.
    """
    each = parts(models)
    if len(models) > slots:
        shares = [_share(spec, m, p, processor, slots, len(models)) for m, p in zip(models, each, strict=True)]
        return _server(shares)
    shares = [_share(spec, m, p, processor, 1, 1.0) for m, p in zip(models, each, strict=True)]
    for _ in range(slots - len(models)):
        i = min(
            range(len(shares)), key=lambda i: shares[i].max_rps / shares[i].part if shares[i].part else float("inf")
        )
        shares[i] = _share(spec, shares[i].model, shares[i].part, processor, shares[i].instances + 1, 1.0)
    return _server(shares)


def _server(shares: Sequence[Share]) -> Server:
    narrow = min(shares, key=lambda s: s.max_rps / s.part if s.part else float("inf"))
    rate = narrow.max_rps / narrow.part if narrow.part else 0.0
    saturated = capacity.capacity_rps(narrow.profile, narrow.batching.max_batch, narrow.instances)
    return Server(
        shares=tuple(shares),
        max_rps=rate,
        binding="slo.accelerator_utilization" if narrow.max_rps >= 0.949 * saturated else "slo.p99_ms",
    )
