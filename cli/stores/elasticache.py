"""ElastiCache through boto3: snapshots, their export to S3, a group beside the stack's from one, size, failover."""

from __future__ import annotations

import time
from typing import Any

from cli.errors import USAGE, CliError
from cli.stores import rdb
from cli.stores.aws import asked
from cli.stores.job import WAIT_S, Counted, Folder, Job

FILES = "files.json"  # in the backup's folder: the service writes to the bucket's top
EXPORTED = "-slipway-export"


def status(job: Job, client: Any) -> dict[str, Any]:
    its = _group(client, job.resource)
    snapshots = _snapshots(client, ReplicationGroupId=job.resource)
    return {
        "store": "elasticache",
        "group": job.resource,
        "status": its["Status"],
        "node": its.get("CacheNodeType"),
        "nodes": its.get("MemberClusters", []),
        "failover": its.get("AutomaticFailover"),
        "encrypted": bool(its.get("AtRestEncryptionEnabled")) and bool(its.get("TransitEncryptionEnabled")),
        "kept_days": its.get("SnapshotRetentionLimit"),
        "pending": sorted(its.get("PendingModifiedValues") or {}),
        "backups": [s["SnapshotName"] for s in snapshots],
        "bytes": max((_bytes(s) for s in snapshots), default=0),  # of the largest snapshot
    }


def backup(job: Job, client: Any) -> dict[str, Any]:
    """A snapshot, which outlives the group; with a folder it is exported to that bucket as well."""
    if not _snapshots(client, SnapshotName=job.name):
        asked(client.create_snapshot, ReplicationGroupId=job.resource, SnapshotName=job.name)
    else:
        job.tell(f"snapshot {job.name} was begun before")
    made = _available(job, client, job.name)
    if job.folder is not None:
        _export(job, client, job.folder)
    return {"backup": job.name, "bytes": _bytes(made), "where": job.folder.uri if job.folder else job.name}


def _export(job: Job, client: Any, folder: Folder) -> None:
    copy, bucket = job.name + EXPORTED, folder.uri.split("/")[2]
    if folder.json(FILES) is not None:
        return
    if not _snapshots(client, SnapshotName=copy) and not _exported(folder, copy):
        asked(
            client.copy_snapshot,
            SourceSnapshotName=job.name,
            TargetSnapshotName=copy,
            TargetBucket=bucket,
        )
    until = time.monotonic() + WAIT_S
    while (its := _snapshots(client, SnapshotName=copy)) and its[0]["SnapshotStatus"] == "exporting":
        if time.monotonic() > until:
            raise CliError(
                f"export of {job.name}: not done after {WAIT_S / 3600:.0f} hours. To go on: the same command"
            )
        job.tell(f"export of {job.name}: exporting")
        time.sleep(job.pause_s)
    files = _exported(folder, copy)
    if not files:
        raise CliError(
            f"export of {job.name}: nothing is in s3://{bucket}. To fix: let ElastiCache write there "
            "(docs.aws.amazon.com/AmazonElastiCache/latest/dg/backups-exporting.html), then the same command"
        )
    folder.put_json(FILES, {"snapshot": job.name, "files": files})


def _exported(folder: Folder, copy: str) -> list[str]:
    return [o.key for o in folder.bucket.list(copy) if o.key.endswith(".rdb") and o.size]


def counted(job: Job) -> Counted:
    folder = job.need_folder()
    noted = folder.json(FILES)
    if noted is None:
        raise CliError(f"{folder.uri}/{FILES}: no such backup", USAGE)
    sizes = {o.key: o.size for o in folder.bucket.list(str(noted["snapshot"]))}
    entities = 0
    for key in noted["files"]:
        with folder.opened(key) as file:
            entities += rdb.count(file)
    return Counted(entities=entities, bytes=sum(sizes[k] for k in noted["files"]))


