"""Shared by all tests: an outcome a line for tests/run.py, and no configuration from the machine that runs them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# How long an example takes says how busy the machine is, not whether the code is right.
hypothesis.settings.register_profile("slipway", deadline=None)
hypothesis.settings.load_profile("slipway")

FOREIGN = ("KUBECONFIG", "AWS_", "GOOGLE_", "CLOUDSDK_", "PULUMI_")


@pytest.fixture(autouse=True, scope="session")
def _no_ambient_configuration() -> Iterator[None]:
    """Credentials, kubeconfig and Pulumi settings of the machine must not reach a test."""
    taken = {k: os.environ.pop(k) for k in list(os.environ) if k.startswith(FOREIGN)}
    yield
    os.environ.update(taken)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    target = os.environ.get("SLIPWAY_TEST_REPORT")
    if target is None or os.environ.get("PYTEST_XDIST_WORKER"):
        return  # under xdist the controller gets every report once
    final = report.when == "call" or (report.when == "setup" and report.outcome != "passed")
    if not final and not (report.when == "teardown" and report.failed):
        return
    reason = ""
    if report.skipped:
        reason = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
    row = {
        "test": report.nodeid,
        "outcome": report.outcome,
        "reason": reason.removeprefix("Skipped: "),
        "s": round(report.duration, 2),
    }
    with Path(target).open("a") as file:
        file.write(json.dumps(row) + "\n")
