"""The search against brute force that shares none of its code but the types, and against the fluid lower bound."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from infra.plan.search import MOST_TYPES, Choice, Demand, Option, cheapest_mix, cheapest_single

SMALL_PROBLEMS = 600
BLOCKS = [0, *(pytest.param(b, marks=pytest.mark.slow) for b in range(1, 10))]


def problem(seed: int, kinds: int, largest: int) -> tuple[list[Option], Demand]:
    """A few machine types and a load that a handful of them carries."""
    rng = random.Random(seed)
    options = []
    for i in range(kinds):
        rps = rng.choice([20, 35, 50, 70, 100, 130, 200, 310, 450])
        price = round(rps * rng.uniform(0.5, 1.5) / 100, 3)
        burst = round(price * rng.choice([1.0, rng.uniform(0.2, 1.1)]), 3)
        worst = rng.choice([price, burst])
        replicas = rng.choice([1, 1, 2, 4])
        options.append(Option(name=f"m{i}", rps=rps, replicas=replicas, base=price, burst=burst, worst=worst))
    peak = max(o.rps for o in options) * rng.uniform(0.2, largest)
    mean = peak * rng.uniform(0.1, 1.0)
    elastic = rng.random() < 0.8
    return options, Demand(
        mean_rps=mean,
        peak_rps=peak,
        base_rps=rng.choice([0.0, mean]),
        least_replicas=rng.choice([1, 2, 3]),
        most_replicas=None if elastic else rng.choice([2, 4, 8]),
        least_on_demand=rng.choice([0, 1, 2]),
        elastic=elastic,
        most_usd=None if rng.random() < 0.7 else round(rng.uniform(0.5, 8), 2),
    )


def enumerate_fleets(options: list[Option], d: Demand, mix: bool) -> list[tuple[float, float]]:
    """(expected, worst) of every fleet worth a look: each count up to what one type needs for all of it by itself."""
    groups = [list(g) for g in itertools.combinations(options, MOST_TYPES if mix else 1)]
    return [fleet for group in groups for fleet in fleets_of(group, d)]


def fleets_of(on: list[Option], d: Demand) -> list[tuple[float, float]]:
    rps, replicas, fixed, burst_usd, worst_usd = (
        np.array([getattr(o, n) for o in on]) for n in ("rps", "replicas", "base", "burst", "worst")
    )
    spare = max(d.least_replicas, d.least_on_demand)
    most = [int(max(d.peak_rps, d.base_rps, d.mean_rps) / o.rps) + 1 + spare for o in on]
    found = []
    for base in counts(most):
        if base @ rps < d.base_rps - 1e-6 or base @ replicas < d.least_on_demand:
            continue
        for burst in counts([m - b for m, b in zip(most, base, strict=True)]):
            total = (base + burst) @ replicas
            if (base + burst) @ rps < d.peak_rps - 1e-6 or total < d.least_replicas:
                continue
            worst = base @ fixed + burst @ worst_usd
            too_many = d.most_replicas is not None and total > d.most_replicas
            if too_many or (d.most_usd is not None and worst > d.most_usd + 1e-9):
                continue
            runs = counts(list(burst)) if d.elastic else burst[None, :]
            enough = ((base + runs) @ rps >= d.mean_rps - 1e-6) & ((base + runs) @ replicas >= d.least_replicas)
            found += [(float(base @ fixed + cost), float(worst)) for cost in (runs[enough] @ burst_usd)]
    return found


def counts(most: list[int]) -> np.ndarray:
    """Every vector of whole numbers from 0 to `most`."""
    return np.array(list(itertools.product(*(range(m + 1) for m in most))))


def check(choice: Choice | None, fleets: list[tuple[float, float]]) -> None:
    assert (choice is None) == (not fleets)
    if choice is not None:
        expected = min(e for e, _ in fleets)
        worst = min(w for e, w in fleets if e <= expected + 1e-7)
        assert choice.expected_usd == pytest.approx(expected, abs=1e-6)
        assert choice.worst_usd == pytest.approx(worst, abs=1e-6)


@pytest.mark.parametrize("block", BLOCKS)
def test_one_type_equals_brute_force(block: int) -> None:
    """The cheapest single machine type, over 600 small problems."""
    for seed in range(block * 60, block * 60 + SMALL_PROBLEMS // 10):
        options, demand = problem(seed, kinds=3, largest=4)
        check(cheapest_single(options, demand), enumerate_fleets(options, demand, mix=False))


@pytest.mark.parametrize("block", BLOCKS)
def test_mix_equals_brute_force(block: int) -> None:
    """The cheapest mix of at most two of two or three machine types, over 600 small problems, the elastic ones."""
    for seed in range(10_000 + block * 60, 10_000 + block * 60 + SMALL_PROBLEMS // 10):
        options, demand = problem(seed, kinds=2 + (block > 7), largest=0.8 if block > 7 else 1.2)
        if demand.elastic:
            check(cheapest_mix(options, demand), enumerate_fleets(options, demand, mix=True))


@pytest.mark.parametrize("seed", range(40))
def test_large_fleets_are_near_the_fluid_bound(seed: int) -> None:
    """Ten machines or more: within 5% of the load divided by the best rate that a dollar buys."""
    rng = random.Random(seed)
    options = [
        Option(name=f"m{i}", rps=r, replicas=1, base=(p := r * rng.uniform(0.9, 1.3) / 100), burst=p, worst=p)
        for i, r in enumerate((50, 100, 210, 400))
    ]
    best = min(options, key=lambda o: o.base / o.rps)
    load = best.rps * rng.uniform(10, 60)
    demand = Demand(
        mean_rps=load,
        peak_rps=load,
        base_rps=load,
        least_replicas=1,
        most_replicas=None,
        least_on_demand=1,
        elastic=True,
    )
    choice = cheapest_mix(options, demand)
    assert choice is not None
    assert sum(s.nodes for s in choice.slices) >= 10
    assert choice.expected_usd <= 1.05 * load * best.base / best.rps


def test_peak_must_be_carried_in_full() -> None:
    """The solver's tolerance is not the fleet's: a load a millionth over three machines takes a fourth."""
    option = Option(name="m", rps=100.0, replicas=1, base=1.0, burst=1.0, worst=1.0)
    demand = Demand(
        mean_rps=1,
        peak_rps=300.0001,
        base_rps=1,
        least_replicas=1,
        most_replicas=None,
        least_on_demand=1,
        elastic=True,
    )
    for choice in (cheapest_single([option], demand), cheapest_mix([option], demand)):
        assert choice is not None
        assert [s.nodes for s in choice.slices] == [4]
