"""DynamoDB's exports to a bucket and imports from one, and the bounds of a provisioned table's autoscaling."""

from __future__ import annotations

import gzip
import json
import time
from typing import Any

from cli.errors import USAGE, CliError
from cli.stores.aws import asked
from cli.stores.job import WAIT_S, Counted, Folder, Job

PROGRESS = "export.json"
DATA = "/data/"
DIMENSIONS = {"read": "dynamodb:table:ReadCapacityUnits", "write": "dynamodb:table:WriteCapacityUnits"}


def export(job: Job, client: Any, table: str) -> dict[str, Any]:
    """The table as it is now, without a cost to its capacity; needs point-in-time recovery, which stacks have on."""
    folder, key = job.need_folder(), job.key("export")
    if folder.json(PROGRESS) is None:
        arn = job.notes.get(key) or _begun(client, table, folder)
        if arn is None:
            about = asked(client.describe_table, TableName=table)["Table"]
            bucket, prefix = folder.uri.split("/")[2], folder.prefix.rstrip("/")
            token = {"ClientToken": f"{job.stack}-{job.name}"[:64]}  # a second call by the same name begins nothing
            made = asked(
                client.export_table_to_point_in_time,
                TableArn=about["TableArn"],
                S3Bucket=bucket,
                S3Prefix=prefix,
                ExportFormat="DYNAMODB_JSON",
                **token,
            )
            arn = str(made["ExportDescription"]["ExportArn"])
        else:
            job.tell(f"export {job.name} was begun before")
        job.notes.put(key, arn)
        done = _waited(job, client, arn)
        folder.put_json(PROGRESS, {"export": arn, "items": done["ItemCount"]})
        job.notes.drop(key)
    return {"where": folder.uri}


def _begun(client: Any, table: str, folder: Folder) -> str | None:
    """An export into this folder that a run began and did not note."""
    arn = asked(client.describe_table, TableName=table)["Table"]["TableArn"]
    for export in asked(client.list_exports, TableArn=arn)["ExportSummaries"]:
        about = asked(client.describe_export, ExportArn=export["ExportArn"])["ExportDescription"]
        if about.get("S3Prefix") == folder.prefix.rstrip("/") and about["ExportStatus"] != "FAILED":
            return str(export["ExportArn"])
    return None


def _waited(job: Job, client: Any, arn: str) -> dict[str, Any]:
    until = time.monotonic() + WAIT_S
    while True:
        about = asked(client.describe_export, ExportArn=arn)["ExportDescription"]
        if about["ExportStatus"] == "COMPLETED":
            return dict(about)
        if about["ExportStatus"] == "FAILED":
            job.notes.drop(job.key("export"))
            raise CliError(f"export {job.name}: {about.get('FailureCode')} {about.get('FailureMessage')}")
        if time.monotonic() > until:
            raise CliError(f"export {job.name}: not done after {WAIT_S / 3600:.0f} hours. To go on: the same command")
        job.tell(f"export {job.name}: {about['ExportStatus']}")
        time.sleep(job.pause_s)


def counted(job: Job) -> Counted:
    """Every item of every file is read again as JSON."""
    folder = job.need_folder()
    said = folder.json(PROGRESS)
    if said is None:
        raise CliError(f"{folder.uri}: no whole export is there", USAGE)
    files = [o for o in folder.list() if DATA in o.key and o.key.endswith(".gz")]
    entities = 0
    for stored in files:
        with folder.opened(stored.key) as file, gzip.open(file) as lines:
            for line in lines:
                entities += "Item" in json.loads(line)
    return Counted(entities=entities, bytes=sum(o.size for o in files), written=int(said["items"]))


def restore(job: Job, client: Any) -> dict[str, Any]:
    """A new table from an export: paid by request, its key as Slipway's tables have it."""
    folder, key = job.need_folder(), job.key("import")
    files = [o.key for o in folder.list() if DATA in o.key and o.key.endswith(".gz")]
    if folder.json(PROGRESS) is None or not files:
        raise CliError(f"{folder.uri}: no whole export is there", USAGE)
    arn = job.notes.get(key)
    if arn is None:
        made = asked(
            client.import_table,
            S3BucketSource={
                "S3Bucket": folder.uri.split("/")[2],
                "S3KeyPrefix": files[0].partition(DATA)[0] + DATA,
            },
            InputFormat="DYNAMODB_JSON",
            InputCompressionType="GZIP",
            TableCreationParameters={
                "TableName": job.target,
                "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
                "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
                "BillingMode": "PAY_PER_REQUEST",
            },
            ClientToken=f"{job.stack}-{job.target}"[:64],
        )
        arn = str(made["ImportTableDescription"]["ImportArn"])
        job.notes.put(key, arn)
    else:
        job.tell(f"import into {job.target} was begun before")
    until = time.monotonic() + WAIT_S
    while (about := asked(client.describe_import, ImportArn=arn)["ImportTableDescription"])["ImportStatus"] in (
        "IN_PROGRESS",
        "CANCELLING",
    ):
        if time.monotonic() > until:
            raise CliError(f"import into {job.target}: not done yet. To go on: the same command")
        job.tell(f"import into {job.target}: {about['ImportStatus']}")
        time.sleep(job.pause_s)
    job.notes.drop(key)
    if about["ImportStatus"] != "COMPLETED":
        raise CliError(f"import into {job.target}: {about.get('FailureCode')} {about.get('FailureMessage')}")
    return {"into": job.target, "entities": about.get("ImportedItemCount")}


def resize(job: Job, scaling: Any, table: str) -> dict[str, Any]:
    """Bounds between which autoscaling keeps the units of a provisioned table."""
    found = asked(scaling.describe_scalable_targets, ServiceNamespace="dynamodb", ResourceIds=[f"table/{table}"])
    known = {t["ScalableDimension"]: (t["MinCapacity"], t["MaxCapacity"]) for t in found["ScalableTargets"]}
    before, now = [], []
    for word, dimension in DIMENSIONS.items():
        least, most = job.sizes[word]
        if dimension not in known:
            raise CliError(
                f"table {table} is paid by request and grows by itself. To fix: nothing; or set features.capacity to "
                "provisioned, then slipway up",
                USAGE,
            )
        before.append(f"{word} {known[dimension][0]}..{known[dimension][1]}")
        now.append(f"{word} {least}..{most}")
        if known[dimension] != (least, most):
            asked(
                scaling.register_scalable_target,
                ServiceNamespace="dynamodb",
                ResourceId=f"table/{table}",
                ScalableDimension=dimension,
                MinCapacity=least,
                MaxCapacity=most,
            )
    return {"before": ", ".join(before), "now": ", ".join(now)}
