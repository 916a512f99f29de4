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
SAFETY = 1.015  # latencies are taken to be this much longer: the noise of the table and its interpolation

CUBIC, LINEAR = (3, 3, 1, 3), (1, 1, 1, 1)  # orders of interpolation over the axes; over max_batch there are kinks


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


def _at(known: Onsets, places: tuple[float, ...], orders: tuple[int, ...]) -> Floats:
    """The log of each level's rate at this point; not a number where a node around it was not simulated."""
    each = [_weights(*parts) for parts in zip(known.axes, places, orders, strict=True)]
    block = known.rates[tuple(near for near, _ in each)]
    weights = np.array([math.prod(parts) for parts in product(*(w for _, w in each))])
    result: Floats = weights @ block.reshape(weights.size, -1)
    return result


def steps(burst_cv: float, instances: int, max_batch: int, share: float) -> tuple[Floats, Floats]:
    """Loads (in parts of capacity) and the 99th percentile from there on, in units of tau(1); empty where not known."""
    known = onsets()
    nothing = np.empty(0)
    if max_batch == 1 or not math.exp(known.axes[3][0]) <= share <= 1.0:
        return nothing, nothing
    places = (math.log(burst_cv), math.log(instances), math.log(max_batch), math.log(share))
    rates = _at(known, places, CUBIC)
    if not np.isfinite(rates).all():
        rates = np.where(np.isfinite(rates), rates, _at(known, places, LINEAR))
    below = max(size for size in known.batches if size <= max_batch)
    same = (below == max_batch) | (known.levels <= below - 1.0)  # full batches of the smaller size hardly matter there
    there = np.isfinite(rates) & same
    if not there.any():
        return nothing, nothing
    loads = np.exp(rates[there]) * (1.0 + share * (max_batch - 1)) / max_batch
    return np.maximum.accumulate(loads), (1.0 + share * known.levels[there]) * SAFETY
