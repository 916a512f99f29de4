"""Bigtable row by row into a bucket and back (its own backups die with its instance), and its admin interface."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

from google.cloud import bigtable_admin_v2
from google.cloud.bigtable.data import (
    BigtableDataClient,
    ReadRowsQuery,
    Row,
    RowMutationEntry,
    RowRange,
    SetCell,
    Table,
)
from google.cloud.bigtable.data.mutations import Mutation
from google.cloud.bigtable.data.row_filters import CellsColumnLimitFilter
from google.cloud.bigtable_admin_v2 import types
from google.protobuf import field_mask_pb2

from cli.errors import USAGE, CliError
from cli.stores.google import client, finished
from cli.stores.job import MANIFEST, Counted, Folder, Job

ROWS = 20_000  # of one part: what a backup that was cut off may have to read again
WRITES = 1000  # rows of one request
PROGRESS = "parts.json"  # parts that are whole, in their order, and the last key of each


def status(job: Job) -> dict[str, Any]:
    its, (instances, tables) = _Address(job), _admin(job)
    clusters = instances.list_clusters(parent=its.instance).clusters
    found = tables.get_table(request={"name": its.table, "view": types.Table.View.SCHEMA_VIEW})
    return {
        "store": "bigtable",
        "table": its.table,
        "status": instances.get_instance(name=its.instance).state.name,
        "protected": found.deletion_protection,
        "clusters": [f"{c.name.rpartition('/')[2]} in {c.location.rpartition('/')[2]}" for c in clusters],
        "nodes": [c.serve_nodes for c in clusters],
        "limits": [f"{_limits(c).min_serve_nodes}..{_limits(c).max_serve_nodes}" for c in clusters],
    }


def backup(job: Job) -> dict[str, Any]:
    """In parts, each noted in the bucket itself once it is there: a later run goes on behind the last, anywhere."""
    folder, rows = job.need_folder(), int(job.sizes.get("rows", ROWS))
    progress = _progress(folder)
    with _Open(job) as table:
        while not progress["whole"]:
            last = progress["parts"][-1]["last"] if progress["parts"] else None
            part = list(_read(table, last, rows))
            if part:
                name = f"rows-{len(progress['parts']):06d}.jsonl.gz"
                content = gzip.compress("".join(json.dumps(_packed(r)) + "\n" for r in part).encode(), mtime=0)
                folder.put(name, content)
                digest = hashlib.sha256(content).hexdigest()
                last = base64.b64encode(part[-1].row_key).decode()
                progress["parts"].append({"name": name, "rows": len(part), "sha256": digest, "last": last})
            progress["whole"] = len(part) < rows
            folder.put_json(PROGRESS, progress)
            job.tell(f"export: {sum(p['rows'] for p in progress['parts'])} rows")
    return {"where": folder.uri}


def counted(job: Job) -> Counted:
    """Every part is read again and must be what was written."""
    folder = job.need_folder()
    progress = _progress(folder)
    if not progress["whole"]:
        raise CliError(f"{folder.uri}: no whole backup is there. To go on: the same command that made it", USAGE)
    entities = size = 0
    for part in progress["parts"]:
        content = folder.get(part["name"]) or b""
        if hashlib.sha256(content).hexdigest() != part["sha256"]:
            raise CliError(f"{folder.uri}/{part['name']}: is not what was written. To fix: back up under another name")
        entities += gzip.decompress(content).count(b"\n")
        size += len(content)
    return Counted(entities=entities, bytes=size, written=sum(p["rows"] for p in progress["parts"]))


def restore(job: Job) -> dict[str, Any]:
    """Into the stack's own table, or another one of the instance. Rows keep their time stamps; others stay."""
    folder = job.need_folder()
    progress, key = _progress(folder), job.key("restore")
    if folder.json(MANIFEST) is None and not progress["whole"]:
        raise CliError(f"{folder.uri}: no whole backup is there", USAGE)
    done = int(job.notes.get(key) or 0)
    if done:
        job.tell(f"restore: {done} parts were there")
    with _Open(job, job.target) as table:
        for number, part in enumerate(progress["parts"]):
            if number < done:
                continue
            lines = gzip.decompress(folder.get(part["name"]) or b"").splitlines()
            for start in range(0, len(lines), WRITES):
                table.bulk_mutate_rows([_entry(json.loads(x)) for x in lines[start : start + WRITES]])
            job.notes.put(key, str(number + 1))
            job.tell(f"restore: {sum(p['rows'] for p in progress['parts'][: number + 1])} rows")
    job.notes.drop(key)
    return {"into": job.target or _Address(job).table, "entities": sum(p["rows"] for p in progress["parts"])}


