"""Memorystore for Valkey through google-cloud-memorystore: backups of its own, their export, maintenance, size."""

from __future__ import annotations

from typing import Any

from google.api_core import exceptions
from google.cloud import memorystore_v1
from google.protobuf import field_mask_pb2

from cli.errors import USAGE, CliError
from cli.stores import rdb
from cli.stores.google import Operation, client, finished, of_target
from cli.stores.job import Counted, Folder, Job
from cli.stores.memorystore import when

FILES = "files.json"  # in the backup's folder: where in the bucket the cloud put each file
STATES = memorystore_v1.Backup.State
COPIED = ("node_type", "shard_count", "replica_count", "mode", "authorization_mode", "transit_encryption_mode")
ALSO_COPIED = ("engine_version", "engine_configs", "persistence_config", "labels")


def status(job: Job) -> dict[str, Any]:
    api = client(memorystore_v1.MemorystoreClient, job)
    its = api.get_instance(name=job.resource)
    schedule, backups = its.maintenance_schedule, _backups(api, its)
    return {
        "store": "memorystore",
        "instance": job.resource,
        "status": its.state.name,
        "node": its.node_type.name,
        "gib": its.node_config.size_gb,
        "replicas": its.replica_count,
        "version": its.engine_version,
        "protected": its.deletion_protection_enabled,
        "maintenance": schedule.start_time.isoformat() if schedule.start_time else None,
        "bytes": int(its.node_config.size_gb * 2**30),  # at most
        "backups": [b.name.rpartition("/")[2] for b in backups],
    }


def backup(job: Job) -> dict[str, Any]:
    """A backup of the service's own, which outlives the instance; with a folder its files are exported as well."""
    api = client(memorystore_v1.MemorystoreClient, job)
    made = _named(api, job)
    if made is None:
        _job(
            api, job, "backup", lambda: api.backup_instance({"name": job.resource, "backup_id": job.name}), job.resource
        )
        made = _named(api, job)
    if made is None or made.state not in (STATES.ACTIVE, STATES.CREATING):
        raise CliError(f"backup {job.name} is not there, though its operation ended. To go on: the same command")
    if job.folder is not None:
        _export(api, job, made, job.folder)
    return {"backup": made.name, "bytes": made.total_size_bytes, "where": job.folder.uri if job.folder else made.name}


def _export(api: Any, job: Job, made: memorystore_v1.Backup, folder: Folder) -> None:
    """The service writes to a bucket, not to a folder of it: where is noted in ours."""
    name = folder.uri.split("/")[2]
    if folder.json(FILES) is None:
        before = {(o.key, o.updated) for o in folder.bucket.list("")}
        asked = {"name": made.name, "gcs_bucket": name}
        _job(api, job, "export", lambda: api.export_backup(asked), made.name)
        wanted = {f.file_name: f.size_bytes for f in made.backup_files}
        found = {
            file: [o for o in folder.bucket.list("") if o.key.endswith(file) and o.size == size]
            for file, size in wanted.items()
        }
        missing = [file for file, objects in found.items() if not objects]
        if missing or not wanted:
            raise CliError(f"export: it ended, and {', '.join(missing) or 'no file'} is not in gs://{name}")
        fresh = {f: [o for o in some if (o.key, o.updated) not in before] or some for f, some in found.items()}
        newest = {file: max(objects, key=lambda o: o.updated).key for file, objects in fresh.items()}
        folder.put_json(FILES, {"backup": made.name, "files": newest})


def counted(job: Job) -> Counted:
    folder = job.need_folder()
    noted = folder.json(FILES)
    if noted is None:
        raise CliError(f"{folder.uri}/{FILES}: no such backup", USAGE)
    entities = size = 0
    sizes = {o.key: o.size for o in folder.bucket.list("")}
    for key in noted["files"].values():
        with folder.opened(key) as file:
            entities += rdb.count(file)
        size += sizes[key]
    return Counted(entities=entities, bytes=size)


