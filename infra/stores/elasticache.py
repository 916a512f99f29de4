"""ElastiCache as feature store on AWS: a replication group of Valkey or Redis in the stack's private subnets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from infra.plan import Kind, Plan
from infra.plan import store as sizes
from infra.stores import alarms, machine_secrets
from infra.stores.store import PASSWORD, URL, Site, Store, recorded_fields

if TYPE_CHECKING:
    import pulumi
    from pulumi_aws.ec2 import SecurityGroup
    from pulumi_aws.elasticache import ParameterGroup, ReplicationGroup, SubnetGroup
    from pulumi_aws.ssm import Parameter

    from infra.clouds.site import Ground

KIND = Kind(
    name="elasticache",
    unsupported={
        "gcp": "it is a service of AWS; use memorystore.",
        "local": "it is a service of AWS; use redis.",
        "on-prem": "it is a service of AWS; bring a store of your own.",
    },
)
GROUP, SUBNETS = "aws:elasticache/replicationGroup:ReplicationGroup", "aws:elasticache/subnetGroup:SubnetGroup"
PARAMETERS, SECRET = "aws:elasticache/parameterGroup:ParameterGroup", "aws:ssm/parameter:Parameter"
SECURITY, INGRESS = "aws:ec2/securityGroup:SecurityGroup", "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
PORT = 6379
VERSIONS = {"valkey": ("8.0", "valkey8"), "redis": ("7.1", "redis7")}  # engine -> version, family of its parameters
PASSWORD_LENGTH = 48  # 16 to 128 characters are taken


def fields(plan: Plan, stack: str) -> dict[str, object]:
    """What would replace the store if it changed, and what it is planned to hold."""
    engine = sizes.engine(plan.spec)
    return {
        "kind": KIND.name,
        "region": plan.spec.region,
        "engine": engine,
        "engineVersion": VERSIONS[engine][0],
        "port": PORT,
        "atRestEncryptionEnabled": True,
        "data_bytes": sizes.data_bytes(plan.spec),
        "capacity_bytes": int((sizes.capacity_gib(plan.spec) or 0) * 2**30),
    }


def build(ground: Ground, plan: Plan, recorded: Mapping[str, object] | None = None) -> Store:
    site = Site(ground=ground, protect=plan.spec.protect, recorded=recorded_fields(KIND.name, recorded))
    kept = site.kept(fields(plan, ground.stack))
    security, rules = _security(site)
    token = _password(site)
    group = _group(site, plan, kept, security, token)
    nodes = {
        f"-{i}": {"CacheClusterId": f"{site.name(GROUP)}-{i:03d}"} for i in range(1, 2 + sizes.replicas(plan.spec))
    }
    watched = alarms.amazon(site, KIND.name, nodes, group)
    url = group.primary_endpoint_address.apply(lambda host: f"rediss://{host}:{kept['port']}/0")
    password = machine_secrets.amazon(site, PASSWORD, token)
    return Store(
        kind=KIND.name,
        url=url,
        port=PORT,
        env={URL: url},
        secrets={PASSWORD: _secret(token)},
        machine_secrets=password.names,
        machine_grants=password.grants,
        ranges=list(ground.private_ranges),  # its nodes stand in the same private subnets
        after=[group, *rules, *watched],
        fingerprint=site.fingerprint(kept, url),
    )


def _secret(token: Parameter) -> pulumi.Output[str]:
    import pulumi

    return pulumi.Output.secret(token.value)


def _security(site: Site) -> tuple[SecurityGroup, Sequence[pulumi.Resource]]:
    """Only the servers' machines reach the port (flow servers -> store of infra/plan/flows.csv)."""
    from pulumi_aws import ec2, vpc

    group = ec2.SecurityGroup(
        "store",
        name=site.name(SECURITY),
        description="Feature store: the model servers alone",
        vpc_id=site.ground.network,
        tags=site.labels(),
        opts=site.options(SECURITY, holds_data=False),
    )
    rules = [
        vpc.SecurityGroupIngressRule(
            f"store-servers-{i}",
            security_group_id=group.id,
            referenced_security_group_id=servers,
            ip_protocol="tcp",
            from_port=PORT,
            to_port=PORT,
            description="servers -> store: features",
            tags=site.labels(),
            opts=site.options(INGRESS, holds_data=False),
        )
        for i, servers in enumerate(site.ground.server_security_groups)
    ]
    return group, rules


def _password(site: Site) -> Parameter:
    """Drawn once by the cloud and kept as an encrypted parameter; what later runs draw is not used."""
    import pulumi
    from pulumi_aws import secretsmanager, ssm

    drawn = secretsmanager.get_random_password_output(
        password_length=PASSWORD_LENGTH,
        exclude_punctuation=True,
        opts=pulumi.InvokeOutputOptions(provider=site.ground.provider),
    )
    return ssm.Parameter(
        "store-password",
        name=site.name(SECRET, "store-password"),
        type=ssm.ParameterType.SECURE_STRING,
        value=pulumi.Output.secret(drawn.random_password),
        key_id=site.ground.kms_key,
        tags=site.labels(),
        opts=site.options(SECRET, holds_data=False, ignore=("value", "keyId")),
    )


def _settings(site: Site, engine: str) -> tuple[SubnetGroup, ParameterGroup]:
    """Where its nodes stand, and how they run."""
    from pulumi_aws import elasticache

    subnets = elasticache.SubnetGroup(
        "store",
        name=site.name(SUBNETS),
        description="Feature store",
        subnet_ids=site.ground.subnets,
        tags=site.labels(),
        opts=site.options(SUBNETS, holds_data=False),
    )
    parameters = elasticache.ParameterGroup(
        "store",
        name=site.name(PARAMETERS),
        family=VERSIONS[engine][1],
        # a full store refuses writes; it never forgets an entity by itself
        parameters=[elasticache.ParameterGroupParameterArgs(name="maxmemory-policy", value="noeviction")],
        tags=site.labels(),
        opts=site.options(PARAMETERS, holds_data=False),
    )
    return subnets, parameters


def _group(
    site: Site, plan: Plan, kept: Mapping[str, object], security: SecurityGroup, token: Parameter
) -> ReplicationGroup:
    from pulumi_aws import elasticache

    spec, copies = plan.spec, sizes.replicas(plan.spec)
    size = sizes.elasticache_size(spec)
    assert size is not None, "checked before anything is declared: infra/stores/protect.py"
    engine = str(kept["engine"])
    subnets, parameters = _settings(site, engine)
    return elasticache.ReplicationGroup(
        "store",
        replication_group_id=site.name(GROUP),
        description="Feature store",
        engine=engine,
        engine_version=str(kept["engineVersion"]),
        node_type=size.size,
        num_cache_clusters=1 + copies,
        automatic_failover_enabled=copies > 0,
        multi_az_enabled=copies > 0,
        port=PORT,
        parameter_group_name=parameters.name,
        subnet_group_name=subnets.name,
        security_group_ids=[security.id],
        at_rest_encryption_enabled=True,
        kms_key_id=site.ground.kms_key,
        transit_encryption_enabled=True,
        auth_token=token.value,
        apply_immediately=True,  # else a larger node waits for the window
        snapshot_retention_limit=1,
        snapshot_window="05:00-06:00",
        maintenance_window="sun:03:00-sun:04:00",
        auto_minor_version_upgrade=True,
        tags=site.labels(),
        opts=site.options(GROUP),
    )
