"""A sweep against moto's AWS, and against answers of Google's asset inventory checked by its discovery document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from cli.sweep import gcp
from cli.sweep.found import is_ours, size

boto3 = pytest.importorskip("boto3", reason="boto3 is not installed (extra `aws`)")
moto = pytest.importorskip("moto", reason="moto is not installed (extra `test`)")

from cli.sweep import aws  # noqa: E402


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("dev-store", True),
        ("/slipway/dev-store-password", True),
        ("arn:aws:dynamodb:us-east-1:1:table/dev-store", True),
        ("dev", False),
        ("development-store", False),
        ("dev-eu-store", False),  # of the stack dev-eu
        ("my-dev-store", False),
    ],
)
def test_a_name_is_one_stacks(name: str, ours: bool) -> None:
    assert is_ours(name, "dev", ("dev", "dev-eu", "prod")) is ours


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(key, "testing")
    with moto.mock_aws():
        yield boto3.Session(region_name="us-east-1").client


def make(client: Any, stack: str) -> None:
    tags = [{"Key": "slipway-stack", "Value": stack}]
    client("dynamodb").create_table(
        TableName=f"{stack}-store",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        Tags=tags,
    )
    client("logs").create_log_group(logGroupName=f"/slipway/{stack}-cluster")
    client("ec2").create_volume(
        AvailabilityZone="us-east-1a", Size=1, TagSpecifications=[{"ResourceType": "volume", "Tags": tags}]
    )
    client("ec2").allocate_address(TagSpecifications=[{"ResourceType": "elastic-ip", "Tags": tags}])
    client("elasticache").create_replication_group(
        ReplicationGroupId=f"{stack}-store", ReplicationGroupDescription="d", Engine="valkey"
    )
    client("s3").create_bucket(Bucket=f"{stack}-models-0123abcd")
    client("ssm").put_parameter(Name=f"/slipway/{stack}-store-password", Value="x", Type="SecureString")
    client("sqs").create_queue(QueueName="forgotten", tags={"slipway-stack": stack})


EVERYTHING = {
    "DynamoDB table",
    "ElastiCache group",
    "address",
    "bucket",
    "log group",
    "parameter",
    "volume",
}


def test_everything_of_the_stack_is_found_and_nothing_else(account: Any) -> None:
    assert list(aws.things("dev", account)) == []
    make(account, "prod")
    make(account, "dev")
    found = list(aws.things("dev", account, ("dev", "prod")))
    assert {t.kind for t in found} >= EVERYTHING
    assert not [t for t in found if "prod" in t.name]
    assert len({t.name for t in found if t.kind == "DynamoDB table"}) == 1
    assert [t.remove for t in found if t.kind == "DynamoDB table"] == [
        "aws dynamodb delete-table --table-name dev-store"
    ]


def test_what_is_gone_is_not_left(account: Any) -> None:
    make(account, "dev")
    account("dynamodb").delete_table(TableName="dev-store")
    volume = account("ec2").describe_volumes()["Volumes"][0]["VolumeId"]
    account("ec2").delete_volume(VolumeId=volume)
    kinds = {t.kind for t in aws.things("dev", account)}
    assert {"DynamoDB table", "volume"}.isdisjoint(kinds)
    assert "log group" in kinds


ACCOUNT = "arn:aws:{}:us-east-1:123456789012:{}"


class Tagging:
    """The tagging service knows for hours what is gone."""

    def __init__(self, arns: list[str]) -> None:
        self._arns = arns

    def get_paginator(self, name: str) -> Any:
        return self

    def paginate(self, **_: Any) -> list[dict[str, Any]]:
        return [{"ResourceTagMappingList": [{"ResourceARN": a} for a in self._arns]}]


def test_what_the_tagging_service_still_knows_is_no_leftover(account: Any) -> None:
    kms = account("kms")
    going, stays = (kms.create_key()["KeyMetadata"] for _ in range(2))
    kms.schedule_key_deletion(KeyId=going["KeyId"], PendingWindowInDays=7)
    listed = ("dynamodb", "table/dev-store"), ("ec2", "instance/i-1"), ("eks", "nodegroup/dev/a/b")
    free = ("ec2", "subnet/subnet-1"), ("elasticloadbalancing", "targetgroup/dev/1")
    arns = [ACCOUNT.format(*x) for x in (*listed, *free, ("sqs", "forgotten"))]

    def client(name: str) -> Any:
        return Tagging([*arns, going["Arn"], stays["Arn"]]) if name == "resourcegroupstaggingapi" else account(name)

    found = list(aws.things("dev", client))
    assert [t.name for t in found if t.billable] == [arns[-1], stays["Arn"]]
    assert [t.name for t in found if not t.billable] == [ACCOUNT.format(*x) for x in free]


def test_backups_are_told_apart(account: Any) -> None:
    """By the table that they are of: a backup bears the name that a user gave it."""
    make(account, "dev")
    account("dynamodb").create_backup(TableName="dev-store", BackupName="before")
    account("elasticache").create_snapshot(ReplicationGroupId="dev-store", SnapshotName="before")
    kept = {t.kind: t for t in aws.things("dev", account) if t.backup}
    assert set(kept) == {"DynamoDB backup", "ElastiCache snapshot"}
    assert kept["DynamoDB backup"].remove.startswith("aws dynamodb delete-backup --backup-arn arn:aws:dynamodb:")
    assert not [t for t in aws.things("prod", account) if t.backup]


def test_sizes_are_numbers_or_text() -> None:
    assert [size(x) for x in (5, "12 MB", ["1 KB", "2.5 GB"], "", None, [])] == [
        5,
        12_000_000,
        2_500_001_000,
        None,
        None,
        None,
    ]


def test_rows_are_operations_that_exist(account: Any) -> None:
    """Each item and name is in the operation's own model, so that no row finds nothing for ever."""
    import jmespath

    for row in aws.rows():
        client = account(row["service"])
        method = client.meta.method_to_api_mapping[row["operation"]]
        shape = client.meta.service_model.operation_model(method).output_shape
        example = _example(shape)
        items = jmespath.search(row["items"], example)
        assert items, row
        assert isinstance(jmespath.search(row["name"], items[0]), str), row
        for column in ("state", "owner"):
            if row[column]:
                assert isinstance(jmespath.search(row[column], items[0]), str), row
        if row["bytes"]:
            assert _bytes(shape, row), row


