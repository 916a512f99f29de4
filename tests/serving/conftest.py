"""Fixtures of the serving tests: one Triton tree and one Redis for all, and the plan of the worked local stack."""

from __future__ import annotations

import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.plan import Plan
from tests.serving.servers import free_ports, make, redis_server


@pytest.fixture
def plan() -> Plan:
    return make()


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="slipway-serving-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def triton_home(folder: Path) -> Path:
    """The package's Triton, with the Python stub where the server looks for it."""
    source = Path(sysconfig.get_path("purelib")) / "pytriton" / "tritonserver"
    home = folder / "triton"
    python = home / "backends" / "python"
    python.mkdir(parents=True)
    for name in ("bin", "caches"):
        (home / name).symlink_to(source / name)
    for name in ("libtriton_python.so", "triton_python_backend_utils.py"):
        (python / name).symlink_to(source / "backends" / "python" / name)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = source / "python_backend_stubs" / version / "triton_python_backend_stub"
    (python / stub.name).symlink_to(stub)
    return home


@pytest.fixture(scope="session")
def redis_port(folder: Path) -> Iterator[int]:
    (port,) = free_ports(1)
    with redis_server(port, folder):
        yield port
