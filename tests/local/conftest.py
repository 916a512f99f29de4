"""A root for each test, a small running stack for the tests that share one, and nothing left of either."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from local_driver import Driver, Stack
from stack_project import free_block

from infra.clouds.local.root import Root


@pytest.fixture
def root() -> Iterator[Root]:
    """A claimed root without any process."""
    folder = Path(tempfile.mkdtemp(prefix="slipway-"))
    made = Root(path=folder / ".slipway" / "test", stack="test")
    made.claim()
    yield made
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """One generation of one server behind Envoy, and Redis."""
    folder = Path(tempfile.mkdtemp(prefix="slipway-"))
    with Driver(folder / ".slipway" / "test") as driver:
        made = Stack(driver, free_block())
        try:
            for step in (made.supervisor, made.redis, made.envoy):
                assert step() == "create"
            assert made.models("aaaaaaaa") == "create"
            assert made.server("aaaaaaaa") == "create"
            assert made.endpoints("server-0-aaaaaaaa") == "create"
            yield made
        finally:
            made.down()
            left = processes_of(folder)
            for process in left:
                process.kill()
            shutil.rmtree(folder, ignore_errors=True)
    assert not left


def processes_of(folder: Path) -> list[psutil.Process]:
    """Living processes with this folder in their command line."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(folder) in line and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found
