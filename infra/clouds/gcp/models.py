"""Model files: a bucket of the stack for those from this machine, and a look into the user's for the others."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
from pulumi_gcp import storage

from infra.clouds.gcp.facts import whole
from infra.clouds.gcp.here import Here
from infra.clouds.models import lacking
from infra.clouds.site import ModelFiles


def bucket(here: Here) -> storage.Bucket:
    days = whole("old_version_days")
    rule, act, when = (
        storage.BucketLifecycleRuleArgs,
        storage.BucketLifecycleRuleActionArgs,
        storage.BucketLifecycleRuleConditionArgs,
    )
    return storage.Bucket(
        "models",
        name=here.name("storage/bucket:Bucket", "models"),
        location=here.spec.region,
        uniform_bucket_level_access=True,
        public_access_prevention="enforced",
        force_destroy=not here.spec.protect,
        versioning=storage.BucketVersioningArgs(enabled=True),
        soft_delete_policy=storage.BucketSoftDeletePolicyArgs(retention_duration_seconds=0),  # it would be billed
        lifecycle_rules=[
            rule(
                action=act(type="Delete"),
                condition=when(days_since_noncurrent_time=days, with_state="ARCHIVED"),
            ),
            rule(action=act(type="AbortIncompleteMultipartUpload"), condition=when(age=1)),
        ],
        labels=here.labels("models"),
        opts=here.on(),
    )


def upload(
    here: Here, owner: storage.Bucket, files: Mapping[str, pulumi.Asset], digest: str, *, kept: bool = False
) -> ModelFiles:
    """A folder named by what is in it: another content is another folder, and the old one goes after the switch; or it
    is kept until the bucket goes, where old machines may still read it when the new content is declared."""
    objects = [
        storage.BucketObject(
            f"models-{digest}-{path}", bucket=owner.name, name=f"{digest}/{path}", source=asset, opts=here.on(kept=kept)
        )
        for path, asset in sorted(files.items())
    ]
    uri = pulumi.Output.concat("gs://", owner.name, f"/{digest}")
    return ModelFiles(uri=uri, bucket=owner.name, after=objects)


def missing(here_provider: pulumi.ProviderResource, uri: str) -> str | None:
    """Asks for the objects under the model's address, in preview as well."""
    name, _, prefix = uri.removeprefix("gs://").partition("/")
    prefix = f"{prefix.rstrip('/')}/" if prefix else ""
    options = pulumi.InvokeOptions(provider=here_provider)
    try:
        found = storage.get_bucket_objects(bucket=name, prefix=prefix, opts=options)
    except Exception as e:
        if "not found" in str(e).lower() or "notfound" in str(e).lower() or "404" in str(e):
            return f"there is no bucket {name}, or it is not yours to read"
        raise
    return lacking(uri, [o.name.removeprefix(prefix) for o in found.bucket_objects or ()])
