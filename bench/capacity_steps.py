"""Adds to infra/plan/capacity_table.npz the loads of the percentile's steps: `python -m bench.capacity_steps`.

Run after bench.capacity_table. Axes: burst_cv, instances, max_batch, share (per item / tau(1)) and level; the value is
the log of the rate, in units of instances / tau(1), at which 1% of items take longer than tau(1) + level * per_item.
The share of slower items is simulated at rates a fifth apart and is smooth over the rate, unlike the percentile.
A simulation with batches up to 64 in which hardly any batch is above a smaller limit stands for that limit too.
"""

from __future__ import annotations

import argparse
import math
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from scipy.interpolate import PchipInterpolator

from bench.capacity_sim import BINS, BINS_PER_OCTAVE, LOWEST, SIZES, Floats, arrivals, serve
from bench.capacity_table import OUT
from infra.plan.capacity import Profile, growth
from infra.plan.capacity_table import curve

CVS = (1.0, 1.2, 1.5, 2.0, 2.8, 4.0)
INSTANCES = (1, 2, 3, 4, 6, 8, 12, 16)
BATCHES = (2, 3, 4, 6, 8, 16, 64)
SHARES = (0.05, 0.1, 0.16, 0.24, 0.35, 0.48, 0.64, 0.8, 0.9, 1.0)
STEP = (0.0, 0.05, 0.12, 0.25, 0.45, 0.65, 0.8, 0.9, 0.96)  # levels after each of the first steps, and after the others
LEVELS = np.array(
    [k + x for k in range(8) for x in STEP] + [k + x for k in range(8, 13) for x in (0.0, 0.3, 0.6, 0.85)]
)
APART = math.log(1.2)  # between simulated rates
LOADS = (0.06, 0.9)  # simulated: what lies outside is left to the table over loads
ITEMS = 400_000  # times burst_cv
FINE = 40  # points of the interpolation between two simulated rates
SELDOM = 2e-4  # of the items in larger batches: as if there were none
ONE = 1.0 + 1.0 / BINS_PER_OCTAVE  # the histogram's first edge above tau(1)
PER_UNIT, FROM = 8192.0, -4.0  # how logs are stored


def slower(counts: Floats, latencies: Floats) -> Floats:
    """The share of items above each latency."""
    octaves = np.floor(np.log2(latencies))
    places = (octaves - LOWEST + latencies / 2.0**octaves - 1.0) * BINS_PER_OCTAVE
    below = np.concatenate([[0.0], np.cumsum(counts)])
    whole = np.floor(places).astype(int)
    result: Floats = 1.0 - (below[whole] + (places - whole) * np.diff(below)[whole]) / below[-1]
    return result


def rates(cv: float, instances: int, max_batch: int, share: float) -> range:
    """Which multiples of APART to simulate: where the percentile rises through the levels, as the coarse table says."""
    full = max_batch / (1.0 + share * (max_batch - 1))
    profile = Profile(base_ms=1.0 - share, per_item_ms=share)
    known = curve(cv, instances, max_batch, growth(profile, max_batch))
    low = max(LOADS[0], 0.85 * known.load_within(1.06))
    high = min(LOADS[1], 1.1 * known.load_within((1.0 + float(LEVELS[-1]) * share) * 1.06))
    if high <= low:
        return range(0)
    first, last = math.log(low * full) / APART, math.log(high * full) / APART
    numbers = range(math.floor(first), math.ceil(last) + 1)
    return range(numbers.start, next((i for i in numbers if math.exp(i * APART) > 0.93 * full), numbers.stop))


def crossings(places: Floats, logs: Floats) -> Floats:
    """Where each level's log of the share of slower items, [rate, level], reaches 1%; not a number outside."""
    fine = np.linspace(places[0], places[-1], FINE * (places.size - 1) + 1)
    rising = np.maximum.accumulate(PchipInterpolator(places, logs)(fine), axis=0)
    found = np.full(logs.shape[1], math.nan)
    aim = math.log(0.01)
    for level in np.flatnonzero((rising[0] <= aim) & (rising[-1] >= aim)):
        found[level] = np.interp(aim, rising[:, level], fine)
    return found


def point(cv: float, units: list[Floats], instances: int, share: float) -> Floats:
    """[max_batch, level] for one number of instances and one share."""
    latencies = 1.0 + share * LEVELS
    latencies[0] = ONE
    widest: dict[int, tuple[Floats, Floats]] = {}
    found = np.full((len(BATCHES), LEVELS.size), math.nan)
    for b, max_batch in reversed(list(enumerate(BATCHES))):
        full = max_batch / (1.0 + share * (max_batch - 1))
        numbers = rates(cv, instances, max_batch, share)
        rows = []
        for number in numbers:
            tails, sizes = widest.get(number, (None, np.ones(SIZES)))
            if tails is None or sizes[max_batch + 1 :].sum() >= SELDOM:
                counts, sizes = np.zeros(BINS), np.zeros(SIZES)
                unit, rate = units[number % len(units)], math.exp(number * APART)
                warm = min(int(4.0 * cv**2 / (1.0 - rate / full) ** 2) + 500, unit.size // 4)
                serve(unit, 1.0 / (rate * instances), 1.0 - share, share, max_batch, instances, warm, counts, sizes)
                tails = slower(counts, latencies)
                if max_batch == BATCHES[-1]:
                    widest[number] = (tails, sizes / unit.size)
            rows.append(np.log(np.maximum(tails, 1e-7)))
        if len(rows) > 1:
            found[b] = crossings(np.array(numbers) * APART, np.array(rows))
    return found


def sheet(task: tuple[int, float]) -> Floats:
    """[instances, max_batch, share, level] for one burst_cv."""
    index, effort = task
    cv = CVS[index]
    rng = np.random.default_rng([77, index])
    units = [arrivals(rng, cv, int(effort * ITEMS * cv)) for _ in range(2)]
    found = np.array([[point(cv, units, c, share) for share in SHARES] for c in INSTANCES])
    return found.swapaxes(1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--effort", type=float, default=1.0, help="multiplies the number of simulated items")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    started = time.monotonic()
    sheets = []
    with ProcessPoolExecutor(args.processes) as pool:
        for values in pool.map(sheet, [(i, args.effort) for i in range(len(CVS))]):
            sheets.append(values)
            print(f"{len(sheets)}/{len(CVS)} {time.monotonic() - started:.0f} s", flush=True)
    logs = np.array(sheets)
    with np.load(OUT, allow_pickle=False) as stored:
        kept = {name: stored[name] for name in stored.files if not name.startswith("onset")}
    axes = {"cvs": CVS, "instances": INSTANCES, "batches": BATCHES, "shares": SHARES, "levels": LEVELS}
    np.savez_compressed(
        OUT,
        **kept,
        onsets=np.where(np.isfinite(logs), np.round((logs - FROM) * PER_UNIT), 0).astype(np.uint16),
        onsets_per_unit=np.float64(PER_UNIT),
        onsets_from=np.float64(FROM),
        **{f"onset_{name}": np.array(axis, dtype=np.float64) for name, axis in axes.items()},
    )


if __name__ == "__main__":
    main()
