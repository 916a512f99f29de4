"""The steps of the 99th percentile: the loads at which one in a hundred items takes longer than a given time.

With several instances the 99th percentile over load is a staircase at low and medium load: an item finds an instance
free, or goes in a batch of two, or of three. Latencies between two steps hardly occur. Interpolating the percentile at
a load is therefore off by up to a step, while the loads of the steps move smoothly with all parameters. So the table
holds those: the rate tau(1) / instances at which 1% of items take longer than `tau(1) + v * per_item`, for levels v.
Whole v are the beginnings of steps whatever the profile is; per item is stated as a share of tau(1).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PATH = Path(__file__).with_name("capacity_table.npz")
SAFETY = 1.02  # latencies are taken to be this much longer: the noise of the table and its interpolation

FLAT = 0.05  # below this share a step is hardly higher than its neighbours, with plateaux between: half trusted
SMALL = 0.3  # below this share of an item steps may also lie at whole service times: the earlier of both is taken
# Orders of interpolation over the axes, the next where nodes of the one before were not simulated; over max_batch there
# are kinks.
ORDERS = ((3, 3, 1, 3), (3, 3, 1, 1), (3, 1, 1, 1), (1, 1, 1, 1))


@dataclass(frozen=True, kw_only=True)
class Onsets:
    """Log of the rate [burst_cv, instances, max_batch, share, level]; not a number where nothing was simulated."""

    rates: Floats
    axes: tuple[tuple[float, ...], ...]  # logs
    batches: tuple[float, ...]
    levels: Floats


@cache
def onsets() -> Onsets:
    """The committed table; read once."""
    with np.load(PATH, allow_pickle=False) as stored:
        known = stored["onsets"]
        rates = np.where(known > 0, known / stored["onsets_per_unit"] + stored["onsets_from"], math.nan)
        names = ("onset_cvs", "onset_instances", "onset_batches", "onset_shares")
        axes = tuple(tuple(np.log(stored[name]).tolist()) for name in names)
        batches = tuple(stored["onset_batches"].tolist())
        return Onsets(rates=rates, axes=axes, batches=batches, levels=stored["onset_levels"])


def _weights(axis: tuple[float, ...], place: float, order: int) -> tuple[slice, list[float]]:
    """Lagrange's weights of the nodes around `place`: one where it is a node, else two, or up to four."""
    left = max(bisect_right(axis, place + 1e-9) - 1, 0)
    if left == len(axis) - 1 or place - axis[left] < 1e-9:
        return slice(left, left + 1), [1.0]
    near = slice(max(left - 1, 0), left + 3) if order > 1 else slice(left, left + 2)
    nodes = axis[near]
    return near, [math.prod((place - x) / (node - x) for x in nodes if x != node) for node in nodes]


def _levels(known: Onsets, rates: Floats, factor: float) -> Floats:
    """The rates of levels that are so much larger; not a number beyond the last."""
    wanted = known.levels * factor
    index = np.clip(np.searchsorted(known.levels, wanted, side="right") - 1, 0, known.levels.size - 2)
    low, high = known.levels[index], known.levels[index + 1]
    part = (wanted - low) / (high - low)
    found: Floats = np.where(
        part > 0.0, (1.0 - part) * rates[..., index] + part * rates[..., index + 1], rates[..., index]
    )
    return np.where(part > 1.0 + 1e-9, math.nan, found)


def _at(known: Onsets, places: tuple[float, ...], orders: tuple[int, ...]) -> Floats:
    """The log of each level's rate at this point; not a number where a node around it was not simulated."""
    each = [_weights(*parts) for parts in zip(known.axes, places, orders, strict=True)]
    block = known.rates[tuple(near for near, _ in each)]
    weights = np.array([math.prod(parts) for parts in product(*(w for _, w in each))])
    result: Floats = weights @ block.reshape(weights.size, -1)
    share = math.exp(places[3])
    if share < SMALL and len(each[3][1]) > 1:
        nodes = np.exp(known.axes[3][each[3][0]])
        whole = [_levels(known, block[..., k, :], share / node) for k, node in enumerate(nodes)]
        result = np.fmin(result, weights @ np.stack(whole, axis=3).reshape(weights.size, -1))
    return result


def level_rates(burst_cv: float, instances: int, max_batch: int, share: float) -> Floats:
    """The log of the rate of each level; not a number where it is not known."""
    known = onsets()
    if max_batch == 1 or not math.exp(known.axes[3][0]) <= share <= 1.0:
        return np.full(known.levels.size, math.nan)
    places = (math.log(burst_cv), math.log(instances), math.log(max_batch), math.log(share))
    rates = _at(known, places, ORDERS[0])
    for orders in ORDERS[1:]:
        if not np.isfinite(rates).all():
            rates = np.where(np.isfinite(rates), rates, _at(known, places, orders))
    below = max(size for size in known.batches if size <= max_batch)
    same = (below == max_batch) | (known.levels <= below - 1.0)  # full batches of the smaller size hardly matter there
    return np.where(same, rates, math.nan)


def steps(burst_cv: float, instances: int, max_batch: int, share: float) -> tuple[Floats, Floats]:
    """Loads (in parts of capacity) and the 99th percentile from there on, in units of tau(1); empty where not known."""
    known = onsets()
    rates = level_rates(burst_cv, instances, max_batch, share)
    there = np.isfinite(rates)
    if not there.any():
        return np.empty(0), np.empty(0)
    loads = np.exp(rates[there]) * (1.0 + share * (max_batch - 1)) / max_batch
    earliest = np.minimum.accumulate(loads[::-1])[::-1]  # noise may turn two steps round: the earlier load for both
    return earliest, (1.0 + share * known.levels[there]) * SAFETY
