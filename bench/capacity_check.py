"""The capacity model against the simulation at random points: writes bench/capacity_report.md.

`python -m bench.capacity_check`. Points are drawn from the whole range that the model covers: load 10 to 95% of
capacity, any burst_cv of 1 to 4, base/per item 0.02 to 50, 1 to 16 instances, and the max_batch that the planner takes
for any limit of 1 to 64; some more have any max_batch, and are reported apart. A group of points shares a burst_cv and
its arrivals. Their seeds differ from the table's; tune on one seed, report another.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from bench.capacity_sim import BINS, SIZES, Floats, arrivals, quantile, serve
from bench.capacity_table import Control, controlled
from infra.plan.capacity import SIZES as KNOWN
from infra.plan.capacity import Profile, capacity_rps, largest_size, latency

REPORT = Path(__file__).resolve().with_name("capacity_report.md")
RUNS = 10
GROUP = 10  # points of one burst_cv
OTHERS = 2  # more of any max_batch


@dataclass(frozen=True, kw_only=True)
class Point:
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

    def below(self, which: int) -> float:
        """By how much the prediction is lower than the simulation with its error; 0 if it is not."""
        return min(0.0, self.predicted[which] / (self.simulated[which] - self.errors[which]) - 1.0)

    def above(self, which: int) -> float:
        """How pessimistic it is against the upper end of the simulation's error."""
        return self.predicted[which] / (self.simulated[which] + self.errors[which]) - 1.0


def draw(rng: np.random.Generator, cv: float, simulated: bool) -> Point:
    """Every axis spread evenly over its range, max_batch and base/per item over its logarithm."""
    limit = round(2 ** rng.uniform(0.0, 6.0))
    return Point(
        cv=cv,
        instances=int(rng.integers(1, 17)),
        max_batch=largest_size(limit) if simulated else limit,
        ratio=float(np.exp(rng.uniform(np.log(0.02), np.log(50.0)))),
        load=float(rng.uniform(0.1, 0.95)),
    )


