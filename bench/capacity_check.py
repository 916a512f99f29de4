"""The capacity model against the simulation at points outside the table's grid: writes bench/capacity_report.md.

`python -m bench.capacity_check`. Points are drawn from the range that the model covers: load 10 to 95% of capacity, any
max_batch of 1 to 64, burst_cv 1 to 4, base/per item 0.02 to 50, 1 to 16 instances. Their seeds differ from the table's.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from bench.capacity_sim import BINS, arrivals, quantile, serve
from bench.capacity_table import Control, controlled
from infra.plan.capacity import Profile, capacity_rps, latency

REPORT = Path(__file__).resolve().with_name("capacity_report.md")
RUNS = 10
CVS = (1.0, 1.2, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0)
INSTANCES = (1, 2, 3, 4, 5, 6, 8, 12, 16)
POWERS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, kw_only=True)
class Point:
    seed: int
    cv: float
    instances: int
    max_batch: int
    ratio: float
    load: float


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Simulated and predicted, mean and 99th percentile in ms; `errors` are two standard errors of the simulation."""

    point: Point
    simulated: tuple[float, float]
    errors: tuple[float, float]
    predicted: tuple[float, float]

    def deviation(self, which: int) -> float:
        return self.predicted[which] / self.simulated[which] - 1.0

    def error(self, which: int) -> float:
        return self.errors[which] / self.simulated[which]


def draw(count: int, seed: int, powers: bool) -> list[Point]:
    """Half of the draws have load spread evenly, half crowd at high load."""
    rng = np.random.default_rng(seed)
    points = []
    for i in range(count):
        load = rng.uniform(0.1, 0.95) if i % 2 else 0.95 - 0.35 * rng.beta(1.0, 2.0)
        batch = int(rng.choice(POWERS)) if powers else round(2 ** rng.uniform(0.0, 6.0))
        points.append(
            Point(
                seed=seed * 100_000 + i,
                cv=float(rng.choice(CVS)),
                instances=int(rng.choice(INSTANCES)),
                max_batch=batch,
                ratio=float(np.exp(rng.uniform(np.log(0.02), np.log(50.0)))),
                load=float(load),
            )
        )
    return points


