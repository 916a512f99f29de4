"""Model files: the stack's own bucket for files of a local path, and the look into a bucket that the user owns."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pulumi
import pulumi_aws as aws

from infra.clouds.aws.facts import whole
from infra.clouds.aws.here import Here
from infra.clouds.aws.policies import late_document
from infra.clouds.models import lacking
from infra.clouds.site import ModelFiles

ROLE = "models"


def upload(here: Here, key: aws.kms.Key, files: Mapping[str, pulumi.Asset], digest: str) -> ModelFiles:
    """The digest is the folder: a generation reads its own files while the one before it still reads the others."""
    bucket = aws.s3.Bucket(
        ROLE,
        bucket=here.name("s3/bucket:Bucket", ROLE),
        force_destroy=not here.spec.protect,
        tags=here.tags(ROLE),
        opts=here.on(),
    )
    ready = [*_close(here, bucket), *_keep(here, bucket, key)]
    objects = [
        aws.s3.BucketObjectv2(
            f"{ROLE}-{digest}-{path.replace('/', '-')}",
            bucket=bucket.bucket,
            key=f"{digest}/{path}",
            source=asset,
            server_side_encryption="aws:kms",
            kms_key_id=key.arn,
            tags=here.tags(ROLE),
            opts=here.on(*ready),
        )
        for path, asset in sorted(files.items())
    ]
    return ModelFiles(
        uri=pulumi.Output.concat("s3://", bucket.bucket, "/", digest), bucket=bucket.bucket, after=tuple(objects)
    )


def _close(here: Here, bucket: aws.s3.Bucket) -> list[pulumi.Resource]:
    """Nobody from outside, no access lists, and by TLS alone: one after the other, as S3 refuses two such changes of a
    bucket at once."""
    blocked = aws.s3.BucketPublicAccessBlock(
        ROLE,
        bucket=bucket.bucket,
        block_public_acls=True,
        block_public_policy=True,
        ignore_public_acls=True,
        restrict_public_buckets=True,
        opts=here.on(),
    )
    owner = aws.s3.BucketOwnershipControls(
        ROLE,
        bucket=bucket.bucket,
        rule=aws.s3.BucketOwnershipControlsRuleArgs(object_ownership="BucketOwnerEnforced"),
        opts=here.on(blocked),
    )
    tls_only = {
        "Sid": "OnlyByTls",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [bucket.arn, pulumi.Output.concat(bucket.arn, "/*")],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return [
        owner,
        aws.s3.BucketPolicy(ROLE, bucket=bucket.bucket, policy=late_document([tls_only]), opts=here.on(owner)),
    ]


def _keep(here: Here, bucket: aws.s3.Bucket, key: aws.kms.Key) -> list[pulumi.Resource]:
    """Encrypted by the stack's key; what was overwritten can be had back for a while."""
    by_key = aws.s3.BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultArgs(
        sse_algorithm="aws:kms", kms_master_key_id=key.arn
    )
    rule = aws.s3.BucketServerSideEncryptionConfigurationRuleArgs(
        bucket_key_enabled=True, apply_server_side_encryption_by_default=by_key
    )
    encrypted = aws.s3.BucketServerSideEncryptionConfiguration(ROLE, bucket=bucket.bucket, rules=[rule], opts=here.on())
    versioned = aws.s3.BucketVersioning(
        ROLE,
        bucket=bucket.bucket,
        versioning_configuration=aws.s3.BucketVersioningVersioningConfigurationArgs(status="Enabled"),
        opts=here.on(),
    )
    days = whole("old_model_versions")
    ends = aws.s3.BucketLifecycleConfigurationRuleArgs(
        id="old-versions",
        status="Enabled",
        filter=aws.s3.BucketLifecycleConfigurationRuleFilterArgs(prefix=""),
        noncurrent_version_expiration=aws.s3.BucketLifecycleConfigurationRuleNoncurrentVersionExpirationArgs(
            noncurrent_days=days
        ),
        abort_incomplete_multipart_upload=aws.s3.BucketLifecycleConfigurationRuleAbortIncompleteMultipartUploadArgs(
            days_after_initiation=days
        ),
    )
    ended = aws.s3.BucketLifecycleConfiguration(ROLE, bucket=bucket.bucket, rules=[ends], opts=here.on(versioned))
    return [encrypted, versioned, ended]


def model_missing(provider: aws.Provider, storage_uri: str) -> str | None:
    """What the servers would find: a model's folder with a numbered version that holds a file."""
    found = re.fullmatch(r"s3://([^/]+)/*(.*?)/*", storage_uri)
    if found is None:
        return f"{storage_uri} is no address of S3: s3://bucket/path of a model"
    bucket, path = found.groups()
    prefix = f"{path}/" if path else ""
    try:
        listed = aws.s3.get_objects(bucket=bucket, prefix=prefix, opts=pulumi.InvokeOptions(provider=provider))
    except Exception as e:  # the SDK raises a bare Exception with the provider's words
        return f"bucket {bucket} cannot be read: {str(e).strip().splitlines()[0]}"
    return lacking(storage_uri, [k.removeprefix(prefix) for k in listed.keys])
