"""Look-ups by id measured on the local stack: what they add to a prediction, and how often the cache answers.

`python -m bench.features`. One client asks one Triton over gRPC for batches of 1, 32 and 256 items, in turn by the
features themselves (the baseline), by ids that the server's cache holds, by ids that it does not hold, and, as without
look-ups in the server, by features that the client itself looks up first. A batch above max_batch goes in several
requests at once, whoever asks. Then streams of ids by Zipf's law over far more keys than the cache has entries. The
stack is the benchmark's own, with ports of its own, and goes at the end.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import grpc
import numpy as np
import numpy.typing as npt

from bench.serving import FEATURES, stack
from bench.table import Row, rendered
from cli import wire
from infra.stores.store import key_prefix
from serving.facts import facts
from serving.features import Features, Schema, connect
from tests.serving.servers import ask, metric
from tests.stack_project import Project

REPORT = Path(__file__).resolve().with_name("features_report.md")
MODEL = "digits"
BY_ID = f"{MODEL}_by_id"
BATCHES = (1, 32, 256)
TIMEOUT_S = 30.0
KEYS = 40_000  # ids beside the digits' own; one after another, none is still in the cache when it comes again
SKEWS = (0.0, 0.8, 1.0, 1.2)  # exponents of Zipf's law; 0 = all ids alike
Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Server:
    """The stack's one Triton and its store, as the benchmark asks them."""

    grpc: str
    metrics: int
    max_batch: int
    instances: int
    pixels: Pixels
    store: Features

    def features(self, rows: Sequence[int]) -> Sequence[wire.Request]:
        """The features themselves, in as many requests as max_batch makes of them."""
        tensors = [self.pixels[[i % len(self.pixels) for i in part]] for part in self.parts(rows)]
        return [
            wire.request(MODEL, [wire.Tensor(name="pixels", datatype="FP32", shape=t.shape, data=t.ravel().tolist())])
            for t in tensors
        ]

    def ids(self, rows: Sequence[int]) -> Sequence[wire.Request]:
        return [
            wire.request(
                BY_ID, [wire.Tensor(name="id", datatype="BYTES", shape=(len(part), 1), data=[name(i) for i in part])]
            )
            for part in self.parts(rows)
        ]

    def parts(self, rows: Sequence[int]) -> Iterator[Sequence[int]]:
        return (rows[i : i + self.max_batch] for i in range(0, len(rows), self.max_batch))


def name(row: int) -> str:
    return f"bench-{row}"


def listed(value: object) -> list[dict[str, int]]:
    assert isinstance(value, list)
    return value


def open_server(project: Project) -> Server:
    """The server that stands, and the benchmark's ids in its store."""
    rows = json.loads(project.run("status", "local", "--json").stdout)["processes"]
    (ports,) = [r["ports"] for r in rows if "-server-" in r["name"]]
    config = ask(ports["http"], f"/v2/models/{BY_ID}/config")[1]
    url = str(project.deployment()["resources"][0]["outputs"]["redis"])
    pixels = np.load(FEATURES, allow_pickle=False)["features"].astype(np.float32)
    schema = Schema(datatype="FP32", shape=(64,))
    store = connect(url, key_prefix("local"), schema, deadline_ms=10_000, pause_ms=0, cache_entries=0, cache_ttl_s=0.0)
    for start in range(0, KEYS, 2000):
        store.put_many({name(i): pixels[i % len(pixels)] for i in range(start, min(start + 2000, KEYS))})
    return Server(
        grpc=f"127.0.0.1:{ports['grpc']}",
        metrics=ports["metrics"],
        max_batch=int(str(config["max_batch_size"])),
        instances=sum(group["count"] for group in listed(config["instance_group"])),
        pixels=pixels,
        store=store,
    )


class Sender:
    """Connections that stay open, one for each request of a batch; gRPC's own threads wait, no event loop does."""

    def __init__(self, server: Server, connections: int, opened: ExitStack) -> None:
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
        channels = [opened.enter_context(grpc.insecure_channel(server.grpc, options)) for _ in range(connections)]
        self.calls = [channel.unary_unary(wire.GRPC_METHOD) for channel in channels]

    def ask(self, requests: Sequence[wire.Request]) -> None:
        """All requests of one batch at once."""
        waiting = [call.future(r.grpc, timeout=TIMEOUT_S) for call, r in zip(self.calls, requests, strict=True)]
        for answer in waiting:
            wire.from_proto(answer.result())


Batch = Callable[[], Sequence[wire.Request]]  # makes the next batch's requests


