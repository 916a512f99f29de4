"""Predicted against measured: the largest rate within an SLO, on the local stack with a profile measured there.

`python -m bench.capacity_local`. The model is a network whose own time, not HTTP's, is what
counts, and whose weights stay in a core's cache: its time does not depend on what else the machine does.
Client, entry and server share this machine's CPUs: what the client and others take, the model lacks. So there are two
predictions: from `slipway profile`, at rest, and from Triton's own times of the batches during the measurement. The
time of a lone request outside the model is granted to both. On a machine with other work put `chrt -f 10` before it: a
stall of the client or of the server is no property of the plan.
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
import onnx
import psutil
from onnx import TensorProto, helper, numpy_helper

from bench.serving import FEATURES, stack
from cli import wire
from cli.profile import Server, Timing, fit, server_url
from infra.plan.capacity import Profile, max_rps
from tests.stack_project import Project

REPORT = Path(__file__).resolve().with_name("capacity_local_report.md")
MODEL = "digits"
BATCH = 8
SIDE, BASE_LAYERS, ITEM_LAYERS = 128, 1600, 160
Busy = dict[int, tuple[int, int]]  # batch size -> executions, nanoseconds


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
                late = answer.status != 200  # the entry gives up on a request that waits for too long
            found.append(float("inf") if late else 1000.0 * (time.perf_counter() - start - float(times[i])))

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
        tails.append(float(np.quantile(rows[len(rows) // 20 :], 0.99, method="higher")))
    return float(np.median(tails))


def busy(url: str) -> Busy:
    server = Server(url)
    return {b: server.busy_ns(MODEL, b) for b in range(1, BATCH + 1)}


def under_load(before: Busy, after: Busy) -> Profile:
    """The line through the times that batches took between two readings; sizes seen less than 30 times are left out."""
    rows = {b: (after[b][0] - before[b][0], after[b][1] - before[b][1]) for b in after}
    line = fit([Timing(batch=b, groups_ms=(ns / n / 1e6,)) for b, (n, ns) in rows.items() if n >= 30])
    return Profile(base_ms=line.base_ms, per_item_ms=line.per_item_ms)


def largest(
    url: str, server: str, slo_ms: float, cv: float, guess: float, args: argparse.Namespace
) -> tuple[float, Profile, list[str]]:
    """The largest rate whose measured 99th percentile is within the SLO, by bisection; the profile seen near it."""
    low, high, rate, seen = 0.0, 1.5 * guess, guess, []
    profiles: list[tuple[float, Profile]] = []
    while high - low > 0.08 * guess:
        before = busy(server)
        tail = p99(url, rate, cv, args.seconds, args.repeats)
        profiles.append((rate, under_load(before, busy(server))))
        seen.append(f"{rate:.0f}/s: {tail:.1f} ms")
        print(seen[-1], profiles[-1][1], flush=True)
        low, high = (rate, high) if tail <= slo_ms else (low, rate)
        rate = 0.5 * (low + high)
    return rate, min(profiles, key=lambda t: abs(t[0] - rate))[1], seen


def measured_profile(project: Project) -> tuple[Profile, str]:
    found = json.loads(project.run("profile", "local", "--model", MODEL, "--json", "--each", "15").stdout)
    block = found["profile"]["vcpu"]
    spreads = ", ".join(f"{r['batch']}: {r['median_ms']:.2f} ms ±{100 * r['spread']:.0f}%" for r in found["measured"])
    return Profile(base_ms=block["base_ms"], per_item_ms=block["per_item_ms"]), spreads


def row(project: Project, server: str, profile: Profile, cv: float, args: argparse.Namespace) -> tuple[str, list[str]]:
    url = f"http://127.0.0.1:{project.port}"
    alone = asyncio.run(open_loop(url, 2.0, 1.0, 15.0, 99))
    way = max(0.0, float(np.median(alone)) - profile.tau_ms(1))
    slo = args.slo_taus * profile.tau_ms(BATCH) + way
    at_rest = max_rps(profile, slo - way, BATCH, 1, cv)
    found, loaded, seen = largest(url, server, slo, cv, at_rest, args)
    there = max_rps(loaded, slo - way, BATCH, 1, cv)
    offs = [f"{100.0 * (x / found - 1.0):+.0f}%" for x in (at_rest, there)]
    line = f"{loaded.base_ms:.1f} + {loaded.per_item_ms:.2f} b"
    cells = [f"{cv:g}", f"{slo:.0f}", f"{way:.1f}", f"{found:.0f}", f"{at_rest:.0f}", offs[0], line, f"{there:.0f}"]
    return f"| {' | '.join([*cells, offs[1]])} |", seen


HEAD = """# The capacity model on the local stack

