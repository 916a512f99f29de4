"""Rights of a Kubernetes service account: a role of its own that only its pods take, with what its grants name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pulumi
import pulumi_aws as aws

from infra.clouds.aws.cluster import Cluster, add_on
from infra.clouds.aws.here import Here
from infra.clouds.aws.policies import Statement, allow, late_document, trusts, trusts_service_account
from infra.clouds.site import Grant, Identity

BUCKET = "arn:aws:s3:::"
Rule = Callable[[Here, Cluster, pulumi.Output[str]], list[Statement]]


def _read_bucket(here: Here, cluster: Cluster, bucket: pulumi.Output[str]) -> list[Statement]:
    arn = pulumi.Output.concat(BUCKET, bucket)
    return [
        allow(["s3:ListBucket", "s3:GetBucketLocation"], arn),
        allow(["s3:GetObject"], pulumi.Output.concat(arn, "/*")),
    ]


def _read_write_prefix(here: Here, cluster: Cluster, target: pulumi.Output[str]) -> list[Statement]:
    parts = target.apply(lambda t: t.strip("/").partition("/"))
    arn = parts.apply(lambda p: f"{BUCKET}{p[0]}")
    keys = parts.apply(lambda p: f"{p[2]}/*" if p[2] else "*")
    objects = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    return [
        allow(["s3:ListBucket"], arn, when={"StringLike": {"s3:prefix": [keys]}}),
        allow(["s3:GetBucketLocation"], arn),
        allow(objects, pulumi.Output.concat(arn, "/", keys)),
    ]


def _scale_node_groups(here: Here, cluster: Cluster, target: pulumi.Output[str]) -> list[Statement]:
    """Reading has no resource to name in these interfaces; what changes a group is held to groups of this cluster."""
    reads = [
        "autoscaling:DescribeAutoScalingGroups",
        "autoscaling:DescribeAutoScalingInstances",
        "autoscaling:DescribeLaunchConfigurations",
        "autoscaling:DescribeScalingActivities",
        "autoscaling:DescribeTags",
        "ec2:DescribeImages",
        "ec2:DescribeInstanceTypes",
        "ec2:DescribeLaunchTemplateVersions",
        "ec2:GetInstanceTypesFromInstanceRequirements",
    ]
    owned = {"StringEquals": {f"aws:ResourceTag/k8s.io/cluster-autoscaler/{cluster.name}": "owned"}}
    groups = here.arn("eks", f"nodegroup/{cluster.name}/*")
    scaling = here.arn("autoscaling", "autoScalingGroup:*:autoScalingGroupName/eks-*")
    return [
        allow(reads, "*"),
        allow(["eks:DescribeNodegroup"], groups),
        allow(
            ["autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"], scaling, when=owned
        ),
    ]


RULES: dict[str, Rule] = {
    "read_bucket": _read_bucket,
    "read_write_prefix": _read_write_prefix,
    "scale_node_groups": _scale_node_groups,
}
S3_GRANTS = ("read_bucket", "read_write_prefix")


def identity(
    here: Here,
    cluster: Cluster,
    key: aws.kms.Key,
    agent: Callable[[], aws.eks.Addon],
    namespace: str,
    service_account: str,
    grants: Sequence[Grant],
) -> Identity:
    """By a token of the cluster (IRSA), or by EKS's agent on each node, as the configuration says."""
    name = f"{namespace}-{service_account}"
    by_agent = here.spec.workload_identity == "pod-identity"
    role = aws.iam.Role(
        name,
        name=here.name("iam/role:Role", name),
        assume_role_policy=trusts("pods.eks.amazonaws.com", ("sts:AssumeRole", "sts:TagSession"))
        if by_agent
        else trusts_service_account(cluster.oidc.arn, cluster.issuer, namespace, service_account),
        tags=here.tags(name),
        opts=here.on(),
    )
    after: list[pulumi.Resource] = [role]
    statements = _statements(here, cluster, key, grants)
    if statements:
        after.append(
            aws.iam.RolePolicy(name, name=name, role=role.name, policy=late_document(statements), opts=here.on())
        )
    for i, grant in enumerate(grants):
        if grant.bind is not None:
            after += grant.bind(f"{service_account}-{i}", role.name)
    if not by_agent:
        return Identity(annotations={"eks.amazonaws.com/role-arn": role.arn}, after=tuple(after))
    association = aws.eks.PodIdentityAssociation(
        name,
        cluster_name=cluster.resource.name,
        namespace=namespace,
        service_account=service_account,
        role_arn=role.arn,
        tags=here.tags(name),
        opts=here.on(agent()),
    )
    return Identity(annotations={}, after=(*after, association))


def pod_identity_agent(here: Here, cluster: Cluster) -> aws.eks.Addon:
    return add_on(here, cluster.resource, "eks-pod-identity-agent")


def _statements(here: Here, cluster: Cluster, key: aws.kms.Key, grants: Sequence[Grant]) -> list[Statement]:
    found: list[Statement] = []
    for grant in grants:
        if grant.bind is not None:
            continue
        if grant.kind not in RULES:
            raise ValueError(f"grant {grant.kind}: AWS knows no such right; allowed: {', '.join(sorted(RULES))}")
        found += RULES[grant.kind](here, cluster, pulumi.Output.from_input(grant.target))
    if any(g.kind in S3_GRANTS for g in grants):  # the stack's own bucket is encrypted with its key
        through = {"StringEquals": {"kms:ViaService": f"s3.{here.spec.region}.amazonaws.com"}}
        found.append(allow(["kms:Decrypt", "kms:GenerateDataKey"], key.arn, when=through))
    return found
