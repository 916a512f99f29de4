"""Time to plan: every region of the catalogue, every accelerator, both scaling and all cost modes, random loads.

    python bench/plan_time.py [--rounds 3]

Prints p50, p99 and the largest time, each also as a ratio to planning the local stack in the same run.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from typing import Any

from infra.catalog import load
from infra.plan import Infeasible, Kinds, make_plan
from infra.plan.modes import variants
from infra.plan.server import _carried
from infra.spec import Spec, SpecError, parse

PROCESSORS = ("vcpu", "t4", "l4", "a10g", "a100-40", "a100-80", "h100", "v5e", "v6e")
ACCELERATORS = ("none", "t4", "l4", "a10g", "a100-40", "a100-80", "h100", "auto")


def values(rng: random.Random, cloud: str, region: str, accelerator: str) -> dict[str, Any]:
    def model(name: str) -> dict[str, Any]:
        speed = {p: 1.0 if p == "vcpu" else 0.05 for p in PROCESSORS}
        per_item = rng.uniform(0.3, 20)
        profile = {p: {"base_ms": rng.uniform(0.5, 10), "per_item_ms": per_item * s} for p, s in speed.items()}
        return {"name": name, "storage_uri": "models/x", "size_mib": rng.uniform(1, 500), "profile": profile}

    mean = 10 ** rng.uniform(1, 4)
    found: dict[str, Any] = {
        "cloud": cloud,
        "region": region,
        "accelerator": accelerator,
        "admin_cidrs": ["203.0.113.0/24"],
        "models": [model(f"m{i}") for i in range(rng.choice([1, 1, 1, 2, 3]))],
        "load": {"mean_rps": mean, "peak_rps": mean * rng.uniform(1, 5), "burst_cv": rng.uniform(1, 4)},
        "slo": {"p99_ms": rng.choice([50, 100, 300, 1000])},
    }
    return found | ({"project": "my-project"} if cloud == "gcp" else {})


def specs(rounds: int) -> Iterator[Spec]:
    rng, catalog = random.Random(1), load()
    for _ in range(rounds):
        for cloud in ("gcp", "aws"):
            for region in catalog.regions(cloud):
                for accelerator in ACCELERATORS:
                    base = values(rng, cloud, region, accelerator)
                    for scaling, cost in variants(parse(base)):
                        yield parse({**base, "scaling": scaling, "cost": cost})


def timed(spec: Spec) -> tuple[float, bool]:
    _carried.cache_clear()  # a plan is made once in a process
    start = time.perf_counter()
    try:
        make_plan(spec, Kinds(), load())
    except (Infeasible, SpecError):
        return time.perf_counter() - start, False
    return time.perf_counter() - start, True


def local() -> Spec:
    base = values(random.Random(2), "aws", "us-east-1", "none")
    keep = {k: v for k, v in base.items() if k in ("models", "slo")}
    return parse({**keep, "cloud": "local", "load": {"mean_rps": 10, "peak_rps": 20}, "slo": {"p99_ms": 1000}})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    load()
    baseline = min(timed(local())[0] for _ in range(5))
    results = [timed(spec) for spec in specs(rounds)]
    times = sorted(t for t, _ in results)
    feasible = sum(ok for _, ok in results)
    print(f"{len(times)} plans, {feasible} feasible; the local stack takes {1000 * baseline:.1f} ms")
    for name, t in (("p50", times[len(times) // 2]), ("p99", times[int(len(times) * 0.99)]), ("largest", times[-1])):
        print(f"{name:8} {1000 * t:8.1f} ms  {t / baseline:6.1f} x local")


if __name__ == "__main__":
    main()
