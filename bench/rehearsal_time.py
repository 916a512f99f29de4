"""Time of 200 simulated resources on the embedded engine: up, no-op, destroy, against the same program with two.

The baseline has the same cost of starting: engine, program, import of the SDK. What is left is the work per resource.
CPU seconds stand beside the wall clock's: they are what a busy machine leaves comparable.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from engine import Request, run
from simulators import providers
from simulators.core.world import World

PROJECT = Path(__file__).resolve().parent.parent / "tests" / "simulators" / "projects" / "bulk"


def cpu() -> float:
    """Seconds of processor time of this process and of the children that ended."""
    t = os.times()
    return t.user + t.system + t.children_user + t.children_system


def measure(count: int) -> dict[str, tuple[float, float]]:
    """(wall, CPU) seconds of each command."""
    world, seconds = World(), dict[str, tuple[float, float]]()
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        project = Path(folder) / "project"
        shutil.copytree(PROJECT, project)
        for name in ("up", "no-op", "destroy"):
            command = "destroy" if name == "destroy" else "up"
            world.begin_phase()
            started, used = time.perf_counter(), cpu()
            result = run(
                Request(
                    command=command,  # type: ignore[arg-type]
                    project=project,
                    stack="bench",
                    providers=providers(world),
                    env={"PULUMI_CONFIG_PASSPHRASE": "", "COUNT": str(count)},
                )
            )
            seconds[name] = (time.perf_counter() - started, cpu() - used)
            if not result.ok:
                raise SystemExit("\n".join(result.errors))
        if world.leftovers():
            raise SystemExit(f"left: {world.leftovers()}")
    return seconds


def main() -> None:
    measure(1)  # the SDK's modules are read once a process
    small, large = measure(1), measure(199)
    print(f"{'':10} {'2 resources':>17} {'200 resources':>17} {'each more':>10}")
    for name, (wall, used) in small.items():
        took, spent = large[name]
        more = (spent - used) / 198 * 1000
        print(f"{name:10} {wall:6.1f} s ({used:4.1f} CPU) {took:6.1f} s ({spent:4.1f} CPU) {more:7.1f} ms")
    print(f"all three of 200: {sum(w for w, _ in large.values()):.1f} s ({sum(c for _, c in large.values()):.1f} CPU)")


if __name__ == "__main__":
    main()
