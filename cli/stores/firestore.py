"""Firestore through its admin client: exports to a bucket, imports, and what a database is like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from google.cloud import firestore_admin_v1
from google.cloud.firestore_admin_v1 import types

from cli.errors import USAGE, CliError
from cli.stores import leveldb
from cli.stores.google import Operation, client, finished
from cli.stores.job import Counted, Folder, Job

DATA, WHOLE = "/output-", ".overall_export_metadata"
PROGRESS = "export.json"  # what the operation said of itself: the number of documents


def status(job: Job) -> dict[str, Any]:
    api = client(firestore_admin_v1.FirestoreAdminClient, job)
    its = api.get_database(name=_database(job))
    parent = f"{its.name.partition('/databases/')[0]}/locations/-"
    mine = [b for b in api.list_backups(parent=parent).backups if b.database == its.name]
    protected = its.delete_protection_state == types.Database.DeleteProtectionState.DELETE_PROTECTION_ENABLED
    enabled = types.Database.PointInTimeRecoveryEnablement.POINT_IN_TIME_RECOVERY_ENABLED
    return {
        "store": "firestore",
        "database": its.name,
        "where": its.location_id,
        "protected": protected,
        "any_minute": its.point_in_time_recovery_enablement == enabled,
        "backups": [b.name.rpartition("/")[2] for b in mine],
        "bytes": sum(b.stats.size_bytes for b in mine[-1:]),  # of the newest backup; the database itself does not say
    }


def backup(job: Job) -> dict[str, Any]:
    """All documents of the features' collection into the backup's folder. Each costs a read."""
    folder, api = job.need_folder(), client(firestore_admin_v1.FirestoreAdminClient, job)
    if not _whole(folder):
        asked = {
            "name": _database(job),
            "collection_ids": [_collection(job)],
            "output_uri_prefix": f"{folder.uri}/data",
        }
        done = finished(
            api,
            job,
            "export",
            lambda: api.export_documents(asked),
            running=_running(api, job, types.ExportDocumentsMetadata, "output_uri_prefix", f"{folder.uri}/data"),
            progress=_progress(types.ExportDocumentsMetadata),
            fix=f"let Firestore's service agent write to gs://{folder.uri.split('/')[2]}, then the same command",
        )
        about = types.ExportDocumentsMetadata.deserialize(done.metadata.value)
        folder.put_json(PROGRESS, {"documents": about.progress_documents.completed_work})
    return {"where": folder.uri}


def counted(job: Job) -> Counted:
    folder = job.need_folder()
    files = [o for o in folder.list() if DATA in o.key]
    entities = 0
    for stored in files:
        with folder.opened(stored.key) as file:
            entities += leveldb.count(file)
    said = folder.json(PROGRESS)
    return Counted(
        entities=entities, bytes=sum(o.size for o in files), written=int(said["documents"]) if said else None
    )


def restore(job: Job) -> dict[str, Any]:
    """Into the stack's own database, or another one: documents of the same ids are replaced, others stay."""
    folder, api = job.need_folder(), client(firestore_admin_v1.FirestoreAdminClient, job)
    if not _whole(folder):
        raise CliError(f"{folder.uri}: no whole export is there", USAGE)
    its = _database(job)
    into = its.rpartition("/")[0] + "/" + job.target if job.target else its
    source = f"{folder.uri}/data"
    asked = {"name": into, "collection_ids": [_collection(job)], "input_uri_prefix": source}
    finished(
        api,
        job,
        "import",
        lambda: api.import_documents(asked),
        running=_running(api, job, types.ImportDocumentsMetadata, "input_uri_prefix", source, into),
        progress=_progress(types.ImportDocumentsMetadata),
    )
    return {"into": into}


def _whole(folder: Folder) -> bool:
    """The service writes this file last."""
    return any(o.key.endswith(WHOLE) for o in folder.list()) and folder.json(PROGRESS) is not None


def _database(job: Job) -> str:
    parts = urlsplit(job.url)
    return f"projects/{parts.netloc}/databases/{parts.path.strip('/').split('/')[0]}"


def _collection(job: Job) -> str:
    return urlsplit(job.url).path.strip("/").split("/")[1]


def _progress(metadata: Any) -> Callable[[Operation], str]:
    def said(operation: Operation) -> str:
        about = metadata.deserialize(operation.metadata.value)
        done, every = about.progress_documents.completed_work, about.progress_documents.estimated_work
        return f"{done} of about {every} documents" if every else "under way"

    return said


def _running(
    api: Any, job: Job, metadata: Any, field: str, value: str, database: str = ""
) -> Callable[[], list[Operation]]:
    def found() -> list[Operation]:
        every = api.list_operations({"name": database or _database(job)}).operations
        kind = metadata.meta.full_name
        mine = [o for o in every if o.metadata.type_url.endswith(f"/{kind}")]
        return [o for o in mine if getattr(metadata.deserialize(o.metadata.value), field) == value]

    return found
