"""Operations of AWS's stores: DynamoDB's exports and imports against moto, ElastiCache against botocore's shapes."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from cli.errors import CliError
from cli.models.sessions import Sessions
from cli.stores.job import Folder, Job

boto3 = pytest.importorskip("boto3", reason="boto3 is not installed (extra `aws`)")
moto = pytest.importorskip("moto", reason="moto is not installed (extra `test`)")

from botocore.stub import Stubber  # noqa: E402

from cli.models.s3 import S3  # noqa: E402
from cli.stores import dynamodb_export, elasticache  # noqa: E402

pytestmark = pytest.mark.slow

ENTITIES, TABLE, BUCKET = 40, "dev-store", "backups"
ARN = f"arn:aws:dynamodb:us-east-1:123456789012:table/{TABLE}"


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(key, "testing")
    with moto.mock_aws():
        session = boto3.Session(region_name="us-east-1")
        session.client("s3").create_bucket(Bucket=BUCKET)
        yield session.client


def job_of(account: Any, state: Path, **more: Any) -> Job:
    bucket = S3(BUCKET, state / "uploads.json", account("s3"))
    given = {
        "stack": "dev",
        "resource": TABLE,
        "url": f"dynamodb://us-east-1/{TABLE}",
        "notes": Sessions(state / "operations.json"),
        "tell": lambda text: None,
        "name": "one",
        "folder": Folder(uri=f"s3://{BUCKET}/slipway/dev/one", bucket=bucket, prefix="slipway/dev/one/"),
        "pause_s": 0.0,
        **more,
    }
    return Job(**given)


@pytest.fixture
def table(account: Any) -> Any:
    client = account("dynamodb")
    client.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    client.update_continuous_backups(
        TableName=TABLE, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
    )
    for i in range(ENTITIES):
        client.put_item(TableName=TABLE, Item={"id": {"S": f"dev:features:{i}"}, "v": {"S": "x" * 50}})
    return client


def test_a_table_is_exported_counted_and_imported(account: Any, table: Any, tmp_path: Path) -> None:
    job = job_of(account, tmp_path)
    assert dynamodb_export.export(job, table, TABLE) == {"where": "s3://backups/slipway/dev/one"}
    dynamodb_export.export(job, table, TABLE)
    assert len(table.list_exports(TableArn=ARN)["ExportSummaries"]) == 1, "the same name is the same export"
    found = dynamodb_export.counted(job)
    assert (found.entities, found.written) == (ENTITIES, ENTITIES)
    found.check("there")
    done = dynamodb_export.restore(job_of(account, tmp_path, target="dev-again"), table)
    assert done["into"] == "dev-again"
    assert table.scan(TableName="dev-again", Select="COUNT")["Count"] == ENTITIES


def test_an_export_that_nobody_noted_is_found_again(account: Any, table: Any, tmp_path: Path) -> None:
    """Killed between the call and the note: the next run finds it by its folder."""
    job = job_of(account, tmp_path)
    arn = table.describe_table(TableName=TABLE)["Table"]["TableArn"]
    table.export_table_to_point_in_time(TableArn=arn, S3Bucket=BUCKET, S3Prefix="slipway/dev/one")
    told: list[str] = []
    dynamodb_export.export(job_of(account, tmp_path, tell=told.append), table, TABLE)
    assert told[0] == "export one was begun before"
    assert len(table.list_exports(TableArn=ARN)["ExportSummaries"]) == 1
    assert dynamodb_export.counted(job).entities == ENTITIES


def test_a_damaged_export_is_no_backup(account: Any, table: Any, tmp_path: Path) -> None:
    import gzip

    job = job_of(account, tmp_path)
    dynamodb_export.export(job, table, TABLE)
    (key,) = [o.key for o in job.need_folder().list() if "/data/" in o.key]
    content = BytesIO()
    job.need_folder().bucket.read(key, content)
    lines = gzip.decompress(content.getvalue()).splitlines(keepends=True)
    account("s3").put_object(Bucket=BUCKET, Key=key, Body=gzip.compress(b"".join(lines[:-1])))
    with pytest.raises(CliError, match=f"{ENTITIES - 1} entities were read back, and {ENTITIES} were written"):
        dynamodb_export.counted(job).check("there")


def test_a_file_comes_in_pieces_and_its_fault_is_told(account: Any, tmp_path: Path) -> None:
    """More than a pipe and a part of a download hold; and an object that is not there is no file that was cut off."""
    content = bytes(range(256)) * 80_000
    account("s3").put_object(Bucket=BUCKET, Key="slipway/dev/one/large", Body=content)
    folder = job_of(account, tmp_path).need_folder()
    with folder.opened("slipway/dev/one/large") as file:
        assert file.read(1000) == content[:1000]
        assert file.read() == content[1000:]
    with folder.opened("slipway/dev/one/large") as file:
        file.read(10)
    with pytest.raises(CliError, match=r"404|Not Found|NoSuchKey"), folder.opened("slipway/dev/one/none") as file:
        raise CliError("cut off") if not file.read() else AssertionError


def test_an_export_into_no_bucket_says_so(account: Any, table: Any, tmp_path: Path) -> None:
    bucket = S3(BUCKET, tmp_path / "u.json", account("s3"))
    folder = Folder(uri="s3://nowhere/dev/one", bucket=bucket, prefix="dev/one/")
    with pytest.raises(CliError, match="S3NoSuchBucket"):
        dynamodb_export.export(job_of(account, tmp_path, folder=folder), table, TABLE)


def test_bounds_of_a_provisioned_table(account: Any, table: Any, tmp_path: Path) -> None:
    scaling = account("application-autoscaling")
    job = job_of(account, tmp_path, sizes={"read": [10, 200], "write": [5, 50]})
    with pytest.raises(CliError, match="paid by request and grows by itself"):
        dynamodb_export.resize(job, scaling, TABLE)
    for dimension in dynamodb_export.DIMENSIONS.values():
        scaling.register_scalable_target(
            ServiceNamespace="dynamodb",
            ResourceId=f"table/{TABLE}",
            ScalableDimension=dimension,
            MinCapacity=5,
            MaxCapacity=50,
        )
    assert dynamodb_export.resize(job, scaling, TABLE) == {
        "before": "read 5..50, write 5..50",
        "now": "read 10..200, write 5..50",
    }


GROUP = {
    "ReplicationGroupId": "dev-store",
    "Status": "available",
    "CacheNodeType": "cache.t4g.small",
    "AutomaticFailover": "enabled",
    "MultiAZ": "enabled",
    "AtRestEncryptionEnabled": True,
    "TransitEncryptionEnabled": True,
    "SnapshotRetentionLimit": 1,
    "MemberClusters": ["dev-store-001", "dev-store-002"],
    "NodeGroups": [
        {
            "NodeGroupId": "0001",
            "NodeGroupMembers": [
                {"CacheClusterId": "dev-store-001", "CurrentRole": "primary"},
                {"CacheClusterId": "dev-store-002", "CurrentRole": "replica"},
            ],
        }
    ],
}
NODE = {
    "CacheClusterId": "dev-store-001",
    "ReplicationGroupId": "dev-store",
    "Engine": "valkey",
    "EngineVersion": "8.0",
    "CacheParameterGroup": {"CacheParameterGroupName": "dev-store"},
    "CacheSubnetGroupName": "dev-store",
    "SecurityGroups": [{"SecurityGroupId": "sg-1", "Status": "active"}],
}


def snapshot(name: str, status: str) -> dict[str, Any]:
    node = {"CacheNodeId": "0001", "CacheSize": "12 MB"}
    return {"SnapshotName": name, "SnapshotStatus": status, "ReplicationGroupId": "dev-store", "NodeSnapshots": [node]}


@pytest.fixture
def stub(account: Any) -> Iterator[Stubber]:
    """Each call, its arguments and its answer are held against botocore's own model of the service."""
    with Stubber(account("elasticache")) as made:
        yield made
        made.assert_no_pending_responses()


