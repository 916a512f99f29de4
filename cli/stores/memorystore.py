"""Memorystore for Redis through google-cloud-redis: export, import, failover, maintenance, size."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from google.cloud import redis_v1
from google.protobuf import field_mask_pb2, timestamp_pb2

from cli.errors import USAGE, CliError
from cli.stores import rdb
from cli.stores.google import Operation, client, finished, of_target
from cli.stores.job import Counted, Folder, Job

FILE = "store.rdb"
MODES = redis_v1.FailoverInstanceRequest.DataProtectionMode
WORDS = {"now": "IMMEDIATE", "next": "NEXT_AVAILABLE_WINDOW"}
TYPES = redis_v1.RescheduleMaintenanceRequest.RescheduleType


def status(job: Job) -> dict[str, Any]:
    its = client(redis_v1.CloudRedisClient, job).get_instance(name=job.resource)
    schedule = its.maintenance_schedule
    return {
        "store": "memorystore",
        "instance": job.resource,
        "status": its.state.name,
        "why": its.status_message or None,
        "tier": its.tier.name,
        "gib": its.memory_size_gb,
        "replicas": its.replica_count,
        "version": its.redis_version,
        "zone": its.current_location_id,
        "snapshots": its.persistence_config.rdb_snapshot_period.name,
        "maintenance": schedule.start_time.isoformat() if schedule.start_time else None,
        "maintenance_can_move_until": (
            schedule.schedule_deadline_time.isoformat() if schedule.schedule_deadline_time else None
        ),
        "bytes": int(its.memory_size_gb) * 2**30,  # at most: what is in use, its monitoring knows
    }


def backup(job: Job) -> dict[str, Any]:
    """One file in the backup's folder. Reads and writes go on meanwhile, on a basic instance more slowly."""
    folder, api = job.need_folder(), client(redis_v1.CloudRedisClient, job)
    fix = f"let {_identity(api, job.resource)} write objects of gs://{folder.uri.split('/')[2]}, then the same command"
    if not _is_there(folder):  # an object is there when it is whole
        _job(api, job, "export", lambda: api.export_instance(name=job.resource, output_config=_output(folder)), fix=fix)
    if not _is_there(folder):
        raise CliError(f"export: it ended, and {folder.uri}/{FILE} is not there. To go on: the same command")
    return {"where": f"{folder.uri}/{FILE}"}


def _output(folder: Folder) -> redis_v1.OutputConfig:
    return redis_v1.OutputConfig(gcs_destination=redis_v1.GcsDestination(uri=f"{folder.uri}/{FILE}"))


def counted(job: Job) -> Counted:
    folder = job.need_folder()
    with folder.opened(folder.prefix + FILE) as file:
        entities = rdb.count(file)
    size = next(o.size for o in folder.list() if o.key == folder.prefix + FILE)
    return Counted(entities=entities, bytes=size)


def restore(job: Job) -> dict[str, Any]:
    """Into the stack's own instance, or another: all that it holds is replaced, and it does not answer meanwhile."""
    folder, api = job.need_folder(), client(redis_v1.CloudRedisClient, job)
    if not _is_there(folder):
        raise CliError(
            f"{folder.uri}/{FILE}: no such backup. To fix: slipway store status {job.stack} lists them", USAGE
        )
    into = job.resource.rpartition("/")[0] + "/" + job.target if job.target else job.resource
    source = redis_v1.InputConfig(gcs_source=redis_v1.GcsSource(uri=f"{folder.uri}/{FILE}"))
    fix = f"let {_identity(api, into)} read objects of gs://{folder.uri.split('/')[2]}, then the same command"
    _job(api, job, "import", lambda: api.import_instance(name=into, input_config=source), into, fix)
    return {"into": into}


def resize(job: Job) -> dict[str, Any]:
    api, gib = client(redis_v1.CloudRedisClient, job), int(job.sizes["memory_size_gb"])
    before = api.get_instance(name=job.resource).memory_size_gb
    if before != gib:
        wanted = redis_v1.Instance(name=job.resource, memory_size_gb=gib)
        mask = field_mask_pb2.FieldMask(paths=["memory_size_gb"])
        _job(api, job, "update", lambda: api.update_instance(update_mask=mask, instance=wanted))
    return {"before": f"{before} GiB", "now": f"{gib} GiB"}


def failover(job: Job) -> dict[str, Any]:
    """The replica becomes the primary; refused by the cloud where it is too far behind to lose nothing much."""
    api = client(redis_v1.CloudRedisClient, job)
    before = api.get_instance(name=job.resource)
    if before.tier != redis_v1.Instance.Tier.STANDARD_HA:
        raise CliError("a basic instance has no replica to fail over to", USAGE)
    mode = MODES.LIMITED_DATA_LOSS
    _job(api, job, "failover", lambda: api.failover_instance(name=job.resource, data_protection_mode=mode))
    return {"before": before.current_location_id, "now": api.get_instance(name=job.resource).current_location_id}


def maintenance(job: Job) -> dict[str, Any]:
    """Moves maintenance that is planned: at once, to the next window, or to a time (RFC 3339) in `target`."""
    api = client(redis_v1.CloudRedisClient, job)
    planned = api.get_instance(name=job.resource).maintenance_schedule
    if not planned.start_time:
        raise CliError("no maintenance is planned", USAGE)
    if not planned.can_reschedule:
        raise CliError(f"the maintenance at {planned.start_time.isoformat()} cannot be moved any more", USAGE)
    kind, at = when(job.target, TYPES)
    _job(
        api,
        job,
        "reschedule",
        lambda: api.reschedule_maintenance(name=job.resource, reschedule_type=kind, schedule_time=at),
    )
    after = api.get_instance(name=job.resource).maintenance_schedule
    return {"before": planned.start_time.isoformat(), "now": after.start_time.isoformat() if after.start_time else None}


def when(word: str, types: Any) -> tuple[Any, timestamp_pb2.Timestamp | None]:
    known = {w: t for w, t in WORDS.items() if t in types.__members__}  # Valkey has no next window
    if word in known:
        return types[known[word]], None
    try:
        at = datetime.fromisoformat(word)
    except ValueError:
        allowed = f"{', '.join(known)}, or such as 2026-12-01T03:00:00Z"
        raise CliError(f"{word}: no time; allowed: {allowed}", USAGE) from None
    stamp = timestamp_pb2.Timestamp()
    stamp.FromDatetime(at)
    return types.SPECIFIC_TIME, stamp


def _job(api: Any, job: Job, what: str, start: Any, target: str = "", fix: str = "") -> Operation:
    parent = job.resource.rpartition("/instances/")[0]
    running = of_target(api, parent, redis_v1.OperationMetadata, target or job.resource, what)
    return finished(api, job, what, start, running=running, fix=fix)


def _identity(api: Any, instance: str) -> str:
    """Who reads and writes buckets for it."""
    return str(api.get_instance(name=instance).persistence_iam_identity) or "the instance's own identity"


def _is_there(folder: Folder) -> bool:
    return any(o.key == folder.prefix + FILE and o.size for o in folder.list())
