"""Rights of a Kubernetes service account: a role of its own that only its pods take, with what its grants name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pulumi
import pulumi_aws as aws

from infra.clouds.aws.cluster import Cluster, add_on
from infra.clouds.aws.grants import statements
from infra.clouds.aws.here import Here
from infra.clouds.aws.policies import Statement, allow, late_document, trusts, trusts_service_account
from infra.clouds.site import Grant, Identity


def _scale_node_groups(here: Here, cluster: Cluster) -> list[Statement]:
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
    rights = statements(here, key, grants, {"scale_node_groups": lambda here, _: _scale_node_groups(here, cluster)})
    if rights:
        after.append(aws.iam.RolePolicy(name, name=name, role=role.name, policy=late_document(rights), opts=here.on()))
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
