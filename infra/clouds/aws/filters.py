"""Security groups and their rules: each rule opens one port of the table of flows, and what is not opened is closed."""

from __future__ import annotations

from collections.abc import Iterable

import pulumi
import pulumi_aws as aws

from infra.clouds.aws.here import Here
from infra.clouds.aws.network import Network
from infra.plan.flows import Flow

MOST = 255  # characters of a rule's description


def group(here: Here, net: Network, role: str, why: str) -> aws.ec2.SecurityGroup:
    return aws.ec2.SecurityGroup(
        role,
        name=here.name("ec2/securityGroup:SecurityGroup", role),
        description=why,
        vpc_id=net.vpc.id,
        revoke_rules_on_delete=True,  # two groups that name each other could not go otherwise
        tags=here.tags(role),
        opts=here.on(slow_delete=True),
    )


def between(
    here: Here,
    role: str,
    flow: Flow,
    port: int,
    source: aws.ec2.SecurityGroup,
    target: aws.ec2.SecurityGroup,
    why: str = "",
) -> list[pulumi.Resource]:
    """From the members of one group to those of another: out of the one, and into the other."""
    name, text = f"{role}-{flow.port}", described(why or flow.why)
    leaves = aws.vpc.SecurityGroupEgressRule(
        name,
        security_group_id=source.id,
        referenced_security_group_id=target.id,
        ip_protocol=flow.protocol,
        from_port=port,
        to_port=port,
        description=text,
        tags=here.tags(role),
        opts=here.on(),
    )
    return [leaves, let_in(here, name, role, flow, port, target.id, source=source.id, why=text)]


def let_in(
    here: Here,
    name: str,
    role: str,
    flow: Flow,
    port: int,
    target: pulumi.Input[str],
    *,
    cidr: str | None = None,
    source: pulumi.Input[str] | None = None,
    why: str = "",
) -> aws.vpc.SecurityGroupIngressRule:
    """From a range, or from the members of a group."""
    return aws.vpc.SecurityGroupIngressRule(
        name,
        security_group_id=target,
        cidr_ipv4=cidr,
        referenced_security_group_id=source,
        ip_protocol=flow.protocol,
        from_port=port,
        to_port=port,
        description=described(why or flow.why),
        tags=here.tags(role),
        opts=here.on(),
    )


def from_ranges(
    here: Here, role: str, flow: Flow, port: int, target: aws.ec2.SecurityGroup, ranges: Iterable[str]
) -> list[pulumi.Resource]:
    return [
        let_in(here, f"{role}-{flow.port}-{cidr.replace('/', '-')}", role, flow, port, target.id, cidr=cidr)
        for cidr in ranges
    ]


def to_range(
    here: Here, role: str, flow: Flow, port: int, source: aws.ec2.SecurityGroup, cidr: str
) -> aws.vpc.SecurityGroupEgressRule:
    return aws.vpc.SecurityGroupEgressRule(
        f"{role}-{flow.target}-{port}",
        security_group_id=source.id,
        cidr_ipv4=cidr,
        ip_protocol=flow.protocol,
        from_port=port,
        to_port=port,
        description=described(flow.why),
        tags=here.tags(role),
        opts=here.on(),
    )


def described(why: str) -> str:
    """In the characters that AWS takes."""
    return why.replace("'", "")[:MOST]
