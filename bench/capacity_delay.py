"""What a queue delay would bring: 99th percentile with Triton's max_queue_delay against none, by simulation.

`python -m bench.capacity_delay` writes bench/capacity_delay_report.md. With a delay d, a batch starts when an instance
is free and either its oldest item has waited d or `max_batch` items wait.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import numpy as np
from numba import njit

from bench.capacity_sim import Floats, arrivals
from bench.capacity_table import shape

REPORT = Path(__file__).resolve().with_name("capacity_delay_report.md")
DELAYS = (0.05, 0.1, 0.2, 0.4, 0.8)  # in units of tau(1)


@njit(cache=False, fastmath=True)
def delayed(
    times: Floats, base: float, item: float, max_batch: int, servers: int, delay: float, latencies: Floats
) -> None:
    """As bench.capacity_sim.serve, with a delay; fills the latencies."""
    free = np.zeros(servers)
    first, number = 0, times.size
    while first < number:
        server = int(np.argmin(free))
        start = max(free[server], times[first])
        deadline = times[first] + delay
        if start < deadline:
            full = times[first + max_batch - 1] if first + max_batch <= number else deadline
            start = max(start, min(deadline, full))
        last = first + 1
        limit = min(number, first + max_batch)
        while last < limit and times[last] <= start:
            last += 1
        end = start + base + item * (last - first)
        free[server] = end
        for index in range(first, last):
            latencies[index] = end - times[index]
        first = last


def tails(
    unit: Floats, load: float, servers: int, max_batch: int, growth: float, delays: tuple[float, ...]
) -> list[float]:
    base, item, full = shape(max_batch, growth)
    times = unit * (full / (load * servers * max_batch))
    latencies = np.empty(unit.size)
    found = []
    for delay in delays:
        delayed(times, base, item, max_batch, servers, delay, latencies)
        found.append(float(np.quantile(latencies[unit.size // 10 :], 0.99)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=200_000)
    args = parser.parse_args()
    rng = np.random.default_rng(3)
    lines = [
        "# What a queue delay would bring",
        "",
        f"Made by `python -m bench.capacity_delay --items {args.items}` on {datetime.now(UTC).date()}. The 99th",
        "percentile with a delay, divided by that without, over max_batch 8 and 32, growth 0.2, 0.5 and 0.8, and 1, 2",
        "and 4 instances: median (least to most). Delays are in units of tau(1). Below 1 a delay helps.",
        "",
        "Reading: where the load is high enough for an SLO to bind, a delay changes nothing on the median. It helps at",
        "low load when items come in bursts, and harms there when they do not. Slipway therefore sets it to 0.",
        "",
        "| burst_cv | load | " + " | ".join(f"delay {d:g}" for d in DELAYS) + " |",
        "|---|---|" + "---|" * len(DELAYS),
    ]
    for cv in (1.0, 2.0, 4.0):
        unit = arrivals(rng, cv, args.items)
        for load in (0.1, 0.3, 0.6, 0.9):
            rows = [
                tails(unit, load, c, b, e, (0.0, *DELAYS)) for c, b, e in product((1, 2, 4), (8, 32), (0.2, 0.5, 0.8))
            ]
            ratios = np.array(rows)[:, 1:] / np.array(rows)[:, :1]
            cells = [f"{np.median(x):.2f} ({x.min():.2f} to {x.max():.2f})" for x in ratios.T]
            lines.append(f"| {cv:g} | {load} | " + " | ".join(cells) + " |")
    REPORT.write_text("\n".join(lines) + "\n")
    print(REPORT.read_text())


if __name__ == "__main__":
    main()
