"""Passwords of stores for virtual machines: kept in the cloud's secret store, read by the machine's own identity."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.stores.store import Site

if TYPE_CHECKING:
    import pulumi
    from pulumi_aws.ssm import Parameter

    from infra.clouds.site import Grant

SECRET, MEMBER = "gcp:secretmanager/secret:Secret", "gcp:secretmanager/secretIamMember:SecretIamMember"
VERSION, POLICY = "gcp:secretmanager/secretVersion:SecretVersion", "aws:iam/rolePolicy:RolePolicy"
ACCESSOR = "roles/secretmanager.secretAccessor"
Bind = Callable[[str, "pulumi.Input[str]"], Sequence["pulumi.Resource"]]


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Secrets by the variable that they become, each as its name in the cloud, and the right to read them."""

    names: Mapping[str, pulumi.Output[str]]
    grants: Sequence[Grant] = ()
    after: Sequence[pulumi.Resource] = ()


def google(site: Site, variable: str, value: pulumi.Output[str]) -> Kept:
    """A secret of Secret Manager with one version; machines ask for the latest."""
    import pulumi
    from pulumi_gcp import secretmanager

    project = site.ground.project or ""
    secret = secretmanager.Secret(
        "store-password",
        secret_id=site.name(SECRET, "store-password"),
        project=project,
        replication=secretmanager.SecretReplicationArgs(
            user_managed=secretmanager.SecretReplicationUserManagedArgs(
                replicas=[secretmanager.SecretReplicationUserManagedReplicaArgs(location=site.ground.region)]
            )
        ),
        labels=site.labels("store-password"),
        opts=site.options(SECRET, holds_data=False),
    )
    hidden: pulumi.Output[str] = pulumi.Output.secret(value)
    version = secretmanager.SecretVersion(
        "store-password",
        secret=secret.id,
        secret_data=hidden,
        opts=site.options(VERSION, holds_data=False),
    )

    def bind(name: str, principal: pulumi.Input[str]) -> Sequence[pulumi.Resource]:
        return [
            secretmanager.SecretIamMember(
                f"store-password-{name}",
                project=project,
                secret_id=secret.secret_id,
                role=ACCESSOR,
                member=principal,
                opts=site.options(MEMBER, holds_data=False),
            )
        ]

    named = secret.id.apply(lambda it: f"{it}/versions/latest")
    return Kept(names={variable: named}, grants=[_grant(named, bind)], after=[version])


def amazon(site: Site, variable: str, parameter: Parameter) -> Kept:
    """The encrypted parameter that the store has its password from."""
    import pulumi
    from pulumi_aws import iam

    def bind(name: str, principal: pulumi.Input[str]) -> Sequence[pulumi.Resource]:
        return [
            iam.RolePolicy(
                f"store-password-{name}",
                name=site.name(POLICY, f"store-password-{name}"),
                role=principal,
                policy=pulumi.Output.all(parameter.arn, site.ground.kms_key).apply(lambda v: _policy(*v)),
                opts=site.options(POLICY, holds_data=False),
            )
        ]

    return Kept(names={variable: parameter.name}, grants=[_grant(parameter.name, bind)], after=[parameter])


def _policy(parameter: str, key: str | None) -> str:
    """Without a key of the stack's own the account's default key of SSM is used: its policy lets readers decrypt."""
    statements = [{"Effect": "Allow", "Action": ["ssm:GetParameter"], "Resource": [parameter]}]
    if key is not None:
        statements.append({"Effect": "Allow", "Action": ["kms:Decrypt"], "Resource": [key]})
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def _grant(target: pulumi.Output[str], bind: Bind) -> Grant:
    from infra.clouds.site import Grant

    return Grant(kind="read_secret", target=target, bind=bind)
