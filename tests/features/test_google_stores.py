"""Operations of Google's stores, each in its own process as the command runs it, against REST servers of this machine.

Requests and answers are held against the published descriptions: discovery documents, and the client's own types where
there is none. One run is killed in the middle, for real, and the next goes on with the operation that it began.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.features import google_rest as rest
from tests.features.conftest import ENTITIES
from tests.features.shapes import wrong, wrong_messages
from tests.serving.buckets import TOKEN, Storage, storage

pytestmark = pytest.mark.slow

for _package in ("redis_v1", "memorystore_v1", "firestore_admin_v1", "bigtable_admin_v2"):
    # not imported here: Google's stubs and Pulumi's cannot be loaded into one process
    if find_spec(f"google.cloud.{_package}") is None:
        pytest.skip(f"google.cloud.{_package} is not installed (extra `stores`)", allow_module_level=True)

URLS = {
    "memorystore": "rediss://10.0.0.5:6378/0",
    "valkey": "rediss://10.0.0.9:6379/0?auth=google",
    "firestore": f"firestore://p/{rest.DATABASE.rpartition('/')[2]}/features",
    "bigtable": "bigtable://p/dev-store/dev-store?app_profile=dev-store&family=f",
}
RESOURCES = {
    "memorystore": rest.REDIS,
    "valkey": rest.VALKEY,
    "firestore": rest.DATABASE,
    "bigtable": rest.BIGTABLE,
}
SERVICES = {"memorystore": "redis", "valkey": "memorystore", "firestore": "firestore", "bigtable": "bigtableadmin"}
STANDARD_SMALL = 4  # words of an enumeration travel as numbers from the client to the cloud


class Place:
    """A store's cloud, a bucket, and the command's own process."""

    def __init__(
        self, store: str, folder: Path, cloud: rest.Cloud, bucket: Storage, worker: subprocess.Popen[str]
    ) -> None:
        self.store, self.state, self.cloud, self.bucket, self.worker = store, folder, cloud, bucket, worker
        self.more: dict[str, str] = {}  # of the environment

    def asked(self, operation: str, **more: Any) -> dict[str, Any]:
        return {
            "store": self.store,
            "operation": operation,
            "stack": "dev",
            "resource": RESOURCES[self.store],
            "url": URLS[self.store],
            "state": str(self.state),
            "endpoint": self.cloud.url,
            "storage": self.bucket.url,
            "pause_s": 0.01,
            **more,
        }

    def start(self, operation: str, **more: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.stores.work"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "SLIPWAY_STORAGE_TOKEN": TOKEN, **self.more},
        )
        assert process.stdin is not None
        json.dump(self.asked(operation, **more), process.stdin)
        process.stdin.close()
        return process

    def go(self, operation: str, **more: Any) -> tuple[dict[str, Any], list[str]]:
        """The result, or the error, and what was said before."""
        assert self.worker.stdin is not None
        assert self.worker.stdout is not None
        env = {"SLIPWAY_STORAGE_TOKEN": TOKEN, **self.more}
        self.worker.stdin.write(json.dumps({**self.asked(operation, **more), "env": env}) + "\n")
        self.worker.stdin.flush()
        said: list[str] = []
        for line in self.worker.stdout:
            last = json.loads(line)
            if "say" not in last:
                return last, said
            said.append(last["say"])
        raise AssertionError("the worker ended")

    def result(self, operation: str, **more: Any) -> dict[str, Any]:
        last, _ = self.go(operation, **more)
        assert "result" in last, last
        return dict(last["result"])


@pytest.fixture(scope="session")
def worker() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.features.work_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.terminate()


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, worker: subprocess.Popen[str]) -> Iterator[Place]:
    store = request.param
    with ExitStack() as stack:
        bucket = stack.enter_context(storage())
        made = Place(store, tmp_path, stack.enter_context(rest.cloud(SERVICES[store], bucket)), bucket, worker)
        yield made
        if store == "valkey":
            assert wrong_messages(made.cloud.asked) == []
        else:
            assert wrong(made.cloud.asked) == []


def only(*stores: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("place", stores, indirect=True)


@only("memorystore")
def test_redis_is_exported_counted_and_imported(place: Place, rdb: bytes) -> None:
    place.cloud.content = rdb
    where = {"name": "one", "folder": "gs://backups/slipway/dev/one"}
    assert place.result("status")["tier"] == "STANDARD_HA"
    assert place.result("backup", **where) == {"where": "gs://backups/slipway/dev/one/store.rdb"}
    found = place.result("counted", **where)
    assert (found["entities"], found["bytes"]) == (ENTITIES, len(rdb))
    assert json.loads(place.bucket.content("backups", "slipway/dev/one/slipway.json"))["entities"] == ENTITIES
    place.cloud.content = b""
    assert place.result("restore", **where) == {"into": rest.REDIS}
    assert place.cloud.content == rdb
    last, _ = place.go("restore", name="two", folder="gs://backups/slipway/dev/two")
    assert "no such backup" in last["error"][0]


@only("memorystore")
def test_a_cut_off_file_is_no_backup(place: Place, rdb: bytes) -> None:
    place.cloud.content = rdb[:-3000]
    where = {"name": "one", "folder": "gs://backups/dev/one"}
    place.result("backup", **where)
    last, _ = place.go("counted", **where)
    assert "cut off" in last["error"][0]
    assert "slipway.json" not in " ".join(place.bucket.keys("backups"))


@only("memorystore")
def test_size_failover_and_maintenance(place: Place) -> None:
    assert place.result("resize", sizes={"memory_size_gb": 4}) == {"before": "2 GiB", "now": "4 GiB"}
    assert place.cloud.things[rest.REDIS]["memorySizeGb"] == 4
    assert place.result("resize", sizes={"memory_size_gb": 4})["before"] == "4 GiB"
    assert place.result("failover") == {"before": "us-central1-a", "now": "us-central1-b"}
    moved = place.result("maintenance", target="2026-12-01T03:00:00Z")
    assert moved["now"].startswith("2026-12-01T03:00")
    last, _ = place.go("maintenance", target="tomorrow")
    assert "now, next" in last["error"][0]
    place.cloud.things[rest.REDIS]["tier"] = "BASIC"
    last, _ = place.go("failover")
    assert last == {"error": ["a basic instance has no replica to fail over to"], "code": 2}


@only("memorystore")
def test_a_failed_operation_says_why_and_is_begun_again(place: Place, rdb: bytes) -> None:
    place.cloud.content, place.cloud.fails = rdb, "the bucket refuses"
    where = {"name": "one", "folder": "gs://backups/dev/one"}
    last, _ = place.go("backup", **where)
    assert "export: the bucket refuses. To fix: let serviceAccount:1-compute@" in last["error"][0]
    place.cloud.fails = ""
    assert place.result("backup", **where)["where"].endswith("store.rdb")


@only("memorystore", "firestore")
def test_a_killed_run_is_gone_on_with(place: Place, rdb: bytes) -> None:
    """kill -9 while the cloud works: the operation goes on there, and the next run waits for that one."""
    place.cloud.content, place.cloud.hold, place.cloud.documents = rdb, True, 0
    where = {"name": "one", "folder": "gs://backups/dev/one"}
    verb = {"memorystore": "export", "firestore": "exportDocuments"}[place.store]
    for killed_before_noting in (False, True):
        process = place.start("backup", **where)
        _until(lambda: len(place.cloud.asked) and bool(place.cloud.operations))
        assert process.stdout is not None
        process.stdout.readline()  # it has said that it waits: the operation is noted
        process.kill()
        process.wait()
        process.stdout.close()
        if killed_before_noting:
            (place.state / "operations-dev.json").unlink()
    place.cloud.hold = False
    last, said = place.go("backup", **where)
    assert "result" in last
    assert said[0] == "export: was begun before"
    assert place.cloud.begun(verb) == 1


def _until(condition: Any) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@only("valkey")
def test_valkey_backs_up_exports_and_makes_anew(place: Place, rdb: bytes) -> None:
    place.cloud.content = rdb
    place.bucket.put("backups", "older/dev-store-shard-0.rdb", b"x" * len(rdb))  # of another backup, as large
    where = {"name": "one", "folder": "gs://backups/slipway/dev/one"}
    made = place.result("backup", **where)
    assert made["backup"] == f"{rest.COLLECTION}/backups/one"
    assert place.result("counted", **where)["entities"] == ENTITIES
    assert place.result("status")["backups"] == ["one"]
    assert place.result("kept")["backups"] == [{"name": f"{rest.COLLECTION}/backups/one", "bytes": len(rdb)}]
    assert place.result("restore", name="one", target="again") == {"into": f"{rest.PARENT}/instances/again"}
    made_anew = place.cloud.things[f"{rest.PARENT}/instances/again"]
    assert made_anew["managedBackupSource"] == {"backup": f"{rest.COLLECTION}/backups/one"}
    assert made_anew["nodeType"] == STANDARD_SMALL
    assert place.result("resize", sizes={"node_type": "HIGHMEM_MEDIUM"})["now"] == "HIGHMEM_MEDIUM"
    assert place.result("status")["node"] == "HIGHMEM_MEDIUM"
    assert place.result("maintenance", target="now")["now"].startswith("2026-12-06")
    last, _ = place.go("maintenance", target="next")
    assert "allowed: now, or such as" in last["error"][0]


def log_file(records: list[bytes]) -> bytes:
    """LevelDB's log format, as its description has it."""
    out, block = bytearray(), 32768
    for record in records:
        first = True
        while first or record:
            room = block - len(out) % block
            if room < 7:
                out += bytes(room)
                continue
            part, record = record[: room - 7], record[room - 7 :]
            kind = 1 if first and not record else 2 if first else 3 if record else 4
            out += bytes(4) + len(part).to_bytes(2, "little") + bytes([kind]) + part
            first = False
    return bytes(out)