Made by `{command}` on {date}. One Triton with one instance of a network of {layers} layers
of {side} x {side}, max_batch {batch}. `slipway profile` at rest: {base:.1f} + {item:.2f} b ms ({spreads}).
Client, Envoy, Triton and whatever else ran shared {cpus} CPUs; load average {load:.1f} at the end. `way` is the
median time of a lone request outside the model; the SLO includes it. "There" is Triton's own time of its batches under
that load.

| burst_cv | SLO p99 ms | way ms | measured rate | predicted at rest | off | there, ms | predicted there | off |
|---|---|---|---|---|---|---|---|---|
"""


def text(profile: Profile, spreads: str, rows: Sequence[tuple[str, list[str]]], command: str) -> str:
    head = HEAD.format(
        command=command,
        date=datetime.now(UTC).date(),
        layers=BASE_LAYERS + ITEM_LAYERS,
        side=SIDE,
        batch=BATCH,
        base=profile.base_ms,
        item=profile.per_item_ms,
        spreads=spreads,
        cpus=psutil.cpu_count(),
        load=psutil.getloadavg()[0],
    )
    tried = "".join(f"\nTried: {'; '.join(seen)}.\n" for _, seen in rows)
    return head + "\n".join(line for line, _ in rows) + "\n" + tried


def steady_network(path: Path) -> Path:
    """Random weights of 64 KiB in every layer, so that they stay in a core's own cache: only its even time matters.

    A fixed matrix goes through BASE_LAYERS once a batch, whatever its size; each item's own through ITEM_LAYERS.
    """
    rng = np.random.default_rng(1)
    shapes = {"first": (64, SIDE), "fixed": (SIDE, SIDE), "last": (SIDE, 10)}
    given = {name: (rng.standard_normal(shape) / shape[0] ** 0.5).astype(np.float32) for name, shape in shapes.items()}
    turn = np.linalg.qr(rng.standard_normal((SIDE, SIDE)))[0].astype(np.float32)  # keeps lengths: no number gets tiny
    given |= {"inner": turn, "ones": np.ones((1, SIDE, 1), np.float32), "zero": np.float32(0.0)}
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in given.items()]
    weights.append(numpy_helper.from_array(np.array([-1, 1, SIDE], np.int64), "rows"))
    nodes = [
        helper.make_node("ReduceMean", ["pixels"], ["mean"], keepdims=1),  # else it would be folded into a constant
        helper.make_node("Add", ["mean", "fixed"], ["base0"]),
        *_layers("base", BASE_LAYERS),
        helper.make_node("ReduceMean", [f"base{BASE_LAYERS}"], ["whole"], keepdims=1),
        helper.make_node("Mul", ["whole", "zero"], ["nothing"]),
        helper.make_node("MatMul", ["pixels", "first"], ["entered"]),
        helper.make_node("Add", ["entered", "nothing"], ["both"]),
        helper.make_node("Reshape", ["both", "rows"], ["row"]),
        helper.make_node("Mul", ["row", "ones"], ["item0"]),
        *_layers("item", ITEM_LAYERS),
        helper.make_node("ReduceMean", [f"item{ITEM_LAYERS}"], ["pooled"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["pooled", "last"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=1),
    ]
    shown = [
        helper.make_tensor_value_info("label", TensorProto.INT64, ["N", 1]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 10]),
    ]
    takes = [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 64])]
    graph = helper.make_graph(nodes, "steady", takes, shown, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


def _layers(name: str, count: int) -> list[onnx.NodeProto]:
    each = (
        (
            helper.make_node("MatMul", [f"{name}{i}", "inner"], [f"{name}_product{i}"]),
            helper.make_node("Abs", [f"{name}_product{i}"], [f"{name}{i + 1}"]),
        )
        for i in range(count)
    )
    return [node for pair in each for node in pair]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--slo-taus", type=float, default=8.0, help="the SLO in times of a full batch")
    parser.add_argument("--cv", type=float, nargs="+", default=[1.0, 2.0])
    args = parser.parse_args()
    with stack(scaling="vertical", cost="economy") as (project, _):
        raise_model(project, steady_network(project.folder / "steady.onnx"))
        profile, spreads = measured_profile(project)
        print(profile, spreads, flush=True)
        server = server_url(project.folder, "local")
        rows = [row(project, server, profile, cv, args) for cv in args.cv]
    command = "python -m bench.capacity_local " + " ".join(sys.argv[1:])
    REPORT.write_text(text(profile, spreads, rows, command.strip()))
    print(REPORT.read_text())


def raise_model(project: Project, onnx: Path) -> None:
    """Serves the steady network under the same name."""
    model = {"name": MODEL, "storage_uri": str(onnx), "format": "onnx", "size_mib": onnx.stat().st_size / 2**20}
    model |= {"max_batch": BATCH, "profile": {"vcpu": {"base_ms": 5.0, "per_item_ms": 1.0}}}
    project.set(models=[model], load={"mean_rps": 1, "peak_rps": 2, "burst_cv": 1.0}, slo={"p99_ms": 2000})
    project.run("up", "local", "--yes")


if __name__ == "__main__":
    main()
