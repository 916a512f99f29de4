"""Check the types and run every test: the fast ones in parallel, then the real servers; list what was not run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIERS = (  # name, marker expression, workers
    ("fast", "not real", max(2, os.cpu_count() or 2)),
    ("real", "real and not slow", 0),  # servers under load share the cores, so one test at a time
    ("whole stack", "real and slow", 2),  # mostly waits for servers to start and stop
)


def _workers(count: int) -> list[str]:
    """Options of the parallel tiers."""
    return ["-n", str(count)] if count else []


def run(name: str, marker: str, workers: int, report: Path) -> tuple[int, float]:
    started = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-m", marker, *_workers(workers)]
    print(f"== {name}: {' '.join(command[1:])}", flush=True)
    code = subprocess.run(command, cwd=ROOT, env={**os.environ, "SLIPWAY_TEST_REPORT": str(report)}).returncode
    return code, time.monotonic() - started


@contextmanager
def types(failed: list[str]) -> Iterator[None]:
    """mypy beside the tests that are no measurements: alone it would leave every core but one idle for minutes."""
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        command = [sys.executable, "-m", "mypy", "--no-error-summary"]
        checker = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            if checker.wait():
                failed.append("types")
            said.seek(0)
            sys.stdout.write(said.read())
            result = "failed" if "types" in failed else "ok"
            print(f"== types: {result}, {time.monotonic() - started:.0f} s, beside the fast tests", flush=True)


def main() -> int:
    failed: list[str] = []
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    reasons: dict[str, int] = {}
    longest: list[tuple[float, str]] = []
    with tempfile.TemporaryDirectory(prefix="slipway-tests-") as folder:
        for name, marker, workers in TIERS:
            report = Path(folder) / f"{name}.jsonl"
            with types(failed) if name == "fast" else nullcontext():
                code, seconds = run(name, marker, workers, report)
            if code not in (0, 5):  # 5: no test carries this marker
                failed.append(name)
            for line in report.read_text().splitlines() if report.exists() else []:
                row = json.loads(line)
                counts[row["outcome"]] += 1
                longest.append((row["s"], row["test"]))
                if row["outcome"] == "skipped":
                    reasons[row["reason"]] = reasons.get(row["reason"], 0) + 1
            print(f"== {name}: {'failed' if name in failed else 'ok'}, {seconds:.0f} s", flush=True)
    print("\nThe longest:")
    for seconds, test in sorted(longest, reverse=True)[:15]:
        print(f"  {seconds:6.1f} s  {test}")
    print(f"\nNot run: {counts['skipped']} tests" + (":" if reasons else "."))
    for reason, count in sorted(reasons.items()):
        print(f"  {count:4d}  {reason}")
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if failed or counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