def _bytes(shape: Any, row: Mapping[str, str]) -> bool:
    """Whether the path to a backup's size ends in a number or in text such as `12 MB`."""
    inner = shape.members[row["items"].removesuffix("[]")].member
    for step in row["bytes"].split("[]."):
        inner = inner.members[step]
        inner = inner.member if inner.type_name == "list" else inner
    return inner.type_name in ("long", "integer", "string")


def _example(shape: Any, depth: int = 0) -> Any:
    if shape.type_name == "structure":
        return {k: _example(s, depth + 1) for k, s in shape.members.items()} if depth < 6 else {}
    if shape.type_name == "list":
        return [_example(shape.member, depth + 1)]
    return "x" if shape.type_name == "string" else None


RESULTS: Mapping[str, list[dict[str, Any]]] = {
    "labels.slipway-stack=dev": [
        {
            "name": "//redis.googleapis.com/projects/p/locations/us-central1/instances/dev-store",
            "assetType": "redis.googleapis.com/Instance",
            "project": "projects/1",
            "state": "READY",
            "labels": {"slipway-stack": "dev"},
        },
        {
            "name": "//compute.googleapis.com/projects/p/zones/us-central1-a/disks/gke-1",
            "assetType": "compute.googleapis.com/Disk",
            "state": "READY",
        },
    ],
    "name:dev-*": [
        {
            "name": "//redis.googleapis.com/projects/p/locations/us-central1/instances/dev-store",
            "assetType": "redis.googleapis.com/Instance",
        },
        {
            "name": "//compute.googleapis.com/projects/p/global/networks/dev-network",
            "assetType": "compute.googleapis.com/Network",
        },
        {
            "name": "//compute.googleapis.com/projects/p/global/networks/dev-eu-network",
            "assetType": "compute.googleapis.com/Network",
        },
        {
            "name": "//container.googleapis.com/projects/p/locations/us-central1/clusters/dev-cluster",
            "assetType": "container.googleapis.com/Cluster",
            "state": "DELETING",
        },
    ],
}


def test_google_s_inventory_by_label_and_by_name() -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def get(url: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        asked.append((url, dict(parameters)))
        rows = RESULTS[parameters["query"]]
        at = int(parameters.get("pageToken") or 0)
        more = {"nextPageToken": str(at + 1)} if at + 1 < len(rows) else {}
        return {"results": rows[at : at + 1], **more}

    found = list(gcp.things("dev", "p", get, ("dev", "dev-eu")))
    assert [(t.kind, t.by, t.billable) for t in found] == [
        ("redis.googleapis.com/Instance", "label", True),
        ("compute.googleapis.com/Disk", "label", True),
        ("compute.googleapis.com/Network", "name", False),
    ]
    _as_discovered(asked)


def _as_discovered(asked: list[tuple[str, dict[str, Any]]]) -> None:
    """The address, the parameters and the fields of the answer are those of Cloud Asset's discovery document."""
    import json
    from pathlib import Path

    cache = pytest.importorskip(
        "googleapiclient.discovery_cache", reason="google-api-python-client is not installed (extra `simulators`)"
    )
    document = json.loads((Path(cache.__file__).parent / "documents/cloudasset.v1.json").read_text())
    method = document["resources"]["v1"]["methods"]["searchAllResources"]
    address = document["rootUrl"] + method["path"].replace("{+scope}", "projects/p")
    assert {url for url, _ in asked} == {address}
    assert {k for _, parameters in asked for k in parameters} <= set(method["parameters"])
    fields = set(document["schemas"]["ResourceSearchResult"]["properties"])
    assert {k for rows in RESULTS.values() for r in rows for k in r} <= fields
