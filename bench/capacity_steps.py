"""Adds to infra/plan/capacity_table.npz the loads of the percentile's steps: `python -m bench.capacity_steps`.

Run after bench.capacity_table. Axes: burst_cv, instances, max_batch, share (per item / tau(1)) and level; the value is
the log of the rate, in units of instances / tau(1), at which 1% of items take longer than tau(1) + level * per_item.
The share of slower items is simulated at rates a fifth apart and is smooth over the rate, unlike the percentile.
Its variance is reduced by controls: the shares of items that follow on others so closely that few instances can be
free, whose means the Gamma distribution gives. A simulation with batches up to 64 in which hardly any batch is above a
smaller limit stands for that limit too. Each finished part is a file in `--parts`; a run that was cut off goes on. With
`--stored` parts that are not there are taken from the table as it is, by its own interpolation.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from scipy.interpolate import CubicSpline, PchipInterpolator
from scipy.special import gammainc

from bench.capacity_sim import (
    BINS,
    BINS_PER_OCTAVE,
    LOWEST,
    SIZES,
    Floats,
    arrivals,
    fluid_reference,
    fluid_tail,
    followers,
    serve,
)
from bench.capacity_table import OUT
from infra.plan.capacity import Profile, growth
from infra.plan.capacity_steps import level_rates, onsets
from infra.plan.capacity_table import curve

CVS = (1.0, 1.2, 1.5, 2.0, 2.8, 4.0)
INSTANCES = (1, 2, 3, 4, 6, 8, 10, 12, 16)
BATCHES = (2, 3, 4, 6, 8, 12, 16, 32, 64)
SHARES = (0.019, 0.025, 0.032, 0.04, 0.05, 0.07, 0.1, 0.13, 0.16, 0.24, 0.35, 0.48, 0.64, 0.8, 0.9, 1.0)
STEP = (0.0, 0.05, 0.12, 0.25, 0.45, 0.65, 0.8, 0.9, 0.96)  # levels after each of the first steps, and after the others
FURTHER = 12.85 * 1.05 ** np.arange(1, 43)
LEVELS = np.array(
    [k + x for k in range(8) for x in STEP] + [k + x for k in range(8, 13) for x in (0.0, 0.3, 0.6, 0.85)] + [*FURTHER]
)
APART = math.log(1.2)  # between simulated rates
LOADS = (0.03, 0.9)  # simulated: what lies outside is left to the table over loads
ITEMS = 12_500  # times burst_cv, in each of these runs
RUNS = 40
FINE = 64  # points of the interpolation between two simulated rates
SELDOM = 3e-5  # of the items in larger batches: as if there were none
BUSY = np.linspace(-math.log1p(-0.48), -math.log1p(-0.94), 24)  # where the GI/D/1 queue is known
AIM = math.log(0.01)
SURE = -9.0  # logs of shares above this are smooth enough for a cubic over the rates
ONE = 1.0 + 1.0 / BINS_PER_OCTAVE  # the histogram's first edge above tau(1)
PER_UNIT, FROM = 8192.0, -4.0  # how logs are stored


def slower(counts: Floats, latencies: Floats) -> Floats:
    """The share of items above each latency, in each run's histogram."""
    octaves = np.floor(np.log2(latencies))
    places = (octaves - LOWEST + latencies / 2.0**octaves - 1.0) * BINS_PER_OCTAVE
    below = np.concatenate([np.zeros((len(counts), 1)), np.cumsum(counts, axis=1)], axis=1)
    whole = np.floor(places).astype(int)
    result: Floats = 1.0 - (below[:, whole] + (places - whole) * counts[:, whole]) / below[:, -1:]
    return result


def followed(cv: float, runs: list[Floats], instances: int, rate: float) -> Floats:
    """[run, control]: how far the shares of items that came within tau(1) of the m-th before them are from their means.

    With m the number of instances such an item may wait; the other m are those that a hundredth of the items, or more,
    follow so closely, as the slow ones do.
    """
    numbers = np.arange(1, 600)
    means = gammainc(numbers / cv**2, rate * instances / cv**2)
    near = [int(np.argmin(np.abs(np.log(np.maximum(means, 1e-12) / aim)))) + 1 for aim in (0.05, 0.01)]
    chosen = [m for m in sorted({instances, instances + 1, *near}) if 2e-3 < means[m - 1] < 0.98]
    found = [[followers(run, m, rate * instances) - means[m - 1] for m in chosen] for run in runs]
    return np.array(found).reshape(len(runs), len(chosen))


def corrected(tails: Floats, control: Floats) -> Floats:
    """The mean over the runs of each level's share, less what the controls, as seen, explain of its error."""
    mean: Floats = tails.mean(axis=0)
    if control.size == 0:
        return mean
    seen = control.mean(axis=0)
    slopes = np.linalg.lstsq(control - seen, tails - mean, rcond=None)[0]
    better: Floats = mean - seen @ slopes
    return np.where(better > 0.3 * mean, better, mean)


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
    found = np.full(logs.shape[1], math.nan)
    rising = np.maximum.accumulate(logs, axis=0)
    fine = np.linspace(0.0, 1.0, FINE + 1)
    for level in np.flatnonzero((rising[0] <= AIM) & (rising[-1] >= AIM)):
        after = max(int(np.searchsorted(rising[:, level], AIM)), 1)
        start = min(max(after - 2, 0), places.size - 4)
        values = logs[max(start, 0) : start + 4, level]
        if values.size == 4 and values[0] > SURE and np.all(np.diff(values) > 0.0):
            nodes = np.arange(4.0) - (after - 1 - start)
            others = [np.delete(nodes, i) for i in range(4)]
            between = sum(
                v * np.prod([(fine - x) / (node - x) for x in rest], axis=0)
                for v, node, rest in zip(values, nodes, others, strict=True)
            )
        else:
            between = PchipInterpolator(np.arange(places.size), rising[:, level])(after - 1 + fine)
        part = float(np.interp(AIM, np.maximum.accumulate(between), fine))
        found[level] = places[after - 1] + part * (places[after] - places[after - 1])
    return found


