"""What a serving machine may do: read its models and its store, write its log, take its leave, open a session."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pulumi
import pulumi_aws as aws

from infra.clouds.aws.grants import statements
from infra.clouds.aws.here import Here
from infra.clouds.aws.policies import Statement, allow, late_document, trusts
from infra.clouds.machine_site import MachineIdentity
from infra.clouds.site import Grant

ROLE = "servers"
# What Session Manager's agent needs, and no more: AWS' own policy would let it read every parameter of the account.
SESSIONS = (
    "ssm:UpdateInstanceInformation",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
)
# A machine that is to go finds its group, hook and target groups; these have no resource to name.
LOOKS = (
    "autoscaling:DescribeAutoScalingGroups",
    "autoscaling:DescribeAutoScalingInstances",
    "autoscaling:DescribeLifecycleHooks",
)


def identity(here: Here, key: aws.kms.Key, logs: aws.cloudwatch.LogGroup, grants: Sequence[Grant]) -> MachineIdentity:
    role = aws.iam.Role(
        ROLE,
        name=here.name("iam/role:Role", ROLE),
        assume_role_policy=trusts("ec2.amazonaws.com"),
        tags=here.tags(ROLE),
        opts=here.on(),
    )
    rights = [*statements(here, key, grants), *_own(here, logs), *_images(here)]
    after: list[pulumi.Resource] = [
        aws.iam.RolePolicy(ROLE, name=ROLE, role=role.name, policy=late_document(rights), opts=here.on())
    ]
    for i, grant in enumerate(grants):
        if grant.bind is not None:
            after += grant.bind(f"{ROLE}-{i}", role.name)
    profile = aws.iam.InstanceProfile(
        ROLE,
        name=here.name("iam/instanceProfile:InstanceProfile", ROLE),
        role=role.name,
        tags=here.tags(ROLE),
        opts=here.on(),
    )
    return MachineIdentity(principal=profile.name, after=(*after, profile))


def _images(here: Here) -> list[Statement]:
    """Of a server's image in the account's own registry; the others ask for nobody's name."""
    found = re.match(r"(\d+)\.dkr\.ecr\.([-a-z0-9]+)\.amazonaws\.com/([^:@]+)", here.spec.image or "")
    if found is None:
        return []
    account, region, name = found.groups()
    pulls = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    return [
        allow(["ecr:GetAuthorizationToken"], "*"),
        allow(pulls, f"arn:aws:ecr:{region}:{account}:repository/{name}"),
    ]


def _own(here: Here, logs: aws.cloudwatch.LogGroup) -> list[Statement]:
    mine = {"StringEquals": {"aws:ResourceTag/slipway-stack": here.stack}}
    group = here.arn("autoscaling", "autoScalingGroup:*:autoScalingGroupName/*")
    targets = here.arn("elasticloadbalancing", "targetgroup/*")
    return [
        allow(["logs:CreateLogStream", "logs:PutLogEvents"], pulumi.Output.concat(logs.arn, ":*")),
        allow(LOOKS, "*"),
        allow(["autoscaling:CompleteLifecycleAction"], group, when=mine),
        allow(["elasticloadbalancing:DeregisterTargets"], targets, when=mine),
        allow(SESSIONS, "*"),
    ]