def answer(stub: Stubber, operation: str, response: dict[str, Any], expected: dict[str, Any] | None = None) -> None:
    stub.add_response(operation, response, expected)


def snapshots(stub: Stubber, *states: tuple[str, str]) -> None:
    for name, state in states:
        if state == "absent":
            stub.add_client_error("describe_snapshots", "SnapshotNotFoundFault", "not found", 404)
        else:
            answer(stub, "describe_snapshots", {"Snapshots": [snapshot(name, state)]}, {"SnapshotName": name})


def test_a_snapshot_is_made_exported_and_counted(stub: Stubber, account: Any, tmp_path: Path, rdb: bytes) -> None:
    told: list[str] = []

    def tell(text: str) -> None:
        """The service's file comes while its export runs."""
        told.append(text)
        if text == "export of one: exporting":
            account("s3").put_object(Bucket=BUCKET, Key="one-slipway-export-0001.rdb", Body=rdb)

    job = job_of(account, tmp_path, resource="dev-store", url="rediss://x:6379/0", tell=tell)
    snapshots(stub, ("one", "absent"))
    answer(
        stub,
        "create_snapshot",
        {"Snapshot": snapshot("one", "creating")},
        {"ReplicationGroupId": "dev-store", "SnapshotName": "one"},
    )
    snapshots(stub, ("one", "creating"), ("one", "available"), ("one-slipway-export", "absent"))
    answer(
        stub,
        "copy_snapshot",
        {"Snapshot": snapshot("one-slipway-export", "exporting")},
        {"SourceSnapshotName": "one", "TargetSnapshotName": "one-slipway-export", "TargetBucket": BUCKET},
    )
    snapshots(stub, ("one-slipway-export", "exporting"), ("one-slipway-export", "absent"))
    account("s3").put_object(Bucket=BUCKET, Key="other-0001.rdb", Body=b"of another")
    made = elasticache.backup(job, stub.client)
    assert made["bytes"] == 12_000_000
    assert "snapshot one: creating" in told
    assert "export of one: exporting" in told
    assert elasticache.counted(job).entities > 2000


