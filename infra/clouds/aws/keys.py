"""One key for what the stack stores encrypted: secrets, logs, model files."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws

from infra.clouds.aws.facts import whole
from infra.clouds.aws.here import Here
from infra.clouds.aws.policies import document


def key(here: Here, *log_groups: str) -> aws.kms.Key:
    """The account decides by IAM who uses it; the logging service may for this stack's log groups alone, by name."""
    groups = [f"log-group:{name}" for name in log_groups]
    policy = document(
        [
            {
                "Sid": "AccountDecides",
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{here.account}:root"},
                "Action": "kms:*",
                "Resource": "*",
            },
            {
                "Sid": "LogsOfTheStack",
                "Effect": "Allow",
                "Principal": {"Service": f"logs.{here.spec.region}.amazonaws.com"},
                "Action": ["kms:Encrypt*", "kms:Decrypt*", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"],
                "Resource": "*",
                "Condition": {
                    "ArnLike": {"kms:EncryptionContext:aws:logs:arn": [here.arn("logs", group) for group in groups]}
                },
            },
        ]
    )
    made = aws.kms.Key(
        "key",
        description=f"Secrets, logs and model files of the stack {here.stack}",
        enable_key_rotation=True,
        deletion_window_in_days=whole("key_deletion_window"),
        policy=policy,
        tags=here.tags("key"),
        opts=here.on(),
    )
    aws.kms.Alias("key", name=here.name("kms/alias:Alias", "key"), target_key_id=made.key_id, opts=here.on())
    return made


def control_plane_logs(here: Here) -> str:
    """EKS writes to this name and no other."""
    return f"/aws/eks/{here.name('eks/cluster:Cluster', 'cluster')}/cluster"


def server_logs(here: Here) -> str:
    return here.name("cloudwatch/logGroup:LogGroup", "servers")


def flow_logs(here: Here) -> str:
    return here.name("cloudwatch/logGroup:LogGroup", "flow-logs")


def log_group(here: Here, role: str, name: str, encrypted_by: aws.kms.Key) -> aws.cloudwatch.LogGroup:
    """Owned and named before anything writes to it, so that nothing else makes it without an end of its records."""
    return aws.cloudwatch.LogGroup(
        role,
        name=name,
        retention_in_days=whole("log_retention"),
        kms_key_id=encrypted_by.arn,
        tags=here.tags(role),
        opts=pulumi.ResourceOptions.merge(here.on(), pulumi.ResourceOptions(depends_on=[encrypted_by])),
    )