def resize(job: Job) -> dict[str, Any]:
    """Bounds of the nodes' autoscaling, of every cluster."""
    instances, _ = _admin(job)
    least, most = job.sizes["nodes"]
    limits = types.AutoscalingLimits(min_serve_nodes=least, max_serve_nodes=most)
    fields = "cluster_config.cluster_autoscaling_config.autoscaling_limits"
    before = []
    for cluster in instances.list_clusters(parent=_Address(job).instance).clusters:
        before.append(f"{_limits(cluster).min_serve_nodes}..{_limits(cluster).max_serve_nodes}")
        cluster.cluster_config.cluster_autoscaling_config.autoscaling_limits = limits
        asked = {"cluster": cluster, "update_mask": field_mask_pb2.FieldMask(paths=[fields])}
        if before[-1] != f"{least}..{most}":
            finished(
                _Operations(instances),
                job,
                f"update of {cluster.name.rpartition('/')[2]}",
                lambda asked=asked: instances.partial_update_cluster(asked),  # type: ignore[misc]
                running=list,
            )
    return {"before": ", ".join(before), "now": f"{least}..{most} nodes a cluster"}


class _Operations:
    """As the other clients ask for an operation: this one keeps its own client for them."""

    def __init__(self, api: Any) -> None:
        self._client = api.transport.operations_client

    def get_operation(self, asked: dict[str, str]) -> Any:
        return self._client.get_operation(asked["name"])


class _Address:
    """bigtable://project/instance/table?app_profile=p&family=f"""

    def __init__(self, job: Job) -> None:
        parts = urlsplit(job.url)
        self.project = parts.netloc
        self.instance_id, self.table_id = parts.path.strip("/").split("/")
        self.profile = parse_qs(parts.query).get("app_profile", [None])[0]
        self.instance = f"projects/{self.project}/instances/{self.instance_id}"
        self.table = f"{self.instance}/tables/{self.table_id}"


class _Open:
    """The table, by the data client."""

    def __init__(self, job: Job, table: str = "") -> None:
        its = _Address(job)
        self._client = BigtableDataClient(project=its.project)
        self._table = self._client.get_table(its.instance_id, table or its.table_id, app_profile_id=its.profile)

    def __enter__(self) -> Table:
        return self._table

    def __exit__(self, *_: object) -> None:
        self._client.close()


def _read(table: Table, last: str | None, rows: int) -> Iterator[Row]:
    """The next rows behind a key: the newest cell of each column, which is all that look-ups know."""
    behind = RowRange(start_key=base64.b64decode(last), start_is_inclusive=False) if last else None
    query = ReadRowsQuery(row_ranges=behind, limit=rows, row_filter=CellsColumnLimitFilter(1))
    yield from table.read_rows_stream(query)


def _packed(row: Row) -> dict[str, Any]:
    cells = [
        [c.family, base64.b64encode(c.qualifier).decode(), c.timestamp_micros, base64.b64encode(c.value).decode()]
        for c in row.cells
    ]
    return {"key": base64.b64encode(row.row_key).decode(), "cells": cells}


def _entry(packed: dict[str, Any]) -> RowMutationEntry:
    cells: list[Mutation] = [
        SetCell(family, base64.b64decode(qualifier), base64.b64decode(value), timestamp_micros=stamp)
        for family, qualifier, stamp, value in packed["cells"]
    ]
    return RowMutationEntry(base64.b64decode(packed["key"]), cells)


def _progress(folder: Folder) -> dict[str, Any]:
    return folder.json(PROGRESS) or {"parts": [], "whole": False}


def _limits(cluster: Any) -> Any:
    return cluster.cluster_config.cluster_autoscaling_config.autoscaling_limits


def _admin(job: Job) -> tuple[Any, Any]:
    return (
        client(bigtable_admin_v2.BigtableInstanceAdminClient, job),
        client(bigtable_admin_v2.BaseBigtableTableAdminClient, job),
    )
