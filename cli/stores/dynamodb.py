"""DynamoDB through boto3: what a table holds, and backups that outlive it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from cli.errors import CliError
from cli.stores.aws import asked

WAIT_S = 3600.0
EVERY_S = 2.0


def status(client: Any, table: str) -> dict[str, Any]:
    """Counts are DynamoDB's own, which it renews every six hours."""
    about = asked(client.describe_table, TableName=table)["Table"]
    recovery = asked(client.describe_continuous_backups, TableName=table)["ContinuousBackupsDescription"]
    return {
        "store": "dynamodb",
        "table": table,
        "status": about["TableStatus"],
        "entities": about["ItemCount"],
        "bytes": about["TableSizeBytes"],
        "paid": about.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED"),
        "protected": about.get("DeletionProtectionEnabled", False),
        "any_second": recovery["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED",
        "backups": [b["BackupName"] for b in _backups(client, table)],
        **_units(client, about),
    }


def _units(client: Any, about: Mapping[str, Any]) -> dict[str, Any]:
    """What a provisioned table has now, and the most that the account lets a table have."""
    if about.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED") != "PROVISIONED":
        return {}
    its, limits = about["ProvisionedThroughput"], asked(client.describe_limits)
    return {
        "read_units": its["ReadCapacityUnits"],
        "write_units": its["WriteCapacityUnits"],
        "read_units_limit": limits["TableMaxReadCapacityUnits"],
        "write_units_limit": limits["TableMaxWriteCapacityUnits"],
    }


def backup(client: Any, table: str, name: str, tell: Callable[[str], None], pause_s: float = EVERY_S) -> str:
    """Its ARN, once it is there. The same name again finds the one that was begun before."""
    known = {b["BackupName"]: b for b in _backups(client, table)}
    if name in known:
        arn = str(known[name]["BackupArn"])
        tell(f"backup {name} was begun before")
    else:
        arn = str(asked(client.create_backup, TableName=table, BackupName=name)["BackupDetails"]["BackupArn"])
    until = time.monotonic() + WAIT_S
    while True:
        details = asked(client.describe_backup, BackupArn=arn)["BackupDescription"]["BackupDetails"]
        if details["BackupStatus"] == "AVAILABLE":
            return arn
        if time.monotonic() > until:
            raise CliError(f"backup {name} is {details['BackupStatus']} after an hour. To go on: the same command")
        tell(f"backup {name} is {details['BackupStatus']}")
        time.sleep(pause_s)


def restore(client: Any, arn: str, table: str, tell: Callable[[str], None], pause_s: float = EVERY_S) -> int:
    """Into a table that does not exist yet; gives its number of entities. A restore that was begun is waited for."""
    try:
        client.describe_table(TableName=table)
        tell(f"table {table} was begun before")
    except client.exceptions.ResourceNotFoundException:
        asked(client.restore_table_from_backup, BackupArn=arn, TargetTableName=table)
    until = time.monotonic() + WAIT_S
    while True:
        about = asked(client.describe_table, TableName=table)["Table"]
        if about["TableStatus"] == "ACTIVE":
            return int(about["ItemCount"])
        if time.monotonic() > until:
            raise CliError(f"table {table} is {about['TableStatus']} after an hour. To go on: the same command")
        tell(f"table {table} is {about['TableStatus']}")
        time.sleep(pause_s)


def _backups(client: Any, table: str) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    arguments: dict[str, Any] = {"TableName": table}
    while True:
        page = asked(client.list_backups, **arguments)
        found += page["BackupSummaries"]
        if not page.get("LastEvaluatedBackupArn"):
            return found
        arguments["ExclusiveStartBackupArn"] = page["LastEvaluatedBackupArn"]
