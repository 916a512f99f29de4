"""The stack's own network: private and public subnets over its zones, NAT, gateway endpoints, log of the refused."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from itertools import islice

import pulumi
import pulumi_aws as aws

from infra.clouds.aws.facts import text, whole
from infra.clouds.aws.here import Here
from infra.clouds.aws.keys import flow_logs, log_group
from infra.clouds.aws.policies import allow, late_document, trusts
from infra.plan.cost_facts import amount


@dataclass(frozen=True, kw_only=True)
class Network:
    vpc: aws.ec2.Vpc
    cidr: str
    private: dict[str, aws.ec2.Subnet]  # by zone
    public: dict[str, aws.ec2.Subnet]
    routes: tuple[pulumi.Resource, ...]  # without them a node reaches nothing
    public_routes: tuple[pulumi.Resource, ...]

    def private_ids(self, zones: tuple[str, ...]) -> list[pulumi.Output[str]]:
        return [self.private[z].id for z in zones]


def ranges(zone: str) -> tuple[str, str]:
    """Private and public range of a zone, by its letter: a zone that joins or leaves moves no other's."""
    index = ord(zone[-1]) - ord("a")
    net = ipaddress.ip_network(text("network_cidr"))
    private, public = (whole(name) for name in ("private_prefix", "public_prefix"))
    most = 6  # letters a to f: us-east-1 has the most
    if not 0 <= index < most:
        raise ValueError(f"{zone}: no range is planned for a zone of that letter")
    after = int(net.network_address) + most * 2 ** (32 - private)  # the public ranges follow the private ones
    rest = ipaddress.ip_network((after + index * 2 ** (32 - public), public))
    return str(next(islice(net.subnets(new_prefix=private), index, None))), str(rest)


def network(here: Here, key: aws.kms.Key) -> Network:
    cidr = text("network_cidr")
    vpc = aws.ec2.Vpc(
        "network",
        cidr_block=cidr,
        enable_dns_hostnames=True,
        enable_dns_support=True,
        tags=here.tags("network"),
        opts=here.on(slow_delete=True),
    )
    # whatever names no group of its own gets the default one: it lets nothing through
    aws.ec2.DefaultSecurityGroup("default", vpc_id=vpc.id, tags=here.tags("default"), opts=here.on())
    _log_refused(here, vpc, key)
    gateway = aws.ec2.InternetGateway(
        "internet", vpc_id=vpc.id, tags=here.tags("internet"), opts=here.on(slow_delete=True)
    )
    private, public = (
        {zone: _subnet(here, vpc, kind, zone, ranges(zone)[i]) for zone in here.zones}
        for i, kind in enumerate(("private", "public"))
    )
    table, public_routes = _table(here, vpc, "public", public, gateway_id=gateway.id)
    tables, routes = [table], [*public_routes]
    nats = _nats(here, public, gateway, public_routes)
    for i, nat in enumerate(nats):
        role = "private" if len(nats) == 1 else f"private-{here.zones[i]}"
        mine = {z: private[z] for j, z in enumerate(here.zones) if j % len(nats) == i}
        table, made = _table(here, vpc, role, mine, nat_gateway_id=nat.id)
        tables.append(table)
        routes += made
    for service in ("s3", "dynamodb"):  # free, and models and features do not pass the NAT gateway
        endpoint = aws.ec2.VpcEndpoint(
            service,
            vpc_id=vpc.id,
            service_name=f"com.amazonaws.{here.spec.region}.{service}",
            vpc_endpoint_type="Gateway",
            route_table_ids=[t.id for t in tables[1:]],
            tags=here.tags(service),
            opts=here.on(),
        )
        routes.append(endpoint)
    return Network(
        vpc=vpc,
        cidr=cidr,
        private=private,
        public=public,
        routes=tuple(routes),
        public_routes=tuple(public_routes),
    )


def _subnet(here: Here, vpc: aws.ec2.Vpc, kind: str, zone: str, cidr: str) -> aws.ec2.Subnet:
    return aws.ec2.Subnet(
        f"{kind}-{zone}",
        vpc_id=vpc.id,
        cidr_block=cidr,
        availability_zone=zone,
        map_public_ip_on_launch=False,
        tags=here.tags(f"{kind}-{zone}"),
        opts=here.on(slow_delete=True),
    )


def _table(
    here: Here, vpc: aws.ec2.Vpc, role: str, subnets: dict[str, aws.ec2.Subnet], **to: pulumi.Input[str]
) -> tuple[aws.ec2.RouteTable, list[pulumi.Resource]]:
    """A table with its way out, and the subnets that use it."""
    table = aws.ec2.RouteTable(role, vpc_id=vpc.id, tags=here.tags(role), opts=here.on())
    made: list[pulumi.Resource] = [
        aws.ec2.Route(role, route_table_id=table.id, destination_cidr_block="0.0.0.0/0", **to, opts=here.on())
    ]
    kind = role.partition("-")[0]
    for zone, subnet in subnets.items():
        made.append(
            aws.ec2.RouteTableAssociation(
                f"{kind}-{zone}", route_table_id=table.id, subnet_id=subnet.id, opts=here.on()
            )
        )
    return table, made


def _nats(
    here: Here, public: dict[str, aws.ec2.Subnet], gateway: aws.ec2.InternetGateway, routes: list[pulumi.Resource]
) -> list[aws.ec2.NatGateway]:
    """As many as the bill counts; no request passes through them."""
    made = []
    for zone in here.zones[: int(amount("nat_gateways", here.spec))]:
        role = f"nat-{zone}"
        address = aws.ec2.Eip(role, domain="vpc", tags=here.tags(role), opts=here.on(gateway))
        made.append(
            aws.ec2.NatGateway(
                role,
                allocation_id=address.id,
                subnet_id=public[zone].id,
                tags=here.tags(role),
                opts=here.on(gateway, *routes, slow_delete=True),
            )
        )
    return made


def _log_refused(here: Here, vpc: aws.ec2.Vpc, key: aws.kms.Key) -> None:
    """Traffic that a rule refused; requests are not logged one by one, as the bill says."""
    role_name = "flow-logs"
    group = log_group(here, role_name, flow_logs(here), key)
    mine = {"StringEquals": {"aws:SourceAccount": here.account}}
    role = aws.iam.Role(
        role_name,
        name=here.name("iam/role:Role", role_name),
        assume_role_policy=trusts("vpc-flow-logs.amazonaws.com", when=mine),
        tags=here.tags(role_name),
        opts=here.on(),
    )
    # no right to make groups: a record that comes late would bring a deleted one back
    writes = ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"]
    rights = aws.iam.RolePolicy(
        role_name,
        role=role.name,
        name=role_name,
        policy=late_document([allow(writes, [group.arn, pulumi.Output.concat(group.arn, ":*")])]),
        opts=here.on(),
    )
    aws.ec2.FlowLog(
        role_name,
        vpc_id=vpc.id,
        traffic_type="REJECT",
        log_destination_type="cloud-watch-logs",
        log_destination=group.arn,
        iam_role_arn=role.arn,
        tags=here.tags(role_name),
        opts=here.on(rights),
    )
