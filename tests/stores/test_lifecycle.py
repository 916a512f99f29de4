"""Each store's whole life on the embedded engine and simulated clouds: no mode replaces it, destroy leaves nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.stores.harness import Stack, changed

for _package in ("pulumi_gcp", "pulumi_aws", "botocore"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (extra `simulators`)")

pytestmark = pytest.mark.slow
DATA = {  # what holds the entities
    "gcp:redis/instance:Instance",
    "gcp:memorystore/instance:Instance",
    "gcp:bigtable/instance:Instance",
    "gcp:bigtable/table:Table",
    "gcp:firestore/database:Database",
    "aws:dynamodb/table:Table",
    "aws:elasticache/replicationGroup:ReplicationGroup",
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "memorystore": ("memorystore", {}),
    "bigtable": ("bigtable", {"ttl_s": 86400}),
    "firestore": ("firestore", {"ttl_s": 86400}),
    "dynamodb": ("dynamodb", {"ttl_s": 86400}),
    "elasticache": ("elasticache", {}),
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {  # with SLIPWAY_FULL in the environment
    "memorystore-read-replicas": ("memorystore", {"replicas": 2, "ttl_s": 86400}),
    "valkey": ("memorystore", {"engine": "valkey"}),
    "dynamodb-provisioned": ("dynamodb", {"capacity": "provisioned"}),
    "elasticache-redis": ("elasticache", {"engine": "redis"}),
}
WANT = {  # every replacing field that a builder reads, as a later Slipway might want it
    "memorystore": {
        "tier": "STANDARD_HA",
        "connectMode": "PRIVATE_SERVICE_ACCESS",
        "transitEncryptionMode": "DISABLED",
        "redisVersion": "REDIS_6_X",
        "region": "europe-west4",
    },
    "valkey": {"mode": "CLUSTER", "authorizationMode": "AUTH_DISABLED", "transitEncryptionMode": "DISABLED"},
    "bigtable": {"clusters[0].storageType": "HDD"},
    "firestore": {"locationId": "europe-west4", "type": "DATASTORE_MODE"},
    "dynamodb": {"hashKey": "entity"},
    "elasticache": {"engineVersion": "7.2"},
}


FULL = pytest.mark.skipif(
    "SLIPWAY_FULL" not in os.environ, reason="minutes of CPU; set SLIPWAY_FULL to walk every variant"
)


def data(stack: Stack) -> dict[str, str]:
    return {r["urn"]: r["id"] for r in stack.resources if r["type"] in DATA}


def walk(case: str, folder: Path) -> None:
    """Up protected, another cost mode, a refused destroy, a lost fingerprint with each replacing field wanted otherwise
    while it grows, no-op, destroy, and the same names once more where they outlive a deletion."""
    store, features = {**CASES, **VARIANTS}[case]
    stack = Stack(folder, store)
    first = stack.go(features=features, cost="economy", protect=True)
    assert first.ok, first.errors
    holds = data(stack)
    assert holds
    if case in SERVERS_GET:
        SERVERS_GET[case](stack, first.outputs)
    dearer = stack.go(features=features, cost="performance", protect=True)
    assert dearer.ok, dearer.errors
    assert "replace" not in dearer.changes
    assert data(stack) == holds, "a cost mode changed what holds the entities"
    kept = dearer.outputs["secrets"]
    refused = stack.go("destroy", features=features, protect=True)
    assert not refused.ok
    assert data(stack) == holds
    larger = {**features, "keys": 12_000_000}
    forgot = stack.go(features=larger, cost="economy", test={"want": json.dumps(WANT.get(case, {})), "forget": "true"})
    assert forgot.ok, forgot.errors
    assert "replace" not in forgot.changes
    assert data(stack) == holds, "without its fingerprint ignore_changes keeps the store"
    assert forgot.outputs["secrets"] == kept
    assert changed(stack.go(features=larger, cost="economy")) == {}
    gone = stack.go("destroy", features=larger)
    assert gone.ok, gone.errors
    assert stack.world.leftovers() == ()
    if store == "firestore":
        again = stack.go(features=features)
        assert again.ok, again.errors
        assert stack.go("destroy", features=features).ok
        assert stack.world.leftovers() == ()


@pytest.mark.parametrize("case", CASES)
def test_life(case: str, tmp_path: Path) -> None:
    walk(case, tmp_path / "p")


@pytest.mark.parametrize("case", VARIANTS)
@FULL
def test_life_of_a_variant(case: str, tmp_path: Path) -> None:
    walk(case, tmp_path / "p")


def _memorystore(stack: Stack, outputs: dict[str, Any]) -> None:
    """The address without the password, the certificate to check it with, one address to reach."""
    assert outputs["url"].startswith("rediss://10.")
    assert outputs["port"] == 6378
    assert outputs["secrets"]["SLIPWAY_STORE_PASSWORD"] not in json.dumps([outputs["url"], outputs["env"]])
    assert "BEGIN CERTIFICATE" in outputs["env"]["SLIPWAY_STORE_CA"]
    assert [r.rpartition("/")[2] for r in outputs["ranges"]] == ["32"]
    named = outputs["machine_secrets"]["SLIPWAY_STORE_PASSWORD"]
    assert named == "projects/slipway-test/secrets/dev-store-password/versions/latest"
    member = stack.inputs("gcp:secretmanager/secretIamMember:SecretIamMember")
    assert member["role"] == "roles/secretmanager.secretAccessor"
    version = stack.inputs("gcp:secretmanager/secretVersion:SecretVersion")
    assert outputs["secrets"]["SLIPWAY_STORE_PASSWORD"] not in json.dumps(version), "encrypted in the state"


def _bigtable(stack: Stack, outputs: dict[str, Any]) -> None:
    assert outputs["url"].startswith(
        "bigtable://slipway-test/dev-store/dev-store?app_profile=dev-store&family=f&ttl_s="
    )
    member = stack.inputs("gcp:bigtable/tableIamMember:TableIamMember", "store-servers-0")
    assert (member["role"], member["table"]) == ("roles/bigtable.reader", "dev-store")
    rules = json.loads(stack.inputs("gcp:bigtable/gCPolicy:GCPolicy")["gcRules"])
    assert rules == {"rules": [{"max_version": 1}, {"max_age": "86400s"}], "mode": "union"}


def _firestore(stack: Stack, outputs: dict[str, Any]) -> None:
    member = stack.inputs("gcp:projects/iAMMember:IAMMember", "store-servers-0")
    assert member["role"] == "roles/datastore.viewer"
    assert "/databases/dev-store-" in member["condition"]["expression"]
    database = stack.inputs("gcp:firestore/database:Database")
    assert (database["deletionPolicy"], database["deleteProtectionState"]) == ("DELETE", "DELETE_PROTECTION_ENABLED")


def _dynamodb(stack: Stack, outputs: dict[str, Any]) -> None:
    policy = json.loads(stack.inputs("aws:iam/rolePolicy:RolePolicy", "store-servers-0")["policy"])
    (statement,) = policy["Statement"]
    assert statement["Action"] == ["dynamodb:BatchGetItem", "dynamodb:GetItem"]
    assert [a.rpartition("/")[2] for a in statement["Resource"]] == ["dev-store"]
    table = stack.inputs("aws:dynamodb/table:Table")
    assert table["pointInTimeRecovery"]["enabled"] is True
    assert table["ttl"] == {"attributeName": "expires", "enabled": True}


def _elasticache(stack: Stack, outputs: dict[str, Any]) -> None:
    rule = stack.inputs("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule")
    assert (rule["fromPort"], rule["toPort"]) == (6379, 6379)
    assert "cidrIpv4" not in rule
    group = stack.inputs("aws:elasticache/replicationGroup:ReplicationGroup")
    assert group["transitEncryptionEnabled"] is True
    assert group["atRestEncryptionEnabled"] is True
    named = outputs["machine_secrets"]["SLIPWAY_STORE_PASSWORD"]
    assert named == "/slipway/dev-store-password"
    (statement,) = json.loads(stack.inputs("aws:iam/rolePolicy:RolePolicy", "store-password-servers-0")["policy"])[
        "Statement"
    ]
    assert statement["Action"] == ["ssm:GetParameter"]
    assert statement["Resource"][0].endswith(f"parameter{named}")


SERVERS_GET: dict[str, Callable[[Stack, dict[str, Any]], None]] = {
    "memorystore": _memorystore,
    "bigtable": _bigtable,
    "firestore": _firestore,
    "dynamodb": _dynamodb,
    "elasticache": _elasticache,
}


def stands(stack: Stack) -> dict[str, tuple[Any, Any]]:
    """What every resource was made with; a secret is encrypted anew each time that it is written."""
    return {r["urn"]: (r.get("id"), opened(r.get("inputs"))) for r in stack.resources}


def opened(value: Any) -> Any:
    if isinstance(value, dict):
        return "secret" if "ciphertext" in value else {k: opened(v) for k, v in value.items()}
    return [opened(v) for v in value] if isinstance(value, list) else value


def test_a_refusal_comes_before_anything(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "p", "memorystore")
    assert stack.go(cost="economy").ok
    before = stands(stack)
    for _ in range(2):  # the refusal does not make the stack forget what it would refuse
        refused = stack.go(features={"replicas": 1})
        assert not refused.ok
        assert "features.replicas" in str(refused.errors)
        assert "To fix: p" in str(refused.errors)
        assert changed(refused) == {}
    assert stands(stack) == before


@FULL
def test_provisioned_capacity_is_autoscalings_own(tmp_path: Path) -> None:
    """Stated once; what autoscaling made of it is not undone; and paying by request is one update away."""
    stack = Stack(tmp_path / "p", "dynamodb")
    provisioned = {"capacity": "provisioned"}
    assert stack.go(features=provisioned).ok
    began = stack.inputs("aws:dynamodb/table:Table")["readCapacity"]
    grown = stack.go(features=provisioned, load={"mean_rps": 1000, "peak_rps": 3000})
    assert grown.ok, grown.errors
    assert stack.inputs("aws:dynamodb/table:Table")["readCapacity"] == began
    by_request = stack.go()
    assert by_request.ok, by_request.errors
    assert "readCapacity" not in stack.inputs("aws:dynamodb/table:Table")
    back = stack.go(features=provisioned)
    assert back.ok, back.errors
