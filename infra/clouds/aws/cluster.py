"""The EKS cluster: control plane, its logs and encryption, who may speak to it, its identity provider, its add-ons."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.clouds.aws.facts import text
from infra.clouds.aws.here import Here
from infra.clouds.aws.keys import control_plane_logs, log_group
from infra.clouds.aws.network import Network
from infra.clouds.aws.policies import MANAGED, allow, late_document, trusts, trusts_service_account

LOGS = ("api", "audit", "authenticator", "controllerManager", "scheduler")
CNI = {"enableNetworkPolicy": "true"}  # without it no NetworkPolicy is enforced
UNROUTED = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")  # RFC 1918 and 6598


@dataclass(frozen=True, kw_only=True)
class Cluster:
    resource: aws.eks.Cluster
    name: str
    version: str
    issuer: pulumi.Output[str]
    oidc: aws.iam.OpenIdConnectProvider
    security_group: pulumi.Output[str]  # EKS's own: nodes and control plane speak within it
    node_add_ons: tuple[pulumi.Resource, ...]  # before any node


def cluster(here: Here, net: Network, key: aws.kms.Key) -> Cluster:
    name = here.name("eks/cluster:Cluster", "cluster")
    # before the cluster and gone after it: a control plane that is going still writes
    logs = log_group(here, "cluster", control_plane_logs(here), key)
    role, rights = _role(here, key, logs)
    outside, inside = admins(here.spec.admin_cidrs)
    version = here.spec.kubernetes_version or text("kubernetes_version")
    made = aws.eks.Cluster(
        "cluster",
        name=name,
        version=version,
        role_arn=role.arn,
        access_config=aws.eks.ClusterAccessConfigArgs(
            authentication_mode="API", bootstrap_cluster_creator_admin_permissions=True
        ),
        bootstrap_self_managed_addons=False,
        deletion_protection=here.spec.protect,
        enabled_cluster_log_types=list(LOGS),
        encryption_config=aws.eks.ClusterEncryptionConfigArgs(
            provider=aws.eks.ClusterEncryptionConfigProviderArgs(key_arn=key.arn), resources=["secrets"]
        ),
        kubernetes_network_config=aws.eks.ClusterKubernetesNetworkConfigArgs(
            ip_family="ipv4", service_ipv4_cidr=text("service_cidr")
        ),
        upgrade_policy=aws.eks.ClusterUpgradePolicyArgs(support_type="STANDARD"),
        vpc_config=aws.eks.ClusterVpcConfigArgs(
            subnet_ids=net.private_ids(here.control_zones),
            endpoint_private_access=True,
            endpoint_public_access=bool(outside),
            public_access_cidrs=outside or None,
        ),
        tags=here.tags("cluster"),
        opts=here.on(logs, *rights, slow_delete=True),
    )
    group = made.vpc_config.apply(lambda c: c.cluster_security_group_id or "")
    for cidr in inside:
        _admit(here, group, cidr)
    issuer = made.identities.apply(lambda found: (found[0].oidcs or [])[0].issuer or "")
    oidc = aws.iam.OpenIdConnectProvider(
        "cluster", url=issuer, client_id_lists=["sts.amazonaws.com"], tags=here.tags("cluster"), opts=here.on()
    )
    return Cluster(
        resource=made,
        name=name,
        version=version,
        issuer=issuer,
        oidc=oidc,
        security_group=group,
        node_add_ons=_node_add_ons(here, made, oidc, issuer),
    )


def admins(cidrs: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Those who come over the internet, and those who come by a private way: EKS refuses their ranges at the public
    endpoint, and without any of the first there is no public endpoint."""
    private = [ipaddress.IPv4Network(r) for r in UNROUTED]
    asked = {c: ipaddress.ip_network(c) for c in cidrs}
    inside = [c for c, net in asked.items() if any(_within(net, p) for p in private)]
    return [c for c in cidrs if c not in inside], inside


def _within(net: ipaddress.IPv4Network | ipaddress.IPv6Network, other: ipaddress.IPv4Network) -> bool:
    return isinstance(net, ipaddress.IPv4Network) and net.subnet_of(other)


def _role(here: Here, key: aws.kms.Key, logs: aws.cloudwatch.LogGroup) -> tuple[aws.iam.Role, list[pulumi.Resource]]:
    """Rights that must outlive the cluster: without them EKS cannot take away its interfaces and groups."""
    role = aws.iam.Role(
        "cluster",
        name=here.name("iam/role:Role", "cluster"),
        assume_role_policy=trusts("eks.amazonaws.com"),
        tags=here.tags("cluster"),
        opts=here.on(),
    )
    managed = aws.iam.RolePolicyAttachment(
        "cluster", role=role.name, policy_arn=f"{MANAGED}AmazonEKSClusterPolicy", opts=here.on()
    )
    secrets = allow(["kms:Encrypt", "kms:Decrypt", "kms:DescribeKey", "kms:CreateGrant", "kms:ListGrants"], key.arn)
    # a control plane that is going would bring its deleted log group back, and the next create of that name fails
    no_group = {
        "Effect": "Deny",
        "Action": ["logs:CreateLogGroup"],
        "Resource": [logs.arn, pulumi.Output.concat(logs.arn, ":*")],
    }
    own = aws.iam.RolePolicy(
        "cluster", name="cluster", role=role.name, policy=late_document([secrets, no_group]), opts=here.on()
    )
    return role, [managed, own]


def _admit(here: Here, group: pulumi.Output[str], cidr: str) -> None:
    aws.vpc.SecurityGroupIngressRule(
        f"admin-{cidr.replace('/', '-')}",
        security_group_id=group,
        ip_protocol="tcp",
        from_port=443,
        to_port=443,
        cidr_ipv4=cidr,
        description="Administrators at the control plane",
        tags=here.tags("admin"),
        opts=here.on(),
    )


def add_on(
    here: Here,
    made: aws.eks.Cluster,
    name: str,
    *after: pulumi.Resource,
    settings: Mapping[str, str] | None = None,
    role: aws.iam.Role | None = None,
) -> aws.eks.Addon:
    """The version is EKS's choice at creation, and stays."""
    return aws.eks.Addon(
        name,
        cluster_name=made.name,
        addon_name=name,
        configuration_values=json.dumps(settings) if settings else None,
        service_account_role_arn=role.arn if role else None,
        resolve_conflicts_on_create="OVERWRITE",
        resolve_conflicts_on_update="OVERWRITE",
        tags=here.tags(name),
        opts=here.on(*after),
    )


def _node_add_ons(
    here: Here, made: aws.eks.Cluster, oidc: aws.iam.OpenIdConnectProvider, issuer: pulumi.Output[str]
) -> tuple[pulumi.Resource, ...]:
    """Before the nodes, so that the first pod has an address, and after them at the end, so that no interface stays."""
    role = aws.iam.Role(
        "vpc-cni",
        name=here.name("iam/role:Role", "vpc-cni"),
        assume_role_policy=trusts_service_account(oidc.arn, issuer, "kube-system", "aws-node"),
        tags=here.tags("vpc-cni"),
        opts=here.on(),
    )
    rights = aws.iam.RolePolicyAttachment(
        "vpc-cni", role=role.name, policy_arn=f"{MANAGED}AmazonEKS_CNI_Policy", opts=here.on()
    )
    return (
        add_on(here, made, "vpc-cni", rights, settings=CNI, role=role),
        add_on(here, made, "kube-proxy"),
    )
