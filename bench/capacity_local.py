"""Predicted against measured: the largest rate within an SLO, on the local stack with a profile measured there.

`python -m bench.capacity_local`. The model is a network so wide that its own time, not HTTP, is what counts.
Client, entry and server share this machine's CPUs, so the profile is measured where the load will run, the load is far
below what the client can send, and a constant for the way through client and entry is measured at rest and granted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import numpy as np

from bench.serving import FEATURES, big_model, stack
from cli import wire
from infra.plan.capacity import Profile, latency, max_rps
from tests.stack_project import Project

REPORT = Path(__file__).resolve().with_name("capacity_local_report.md")
MODEL = "digits"
BATCH = 8


def bodies() -> list[bytes]:
    pixels = np.load(FEATURES, allow_pickle=False)["features"][:64].astype(np.float32)
    tensor = [wire.Tensor(name="pixels", datatype="FP32", shape=(1, 64), data=row.tolist()) for row in pixels]
    return [wire.to_json([t]) for t in tensor]


async def open_loop(url: str, rate: float, cv: float, seconds: float, seed: int) -> list[float]:
    """Milliseconds from each item's scheduled time to its answer; items are sent whether or not others are answered."""
    rng = np.random.default_rng(seed)
    count = int(rate * seconds)
    times = np.cumsum(rng.gamma(1.0 / cv**2, cv**2 / rate, count))
    sent = bodies()
    found: list[float] = []
    connector = aiohttp.TCPConnector(limit=256)
    async with aiohttp.ClientSession(connector=connector) as session:
        start = time.perf_counter() + 0.2

        async def one(i: int) -> None:
            async with session.post(f"{url}/v2/models/{MODEL}/infer", data=sent[i % len(sent)]) as answer:
                await answer.read()
                if answer.status != 200:
                    raise SystemExit(f"{url}: HTTP {answer.status}")
            found.append(1000.0 * (time.perf_counter() - start - float(times[i])))

        async with asyncio.TaskGroup() as group:
            for i in range(count):
                wait = start + float(times[i]) - time.perf_counter()
                if wait > 0:
                    await asyncio.sleep(wait)
                group.create_task(one(i))
    return found


def p99(url: str, rate: float, cv: float, seconds: float, repeats: int) -> float:
    """The median of the repeats' 99th percentiles: another job on the machine disturbs one, not all."""
    tails = []
    for seed in range(repeats):
        rows = asyncio.run(open_loop(url, rate, cv, seconds, seed))
        tails.append(float(np.quantile(rows[len(rows) // 20 :], 0.99)))
    return float(np.median(tails))


def largest(url: str, slo_ms: float, cv: float, guess: float, args: argparse.Namespace) -> tuple[float, list[str]]:
    """The largest rate whose measured 99th percentile is within the SLO, by bisection to 5%."""
    low, high, seen = 0.0, 1.6 * guess, []
    rate = guess
    while high - low > 0.05 * guess:
        tail = p99(url, rate, cv, args.seconds, args.repeats)
        seen.append(f"{rate:.0f}/s: {tail:.1f} ms")
        print(seen[-1], flush=True)
        low, high = (rate, high) if tail <= slo_ms else (low, rate)
        rate = 0.5 * (low + high)
    return low, seen


def measured_profile(project: Project) -> tuple[Profile, str]:
    found = json.loads(project.run("profile", "local", "--model", MODEL, "--json", "--each", "15").stdout)
    block = found["profile"]["vcpu"]
    spreads = ", ".join(f"{r['batch']}: {r['median_ms']:.2f} ms ±{100 * r['spread']:.0f}%" for r in found["measured"])
    return Profile(base_ms=block["base_ms"], per_item_ms=block["per_item_ms"]), spreads


def row(project: Project, profile: Profile, cv: float, args: argparse.Namespace) -> tuple[str, list[str]]:
    url = f"http://127.0.0.1:{project.port}"
    alone = asyncio.run(open_loop(url, 2.0, 1.0, 15.0, 99))
    way = max(0.0, float(np.median(alone)) - profile.tau_ms(1))
    slo = args.slo_taus * profile.tau_ms(BATCH) + way
    predicted = max_rps(profile, slo - way, BATCH, 1, cv)
    found, seen = largest(url, slo, cv, predicted, args)
    said = latency(profile, predicted, BATCH, 1, cv).p99_ms + way
    off = 100.0 * (predicted / found - 1.0)
    line = f"| {cv:g} | {slo:.1f} | {way:.1f} | {predicted:.0f} | {said:.1f} | {found:.0f} | {off:+.0f}% |"
    return line, seen


def text(profile: Profile, spreads: str, rows: Sequence[tuple[str, list[str]]], command: str) -> str:
    line = f"base {profile.base_ms:.2f} ms, {profile.per_item_ms:.2f} ms an item"
    head = (
        f"# The capacity model on the local stack\n\nMade by `{command}` on {datetime.now(UTC).date()}. One Triton\n"
        f"with one instance of a wide network, max_batch {BATCH}; measured by `slipway profile`: {line}\n({spreads}).\n"
        "Client, Envoy and Triton share the machine's 2 CPUs. `way` is the median time of a lone request outside the\n"
        "model; the SLO includes it.\n\n"
        "| burst_cv | SLO p99 ms | way ms | predicted rate | its p99 ms | measured rate | predicted/measured - 1 |\n"
        "|---|---|---|---|---|---|---|\n"
    )
    tried = "".join(f"\nTried: {'; '.join(seen)}.\n" for _, seen in rows)
    return head + "\n".join(line for line, _ in rows) + "\n" + tried


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", default="4096,4096", help="width of the network's layers")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--slo-taus", type=float, default=3.0, help="the SLO in times of a full batch")
    parser.add_argument("--cv", type=float, nargs="+", default=[1.0, 2.0])
    args = parser.parse_args()
    with stack(scaling="vertical", local_vcpus=1) as (project, _):
        raise_model(project, big_model(project.folder, args.hidden))
        profile, spreads = measured_profile(project)
        print(profile, spreads, flush=True)
        rows = [row(project, profile, cv, args) for cv in args.cv]
    command = "python -m bench.capacity_local " + " ".join(sys.argv[1:])
    REPORT.write_text(text(profile, spreads, rows, command.strip()))
    print(REPORT.read_text())


def raise_model(project: Project, onnx: Path) -> None:
    """Serves the wide network under the same name."""
    model = {"name": MODEL, "storage_uri": str(onnx), "format": "onnx", "size_mib": onnx.stat().st_size / 2**20}
    model |= {"max_batch": BATCH, "profile": {"vcpu": {"base_ms": 5.0, "per_item_ms": 1.0}}}
    project.set(models=[model], load={"mean_rps": 1, "peak_rps": 2, "burst_cv": 1.0}, slo={"p99_ms": 2000})
    project.run("up", "local", "--yes")


if __name__ == "__main__":
    main()