def restore(job: Job, client: Any) -> dict[str, Any]:
    """Into a new group beside the stack's, made as that one is: the service restores nothing in place."""
    if not _groups(client, job.target):
        its, nodes = _group(client, job.resource), _nodes(client, job.resource)
        first = nodes[0]
        wanted: dict[str, Any] = {
            "ReplicationGroupId": job.target,
            "ReplicationGroupDescription": f"Restored from {job.name}",
            "SnapshotName": job.name,
            "CacheNodeType": its["CacheNodeType"],
            "NumCacheClusters": len(nodes),
            "AutomaticFailoverEnabled": its["AutomaticFailover"] == "enabled",
            "MultiAZEnabled": its.get("MultiAZ") == "enabled",
            "Engine": first["Engine"],
            "EngineVersion": first["EngineVersion"],
            "CacheParameterGroupName": first["CacheParameterGroup"]["CacheParameterGroupName"],
            "CacheSubnetGroupName": first["CacheSubnetGroupName"],
            "SecurityGroupIds": [g["SecurityGroupId"] for g in first["SecurityGroups"]],
            "TransitEncryptionEnabled": bool(its.get("TransitEncryptionEnabled")),
            "AtRestEncryptionEnabled": bool(its.get("AtRestEncryptionEnabled")),
            "SnapshotRetentionLimit": its.get("SnapshotRetentionLimit", 0),
            "Tags": [{"Key": "slipway-stack", "Value": job.stack}],
        }
        if its.get("AuthTokenEnabled"):
            wanted["AuthToken"] = _password(client.meta.region_name, str(job.sizes["secret"]))
        if its.get("KmsKeyId"):
            wanted["KmsKeyId"] = its["KmsKeyId"]
        asked(client.create_replication_group, **wanted)
    else:
        job.tell(f"group {job.target} was begun before")
    _settled(job, client, job.target)
    return {"into": job.target}


def _password(region: str, name: str) -> str:
    import boto3

    found = asked(boto3.client("ssm", region_name=region).get_parameter, Name=name, WithDecryption=True)
    return str(found["Parameter"]["Value"])


def resize(job: Job, client: Any) -> dict[str, Any]:
    before, wanted = _group(client, job.resource)["CacheNodeType"], str(job.sizes["node_type"])
    if before != wanted:
        asked(
            client.modify_replication_group,
            ReplicationGroupId=job.resource,
            CacheNodeType=wanted,
            ApplyImmediately=True,
        )
    _settled(job, client, job.resource, wanted)
    return {"before": before, "now": wanted}


def failover(job: Job, client: Any) -> dict[str, Any]:
    its = _group(client, job.resource)
    if its.get("AutomaticFailover") != "enabled":
        raise CliError("a group of one node has no replica to fail over to", USAGE)
    before = _primary(its)
    shard = its["NodeGroups"][0]["NodeGroupId"]
    asked(client.test_failover, ReplicationGroupId=job.resource, NodeGroupId=shard)
    _settled(job, client, job.resource)
    return {"before": before, "now": _primary(_group(client, job.resource))}


def _primary(its: dict[str, Any]) -> str:
    members = its["NodeGroups"][0].get("NodeGroupMembers", [])
    return next((str(m["CacheClusterId"]) for m in members if m.get("CurrentRole") == "primary"), "")


def _settled(job: Job, client: Any, group: str, node: str = "") -> None:
    until = time.monotonic() + WAIT_S
    while True:
        its = _group(client, group)
        state = str(its["Status"])
        if state == "available" and node in ("", its.get("CacheNodeType")):
            return
        if state.endswith("failed") or time.monotonic() > until:
            raise CliError(f"group {group} is {state}. To go on: the same command")
        job.tell(f"group {group}: {state}")
        time.sleep(job.pause_s)


def _available(job: Job, client: Any, name: str) -> dict[str, Any]:
    until = time.monotonic() + WAIT_S
    while True:
        (its,) = _snapshots(client, SnapshotName=name)
        if its["SnapshotStatus"] in ("available", "exporting"):
            return its
        if its["SnapshotStatus"] == "failed" or time.monotonic() > until:
            raise CliError(f"snapshot {name} is {its['SnapshotStatus']}. To fix: another name, later")
        job.tell(f"snapshot {name}: {its['SnapshotStatus']}")
        time.sleep(job.pause_s)


def _groups(client: Any, name: str) -> list[dict[str, Any]]:
    try:
        return list(client.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"])
    except client.exceptions.ReplicationGroupNotFoundFault:
        return []


def _group(client: Any, name: str) -> dict[str, Any]:
    return dict(asked(client.describe_replication_groups, ReplicationGroupId=name)["ReplicationGroups"][0])


def _nodes(client: Any, group: str) -> list[dict[str, Any]]:
    pages = client.get_paginator("describe_cache_clusters").paginate()
    return [c for page in pages for c in page["CacheClusters"] if c.get("ReplicationGroupId") == group]


def _snapshots(client: Any, **which: str) -> list[dict[str, Any]]:
    try:
        return [s for page in client.get_paginator("describe_snapshots").paginate(**which) for s in page["Snapshots"]]
    except client.exceptions.SnapshotNotFoundFault:
        return []


def _bytes(snapshot: dict[str, Any]) -> int:
    """Sizes are text such as `12 MB`."""
    units = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
    total = 0.0
    for node in snapshot.get("NodeSnapshots", ()):
        number, _, unit = str(node.get("CacheSize", "")).partition(" ")
        total += float(number) * units.get(unit, 0) if number.replace(".", "").isdigit() else 0
    return int(total)
