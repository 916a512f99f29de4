"""Makes infra/plan/capacity_table.npz, the table of the capacity model: `python -m bench.capacity_table`.

Latency is in units of tau(1). Axes: burst_cv, instances, max_batch, growth, load; growth is
log(tau(max_batch) / tau(1)) / log(max_batch), 0 where a batch costs what an item costs, 1 where batching saves nothing.
Variance is reduced by a control: the GI/D/1 queue with the same arrivals and load, whose law is known exactly.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from bench.capacity_sim import BINS, SIZES, Floats, arrivals, fluid_reference, fluid_waits, quantile, serve

CVS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0)
INSTANCES = (1, 2, 3, 4, 5, 6, 8, 12, 16)
BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)
GROWTHS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.78, 0.85, 0.9, 0.95, 1.0)
LOADS = (0.01, 0.04, 0.07, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.87, 0.92, 0.95, 0.97)
RUNS = 8
STEPS_PER_UNIT = 8192.0  # how logs are stored
OUT = Path(__file__).resolve().parent.parent / "infra" / "plan" / "capacity_table.npz"


def shape(max_batch: int, growth: float) -> tuple[float, float, float]:
    """base, per item and tau(max_batch), in units of tau(1)."""
    full = float(max_batch) ** growth
    item = (full - 1.0) / (max_batch - 1) if max_batch > 1 else 1.0
    return 1.0 - item, item, full


def controlled(values: Floats, control: Floats, pooled: float, known: float, seen: float) -> float:
    """`pooled` corrected for how far the control, as seen, is from its known value."""
    spread = float(np.var(control))
    slope = float(np.mean((values - values.mean()) * (control - control.mean()))) / spread if spread > 0.0 else 0.0
    return pooled + slope * (known - seen)


class Control:
    """The GI/D/1 queue on the same arrivals: its mean and quantile in each run, together, and exactly."""

    def __init__(self, runs: list[Floats], load: float, cv: float, warm: int) -> None:
        self.known = fluid_reference(load, cv)
        waits = np.empty((len(runs), runs[0].size))
        for run, row in zip(runs, waits, strict=True):
            fluid_waits(run, 1.0 / load, row)
        kept = waits[:, warm:]
        self.means, self.quantiles = kept.mean(axis=1), np.quantile(kept, 0.99, axis=1)
        self.seen = (float(kept.mean()), float(np.quantile(kept, 0.99)))


def point(
    runs: list[Floats], control: Control | None, load: float, servers: int, max_batch: int, growth: float, warm: int
) -> tuple[float, float]:
    """Mean and 99th percentile at one node."""
    base, item, full = shape(max_batch, growth)
    rate = load * servers * max_batch / full
    counts, sizes = np.zeros((len(runs), BINS)), np.zeros(SIZES)
    means = np.array(
        [
            serve(u, 1.0 / rate, base, item, max_batch, servers, warm, c, sizes)
            for u, c in zip(runs, counts, strict=True)
        ]
    ) / (runs[0].size - warm)
    mean, p99 = float(means.mean()), quantile(counts.sum(axis=0), 0.99)
    if control is not None:
        tails = np.array([quantile(c, 0.99) for c in counts])
        mean = controlled(means, control.means, mean, control.known[0], control.seen[0])
        p99 = controlled(tails, control.quantiles, p99, control.known[1], control.seen[1])
    return max(mean, 1.0), max(p99, 1.0)


def sheet(task: tuple[int, int, float]) -> tuple[int, int, Floats]:
    """Every node of one burst_cv and one load."""
    i, j, effort = task
    cv, load = CVS[i], LOADS[j]
    relaxation = cv**2 / (1.0 - load) ** 2
    size = int(effort * min(max(1500.0 * relaxation, 4e5), 3e6) / RUNS)
    warm = min(int(4.0 * relaxation) + 500, size // 4)
    rng = np.random.default_rng([20251125, i, j])
    values = np.empty((2, len(INSTANCES), len(BATCHES), len(GROWTHS)))
    coarse = [arrivals(rng, cv, size) for _ in range(RUNS)]
    fine = coarse if size * RUNS >= 8e5 * effort else [arrivals(rng, cv, 2 * size) for _ in range(RUNS)]
    controls = [Control(x, load, cv, warm) if load >= 0.5 else None for x in (coarse, fine)]
    for b, max_batch in enumerate(BATCHES):
        runs, control = (coarse, controls[0]) if max_batch < 16 else (fine, controls[1])
        for k, servers in enumerate(INSTANCES):
            for e, growth in enumerate(GROWTHS):
                if max_batch == 1 and e > 0:
                    values[:, k, b, e] = values[:, k, b, 0]
                    continue
                values[:, k, b, e] = point(runs, control, load, servers, max_batch, growth, warm)
    return i, j, values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--effort", type=float, default=1.0, help="multiplies the number of simulated items")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    started = time.monotonic()
    table = np.empty((2, len(CVS), len(INSTANCES), len(BATCHES), len(GROWTHS), len(LOADS)))
    tasks = [(i, j, args.effort) for i in range(len(CVS)) for j in range(len(LOADS))]
    tasks.sort(key=lambda t: -(CVS[t[0]] ** 2) / (1.0 - LOADS[t[1]]) ** 2)
    with ProcessPoolExecutor(args.processes) as pool:
        for done, (i, j, values) in enumerate(pool.map(sheet, tasks), 1):
            table[:, i, :, :, :, j] = values
            print(
                f"{done}/{len(tasks)} burst_cv {CVS[i]} load {LOADS[j]} {time.monotonic() - started:.0f} s", flush=True
            )
    axes = {"cvs": CVS, "instances": INSTANCES, "batches": BATCHES, "growths": GROWTHS, "loads": LOADS}
    np.savez_compressed(
        args.out,
        steps=np.round(np.log(table) * STEPS_PER_UNIT).astype(np.uint16),
        steps_per_unit=np.float64(STEPS_PER_UNIT),
        **{name: np.array(axis, dtype=np.float64) for name, axis in axes.items()},
    )


if __name__ == "__main__":
    main()
