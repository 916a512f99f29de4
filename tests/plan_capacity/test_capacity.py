"""The capacity model: never below an independent simulation, monotone, its inverse exact, its edges refused."""

from __future__ import annotations

import heapq
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.plan.capacity import SIZES, Profile, best_batch, capacity_rps, largest_size, latency, max_rps
from infra.plan.capacity_bound import decay_rate, waiting_bound
from infra.plan.capacity_steps import onsets, steps
from infra.plan.capacity_table import table

PROFILES = st.builds(Profile, base_ms=st.floats(0.05, 50.0), per_item_ms=st.floats(0.05, 5.0))
BATCHES = st.integers(1, 64)
INSTANCES = st.integers(1, 16)
CVS = st.floats(1.0, 4.0)
LOADS = st.floats(0.01, 0.99)


def by_events(
    profile: Profile, rps: float, max_batch: int, instances: int, cv: float, count: int, seed: int
) -> tuple[float, float]:
    """Mean and 99th percentile from an event list with a queue and idle instances, as a server works."""
    rng = np.random.default_rng(seed)
    gaps = rng.gamma(1.0 / cv**2, cv**2 * 1000.0 / rps, count)
    events = [(float(t), 0, i) for i, t in enumerate(np.cumsum(gaps))]
    arrived = [t for t, _, _ in events]
    heapq.heapify(events)
    idle, queue, latencies = instances, [], np.zeros(count)
    head = 0
    while events:
        now, kind, item = heapq.heappop(events)
        if kind == 0:
            queue.append(item)
        else:
            idle += 1
        while idle and head < len(queue):
            batch = queue[head : head + max_batch]
            head += len(batch)
            idle -= 1
            end = now + profile.per_item_ms * len(batch) + profile.base_ms
            for i in batch:
                latencies[i] = end - arrived[i]
            heapq.heappush(events, (end, 1, -1))
    kept = latencies[count // 10 :]
    return float(kept.mean()), float(np.quantile(kept, 0.99))


@pytest.mark.parametrize(
    ("base", "item", "max_batch", "instances", "cv", "load"),
    [
        (1.0, 1.0, 1, 1, 1.0, 0.7),
        (1.1, 0.08, 32, 1, 2.0, 0.6),
        (2.0, 0.9, 8, 2, 1.0, 0.8),
        (5.0, 0.1, 64, 4, 1.5, 0.3),
        (1.0, 2.0, 16, 3, 2.0, 0.5),
        (0.0, 1.0, 4, 2, 1.0, 0.85),
        (0.08, 1.0, 3, 14, 1.5, 0.27),  # before, between and after the steps of many instances
        (0.0, 1.0, 64, 16, 1.0, 0.54),
        (0.0, 1.0, 64, 16, 1.0, 0.585),
        (0.5, 1.0, 8, 8, 1.0, 0.33),
        (40.0, 1.0, 6, 14, 1.0, 0.52),  # little growth, which is unlike none
        (38.0, 1.0, 4, 9, 1.0, 0.48),  # an item's own time hardly counts: waiting for a whole batch does
        (0.05, 1.0, 32, 5, 2.0, 0.42),  # far above the first steps
    ],
)
def test_is_close_to_an_independent_simulation_and_not_below_it(
    base: float, item: float, max_batch: int, instances: int, cv: float, load: float
) -> None:
    """Against event lists: not below by more than their own error, not above by more than 10% and that error."""
    profile = Profile(base_ms=base, per_item_ms=item)
    rps = load * capacity_rps(profile, max_batch, instances)
    runs = np.array([by_events(profile, rps, max_batch, instances, cv, 25_000, seed) for seed in range(4)])
    said = latency(profile, rps, max_batch, instances, cv)
    for predicted, simulated in ((said.mean_ms, runs[:, 0]), (said.p99_ms, runs[:, 1])):
        error = 3.0 * simulated.std(ddof=1) / math.sqrt(len(simulated)) + 0.005 * simulated.mean()
        assert predicted > simulated.mean() - error
        assert predicted < 1.1 * simulated.mean() + error


@given(PROFILES, BATCHES, INSTANCES, CVS, LOADS, LOADS)
@settings(max_examples=60, deadline=None)
def test_latency_never_falls_with_the_rate(
    profile: Profile, max_batch: int, instances: int, cv: float, one: float, other: float
) -> None:
    """More load, more latency, and the 99th percentile is never below one item's service time."""
    full = capacity_rps(profile, max_batch, instances)
    low, high = (latency(profile, x * full, max_batch, instances, cv) for x in sorted((one, other)))
    assert low.p99_ms <= high.p99_ms
    assert low.mean_ms <= high.mean_ms
    assert low.mean_ms >= profile.tau_ms(1) * (1 - 1e-9)


@given(PROFILES, BATCHES, INSTANCES, CVS, LOADS)
@settings(max_examples=60, deadline=None)
def test_the_largest_rate_is_the_inverse_of_latency(
    profile: Profile, max_batch: int, instances: int, cv: float, load: float
) -> None:
    """At the largest rate the target is kept; a hair above it, it is not."""
    full = capacity_rps(profile, max_batch, instances)
    target = latency(profile, load * full, max_batch, instances, cv).p99_ms
    rate = max_rps(profile, target * (1 + 1e-9), max_batch, instances, cv)
    assert rate >= load * full * 0.999
    assert latency(profile, rate, max_batch, instances, cv).p99_ms <= target * (1 + 1e-6)
    if rate < 0.995 * full:
        assert latency(profile, rate * 1.004, max_batch, instances, cv).p99_ms >= target


@pytest.mark.parametrize("instances", [1, 2, 4, 16])
@pytest.mark.parametrize("max_batch", [1, 8, 64])
@pytest.mark.parametrize("load", [0.6, 0.8, 0.9, 0.95])
def test_bursts_cost_latency_at_high_load(instances: int, max_batch: int, load: float) -> None:
    """At the same load, the 99th percentile does not fall with burst_cv by more than the model may be pessimistic."""
    profile = Profile(base_ms=2.0, per_item_ms=0.5)
    rps = load * capacity_rps(profile, max_batch, instances)
    tails = [latency(profile, rps, max_batch, instances, cv).p99_ms for cv in (1.0, 1.5, 2.0, 3.0, 4.0)]
    assert all(b >= a * 0.9 for a, b in pairwise(tails))
    assert tails[-1] > tails[0]


@pytest.mark.parametrize("max_batch", [1, 8, 32])
@pytest.mark.parametrize("cv", [1.0, 2.0, 4.0])
def test_more_instances_carry_more(max_batch: int, cv: float) -> None:
    """The largest rate within an SLO grows at least in proportion to the instances: a common queue pools."""
    profile = Profile(base_ms=2.0, per_item_ms=0.5)
    target = 6.0 * profile.tau_ms(max_batch)
    each = [max_rps(profile, target, max_batch, n, cv) / n for n in (1, 2, 3, 4, 8, 16)]
    assert all(b >= a * 0.99 for a, b in pairwise(each))


def test_a_step_of_the_percentile_comes_at_its_load() -> None:
    """With 16 instances and no base an item takes one service, or two and more: the 99th percentile leaps at 56%."""
    profile = Profile(base_ms=0.0, per_item_ms=1.0)
    full = capacity_rps(profile, 64, 16)
    low, high = (latency(profile, x * full, 64, 16).p99_ms for x in (0.55, 0.57))
    assert low < 1.1
    assert 2.0 <= high < 2.2


@pytest.mark.parametrize("limit", range(1, 65))
def test_only_simulated_batches_are_chosen(limit: int) -> None:
    """The sizes are those of the table, and the choice is one of them within the limit."""
    simulated = [round(math.exp(x)) for x in table().axes[2]]
    assert list(SIZES) == simulated
    assert list(SIZES[1:]) == list(onsets().batches)
    assert largest_size(limit) in simulated
    assert best_batch(Profile(base_ms=20.0, per_item_ms=0.1), 500.0, limit).max_batch == largest_size(limit)
    assert limit / largest_size(limit) < 2.0


@given(st.floats(1.0, 4.0), st.integers(2, 16), st.sampled_from(SIZES[1:]), st.floats(0.05, 1.0))
@settings(max_examples=60, deadline=None)
def test_steps_are_known_in_order(cv: float, instances: int, max_batch: int, share: float) -> None:
    """Where steps are known, both loads and latencies rise, from at least one service and within capacity."""
    loads, latencies = steps(cv, instances, max_batch, share)
    assert np.all(np.diff(loads) >= 0.0)
    assert np.all(np.diff(latencies) > 0.0)
    assert loads.size == 0 or (loads[0] > 0.0 and loads[-1] < 1.0 and latencies[0] >= 1.0)


def test_saturation_is_infinite() -> None:
    """At and above capacity nothing is promised."""
    profile = Profile(base_ms=1.0, per_item_ms=1.0)
    assert latency(profile, capacity_rps(profile, 4, 2), 4, 2).p99_ms == math.inf
    assert max_rps(profile, 1e9, 4, 2) < capacity_rps(profile, 4, 2)


def test_a_target_below_one_item_carries_nothing() -> None:
    """No rate keeps a latency that a single item does not."""
    assert max_rps(Profile(base_ms=5.0, per_item_ms=1.0), 5.9, 32) == 0.0


def test_beyond_the_table_is_pessimistic() -> None:
    """More than 16 instances or batches above 64 never look better than the model can vouch for."""
    profile = Profile(base_ms=3.0, per_item_ms=0.3)
    load = 0.8
    many, most = (latency(profile, load * capacity_rps(profile, 8, n), 8, n).p99_ms for n in (64, 16))
    assert many == most
    assert latency(profile, 5000.0, 128, 2) == latency(profile, 5000.0, 64, 2)


@pytest.mark.parametrize("cv", [0.5, 4.5])
def test_burst_cv_outside_the_table_is_refused(cv: float) -> None:
    """No silent extrapolation."""
    with pytest.raises(ValueError, match="burst_cv"):
        latency(Profile(base_ms=1.0, per_item_ms=1.0), 1.0, 1, 1, cv)


@pytest.mark.parametrize(("base", "item"), [(-1.0, 1.0), (1.0, -1.0), (0.0, 0.0), (math.nan, 1.0)])
def test_senseless_profiles_are_refused(base: float, item: float) -> None:
    """A service time is positive and finite."""
    with pytest.raises(ValueError, match="base_ms"):
        Profile(base_ms=base, per_item_ms=item)


def test_a_batch_that_saves_nothing_is_not_taken() -> None:
    """Without a base, batching only makes items wait for each other."""
    assert best_batch(Profile(base_ms=0.0, per_item_ms=1.0), 20.0, 64, 1, 1.0, 500.0).max_batch <= 2


def test_a_large_base_takes_large_batches() -> None:
    """Where the base dominates, rate within the SLO comes from the batch."""
    assert best_batch(Profile(base_ms=10.0, per_item_ms=0.1), 60.0, 64, 1, 1.0, 500.0).max_batch >= 32


@pytest.mark.parametrize("load", [0.3, 0.9])
@pytest.mark.parametrize("cv", [1.0, 2.0, 4.0])
def test_the_exponent_solves_lundbergs_equation(load: float, cv: float) -> None:
    """E[exp(x (1 - A))] = 1 for Gamma distributed gaps A with mean 1/load."""
    x = decay_rate(load, cv)
    assert x > 0
    assert math.exp(x) * (1 + x * cv**2 / load) ** (-1 / cv**2) == pytest.approx(1.0, rel=1e-5)
    assert waiting_bound(load, cv)[1] > waiting_bound(load, cv)[0]
