"""Status, backup and restore of DynamoDB against moto, cut off in the middle and resumed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cli.errors import CliError

boto3 = pytest.importorskip("boto3", reason="boto3 is not installed (extra `aws`)")
moto = pytest.importorskip("moto", reason="moto is not installed (extra `test`)")

from cli.stores import dynamodb  # noqa: E402

ENTITIES = 30


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(key, "testing")
    with moto.mock_aws():
        made = boto3.client("dynamodb", region_name="us-east-1")
        made.create_table(
            TableName="dev-store",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        for i in range(ENTITIES):
            made.put_item(TableName="dev-store", Item={"id": {"S": f"e{i}"}, "v": {"B": b"x" * 100}})
        yield made


def silent(text: str) -> None:
    pass


def test_status_says_what_is_there(client: Any) -> None:
    found = dynamodb.status(client, "dev-store")
    assert (found["entities"], found["paid"], found["protected"]) == (ENTITIES, "PAY_PER_REQUEST", False)
    assert found["any_second"] is False
    client.update_continuous_backups(
        TableName="dev-store", PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
    )
    assert dynamodb.status(client, "dev-store")["any_second"] is True


def test_a_backup_is_made_once_and_restored_beside(client: Any) -> None:
    told: list[str] = []
    arn = dynamodb.backup(client, "dev-store", "before", told.append, pause_s=0)
    assert dynamodb.backup(client, "dev-store", "before", told.append, pause_s=0) == arn
    assert told == ["backup before was begun before"]
    assert dynamodb.status(client, "dev-store")["backups"] == ["before"]
    client.delete_table(TableName="dev-store")
    assert dynamodb.restore(client, arn, "dev-again", silent, pause_s=0) == ENTITIES
    assert dynamodb.restore(client, arn, "dev-again", told.append, pause_s=0) == ENTITIES
    assert told[-1] == "table dev-again was begun before"
    item = client.get_item(TableName="dev-again", Key={"id": {"S": "e7"}})["Item"]
    assert item["v"]["B"] == b"x" * 100


def test_a_backup_that_is_still_being_made_is_waited_for(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answers say CREATING; then this process is cut off, and the next one goes on with the same backup."""
    real = client.describe_backup
    left = [2]

    def creating(**arguments: Any) -> Any:
        answer = real(**arguments)
        if left[0] > 0:
            left[0] -= 1
            answer["BackupDescription"]["BackupDetails"]["BackupStatus"] = "CREATING"
        return answer

    monkeypatch.setattr(client, "describe_backup", creating)

    class CutError(Exception):
        pass

    def cut(text: str) -> None:
        raise CutError

    with pytest.raises(CutError):
        dynamodb.backup(client, "dev-store", "before", cut, pause_s=0)
    told: list[str] = []
    arn = dynamodb.backup(client, "dev-store", "before", told.append, pause_s=0)
    assert told == ["backup before was begun before", "backup before is CREATING"]
    assert [b["BackupArn"] for b in client.list_backups()["BackupSummaries"]] == [arn]


def test_what_is_not_there_is_said(client: Any) -> None:
    with pytest.raises(CliError, match="not found"):
        dynamodb.status(client, "nobody")
