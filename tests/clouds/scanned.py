"""What the scanner says of a stack's resources, less what docs/security.md gives a reason for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.clouds.terraform_json import write
from tests.scanner import checkov

SECURITY = (Path(__file__).resolve().parents[2] / "docs" / "security.md").read_text()


def unexplained(folder: Path, cloud: str, *states: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Failed checks that the page does not name, each with a resource that fails it; one run for several states."""
    for i, resources in enumerate(states):
        (folder / str(i)).mkdir()
        write(resources, cloud, folder / str(i))
    report = checkov(folder, "terraform_json")
    assert report["summary"]["passed"] > 50 * len(states), "else it has not read the resources"
    failed = {c["check_id"]: c["resource"] for c in report["results"]["failed_checks"]}
    return {check: resource for check, resource in failed.items() if f"| {check} |" not in SECURITY}
