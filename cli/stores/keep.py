"""Backups below `backup_uri`: made, read again and counted, listed with what they cost a month."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cli.errors import USAGE, CliError
from cli.models.bucket import open_bucket
from cli.session import Session
from cli.stores.remote import Standing, work
from infra.spec import Spec


def folder(spec: Spec, stack: str, name: str = "") -> str:
    """`backup_uri` is the user's own bucket; every stack has a folder in it, every backup one in that."""
    if spec.backup_uri is None:
        scheme = {"gcp": "gs", "aws": "s3"}.get(spec.cloud, "gs")
        raise CliError(
            f"backup_uri: not set. To fix: slipway:backup_uri: {scheme}://YOUR-BUCKET/slipway in the stack's "
            "configuration, in a bucket that no stack owns",
            USAGE,
        )
    return "/".join(x for x in (spec.backup_uri.rstrip("/"), stack, name) if x)


def kept(session: Session, its: Standing, spec: Spec, name: str) -> Mapping[str, Any]:
    """Makes a backup in the bucket, or goes on with it, reads it again and counts; raises where numbers differ."""
    where = folder(spec, session.stack, name)
    work(session, its, "backup", name=name, folder=where)
    session.say(f"reading {where} again")
    found = work(session, its, "counted", name=name, folder=where)
    session.say(f"{where}: {found['entities']} entities, {found['bytes']} bytes")
    return {"where": where, **found}


def today() -> str:
    """A name for a backup that has none."""
    return datetime.now(UTC).strftime("%Y%m%d-%H%M%S")


def listed(session: Session, spec: Spec, stack: str = "") -> list[dict[str, Any]]:
    """What lies below the stack's folder, a row for each backup; whole ones say how many entities they hold."""
    if spec.backup_uri is None:
        return []
    where = folder(spec, stack or session.stack)
    bucket, prefix = open_bucket(where, session.project.folder / ".slipway" / "uploads.json")
    sizes: dict[str, int] = {}
    for stored in bucket.list(prefix):
        name = stored.key.removeprefix(prefix).split("/")[0]
        sizes[name] = sizes.get(name, 0) + stored.size
    return [{"name": n, "where": f"{where}/{n}", "bytes": size} for n, size in sorted(sizes.items())]