def test_a_run_that_was_cut_off_finds_its_snapshot(stub: Stubber, account: Any, tmp_path: Path) -> None:
    told: list[str] = []
    job = job_of(account, tmp_path, resource="dev-store", folder=None, tell=told.append)
    snapshots(stub, ("one", "creating"), ("one", "creating"), ("one", "available"))
    assert elasticache.backup(job, stub.client)["where"] == "one"
    assert told[0] == "snapshot one was begun before"


def test_a_group_is_made_anew_as_the_stacks_own(stub: Stubber, account: Any, tmp_path: Path) -> None:
    account("ssm").put_parameter(Name="/slipway/dev-store-password", Value="secret" * 4, Type="SecureString")
    job = job_of(
        account,
        tmp_path,
        resource="dev-store",
        folder=None,
        target="again",
        sizes={"secret": "/slipway/dev-store-password"},
    )
    stub.add_client_error("describe_replication_groups", "ReplicationGroupNotFoundFault", "not found", 404)
    answer(stub, "describe_replication_groups", {"ReplicationGroups": [{**GROUP, "AuthTokenEnabled": True}]})
    answer(stub, "describe_cache_clusters", {"CacheClusters": [NODE, {**NODE, "CacheClusterId": "dev-store-002"}]})
    wanted = {
        "ReplicationGroupId": "again",
        "ReplicationGroupDescription": "Restored from one",
        "SnapshotName": "one",
        "CacheNodeType": "cache.t4g.small",
        "NumCacheClusters": 2,
        "AutomaticFailoverEnabled": True,
        "MultiAZEnabled": True,
        "Engine": "valkey",
        "EngineVersion": "8.0",
        "CacheParameterGroupName": "dev-store",
        "CacheSubnetGroupName": "dev-store",
        "SecurityGroupIds": ["sg-1"],
        "TransitEncryptionEnabled": True,
        "AtRestEncryptionEnabled": True,
        "SnapshotRetentionLimit": 1,
        "Tags": [{"Key": "slipway-stack", "Value": "dev"}],
        "AuthToken": "secret" * 4,
    }
    made = {**GROUP, "ReplicationGroupId": "again"}
    answer(stub, "create_replication_group", {"ReplicationGroup": {**made, "Status": "creating"}}, wanted)
    for state in ("creating", "available"):
        answer(stub, "describe_replication_groups", {"ReplicationGroups": [{**made, "Status": state}]})
    assert elasticache.restore(job, stub.client) == {"into": "again"}


def test_a_node_type_and_a_failover(stub: Stubber, account: Any, tmp_path: Path) -> None:
    job = job_of(account, tmp_path, resource="dev-store", folder=None, sizes={"node_type": "cache.m7g.large"})
    answer(stub, "describe_replication_groups", {"ReplicationGroups": [GROUP]})
    answer(
        stub,
        "modify_replication_group",
        {"ReplicationGroup": GROUP},
        {"ReplicationGroupId": "dev-store", "CacheNodeType": "cache.m7g.large", "ApplyImmediately": True},
    )
    answer(stub, "describe_replication_groups", {"ReplicationGroups": [GROUP]})  # not yet begun: the old size
    larger = {**GROUP, "CacheNodeType": "cache.m7g.large"}
    answer(stub, "describe_replication_groups", {"ReplicationGroups": [{**larger, "Status": "modifying"}]})
    answer(stub, "describe_replication_groups", {"ReplicationGroups": [larger]})
    assert elasticache.resize(job, stub.client) == {"before": "cache.t4g.small", "now": "cache.m7g.large"}
    answer(stub, "describe_replication_groups", {"ReplicationGroups": [GROUP]})
    asked = {"ReplicationGroupId": "dev-store", "NodeGroupId": "0001"}
    answer(stub, "test_failover", {"ReplicationGroup": GROUP}, asked)
    members = [
        {"CacheClusterId": "dev-store-001", "CurrentRole": "replica"},
        {"CacheClusterId": "dev-store-002", "CurrentRole": "primary"},
    ]
    after = {**GROUP, "NodeGroups": [{"NodeGroupId": "0001", "NodeGroupMembers": members}]}
    for _ in range(2):
        answer(stub, "describe_replication_groups", {"ReplicationGroups": [after]})
    assert elasticache.failover(job, stub.client) == {"before": "dev-store-001", "now": "dev-store-002"}
