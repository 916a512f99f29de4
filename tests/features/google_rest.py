"""Google's admin interfaces of the stores over REST, on this machine: Memorystore, Valkey, Firestore, Bigtable.

As much as Slipway asks, in the interfaces' own shapes; every request and answer is kept, so that they can be held
against the published descriptions. An operation takes `polls` questions; with `hold` none ends.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.serving.buckets import Storage

PARENT = "projects/p/locations/us-central1"
REDIS = VALKEY = f"{PARENT}/instances/dev-store"
COLLECTION = f"{PARENT}/backupCollections/c1"
DATABASE = "projects/p/databases/dev-store-1a2b"
BIGTABLE = "projects/p/instances/dev-store"
LIMITED_DATA_LOSS = 1  # a word of an enumeration, which travels as its number
TIME = "2026-11-25T10:00:00Z"
Json = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    service: str
    method: str
    path: str
    query: dict[str, str]
    body: Json
    answer: Json


class Cloud(ThreadingHTTPServer):
    def __init__(self, service: str, storage: Storage) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.service, self.storage = service, storage
        self.asked: list[Asked] = []
        self.polls, self.hold, self.fails = 1, False, ""
        self.operations: dict[str, tuple[Json, Callable[[], None]]] = {}
        self.left: dict[str, int] = {}
        self.things: dict[str, Json] = {k: dict(v) for k, v in THINGS[service].items()}
        self.content = b""  # what an export writes
        self.documents = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def started(self, parent: str, metadata: Json, effect: Callable[[], None]) -> Json:
        name = f"{parent}/operations/op-{len(self.operations) + 1}"
        self.operations[name] = ({"name": name, "metadata": metadata, "done": False}, effect)
        self.left[name] = self.polls
        return self.operations[name][0]

    def begun(self, verb: str) -> int:
        """How often such an operation was begun."""
        return sum(a.method == "POST" and a.path.endswith(f":{verb}") and a.answer != {} for a in self.asked)

    def poll(self, name: str) -> Json | None:
        if name not in self.operations:
            return None
        operation, effect = self.operations[name]
        if not operation["done"] and not self.hold:
            self.left[name] -= 1
            if self.left[name] <= 0:
                self._end(operation, effect)
        return operation

    def _end(self, operation: Json, effect: Callable[[], None]) -> None:
        operation["done"] = True
        if self.fails:
            operation["error"] = {"code": 9, "message": self.fails}
        else:
            effect()
            operation["response"] = {"@type": "type.googleapis.com/google.protobuf.Empty"}

    def put(self, uri: str, content: bytes) -> None:
        bucket, _, key = uri.removeprefix("gs://").partition("/")
        self.storage.put(bucket, key, content)


def about(service: str, verb: str, target: str) -> Json:
    kind = {"redis": "google.cloud.redis.v1", "memorystore": "google.cloud.memorystore.v1"}[service]
    return {
        "@type": f"type.googleapis.com/{kind}.OperationMetadata",
        "createTime": TIME,
        "target": target,
        "verb": verb,
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Cloud

    def do_GET(self) -> None:
        path = self._path()
        if path.endswith("/operations"):
            return self._answer({"operations": [o for o, _ in self.server.operations.values()]})
        if "/operations/" in path:
            return self._answer(self.server.poll(path))
        if path.endswith("/backupCollections"):
            collection = {"name": COLLECTION, "instance": VALKEY}
            return self._answer({"backupCollections": [collection, {"name": f"{PARENT}/backupCollections/c2"}]})
        for end, field in (("/clusters", "clusters"), ("/backups", "backups")):
            if path.endswith(end):
                parent = path.removesuffix(end).removesuffix("/locations/-")
                found = [v for k, v in self.server.things.items() if k.startswith(parent) and f"{end}/" in k]
                return self._answer({field: found})
        return self._answer(self.server.things.get(path))

    def do_POST(self) -> None:
        path, _, verb = self._path().partition(":")
        if not verb and path.endswith("/instances"):
            verb = "create"
        return self._answer(ACTIONS[self.server.service, verb](self.server, path, self._body(), self._query()))

    def do_PATCH(self) -> None:
        path, body, server = self._path(), self._body(), self.server
        fields = self._query()["updateMask"]

        def effect() -> None:
            server.things[path].update(body)

        assert fields
        kind = "google.bigtable.admin.v2.PartialUpdateClusterMetadata"
        metadata = {"@type": f"type.googleapis.com/{kind}"} if server.service == "bigtableadmin" else None
        parent = "operations/" + path if metadata else PARENT
        return self._answer(server.started(parent, metadata or about(server.service, "update", path), effect))

    def _path(self) -> str:
        return re.sub(r"^/v\d/", "", urlsplit(self.path).path)

    def _query(self) -> dict[str, str]:
        return {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}

    def _body(self) -> Json:
        if not hasattr(self, "_read"):
            self._read = json.loads(self.rfile.read(int(self.headers["content-length"] or 0)) or b"{}")
        return dict(self._read)

    def _answer(self, body: Json | None) -> None:
        given = self._body() if self.command != "GET" else {}
        self.__dict__.pop("_read", None)  # of this request: a connection brings several
        path = urlsplit(self.path).path
        self.server.asked.append(Asked(self.server.service, self.command, path, self._query(), given, body or {}))
        status = 200 if body is not None else 404
        error = {"error": {"code": 404, "message": f"{path} not found", "status": "NOT_FOUND"}}
        raw = json.dumps(body if body is not None else error).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


def _redis_export(cloud: Cloud, path: str, body: Json, query: dict[str, str]) -> Json:
    uri = body["outputConfig"]["gcsDestination"]["uri"]
    return cloud.started(PARENT, about("redis", "export", path), lambda: cloud.put(uri, cloud.content))


def _redis_import(cloud: Cloud, path: str, body: Json, query: dict[str, str]) -> Json:
    uri = body["inputConfig"]["gcsSource"]["uri"]

    def effect() -> None:
        bucket, _, key = uri.removeprefix("gs://").partition("/")
        cloud.content = cloud.storage.content(bucket, key)

    return cloud.started(PARENT, about("redis", "import", path), effect)


def _redis_failover(cloud: Cloud, path: str, body: Json, query: dict[str, str]) -> Json:
    assert body["dataProtectionMode"] == LIMITED_DATA_LOSS

    def effect() -> None:
        its = cloud.things[path]
        its["currentLocationId"] = "us-central1-b" if its["currentLocationId"] == "us-central1-a" else "us-central1-a"

    return cloud.started(PARENT, about("redis", "failover", path), effect)


def _maintenance(cloud: Cloud, path: str, body: Json, query: dict[str, str]) -> Json:
    def effect() -> None:
        moved = {"startTime": body.get("scheduleTime", "2026-12-06T03:00:00Z")}
        cloud.things[path]["maintenanceSchedule"] = {**cloud.things[path]["maintenanceSchedule"], **moved}

    return cloud.started(PARENT, about(cloud.service, "reschedule", path), effect)


def _valkey_backup(cloud: Cloud, path: str, body: Json, query: dict[str, str]) -> Json:
    def effect() -> None:
        name = f"{COLLECTION}/backups/{body['backupId']}"
        files = [{"fileName": "dev-store-shard-0.rdb", "sizeBytes": str(len(cloud.content)), "createTime": TIME}]
        total = str(len(cloud.content))
        cloud.things[name] = {
            "name": name,
            "instance": path,
            "state": "ACTIVE",
            "totalSizeBytes": total,
            "backupFiles": files,
        }

    return cloud.started(PARENT, about("memorystore", "backup", path), effect)


def _valkey_export(cloud: Cloud, path: str, body: Json, query: dict[str, str]) -> Json:
    uri = f"gs://{body['gcsBucket']}/1b2c/dev-store-shard-0.rdb"
    return cloud.started(PARENT, about("memorystore", "export", path), lambda: cloud.put(uri, cloud.content))


def _valkey_create(cloud: Cloud, path: str, body: Json, query: dict[str, str]) -> Json:
    name = f"{path}/{query['instanceId']}"

    def effect() -> None:
        cloud.things[name] = {"name": name, **body}

    return cloud.started(PARENT, about("memorystore", "create", name), effect)


def _documents(kind: str, cloud: Cloud, path: str, uri: str, effect: Callable[[], None]) -> Json:
    metadata = {
        "@type": f"type.googleapis.com/google.firestore.admin.v1.{kind}DocumentsMetadata",
        "startTime": TIME,
        "operationState": "PROCESSING",
        "progressDocuments": {"estimatedWork": str(cloud.documents), "completedWork": str(cloud.documents)},
        "collectionIds": ["features"],
        ("outputUriPrefix" if kind == "Export" else "inputUriPrefix"): uri,
    }
    return cloud.started(path, metadata, effect)


def _firestore_export(cloud: Cloud, path: str, body: Json, query: dict[str, str]) -> Json:
    uri = body["outputUriPrefix"]

    def effect() -> None:
        cloud.put(f"{uri}/all_namespaces/kind_features/output-0", cloud.content)
        cloud.put(f"{uri}/all_namespaces/kind_features/all_namespaces_kind_features.export_metadata", b"m")
        cloud.put(f"{uri}/data.overall_export_metadata", b"m")

    return _documents("Export", cloud, path, uri, effect)


def _firestore_import(cloud: Cloud, path: str, body: Json, query: dict[str, str]) -> Json:
    return _documents("Import", cloud, path, body["inputUriPrefix"], lambda: None)


ACTIONS: dict[tuple[str, str], Callable[[Cloud, str, Json, dict[str, str]], Json]] = {
    ("redis", "export"): _redis_export,
    ("redis", "import"): _redis_import,
    ("redis", "failover"): _redis_failover,
    ("redis", "rescheduleMaintenance"): _maintenance,
    ("memorystore", "backup"): _valkey_backup,
    ("memorystore", "export"): _valkey_export,
    ("memorystore", "create"): _valkey_create,
    ("memorystore", "rescheduleMaintenance"): _maintenance,
    ("firestore", "exportDocuments"): _firestore_export,
    ("firestore", "importDocuments"): _firestore_import,
}
SCHEDULE = {"startTime": "2026-11-29T03:00:00Z", "endTime": "2026-11-29T04:00:00Z"}
THINGS: dict[str, dict[str, Json]] = {
    "redis": {
        REDIS: {
            "name": REDIS,
            "state": "READY",
            "tier": "STANDARD_HA",
            "memorySizeGb": 2,
            "replicaCount": 1,
            "redisVersion": "REDIS_7_2",
            "persistenceIamIdentity": "serviceAccount:1-compute@developer.gserviceaccount.com",
            "currentLocationId": "us-central1-a",
            "persistenceConfig": {"persistenceMode": "RDB", "rdbSnapshotPeriod": "TWELVE_HOURS"},
            "maintenanceSchedule": {**SCHEDULE, "canReschedule": True},
        }
    },
    "memorystore": {
        VALKEY: {
            "name": VALKEY,
            "state": "ACTIVE",
            "nodeType": "STANDARD_SMALL",
            "nodeConfig": {"sizeGb": 6.5},
            "shardCount": 1,
            "replicaCount": 1,
            "engineVersion": "VALKEY_8_0",
            "mode": "CLUSTER_DISABLED",
            "authorizationMode": "IAM_AUTH",
            "transitEncryptionMode": "SERVER_AUTHENTICATION",
            "deletionProtectionEnabled": False,
            "backupCollection": COLLECTION,
            "maintenanceSchedule": SCHEDULE,
            "endpoints": [
                {
                    "connections": [
                        {"pscAutoConnection": {"ipAddress": "10.0.0.9", "network": "projects/p/n", "projectId": "p"}}
                    ]
                }
            ],
        }
    },
    "firestore": {
        DATABASE: {
            "name": DATABASE,
            "locationId": "us-central1",
            "type": "FIRESTORE_NATIVE",
            "pointInTimeRecoveryEnablement": "POINT_IN_TIME_RECOVERY_ENABLED",
            "deleteProtectionState": "DELETE_PROTECTION_DISABLED",
        }
    },
    "bigtableadmin": {
        BIGTABLE: {"name": BIGTABLE, "displayName": "dev-store", "state": "READY"},
        f"{BIGTABLE}/tables/dev-store": {"name": f"{BIGTABLE}/tables/dev-store", "deletionProtection": False},
        f"{BIGTABLE}/clusters/dev-store-0": {
            "name": f"{BIGTABLE}/clusters/dev-store-0",
            "location": "projects/p/locations/us-central1-a",
            "state": "READY",
            "serveNodes": 1,
            "clusterConfig": {
                "clusterAutoscalingConfig": {
                    "autoscalingLimits": {"minServeNodes": 1, "maxServeNodes": 2},
                    "autoscalingTargets": {"cpuUtilizationPercent": 60},
                }
            },
        },
    },
}


@contextmanager
def cloud(service: str, storage: Storage) -> Iterator[Cloud]:
    server = Cloud(service, storage)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