def batch_times(server: Server, size: int, seconds: float, repeats: int) -> dict[str, list[tuple[float, float]]]:
    """By way of asking: median and 99th percentile of a batch's time in ms, one pair a repeat; the ways take turns."""
    cold, warm = cycle(range(KEYS)), range(size)

    def looked_up() -> Sequence[wire.Request]:
        rows = list(islice(cold, size))
        found = server.store.get_many(name(i) for i in rows).features
        stacked = np.stack([found[name(i)] for i in rows])
        assert np.array_equal(stacked[0], server.pixels[rows[0] % len(server.pixels)])
        return server.features(rows)

    ways: dict[str, tuple[Batch, bool]] = {  # whether making the requests is part of the time
        "features": (lambda: server.features(warm), False),
        "cached": (lambda: server.ids(warm), False),
        "stored": (lambda: server.ids(list(islice(cold, size))), False),
        "client": (looked_up, True),
    }
    count = -(-size // server.max_batch)
    times: dict[str, list[list[float]]] = {way: [[] for _ in range(repeats)] for way in ways}
    with ExitStack() as opened:
        sender = Sender(server, count, opened)
        for turn in range(-1, repeats):  # the first warms up
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                for way, (make, counted) in ways.items():
                    started = time.perf_counter()
                    requests = make()
                    made = time.perf_counter()
                    sender.ask(requests)
                    if turn >= 0:
                        times[way][turn].append(1000 * (time.perf_counter() - (started if counted else made)))
    return {way: [(float(np.median(t)), float(np.quantile(t, 0.99))) for t in turns] for way, turns in times.items()}


NAMES = {
    "cached": "by id, in the server's cache",
    "stored": "by id, from Redis",
    "client": "the client looks up in Redis, then asks",
}


def lookups(server: Server, args: argparse.Namespace) -> list[Row]:
    found = []
    for size in BATCHES:
        times = batch_times(server, size, args.seconds, args.repeats)
        for way, title in NAMES.items():
            for which, quantile in enumerate(("p50", "p99")):
                values, baseline = ([t[which] for t in times[x]] for x in (way, "features"))
                found.append(
                    Row(name=f"{title}, {size} at once, {quantile}", unit="ms", values=values,
                        baseline_name="the features themselves", baseline=baseline)
                )  # fmt: skip
    return found


def zipf(exponent: float) -> npt.NDArray[np.float64]:
    """How likely each rank is."""
    weights = np.arange(1, KEYS + 1, dtype=np.float64) ** -exponent
    likely: npt.NDArray[np.float64] = weights / weights.sum()
    return likely


def hit_rate(server: Server, ranks: npt.NDArray[np.int64]) -> float:
    """The share of this stream's ids that were answered without the store, by the server's own counter of misses."""

    def misses() -> float:
        return metric(server.metrics, "slipway_feature_cache_misses_total", model=BY_ID)

    before = misses()
    size = server.max_batch
    with ExitStack() as opened:
        sender = Sender(server, 1, opened)
        for start in range(0, len(ranks) - size + 1, size):
            sender.ask(server.ids(ranks[start : start + size].tolist()))
    asked = len(ranks) // size * size
    return 1.0 - (misses() - before) / asked


def cache(server: Server, args: argparse.Namespace) -> list[Row]:
    entries = int(str(facts("features")["cache_entries"]))
    rows = []
    for exponent in SKEWS:
        likely = zipf(exponent)
        rng = np.random.default_rng(round(100 * exponent))
        streams = [rng.choice(KEYS, args.stream, p=likely) for _ in range(args.repeats + 1)]
        rates = [hit_rate(server, ranks) for ranks in streams][1:]  # the first fills the cache
        rows.append(
            Row(name=f"hit rate, Zipf {exponent:g}" if exponent else "hit rate, all ids alike", unit="share",
                values=rates, baseline_name=f"a cache that knows the {entries} most asked ids",
                baseline=[float(likely[:entries].sum())])
        )  # fmt: skip
    return rows


PARTS = {"lookups": lookups, "cache": cache}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.features", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all, and the report is written")
    parser.add_argument("--seconds", type=float, default=8, help="of each repeat of each batch size")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--stream", type=int, default=40_960, help="ids of a stream")
    args = parser.parse_args(argv)
    model = {"name": MODEL, "storage_uri": "serving/samples/digits/digits.onnx", "format": "onnx", "size_mib": 0.2}
    model |= {"max_batch": 64, "profile": {"vcpu": {"base_ms": 0.6, "per_item_ms": 0.03}}}
    features = {"source": "serving/samples/digits/features.npz", "keys": 1797, "value_bytes": 256}
    features |= {"on_failure": "default"}  # a look-up that runs out of time is counted, and does not end the run
    with stack(scaling="vertical", cost="economy", models=[model], features=features) as (project, _):
        server = open_server(project)
        rows = [row for part in args.parts or PARTS for row in PARTS[part](server, args)]
        late = metric(server.metrics, "slipway_feature_store_errors_total", model=BY_ID)
        server.store.close()
    notes = (
        f"One Triton with max_batch {server.max_batch} and {server.instances} instance(s) of each model, gRPC, one "
        f"batch at a time; {KEYS} ids of 256 bytes; the cache is one an instance, ids stay in it for "
        f"{facts('features')['cache_ttl_s']} s. Ratio 1.2 = a fifth is added. Times just above "
        "500 ms look like the server's own: as if its batcher missed a request, and looked again after half a second. "
        f"{late:.0f} look-ups ran out of their {facts('features')['deadline_ms']} ms."
    )
    text = rendered("# Look-ups by id on the local stack", rows, notes)
    print(text)
    if not args.parts:
        REPORT.write_text(text)


if __name__ == "__main__":
    main()
