"""What is in buckets and parameters that a program asks for: those of the stack, of the user and of the cloud."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase

from simulators.core import tables, templates
from simulators.core.checks import text
from simulators.core.lifecycle import CloudError, Target
from simulators.core.values import Json, Properties
from simulators.core.world import World

BUCKETS = {"gcp": ("gcp:storage/bucket:Bucket", "gcp:storage/bucketObject:BucketObject", "name"),
           "aws": ("aws:s3/bucket:Bucket", "aws:s3/bucketObjectv2:BucketObjectv2", "key")}  # fmt: skip
_USERS = "1/model.onnx"  # a bucket that the stack does not own holds a model wherever one is looked for


def keys(world: World, cloud: str, bucket: str, prefix: str) -> list[str]:
    """Raises for a bucket that does not exist; one that the stack made has what the stack put there."""
    owner, kind, field = BUCKETS[cloud]
    if any(fnmatchcase(bucket, gone) for gone in world.absent):
        raise CloudError(_NO_BUCKET[cloud])
    if any(fnmatchcase(bucket, emptied) for emptied in world.emptied):
        return []
    held = [
        text(t.outputs.get(field))
        for t in world.things.values()
        if t.token == kind and text(t.outputs.get("bucket")) == bucket
    ]
    owned = any(t.token == owner and bucket in (t.name, t.id) for t in world.things.values())
    found = held if owned else [*held, f"{prefix.rstrip('/')}/{_USERS}".lstrip("/")]
    return sorted({k for k in found if k.startswith(prefix)})


_NO_BUCKET = {
    "gcp": "googleapi: Error 404: The specified bucket does not exist., notFound",
    "aws": "api error NoSuchBucket: The specified bucket does not exist",
}


def gcs_objects(world: World, target: Target, args: Properties) -> Properties:
    bucket, prefix = text(args.get("bucket")), text(args.get("prefix"))
    pattern = text(args.get("matchGlob"))
    names = [k for k in keys(world, "gcp", bucket, prefix) if not pattern or fnmatchcase(k, pattern)]
    link = f"https://www.googleapis.com/storage/v1/b/{bucket}/o/"
    rows: list[Json] = [
        {"name": n, "contentType": "application/octet-stream", "storageClass": "STANDARD", "selfLink": link + n,
         "mediaLink": link + n}
        for n in names
    ]  # fmt: skip
    return {"bucket": bucket, "prefix": prefix, "matchGlob": pattern, "bucketObjects": rows, "id": bucket}


def gcs_object(world: World, target: Target, args: Properties) -> Properties:
    bucket, name = text(args.get("bucket")), text(args.get("name"))
    if name not in keys(world, "gcp", bucket, name):
        raise CloudError(f"googleapi: Error 404: No such object: {bucket}/{name}, notFound")
    return {"bucket": bucket, "name": name, "id": f"{bucket}-{name}", "generation": 1, "storageClass": "STANDARD"}


def s3_objects(world: World, target: Target, args: Properties) -> Properties:
    bucket, prefix = text(args.get("bucket")), text(args.get("prefix"))
    found: list[Json] = list(keys(world, "aws", bucket, prefix))
    most = int(text(args.get("maxKeys")) or 1000)
    return {
        "bucket": bucket, "prefix": prefix, "keys": found[:most], "maxKeys": most, "commonPrefixes": [], "owners": [],
        "id": bucket, "region": target.defaults["region"],
    }  # fmt: skip


def s3_object(world: World, target: Target, args: Properties) -> Properties:
    bucket, key = text(args.get("bucket")), text(args.get("key"))
    if key not in keys(world, "aws", bucket, key):
        raise CloudError(f"reading S3 Object ({key}): couldn't find resource: NotFound")
    return {"bucket": bucket, "key": key, "id": f"{bucket}/{key}", "arn": f"arn:aws:s3:::{bucket}/{key}", "tags": {}}


def parameter(world: World, target: Target, args: Properties) -> Properties:
    """A parameter of the stack, or one of the cloud's own (/aws/service/...), whose value is made up and stable."""
    name = text(args.get("name"))
    mine = [t for t in world.things.values() if t.token == "aws:ssm/parameter:Parameter" and t.name == name]
    if not mine and not name.startswith("/aws/service/"):
        raise CloudError(f"reading SSM Parameter ({name}): couldn't find resource: ParameterNotFound")
    made = (
        templates.fill("ami-{hex17}", {}, {}, name)
        if re.search(r"/(image_id|ami-id|image-id)", name)
        else templates.fill("{n6}", {}, {}, name)
    )
    value = text(mine[0].outputs.get("value")) if mine else made
    if made.startswith("ami-") and not mine:
        world.answers[value] = name
    arn = f"arn:aws:ssm:{target.defaults['region']}::parameter{name}"
    return {
        "name": name,
        "id": name,
        "arn": arn,
        "type": "String",
        "value": value,
        "insecureValue": value,
        "version": 1,
    }


def engine_versions(world: World, target: Target, args: Properties) -> Properties:
    """GKE's versions by rows of versions.csv."""
    rows = [r for r in tables.rows("versions") if r["cloud"] == "gcp"]
    prefix = text(args.get("versionPrefix"))
    newest = [r["version"] for r in rows if r["version"].startswith(prefix)]
    if not newest:
        raise CloudError(f"no master version starts with {prefix}")
    versions: list[Json] = list(reversed(newest))
    channels = {r["channel"]: r["version"] for r in rows if r["channel"]}
    every: Json = dict(channels)
    default = channels.get("REGULAR", newest[-1])
    return {
        "id": "versions", "defaultClusterVersion": default, "latestMasterVersion": newest[-1],
        "latestNodeVersion": newest[-1], "validMasterVersions": versions, "validNodeVersions": versions,
        "releaseChannelDefaultVersion": every, "releaseChannelLatestVersion": every,
        "releaseChannelUpgradeTargetVersion": every,
    }  # fmt: skip


FUNCTIONS: dict[str, Callable[[World, Target, Properties], Properties]] = {
    "gcp:storage/getBucketObjects:getBucketObjects": gcs_objects,
    "gcp:storage/getBucketObject:getBucketObject": gcs_object,
    "gcp:container/getEngineVersions:getEngineVersions": engine_versions,
    "aws:s3/getObjects:getObjects": s3_objects,
    "aws:s3/getObject:getObject": s3_object,
    "aws:ssm/getParameter:getParameter": parameter,
}