@only("firestore")
def test_firestore_is_exported_counted_and_imported(place: Place) -> None:
    place.cloud.content = log_file([os.urandom(300 if i % 50 else 70_000) for i in range(ENTITIES)])
    place.cloud.documents = ENTITIES
    where = {"name": "one", "folder": "gs://backups/dev/one"}
    assert place.result("status")["any_minute"] is True
    assert place.result("backup", **where) == {"where": "gs://backups/dev/one"}
    place.result("backup", **where)
    assert place.cloud.begun("exportDocuments") == 1, "it is there"
    assert place.result("counted", **where)["entities"] == ENTITIES
    assert place.result("restore", **where)["into"] == rest.DATABASE
    last, _ = place.go("resize", sizes={})
    assert "grows by itself" in last["error"][0]


@only("firestore")
def test_fewer_entities_than_were_written_are_told(place: Place) -> None:
    place.cloud.content, place.cloud.documents = log_file([b"x" * 100] * 9), 10
    where = {"name": "one", "folder": "gs://backups/dev/one"}
    place.result("backup", **where)
    last, _ = place.go("counted", **where)
    assert "9 entities were read back, and 10 were written" in last["error"][0]
    assert "Nothing was destroyed" in last["error"][0]


@pytest.fixture
def rows(place: Place) -> Iterator[Mapping[str, Any]]:
    """Bigtable's data interface in a process of its own: Google's stubs and Pulumi's do not share one."""
    command = [sys.executable, "-m", "tests.features.bigtable_server", str(ENTITIES)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        place.more = {"BIGTABLE_EMULATOR_HOST": f"127.0.0.1:{said['port']}"}

        def ask(what: str) -> Any:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(what + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield {"ask": ask}
        process.terminate()


@only("bigtable")
def test_bigtable_goes_row_by_row_and_comes_back(place: Place, rows: Mapping[str, Any]) -> None:
    where = {"name": "one", "folder": "gs://backups/dev/one"}
    before = rows["ask"]("digest")
    process = place.start("backup", **where, sizes={"rows": 400})
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["say"] == "export: 400 rows"
    process.kill()
    process.wait()
    process.stdout.close()
    _, said = place.go("backup", **where, sizes={"rows": 400})
    assert said[-1] == f"export: {ENTITIES} rows"
    assert len(said) < 6, "parts that were there are not read again"
    assert place.result("counted", **where)["entities"] == ENTITIES
    rows["ask"]("empty")
    assert place.result("restore", **where)["entities"] == ENTITIES
    assert rows["ask"]("digest") == before
    part = "dev/one/rows-000001.jsonl.gz"
    place.bucket.put("backups", part, place.bucket.content("backups", part)[:-1])
    last, _ = place.go("counted", **where)
    assert "is not what was written" in last["error"][0]


@only("bigtable")
def test_bigtable_s_nodes(place: Place) -> None:
    assert place.result("status")["limits"] == ["1..2"]
    assert place.result("resize", sizes={"nodes": [2, 6]})["before"] == "1..2"
    assert place.result("status")["limits"] == ["2..6"]


@only("memorystore")
def test_what_a_store_has_not_is_said(place: Place) -> None:
    place.store = "firestore"
    last, _ = place.go("failover", resource="x", url="firestore://p/d/features")
    assert "firestore has no failover; allowed: memorystore, elasticache" in last["error"][0]
    place.store = "memorystore"
    last, _ = place.go("backup", name="one")
    assert "backup_uri: not set" in last["error"][0]
