"""The capacity model: latency of a server with dynamic batching, and the largest rate that keeps a latency target.

A server has identical model instances and one queue. Items arrive with independent Gamma distributed gaps whose
coefficient of variation is `burst_cv` (1 = Poisson). A free instance takes what waits, up to `max_batch`, at once, as
one batch; a batch of b items takes `tau(b) = per_item_ms * b + base_ms`. Latency is from an item's arrival to the end
of its batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from infra.plan.capacity_bound import waiting_bound


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Service time of one instance: `tau(b) = per_item_ms * b + base_ms`."""

    base_ms: float
    per_item_ms: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.base_ms) and math.isfinite(self.per_item_ms)):
            raise ValueError("base_ms and per_item_ms must be finite")
        if self.base_ms < 0 or self.per_item_ms < 0 or self.base_ms + self.per_item_ms <= 0:
            raise ValueError("base_ms and per_item_ms must be at least 0, and one of them above 0")

    def tau_ms(self, batch: int) -> float:
        """Milliseconds that a batch of this many items takes."""
        return self.per_item_ms * batch + self.base_ms


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Latency of one item from arrival to answer; both infinite at or above capacity."""

    mean_ms: float
    p99_ms: float


@dataclass(frozen=True, kw_only=True)
class Batching:
    """The batching settings of a server. Empty `preferred_batch_sizes`: a batch has any size up to `max_batch`."""

    max_batch: int
    queue_delay_us: int
    preferred_batch_sizes: tuple[int, ...]


SATURATED = Latency(mean_ms=math.inf, p99_ms=math.inf)


def capacity_rps(profile: Profile, max_batch: int, instances: int) -> float:
    """The rate at which the server saturates: every instance always runs full batches."""
    return 1000.0 * instances * max_batch / profile.tau_ms(max_batch)


def latency(profile: Profile, rps: float, max_batch: int, instances: int = 1, burst_cv: float = 1.0) -> Latency:
    """Mean and 99th percentile of latency at this rate; infinite at or above capacity."""
    load = rps / capacity_rps(profile, max_batch, instances)
    if load >= 1.0:
        return SATURATED
    full = profile.tau_ms(max_batch)
    if load <= 0.0:
        return Latency(mean_ms=profile.tau_ms(1), p99_ms=profile.tau_ms(1))
    mean, p99 = waiting_bound(load, burst_cv)
    item = full / (instances * max_batch)
    return Latency(mean_ms=2.0 * full + mean * item, p99_ms=2.0 * full + p99 * item)


def max_rps(profile: Profile, p99_ms: float, max_batch: int, instances: int = 1, burst_cv: float = 1.0) -> float:
    """The largest rate whose 99th percentile of latency is within `p99_ms`; 0 if not even a single item is."""
    if profile.tau_ms(1) > p99_ms:
        return 0.0
    low, high = 0.0, capacity_rps(profile, max_batch, instances)
    for _ in range(40):
        middle = 0.5 * (low + high)
        if latency(profile, middle, max_batch, instances, burst_cv).p99_ms <= p99_ms:
            low = middle
        else:
            high = middle
    return low


def best_batch(
    profile: Profile, p99_ms: float, max_batch_limit: int, instances: int = 1, burst_cv: float = 1.0, rps: float = 0.0
) -> Batching:
    """The `max_batch` with the largest rate within `p99_ms`; among equals the one with the lowest latency at `rps`."""
    sizes = [2**k for k in range(max_batch_limit.bit_length()) if 2**k < max_batch_limit] + [max_batch_limit]
    rates = {size: max_rps(profile, p99_ms, size, instances, burst_cv) for size in sizes}
    enough = [size for size in sizes if rates[size] >= 0.99 * max(rates.values())]
    best = min(enough, key=lambda size: (latency(profile, rps, size, instances, burst_cv).p99_ms, size))
    return Batching(max_batch=best, queue_delay_us=0, preferred_batch_sizes=())
