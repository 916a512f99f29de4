"""Each store's whole life on the embedded engine and simulated clouds: no mode replaces it, destroy leaves nothing."""

from __future__ import annotations

import json
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
    "memorystore-read-replicas": ("memorystore", {"replicas": 2, "ttl_s": 86400}),
    "valkey": ("memorystore", {"engine": "valkey"}),
    "bigtable": ("bigtable", {"ttl_s": 86400}),
    "firestore": ("firestore", {"ttl_s": 86400}),
    "dynamodb": ("dynamodb", {"ttl_s": 86400}),
    "dynamodb-provisioned": ("dynamodb", {"capacity": "provisioned"}),
    "elasticache": ("elasticache", {}),
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


def data(stack: Stack) -> dict[str, str]:
    return {r["urn"]: r["id"] for r in stack.resources if r["type"] in DATA}


@pytest.mark.parametrize("case", CASES)
def test_life(case: str, tmp_path: Path) -> None:
    """Up, no-op, the cost modes there and back, destroy, and the same names once more."""
    store, features = CASES[case]
    stack = Stack(tmp_path / "p", store)
    first = stack.go(features=features, cost="economy")
    assert first.ok, first.errors
    holds = data(stack)
    assert holds
    assert changed(stack.go(features=features, cost="economy")) == {}
    for cost in ("performance", "balanced", "economy"):
        result = stack.go(features=features, cost=cost)
        assert result.ok, result.errors
        assert "replace" not in result.changes
        assert data(stack) == holds, f"{cost} changed what holds the entities"
    bigger = stack.go(features={**features, "keys": 12_000_000}, cost="economy")
    assert bigger.ok, bigger.errors
    assert data(stack) == holds
    gone = stack.go("destroy", features=features)
    assert gone.ok, gone.errors
    assert stack.world.leftovers() == ()
    again = stack.go(features=features)
    assert again.ok, again.errors
    assert stack.go("destroy", features=features).ok
    assert stack.world.leftovers() == ()


@pytest.mark.parametrize("case", WANT)
def test_nothing_replaces_a_store_even_without_its_fingerprint(case: str, tmp_path: Path) -> None:
    """The recorded fingerprint keeps the fields; where it was lost, `ignore_changes` does."""
    store, features = CASES[case]
    stack = Stack(tmp_path / "p", store)
    assert stack.go(features=features).ok
    holds = data(stack)
    kept = stack.go(features=features, test={"want": json.dumps(WANT[case])})
    if kept.ok:  # what a key asks for is refused before anything
        assert changed(kept) == {}
    else:
        assert "would replace it" in str(kept.errors)
    forgot = stack.go(features=features, test={"want": json.dumps(WANT[case]), "forget": "true"})
    assert forgot.ok, forgot.errors
    assert "replace" not in forgot.changes
    assert data(stack) == holds


def test_a_refusal_comes_before_anything(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "p", "memorystore")
    assert stack.go(cost="economy").ok
    before = stack.resources
    for asked in ({"replicas": 1}, {"engine": "valkey"}, {"keys": 1}):
        refused = stack.go(features=asked)
        assert not refused.ok
        assert "To fix: p" in str(refused.errors)
        assert stack.resources == before


@pytest.mark.parametrize("store", ["memorystore", "bigtable", "firestore", "dynamodb", "elasticache"])
def test_protect_is_kept_by_engine_and_cloud(store: str, tmp_path: Path) -> None:
    """Protected: destroy refuses, and the cloud refuses too; unprotected on purpose: all goes."""
    stack = Stack(tmp_path / "p", store)
    assert stack.go(protect=True).ok
    holds = data(stack)
    refused = stack.go("destroy", protect=True)
    assert not refused.ok
    assert data(stack) == holds
    freed = stack.go(protect=False)
    assert freed.ok, freed.errors
    assert data(stack) == holds
    gone = stack.go("destroy")
    assert gone.ok, gone.errors
    assert stack.world.leftovers() == ()


def test_what_servers_get(tmp_path: Path) -> None:
    """Addresses without secrets, secrets apart, narrow rights."""
    redis = Stack(tmp_path / "m", "memorystore")
    outputs = redis.go().outputs
    assert outputs["url"].startswith("rediss://10.")
    assert outputs["port"] == 6378
    assert outputs["secrets"]["SLIPWAY_STORE_PASSWORD"] not in json.dumps([outputs["url"], outputs["env"]])
    assert "BEGIN CERTIFICATE" in outputs["env"]["SLIPWAY_STORE_CA"]
    assert [r.rpartition("/")[2] for r in outputs["ranges"]] == ["32"]

    table = Stack(tmp_path / "d", "dynamodb")
    assert table.go().ok
    policy = json.loads(table.inputs("aws:iam/rolePolicy:RolePolicy", "store-servers-0")["policy"])
    (statement,) = policy["Statement"]
    assert statement["Action"] == ["dynamodb:BatchGetItem", "dynamodb:GetItem"]
    assert [a.rpartition("/")[2] for a in statement["Resource"]] == ["dev-store"]

    cache = Stack(tmp_path / "e", "elasticache")
    assert cache.go().ok
    rule = cache.inputs("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule")
    assert (rule["fromPort"], rule["toPort"]) == (6379, 6379)
    assert "cidrIpv4" not in rule
    group = cache.inputs("aws:elasticache/replicationGroup:ReplicationGroup")
    assert group["transitEncryptionEnabled"] is True
    assert group["atRestEncryptionEnabled"] is True
    kept = cache.go().outputs["secrets"]["SLIPWAY_STORE_PASSWORD"]
    assert cache.go().outputs["secrets"]["SLIPWAY_STORE_PASSWORD"] == kept

    rows = Stack(tmp_path / "b", "bigtable")
    assert rows.go().ok
    member = rows.inputs("gcp:bigtable/tableIamMember:TableIamMember", "store-servers-0")
    assert (member["role"], member["table"]) == ("roles/bigtable.reader", "dev-store")

    documents = Stack(tmp_path / "f", "firestore")
    assert documents.go().ok
    member = documents.inputs("gcp:projects/iAMMember:IAMMember", "store-servers-0")
    assert member["role"] == "roles/datastore.viewer"
    assert "/databases/dev-store-" in member["condition"]["expression"]
    database = documents.inputs("gcp:firestore/database:Database")
    assert (database["deletionPolicy"], database["deleteProtectionState"]) == ("DELETE", "DELETE_PROTECTION_DISABLED")


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
    assert stack.go("destroy").ok
    assert stack.world.leftovers() == ()
