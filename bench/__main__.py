"""Every measurement in turn: `python -m bench`; each prints a ratio against its baseline in the same run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NOT_MEASUREMENTS = {"__init__", "__main__", "table", "capacity_table", "capacity_steps"}  # the last two make a table


def main() -> int:
    failed = []
    for path in sorted(HERE.glob("*.py")):
        text = path.read_text()
        if path.stem not in NOT_MEASUREMENTS and "__main__" in text:
            print(f"== {path.stem}", flush=True)
            if subprocess.run([sys.executable, "-m", f"bench.{path.stem}"], cwd=HERE.parent).returncode:
                failed.append(path.stem)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
