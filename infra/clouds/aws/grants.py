"""Rights by what they are for, as statements of IAM: the same for pods and for machines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pulumi
import pulumi_aws as aws

from infra.clouds.aws.here import Here
from infra.clouds.aws.policies import Statement, allow
from infra.clouds.site import Grant

BUCKET = "arn:aws:s3:::"
Rule = Callable[[Here, pulumi.Output[str]], list[Statement]]


def _read_bucket(here: Here, bucket: pulumi.Output[str]) -> list[Statement]:
    arn = pulumi.Output.concat(BUCKET, bucket)
    return [
        allow(["s3:ListBucket", "s3:GetBucketLocation"], arn),
        allow(["s3:GetObject"], pulumi.Output.concat(arn, "/*")),
    ]


def _read_write_prefix(here: Here, target: pulumi.Output[str]) -> list[Statement]:
    parts = target.apply(lambda t: t.strip("/").partition("/"))
    arn = parts.apply(lambda p: f"{BUCKET}{p[0]}")
    keys = parts.apply(lambda p: f"{p[2]}/*" if p[2] else "*")
    objects = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    return [
        allow(["s3:ListBucket"], arn, when={"StringLike": {"s3:prefix": [keys]}}),
        allow(["s3:GetBucketLocation"], arn),
        allow(objects, pulumi.Output.concat(arn, "/", keys)),
    ]


RULES: Mapping[str, Rule] = {"read_bucket": _read_bucket, "read_write_prefix": _read_write_prefix}
S3_GRANTS = tuple(RULES)


def statements(
    here: Here, key: aws.kms.Key, grants: Sequence[Grant], more: Mapping[str, Rule] | None = None
) -> list[Statement]:
    """Of the grants that do not declare their right themselves; `more`: kinds that the caller knows beside these."""
    rules = {**RULES, **(more or {})}
    found: list[Statement] = []
    for grant in grants:
        if grant.bind is not None:
            continue
        if grant.kind not in rules:
            raise ValueError(f"grant {grant.kind}: AWS knows no such right; allowed: {', '.join(sorted(rules))}")
        found += rules[grant.kind](here, pulumi.Output.from_input(grant.target))
    if any(g.kind in S3_GRANTS for g in grants):  # the stack's own bucket is encrypted with its key
        through = {"StringEquals": {"kms:ViaService": f"s3.{here.spec.region}.amazonaws.com"}}
        found.append(allow(["kms:Decrypt", "kms:GenerateDataKey"], key.arn, when=through))
    return found
