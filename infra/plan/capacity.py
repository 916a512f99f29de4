"""The capacity model: latency of a server with dynamic batching, and the largest rate that keeps a latency target.

A server has identical model instances and one queue. Items arrive with independent Gamma distributed gaps whose
coefficient of variation is `burst_cv` (1 = Poisson). A free instance takes what waits, up to `max_batch`, at once, as
one batch; a batch of b items takes `tau(b) = per_item_ms * b + base_ms`. Latency is from an item's arrival to the end
of its batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from infra.plan.capacity_bound import waiting_bound
from infra.plan.capacity_steps import FLAT, steps
from infra.plan.capacity_table import Curve, curve

SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)  # the max_batch that was simulated; between them the model is less exact
MAX_BATCH = 64  # the ranges of the table
MAX_INSTANCES = 16
MAX_BURST_CV = 4.0


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


def growth(profile: Profile, max_batch: int) -> float:
    """How the service time grows with the batch: 0 = a batch costs what an item costs, 1 = batching saves nothing."""
    if max_batch == 1:
        return 0.0
    exponent = math.log(profile.tau_ms(max_batch) / profile.tau_ms(1)) / math.log(max_batch)
    return round(min(max(exponent, 0.0), 1.0), 9)


def _curve(profile: Profile, max_batch: int, instances: int, burst_cv: float) -> Curve:
    if not 1.0 <= burst_cv <= MAX_BURST_CV:
        raise ValueError(f"burst_cv: {burst_cv} is outside the capacity table; allowed: 1 to {MAX_BURST_CV:g}")
    if max_batch < 1 or instances < 1:
        raise ValueError(f"max_batch and instances must be at least 1, not {max_batch} and {instances}")
    share = profile.per_item_ms / profile.tau_ms(1)
    return _joined(burst_cv, min(instances, MAX_INSTANCES), max_batch, growth(profile, max_batch), round(share, 9))


@lru_cache(maxsize=8192)
def _joined(burst_cv: float, instances: int, max_batch: int, growth: float, share: float) -> Curve:
    """The curve of the table, with the steps that its loads are too coarse for."""
    whole = curve(burst_cv, instances, max_batch, growth)
    return whole.with_steps(*steps(burst_cv, instances, max_batch, share), trust=1.0 if share >= FLAT else 0.5)


def _beyond(load: float, last: float, burst_cv: float) -> tuple[float, float]:
    """How much the bounds on mean and 99th percentile of the wait rise from the table's last load to this one."""
    (mean, p99), (mean0, p990) = waiting_bound(load, burst_cv), waiting_bound(last, burst_cv)
    return max(0.0, mean - mean0), max(0.0, p99 - p990)


def latency(profile: Profile, rps: float, max_batch: int, instances: int = 1, burst_cv: float = 1.0) -> Latency:
    """Mean and 99th percentile of latency at this rate; infinite at or above capacity.

    More than 16 instances are taken to be as slow as 16 at the same load, and `max_batch` above 64 as 64: both are
    pessimistic. Above 97% load a closed-form bound continues the table.
    """
    max_batch = min(max_batch, MAX_BATCH)
    known = _curve(profile, max_batch, instances, burst_cv)
    load = rps / capacity_rps(profile, max_batch, instances)
    if load >= 1.0:
        return SATURATED
    mean, p99 = known.at(load)
    one = profile.tau_ms(1)
    if load <= known.last:
        return Latency(mean_ms=mean * one, p99_ms=p99 * one)
    item = profile.tau_ms(max_batch) / max_batch / min(instances, MAX_INSTANCES)
    more_mean, more_p99 = _beyond(load, known.last, burst_cv)
    return Latency(mean_ms=mean * one + more_mean * item, p99_ms=p99 * one + more_p99 * item)


def max_rps(profile: Profile, p99_ms: float, max_batch: int, instances: int = 1, burst_cv: float = 1.0) -> float:
    """The largest rate whose 99th percentile of latency is within `p99_ms`; 0 if not even 1% of capacity is."""
    max_batch = min(max_batch, MAX_BATCH)
    known = _curve(profile, max_batch, instances, burst_cv)
    capacity = capacity_rps(profile, max_batch, instances)
    load = known.load_within(p99_ms / profile.tau_ms(1))
    if load < known.last:
        return load * capacity
    low, high = load * capacity, capacity
    for _ in range(16):
        middle = 0.5 * (low + high)
        if latency(profile, middle, max_batch, instances, burst_cv).p99_ms <= p99_ms:
            low = middle
        else:
            high = middle
    return low


def largest_size(limit: int) -> int:
    """The largest simulated `max_batch` within this limit."""
    return max(size for size in SIZES if size <= limit)


def best_batch(
    profile: Profile, p99_ms: float, max_batch_limit: int, instances: int = 1, burst_cv: float = 1.0, rps: float = 0.0
) -> Batching:
    """The `max_batch` with the largest rate within `p99_ms`; among equals the one with the lowest latency at `rps`.

    It is one of SIZES: between them the 99th percentile would have to be interpolated over kinks.
    The queue delay is 0: a free instance takes what waits, and batches form by themselves while all are busy.
    Waiting for more delays an item that could have started; bench/capacity_delay.py measures what it would bring.
    Without a delay Triton has no use for preferred sizes, so there are none.
    """
    limit = largest_size(max_batch_limit)
    sizes = [2**k for k in range(limit.bit_length()) if 2**k < limit] + [limit]
    rates = {size: max_rps(profile, p99_ms, size, instances, burst_cv) for size in sizes}
    enough = [size for size in sizes if rates[size] >= 0.99 * max(rates.values())]
    best = min(enough, key=lambda size: (latency(profile, rps, size, instances, burst_cv).p99_ms, size))
    return Batching(max_batch=best, queue_delay_us=0, preferred_batch_sizes=())
