"""Fixtures of the serving tests: one Triton tree and one Redis for all, and the plan of the worked local stack."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from infra.plan import Plan
from serving import triton as containers
from serving.container import ContainerSpec, Ports
from tests.serving.servers import PROJECT, free_ports, load_features, make, redis_server, triton


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
    spec = importlib.util.find_spec("pytriton")  # importing it would start its own machinery
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).parent / "tritonserver"
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
def redis_server_of_all(folder: Path) -> Iterator[tuple[int, int]]:
    """Port and pid."""
    (port,) = free_ports(1)
    with redis_server(port, folder) as process:
        yield port, process.pid


@dataclass(frozen=True, kw_only=True)
class Stack:
    """One Triton with the digits, before a Redis with their features."""

    http: int
    grpc: int
    metrics: int
    redis_port: int
    redis_pid: int
    spec: ContainerSpec
    log: Path
    ids: list[str]
    pixels: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


PREFIX = "test:features:"


@pytest.fixture(scope="session")
def features() -> tuple[list[str], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    with np.load(PROJECT / "serving/samples/digits/features.npz") as file:
        return [str(i) for i in file["ids"]], file["features"], file["labels"]


@pytest.fixture(scope="session")
def stack(
    folder: Path,
    triton_home: Path,
    redis_server_of_all: tuple[int, int],
    features: tuple[list[str], npt.NDArray[np.float32], npt.NDArray[np.int64]],
) -> Iterator[Stack]:
    ids, pixels, labels = features
    redis_port, redis_pid = redis_server_of_all
    load_features(redis_port, PREFIX, ids, pixels)
    http, grpc, metrics = free_ports(3)
    spec = containers.container(
        make(),
        containers.LOCAL,
        name=f"slipway-test-{http}",
        project=PROJECT,
        models_path=str(folder / "models"),
        ports=Ports(http=http, grpc=grpc, metrics=metrics),
        home=str(triton_home),
        store=containers.Store(url=f"redis://127.0.0.1:{redis_port}/0", key_prefix=PREFIX),
    )
    log = folder / "triton.log"
    with triton(spec, log):
        yield Stack(
            http=http,
            grpc=grpc,
            metrics=metrics,
            redis_port=redis_port,
            redis_pid=redis_pid,
            spec=spec,
            log=log,
            ids=ids,
            pixels=pixels,
            labels=labels,
        )