def simulate(point: Point, units: Sequence[Floats]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Mean and 99th percentile with two standard errors, from runs with independent arrivals."""
    relaxation = point.cv**2 / (1.0 - point.load) ** 2
    whole = units[0].size
    size = int(min(max(2500.0 * relaxation / RUNS, 0.5 * whole), whole))
    warm = min(int(4.0 * relaxation) + 500, size // 4)
    runs = [unit[:size] for unit in units]
    profile = Profile(base_ms=point.ratio, per_item_ms=1.0)
    rate = point.load * capacity_rps(profile, point.max_batch, point.instances) / 1000.0
    counts, sizes = np.zeros((RUNS, BINS)), np.zeros(SIZES)
    means, tails = np.empty(RUNS), np.empty(RUNS)
    for i, run in enumerate(runs):
        total = serve(run, 1.0 / rate, point.ratio, 1.0, point.max_batch, point.instances, warm, counts[i], sizes)
        means[i], tails[i] = total / (size - warm), quantile(counts[i], 0.99)
    found = [float(means.mean()), quantile(counts.sum(axis=0), 0.99)]
    errors = [2.0 * float(np.std(x, ddof=1)) / RUNS**0.5 for x in (means, tails)]
    if point.load >= 0.5:
        control = Control(runs, point.load, point.cv, warm)
        for which, (values, known) in enumerate(((means, control.means), (tails, control.quantiles))):
            slope = float(np.cov(values, known, bias=True)[0, 1] / max(float(np.var(known)), 1e-30))
            errors[which] = 2.0 * float(np.std(values - slope * known, ddof=2)) / RUNS**0.5
            found[which] = controlled(values, known, found[which], control.known[which], control.seen[which])
    return (found[0], found[1]), (errors[0], errors[1])


def predict(point: Point) -> tuple[float, float]:
    profile = Profile(base_ms=point.ratio, per_item_ms=1.0)
    rps = point.load * capacity_rps(profile, point.max_batch, point.instances)
    said = latency(profile, rps, point.max_batch, point.instances, point.cv)
    return said.mean_ms, said.p99_ms


Simulated = tuple[Point, tuple[float, float], tuple[float, float]]


def known(task: tuple[int, int, float, Path]) -> list[Simulated]:
    """The simulation of a group, from its file where there is one: it does not depend on the table."""
    seed, index, effort, parts = task
    path = parts / f"{seed}-{index}-{effort:g}.json"
    if path.exists():
        rows = json.loads(path.read_text())
        return [(Point(**p), (s[0], s[1]), (e[0], e[1])) for p, s, e in rows]
    found = group(seed, index, effort)
    new = path.with_suffix(".new")
    new.write_text(json.dumps([(asdict(p), s, e) for p, s, e in found]))
    new.replace(path)
    return found


def group(seed: int, index: int, effort: float) -> list[Simulated]:
    """The points of one burst_cv; every fifth group is Poisson, where percentiles jump most."""
    rng = np.random.default_rng([seed, index])
    cv = 1.0 if index % 5 == 0 else float(rng.uniform(1.0, 4.0))
    units = [arrivals(rng, cv, int(effort * 4e5)) for _ in range(RUNS)]
    found = []
    for i in range(GROUP + OTHERS):
        point = draw(rng, cv, i < GROUP)
        found.append((point, *simulate(point, units)))
    return found


def row(name: str, found: Sequence[Checked], which: int) -> str:
    """One line of the report: how far predictions are off, and how many are below or above what is allowed."""
    off = 100.0 * np.array([x.deviation(which) for x in found])
    below = 100.0 * np.array([x.below(which) for x in found])
    above = 100.0 * np.array([x.above(which) for x in found])
    middle, own = np.median(off), np.median([100.0 * x.error(which) for x in found])
    return (
        f"| {name} | {off.size} | {off.min():+.1f} | {middle:+.1f} | {np.percentile(off, 99):+.1f} | {off.max():+.1f} |"
        f" {int(np.sum(below < 0.0))} | {below.min():.1f} | {int(np.sum(off > 10.0))} |"
        f" {int(np.sum(above > 10.0))} | {own:.1f} |"
    )


HEAD = """# The capacity model against the simulation

Made by `{command}` on {date} ({machine},
{seconds:.0f} s). Random points that the table and its margins were not chosen on: load 10 to 95%, burst_cv 1 to 4 (a
fifth of them 1), 1 to 16 instances, base/per item 0.02 to 50, and the max_batch that the planner takes for any limit of
1 to 64, which is one of {known}. The rows "other max_batch" are of
sizes between those, for which the planner does not ask.
Deviation = predicted / simulated - 1 in percent; positive is pessimistic. The simulation's error is two of its standard
errors. "Below" counts points that are lower than the simulation by more than that, "worst" is the largest such
shortfall beyond it; "over 10%" counts points more than 10% above the simulation, "beyond" those more than 10% above the
upper end of its error.

| points | n | least | median | 99% | most | below | worst | over 10% | beyond | simulation's error |
|---|---|---|---|---|---|---|---|---|---|---|
"""

PARTS: tuple[tuple[str, Callable[[Point], bool]], ...] = (
    ("all", lambda p: True),
    ("load 10-50%", lambda p: p.load < 0.5),
    ("load 50-80%", lambda p: 0.5 <= p.load < 0.8),
    ("load 80-95%", lambda p: p.load >= 0.8),
    ("burst_cv 1", lambda p: p.cv == 1.0),
    ("8 to 16 instances", lambda p: p.instances >= 8),
    ("max_batch 2 to 8", lambda p: 2 <= p.max_batch <= 8),
)


def report(found: Sequence[Checked], command: str, seconds: float) -> str:
    machine = f"Python {platform.python_version()}"
    known = ", ".join(map(str, KNOWN))
    today = datetime.now(UTC).date()
    lines = [HEAD.format(command=command, date=today, machine=machine, seconds=seconds, known=known).rstrip()]
    others = [x for x in found if x.point.max_batch not in KNOWN]
    found = [x for x in found if x.point.max_batch in KNOWN]
    for which, what in ((0, "mean"), (1, "p99")):
        lines += [row(f"{what}, {name}", [x for x in found if of(x.point)], which) for name, of in PARTS]
        lines.append(row(f"{what}, other max_batch", others, which))
    lines += ["", "The ten worst, on either side, without those of other max_batch:", ""]
    lines += ["| of | burst_cv | instances | max_batch | base/per item | load | simulated | +- | predicted | off % |"]
    lines += ["|---|---|---|---|---|---|---|---|---|---|"]
    ranked = [(x.deviation(w) + x.error(w) * (x.deviation(w) < 0), w, x) for x in found for w in (0, 1)]
    ranked.sort(key=lambda t: t[0])
    for _, w, x in [*ranked[:10], *ranked[-10:]]:
        p = x.point
        lines.append(
            f"| {('mean', 'p99')[w]} | {p.cv:.3f} | {p.instances} | {p.max_batch} | {p.ratio:.3g} | {p.load:.3f} |"
            f" {x.simulated[w]:.4g} | {x.errors[w]:.2g} | {x.predicted[w]:.4g} | {100 * x.deviation(w):+.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=600, help="besides those of other max_batch")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--effort", type=float, default=1.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=REPORT)
    parser.add_argument("--parts", type=Path, help="a folder for finished simulations, to go on or to check again")
    args = parser.parse_args()
    started = time.monotonic()
    parts = args.parts or Path(tempfile.mkdtemp(prefix="check-"))
    parts.mkdir(parents=True, exist_ok=True)
    tasks = [(args.seed, i, args.effort, parts) for i in range(args.points // GROUP)]
    with ProcessPoolExecutor(args.processes) as pool:
        rows = [x for each in pool.map(known, tasks) for x in each]
    found = [Checked(point=p, simulated=s, errors=e, predicted=predict(p)) for p, s, e in rows]
    command = f"python -m bench.capacity_check --points {args.points} --seed {args.seed} --effort {args.effort:g}"
    command += " --parts DIR" if args.parts else ""  # then it took so long only if nothing lay there
    text = report(found, command, time.monotonic() - started)
    args.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
