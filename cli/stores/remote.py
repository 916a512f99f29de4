"""A stack's store as its state knows it, and operations on it in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cli.engines.base import outputs, resources
from cli.errors import FAILED, USAGE, CliError
from cli.session import Session

KINDS = {  # what holds the entities -> the module in cli/stores that operates it
    "gcp:redis/instance:Instance": "memorystore",
    "gcp:memorystore/instance:Instance": "valkey",
    "gcp:bigtable/instance:Instance": "bigtable",
    "gcp:firestore/database:Database": "firestore",
    "aws:dynamodb/table:Table": "dynamodb",
    "aws:elasticache/replicationGroup:ReplicationGroup": "elasticache",
}
SECRET = "aws:ssm/parameter:Parameter"


@dataclass(frozen=True, kw_only=True)
class Standing:
    store: str
    resource: str  # its id
    url: str
    region: str
    secret: str = ""  # name of its password in the cloud


def standing(session: Session) -> Standing:
    """The store of a stack that stands."""
    deployment = session.engine.export(session.stack)
    said = outputs(deployment)
    if said.get("redis"):
        raise CliError(
            "redis of the local stack holds what `up` loaded, and nothing else: there is nothing to operate. To fix: "
            f"slipway status {session.stack}; slipway features load {session.stack}",
            USAGE,
        )
    about = dict(said.get("store") or {})
    rows = resources(deployment)
    found = [r for r in rows if r["type"] in KINDS and r.get("id")]
    if not found or not about.get("url"):
        raise CliError(f"stack '{session.stack}' has no store that stands. To fix: slipway up {session.stack}")
    secrets = [str(r["id"]) for r in rows if r["type"] == SECRET and r["urn"].endswith("::store-password")]
    return Standing(
        store=KINDS[found[0]["type"]],
        resource=str(found[0]["id"]),
        url=str(about["url"]),
        region=str(about.get("region") or about.get("location") or ""),
        secret=secrets[0] if secrets else "",
    )


def work(session: Session, its: Standing, operation: str, **more: Any) -> dict[str, Any]:
    """Runs one operation; what it tells goes to the person. Ctrl-C ends this side alone: the cloud goes on, and the
    same command finds the operation again."""
    asked: Mapping[str, Any] = {
        "store": its.store,
        "operation": operation,
        "stack": session.stack,
        "resource": its.resource,
        "url": its.url,
        "region": its.region,
        "state": str(session.project.folder / ".slipway"),
        **more,
        "sizes": {**more.get("sizes", {}), "secret": its.secret},
        **json.loads(os.environ.get("SLIPWAY_STORE_WORK", "{}")),  # for clouds of one's own: tests
    }
    command = [sys.executable, "-m", "cli.stores.work"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        json.dump(asked, child.stdin)
        child.stdin.close()
        last: dict[str, Any] = {}
        for line in child.stdout:
            last = json.loads(line)
            if "say" in last:
                session.say(str(last["say"]))
    if "error" in last:
        raise CliError(last["error"], int(last["code"]))
    if "result" not in last:
        raise CliError(f"{operation}: was cut off. To go on: the same command", FAILED)
    return dict(last["result"])