def simulate(point: Point, effort: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Mean and 99th percentile with two standard errors, from runs with independent arrivals."""
    relaxation = point.cv**2 / (1.0 - point.load) ** 2
    size = int(effort * min(max(2500.0 * relaxation, 1.5e6), 1e7) / RUNS)
    warm = min(int(4.0 * relaxation) + 500, size // 4)
    rng = np.random.default_rng(point.seed)
    runs = [arrivals(rng, point.cv, size) for _ in range(RUNS)]
    profile = Profile(base_ms=point.ratio, per_item_ms=1.0)
    rate = point.load * capacity_rps(profile, point.max_batch, point.instances) / 1000.0
    counts = np.zeros((RUNS, BINS))
    means, tails = np.empty(RUNS), np.empty(RUNS)
    for i, run in enumerate(runs):
        total = serve(run, 1.0 / rate, point.ratio, 1.0, point.max_batch, point.instances, warm, counts[i])
        means[i], tails[i] = total / (size - warm), quantile(counts[i], 0.99)
    mean, p99 = float(means.mean()), quantile(counts.sum(axis=0), 0.99)
    control = Control(runs, point.load, point.cv, warm)
    left = []
    for values, known in ((means, control.means), (tails, control.quantiles)):
        slope = float(np.cov(values, known, bias=True)[0, 1] / max(float(np.var(known)), 1e-30))
        left.append(2.0 * float(np.std(values - slope * known, ddof=2)) / RUNS**0.5)
    mean = controlled(means, control.means, mean, control.known[0], control.seen[0])
    p99 = controlled(tails, control.quantiles, p99, control.known[1], control.seen[1])
    return (mean, p99), (left[0], left[1])


def check(task: tuple[Point, float]) -> Checked:
    point, effort = task
    simulated, errors = simulate(point, effort)
    profile = Profile(base_ms=point.ratio, per_item_ms=1.0)
    rps = point.load * capacity_rps(profile, point.max_batch, point.instances)
    said = latency(profile, rps, point.max_batch, point.instances, point.cv)
    return Checked(point=point, simulated=simulated, errors=errors, predicted=(said.mean_ms, said.p99_ms))


def row(name: str, found: Sequence[Checked], which: int) -> str:
    """One line of the report: how far predictions are off, and how many are below or above what is allowed."""
    off = 100.0 * np.array([x.deviation(which) for x in found])
    own = 100.0 * np.array([x.error(which) for x in found])
    low, middle, high = np.percentile(off, [1, 50, 99])
    optimistic = int(np.sum(off < -own))
    return (
        f"| {name} | {off.size} | {off.min():+.1f} | {low:+.1f} | {middle:+.1f} | {high:+.1f} | {off.max():+.1f} |"
        f" {optimistic} | {np.min(off + own):+.1f} | {int(np.sum(off > 10.0))} | {np.median(own):.1f} |"
    )


HEAD = """# The capacity model against the simulation

Made by `{command}` on {date} ({machine},
{seconds:.0f} s). Random points that the table and its margins were not chosen on.
Deviation = predicted / simulated - 1 in percent; positive is pessimistic.
"Below" counts points that are lower than the simulation by more than two of its own standard errors, "worst below" is
the largest such shortfall after granting that error, "over 10%" counts points that are more than 10% pessimistic.

| points | n | least | 1% | median | 99% | most | below | worst below | over 10% | simulation's error |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def report(powers: Sequence[Checked], every: Sequence[Checked], command: str, seconds: float) -> str:
    machine = f"Python {platform.python_version()}"
    lines = [HEAD.format(command=command, date=datetime.now(UTC).date(), machine=machine, seconds=seconds).rstrip()]
    for which, what in ((0, "mean"), (1, "p99")):
        for name, found in (("max_batch a power of two", powers), ("any max_batch", every)):
            lines.append(row(f"{what}, {name}", found, which))
        both = [*powers, *every]
        for name, low, high in (("load 10-50%", 0.1, 0.5), ("load 50-80%", 0.5, 0.8), ("load 80-95%", 0.8, 0.951)):
            lines.append(row(f"{what}, {name}", [x for x in both if low <= x.point.load < high], which))
    lines += ["", "The ten worst, on either side:", ""]
    lines += ["| of | burst_cv | instances | max_batch | base/per item | load | simulated | +- | predicted | off % |"]
    lines += ["|---|---|---|---|---|---|---|---|---|---|"]
    ranked = [(x.deviation(w) + x.error(w) * (x.deviation(w) < 0), w, x) for x in [*powers, *every] for w in (0, 1)]
    ranked.sort(key=lambda t: t[0])
    for _, w, x in [*ranked[:10], *ranked[-10:]]:
        p = x.point
        lines.append(
            f"| {('mean', 'p99')[w]} | {p.cv} | {p.instances} | {p.max_batch} | {p.ratio:.3g} | {p.load:.3f} |"
            f" {x.simulated[w]:.4g} | {x.errors[w]:.2g} | {x.predicted[w]:.4g} | {100 * x.deviation(w):+.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=120, help="of each of the two kinds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--effort", type=float, default=1.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=REPORT)
    args = parser.parse_args()
    started = time.monotonic()
    with ProcessPoolExecutor(args.processes) as pool:
        found = [
            list(pool.map(check, [(p, args.effort) for p in draw(args.points, args.seed * 2 + k, powers)]))
            for k, powers in enumerate((True, False))
        ]
    command = f"python -m bench.capacity_check --points {args.points} --seed {args.seed} --effort {args.effort:g}"
    text = report(found[0], found[1], command, time.monotonic() - started)
    args.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
