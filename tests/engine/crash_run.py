"""One run of the engine in a process that may be killed: imported by a fork server, so that a run costs no import."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import harness  # noqa: E402

from engine import runner  # noqa: E402

LAB = harness.load("lab_provider", HERE / "lab/provider/lab.py")


def one(command: str, folder: str, env: dict[str, str], crash_at: str | None, settle: bool, report: str) -> None:
    """Leaves by os._exit: a fork server's child has nothing to tidy up."""
    root = Path(folder)
    request = runner.Request(
        command=command,  # type: ignore[arg-type]
        project=root / "program",
        stack="dev",
        state_dir=root / "state",
        env=env,
        parallel=1,
        settle=settle,
        crash_at=crash_at,
        providers={"lab": LAB.Lab(root / "diary", root / "shelf.json")},
    )
    result = runner.run(request)
    Path(report).write_text("\n".join(["ok" if result.ok else "failed", *result.settled, *result.errors]))
    os._exit(0 if result.ok else 1)
