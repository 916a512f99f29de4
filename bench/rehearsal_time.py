"""Time of 200 simulated resources on the embedded engine: up, no-op, destroy, against the same program with two.

The baseline has the same cost of starting: engine, program, import of the SDK. What is left is the work per resource.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from engine import Request, run
from simulators import providers
from simulators.core.world import World

PROJECT = Path(__file__).resolve().parent.parent / "tests" / "simulators" / "projects" / "bulk"


def measure(count: int) -> dict[str, float]:
    """Seconds of each command; `first` includes the SDK's first import in this process."""
    world, seconds = World(), {}
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        project = Path(folder) / "project"
        shutil.copytree(PROJECT, project)
        for name in ("up", "no-op", "destroy"):
            command = "destroy" if name == "destroy" else "up"
            world.begin_phase()
            started = time.perf_counter()
            result = run(
                Request(
                    command=command,  # type: ignore[arg-type]
                    project=project,
                    stack="bench",
                    providers=providers(world),
                    env={"PULUMI_CONFIG_PASSPHRASE": "", "COUNT": str(count)},
                )
            )
            seconds[name] = time.perf_counter() - started
            if not result.ok:
                raise SystemExit("\n".join(result.errors))
        if world.leftovers():
            raise SystemExit(f"left: {world.leftovers()}")
    return seconds


def main() -> None:
    measure(1)  # the SDK's modules are read once a process
    small, large = measure(1), measure(199)
    print(f"{'':10} {'2 resources':>12} {'200 resources':>14} {'ratio':>6} {'each more':>10}")
    for name, base in small.items():
        each = (large[name] - base) / 198 * 1000
        print(f"{name:10} {base:10.1f} s {large[name]:12.1f} s {large[name] / base:6.1f} {each:7.1f} ms")


if __name__ == "__main__":
    main()
