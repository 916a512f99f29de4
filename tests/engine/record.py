"""Makes the recordings: `python tests/engine/record.py [scenario…]` with the real Pulumi CLI on PATH."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import harness  # noqa: E402


def record(name: str, version: str) -> str:
    steps = harness.load("scenarios", HERE / "lab/program/scenarios.py").SCENARIOS[name]
    folder = Path(tempfile.mkdtemp(prefix="slipway-record-"))
    started = time.monotonic()
    try:
        cli = harness.Cli(harness.Bench(HERE / "lab", folder, name))
        rows = [{"command": step.cmd, **cli.step(place, step)} for place, step in enumerate(steps)]
    finally:
        shutil.rmtree(folder)
    unexpected = [n for n, (s, r) in enumerate(zip(steps, rows, strict=True)) if s.fails == r["exit_is_zero"]]
    text = json.dumps({"scenario": name, "cli": version, "steps": rows}, indent=1, sort_keys=True)
    text = re.sub(r"/[^\s\"]*slipway-record-\w+", "<folder>", text)
    (HERE / "recordings" / f"{name}.json").write_text(text + "\n")
    errors = [rows[n]["errors"] for n in unexpected]
    return f"{name}: {time.monotonic() - started:.1f} s" + (
        f"; not as expected: steps {unexpected}: {errors}" if unexpected else ""
    )


def main() -> None:
    version = subprocess.run(["pulumi", "version"], capture_output=True, text=True, check=True).stdout.strip()
    (HERE / "recordings").mkdir(exist_ok=True)
    names = sys.argv[1:] or list(harness.load("scenarios", HERE / "lab/program/scenarios.py").SCENARIOS)
    with ThreadPoolExecutor(2) as pool:
        for line in pool.map(lambda name: record(name, version), names):
            print(line, flush=True)


if __name__ == "__main__":
    main()
