"""The local stack measured: the entry's cost, dynamic batching, processes against instances, no-op `up`."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bench.table import Row, show
from cli import wire
from cli.load import LoadPlan, run
from tests.stack_project import ROOT, Project, make_project, stop_all, temporary

FEATURES = ROOT / "serving/samples/digits/features.npz"
TRAIN = ROOT / "serving/samples/digits/train.py"


@contextmanager
def stack(**keys: Any) -> Iterator[tuple[Project, float]]:
    """A stack that is up, and the seconds that took; everything goes afterwards."""
    with temporary() as folder:
        project = make_project(folder, **keys)
        try:
            started = time.monotonic()
            project.run("up", "local", "--yes")
            yield project, time.monotonic() - started
        finally:
            stop_all(project)


def requests(model: str) -> list[wire.Request]:
    pixels = np.load(FEATURES, allow_pickle=False)["features"][:64].astype(np.float32)
    return [
        wire.request(model, [wire.Tensor(name="pixels", datatype="FP32", shape=(1, 64), data=row.tolist())])
        for row in pixels
    ]


def rates(
    urls: Sequence[dict[str, str]], clients: int, seconds: float, repeats: int, model: str = "digits"
) -> list[list[float]]:
    """Predictions per second at each of `urls`, in turn, so that drift of the machine meets all of them."""
    found: list[list[float]] = [[] for _ in urls]
    for turn in range(repeats + 1):
        for rows, url in zip(found, urls, strict=True):
            report = asyncio.run(run(LoadPlan(seconds=seconds, clients=clients), url, model, requests(model)))
            if report.failed:
                raise SystemExit(f"{report.failed} of {report.count} predictions failed at {url}: {report.to_json()}")
            if turn:  # the first round warms up
                rows.append((report.count - report.failed) / report.seconds)
    return found


def entry_url(project: Project) -> dict[str, str]:
    return {"http": f"http://127.0.0.1:{project.port}"}


def server_urls(project: Project) -> list[dict[str, str]]:
    """Each Triton's own HTTP port."""
    rows = json.loads(project.run("status", "local", "--json").stdout)["processes"]
    return [{"http": f"http://127.0.0.1:{r['ports']['http']}"} for r in rows if "-server-" in r["name"]]


def entry(args: argparse.Namespace) -> list[Row]:
    with stack(scaling="vertical") as (project, _):
        through, straight = rates([entry_url(project), *server_urls(project)], 8, args.seconds, args.repeats)
    return [
        Row(
            name="through Envoy, 8 clients",
            unit="predictions/s",
            values=through,
            baseline_name="straight to Triton",
            baseline=straight,
        )
    ]


def big_model(folder: Path, hidden: str) -> Path:
    out = folder / "big.onnx"
    command = [sys.executable, str(TRAIN), "--hidden", hidden, "--epochs", "2", "--out", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return out


def _models(path: Path, max_batch: int, instances_hint: dict[str, float]) -> list[dict[str, Any]]:
    return [
        {
            "name": "digits",
            "storage_uri": str(path),
            "format": "onnx",
            "max_batch": max_batch,
            "profile": {"vcpu": instances_hint},
        }
    ]


def batching(args: argparse.Namespace) -> list[Row]:
    with temporary() as folder:
        model = big_model(folder, args.hidden)
        profile = {"base_ms": 0.6, "per_item_ms": 0.4}
        found = []
        for max_batch in (32, 1):
            with stack(scaling="vertical", models=_models(model, max_batch, profile)) as (project, _):
                found += rates([entry_url(project)], 32, args.seconds, args.repeats)
    return [
        Row(
            name=f"dynamic batching on, hidden layers {args.hidden}, 32 clients", unit="predictions/s", values=found[0],
            baseline_name="off (max_batch 1)", baseline=found[1],
        )
    ]  # fmt: skip


def processes(args: argparse.Namespace) -> list[Row]:
    found = []
    for scaling in ("vertical", "horizontal"):
        with stack(scaling=scaling) as (project, _):
            found += rates([entry_url(project)], 16, args.seconds, args.repeats)
    return [
        Row(
            name="one process with N instances (vertical), 16 clients", unit="predictions/s", values=found[0],
            baseline_name="N processes (horizontal)", baseline=found[1],
        )
    ]  # fmt: skip


def noop(args: argparse.Namespace) -> list[Row]:
    firsts, seconds = [], []
    for _ in range(args.repeats):
        with stack() as (project, first):
            firsts.append(first)
            started = time.monotonic()
            project.run("up", "local", "--yes")
            seconds.append(time.monotonic() - started)
    return [
        Row(name="`up` with nothing to change", unit="s", values=seconds, baseline_name="first `up`", baseline=firsts)
    ]


PARTS = {"entry": entry, "batching": batching, "processes": processes, "noop": noop}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.serving", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--hidden", default="2048,2048")
    args = parser.parse_args(argv)
    rows = [row for name in args.parts or PARTS for row in PARTS[name](args)]
    show("Local stack", rows)


if __name__ == "__main__":
    main()
