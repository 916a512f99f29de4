"""Where the scanner of cloud resources is: on PATH, or in the environment that `make setup-scanner` makes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

OWN = Path(__file__).resolve().parent.parent / ".venv-scanner" / "bin" / "checkov"


def checkov(folder: Path, framework: str) -> dict[str, Any]:
    """Its report on a folder; a test without the scanner is skipped, with the way to it."""
    command = shutil.which("checkov") or (str(OWN) if OWN.exists() else None)
    if command is None:
        pytest.skip("checkov is not there: `make setup-scanner` installs it (282 MB, in an environment of its own)")
    asked = [command, "-d", str(folder), "--framework", framework, "-o", "json", "--compact", "--quiet"]
    done = subprocess.run([*asked, "--skip-download"], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.strip(), done.stderr[-2000:]
    report: dict[str, Any] = json.loads(done.stdout)
    return report