class Arrivals:
    """Runs of one burst_cv for one number of instances, and what their controls say at each rate."""

    def __init__(self, cv: float, instances: int, seed: Sequence[int], effort: float) -> None:
        self.cv, self.instances = cv, instances
        rng = np.random.default_rng(seed)
        self.sets = [[arrivals(rng, cv, int(effort * ITEMS * cv)) for _ in range(RUNS)] for _ in range(2)]
        self.close: dict[int, Floats] = {}
        references = np.log([np.maximum(fluid_reference(-math.expm1(-x), cv), 1e-9) for x in BUSY])
        self.fluid = CubicSpline(BUSY, references)  # logs of mean and 99th percentile of the GI/D/1 wait

    def tails(self, number: int, share: float, max_batch: int) -> tuple[Floats, Floats]:
        """Each level's share of slower items at one rate, and the share of items in batches of each size."""
        latencies = 1.0 + share * LEVELS
        latencies[0] = ONE
        runs, rate = self.sets[number % 2], math.exp(number * APART)
        load = rate * (1.0 + share * (max_batch - 1)) / max_batch
        warm = min(int(4.0 * self.cv**2 / (1.0 - load) ** 2) + 500, runs[0].size // 4)
        counts, sizes = np.zeros((len(runs), BINS)), np.zeros(SIZES)
        scale = 1.0 / (rate * self.instances)
        for run, row in zip(runs, counts, strict=True):
            serve(run, scale, 1.0 - share, share, max_batch, self.instances, warm, row, sizes)
        if number not in self.close:
            self.close[number] = followed(self.cv, runs, self.instances, rate)
        control = np.concatenate([self.close[number], self.waits(runs, load, warm)], axis=1)
        return corrected(slower(counts, latencies), control), sizes / sum(run.size for run in runs)

    def waits(self, runs: list[Floats], load: float, warm: int) -> Floats:
        """More controls at high load: how far the waits of the GI/D/1 queue on these runs are from its exact law."""
        if load < 0.5:
            return np.empty((len(runs), 0))
        mean, long = np.exp(self.fluid(-math.log1p(-load)))
        seen: Floats = np.array([fluid_tail(run, 1.0 / load, warm, long) for run in runs])
        return seen - np.array([0.01, mean])


def point(arrived: Arrivals, share: float) -> Floats:
    """[max_batch, level] for one number of instances and one share."""
    widest: dict[int, tuple[Floats, Floats]] = {}
    found = np.full((len(BATCHES), LEVELS.size), math.nan)
    for b, max_batch in reversed(list(enumerate(BATCHES))):
        numbers = rates(arrived.cv, arrived.instances, max_batch, share)
        rows = []
        for number in numbers:
            tails, sizes = widest.get(number, (np.empty(0), np.zeros(SIZES)))
            if tails.size == 0 or sizes[max_batch + 1 :].sum() >= SELDOM:
                tails, sizes = arrived.tails(number, share, max_batch)
                if max_batch == BATCHES[-1]:
                    widest[number] = (tails, sizes)
            rows.append(np.log(np.maximum(tails, 1e-7)))
        if len(rows) > 1:
            found[b] = crossings(np.array(numbers) * APART, np.array(rows))
    return found


def sheet(task: tuple[float, int, float, Path]) -> None:
    """[share, max_batch, level] for one burst_cv and number of instances, a file for each share."""
    cv, instances, effort, parts = task
    missing = [share for share in SHARES if not part(parts, cv, instances, share).exists()]
    if not missing:
        return
    arrived = Arrivals(cv, instances, [78, round(cv * 1000), instances], effort)
    for share in missing:
        found = point(arrived, share)
        path = part(parts, cv, instances, share)
        with path.with_suffix(".new").open("wb") as file:
            np.save(file, found)
        path.with_suffix(".new").replace(path)


def part(parts: Path, cv: float, instances: int, share: float) -> Path:
    return parts / f"{cv:g}-{instances}-{share:g}.npy"


def node(parts: Path, cv: float, instances: int, share: float) -> Floats:
    """[max_batch, level] of a finished part, else what the table says so far."""
    path = part(parts, cv, instances, share)
    if path.exists():
        found: Floats = np.load(path)
        return found
    before = onsets().levels
    rows = [level_rates(cv, instances, max_batch, share) for max_batch in BATCHES]
    return np.array([[dict(zip(before, row, strict=True)).get(x, math.nan) for x in LEVELS] for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--effort", type=float, default=1.0, help="multiplies the number of simulated items")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--parts", type=Path, help="a folder for the finished parts, to go on after an interruption")
    parser.add_argument(
        "--stored", action="store_true", help="simulate nothing: only put finished parts into the table"
    )
    args = parser.parse_args()
    parts = args.parts or Path(tempfile.mkdtemp(prefix="steps-"))
    parts.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    tasks = [] if args.stored else [(cv, instances, args.effort, parts) for cv in CVS for instances in INSTANCES]
    with ProcessPoolExecutor(args.processes) as pool:
        for done, _ in enumerate(pool.map(sheet, tasks), 1):
            print(f"{done}/{len(tasks)} {time.monotonic() - started:.0f} s", flush=True)
    nodes = [[[node(parts, cv, c, share) for share in SHARES] for c in INSTANCES] for cv in CVS]
    logs = np.array(nodes).swapaxes(2, 3)
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