def restore(job: Job) -> dict[str, Any]:
    """Into a new instance beside the stack's, made as that one is: the service restores nothing in place."""
    api = client(memorystore_v1.MemorystoreClient, job)
    its, parent = api.get_instance(name=job.resource), job.resource.rpartition("/instances/")[0]
    made = _named(api, job)
    if made is None:
        raise CliError(f"backup {job.name}: no such backup of {job.resource}", USAGE)
    source = memorystore_v1.Instance.ManagedBackupSource(backup=made.name)
    wanted = memorystore_v1.Instance(
        managed_backup_source=source, **{k: getattr(its, k) for k in (*COPIED, *ALSO_COPIED)}, endpoints=_networks(its)
    )
    into = f"{parent}/instances/{job.target}"
    asked = {"parent": parent, "instance_id": job.target, "instance": wanted}
    if not _stands(api, into):
        _job(api, job, "create", lambda: api.create_instance(asked), into)
    return {"into": into}


def kept(job: Job) -> dict[str, Any]:
    """Backups of an instance that may be gone by now."""
    api, parent = client(memorystore_v1.MemorystoreClient, job), job.resource.rpartition("/instances/")[0]
    collections = [c for c in api.list_backup_collections(parent=parent) if c.instance == job.resource]
    found = [b for c in collections for b in api.list_backups(parent=c.name)]
    return {"backups": [{"name": b.name, "bytes": b.total_size_bytes} for b in found]}


def resize(job: Job) -> dict[str, Any]:
    api = client(memorystore_v1.MemorystoreClient, job)
    wanted = memorystore_v1.Instance(name=job.resource, node_type=job.sizes["node_type"])
    before = api.get_instance(name=job.resource).node_type
    if before != wanted.node_type:
        mask = field_mask_pb2.FieldMask(paths=["node_type"])
        asked = {"update_mask": mask, "instance": wanted}
        _job(api, job, "update", lambda: api.update_instance(asked), job.resource)
    return {"before": before.name, "now": wanted.node_type.name}


def maintenance(job: Job) -> dict[str, Any]:
    """Moves maintenance that is planned: at once, to the next window, or to a time (RFC 3339) in `target`."""
    api = client(memorystore_v1.MemorystoreClient, job)
    planned = api.get_instance(name=job.resource).maintenance_schedule
    if not planned.start_time:
        raise CliError("no maintenance is planned", USAGE)
    kind, at = when(job.target, memorystore_v1.RescheduleMaintenanceRequest.RescheduleType)
    asked = {"name": job.resource, "reschedule_type": kind, "schedule_time": at}
    _job(api, job, "reschedule", lambda: api.reschedule_maintenance(asked), job.resource)
    after = api.get_instance(name=job.resource).maintenance_schedule
    return {"before": planned.start_time.isoformat(), "now": after.start_time.isoformat() if after.start_time else None}


def _networks(its: memorystore_v1.Instance) -> list[memorystore_v1.Instance.InstanceEndpoint]:
    """Where the new one shall be reached: in the same networks, at addresses of its own."""
    made = [c.psc_auto_connection for e in its.endpoints for c in e.connections if c.psc_auto_connection]
    detail, auto = memorystore_v1.Instance.ConnectionDetail, memorystore_v1.PscAutoConnection
    wanted = {(c.network, c.project_id) for c in made}
    return [
        memorystore_v1.Instance.InstanceEndpoint(
            connections=[detail(psc_auto_connection=auto(network=n, project_id=p)) for n, p in sorted(wanted)]
        )
    ]


def _backups(api: Any, its: memorystore_v1.Instance) -> list[memorystore_v1.Backup]:
    return list(api.list_backups(parent=its.backup_collection)) if its.backup_collection else []


def _named(api: Any, job: Job) -> memorystore_v1.Backup | None:
    its = api.get_instance(name=job.resource)
    return next((b for b in _backups(api, its) if b.name.rpartition("/")[2] == job.name), None)


def _stands(api: Any, name: str) -> bool:
    try:
        api.get_instance(name=name)
    except exceptions.NotFound:
        return False
    return True


def _job(api: Any, job: Job, what: str, start: Any, target: str) -> Operation:
    parent = job.resource.rpartition("/instances/")[0]
    running = of_target(api, parent, memorystore_v1.OperationMetadata, target, what)
    return finished(api, job, what, start, running=running)
