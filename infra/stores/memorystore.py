"""Memorystore as feature store on Google Cloud: a Redis instance, or a Valkey one, in the stack's own network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from infra.plan import Kind, Plan
from infra.plan import store as sizes
from infra.stores import alarms, machine_secrets
from infra.stores.store import CA, PASSWORD, URL, Site, Store, recorded_fields

if TYPE_CHECKING:
    from pulumi_gcp.redis import Instance

    from infra.clouds.site import Ground

KIND = Kind(
    name="memorystore",
    unsupported={
        "aws": "it is a service of Google Cloud; use elasticache or dynamodb.",
        "local": "it is a service of Google Cloud; use redis.",
        "on-prem": "it is a service of Google Cloud; bring a store of your own.",
    },
)
REDIS = "gcp:redis/instance:Instance"
TLS_PORT = 6378  # of a Redis instance whose connections are encrypted
POLICY = {"maxmemory-policy": "noeviction"}  # a full store refuses writes; it never forgets an entity by itself


def fields(plan: Plan, stack: str) -> dict[str, object]:
    """What would replace the store if it changed, and what it is planned to hold."""
    spec = plan.spec
    common: dict[str, object] = {
        "kind": KIND.name,
        "engine": sizes.engine(spec),
        "project": spec.project,
        "data_bytes": sizes.data_bytes(spec),
        "capacity_bytes": int((sizes.capacity_gib(spec) or 0) * 2**30),
    }
    if sizes.engine(spec) == "valkey":
        from infra.stores import valkey

        return {**common, **valkey.fixed_fields(spec)}
    return {
        **common,
        "region": spec.region,
        "tier": "STANDARD_HA" if sizes.replicas(spec) else "BASIC",
        "readReplicasMode": f"READ_REPLICAS_{'ENABLED' if sizes.replicas(spec) > 1 else 'DISABLED'}",
        "connectMode": "DIRECT_PEERING",  # private service access keeps networks alive: leak class 11
        "transitEncryptionMode": "SERVER_AUTHENTICATION",
        "redisVersion": "REDIS_7_2",
    }


def build(ground: Ground, plan: Plan, recorded: Mapping[str, object] | None = None) -> Store:
    import pulumi

    site = Site(ground=ground, protect=plan.spec.protect, recorded=recorded_fields(KIND.name, recorded))
    kept = site.kept(fields(plan, ground.stack))
    if kept["engine"] == "valkey":
        from infra.stores import valkey

        return valkey.build(site, plan, kept)
    instance = _instance(site, plan, kept)
    its = instance.id.apply(lambda i: f'resource.labels.instance_id = "{i}"')
    watched = alarms.google(site, KIND.name, [its], instance)
    certificates = instance.server_ca_certs.apply(lambda found: "\n".join(c.cert or "" for c in found or []))
    url = instance.host.apply(lambda host: f"rediss://{host}:{TLS_PORT}/0")
    machines = plan.spec.shape == "vm"  # pods get it from their cluster
    password = machine_secrets.google(site, PASSWORD, instance.auth_string) if machines else None
    return Store(
        kind=KIND.name,
        url=url,
        port=TLS_PORT,
        env={URL: url, CA: certificates},
        secrets={PASSWORD: pulumi.Output.secret(instance.auth_string)},
        ranges=[instance.host.apply(lambda host: f"{host}/32")],
        machine_secrets=password.names if password else {},
        machine_grants=password.grants if password else (),
        after=[instance, *(password.after if password else ()), *watched],
        fingerprint=site.fingerprint(kept, url),
    )


def _instance(site: Site, plan: Plan, kept: Mapping[str, object]) -> Instance:
    from pulumi_gcp import redis

    ground, copies = site.ground, sizes.replicas(plan.spec)
    return redis.Instance(
        "store",
        name=site.name(REDIS),
        project=ground.project,
        region=str(kept["region"]),
        tier=str(kept["tier"]),
        replica_count=copies if copies > 1 else None,
        read_replicas_mode=str(kept["readReplicasMode"]),
        memory_size_gb=sizes.memorystore_gib(plan.spec),
        authorized_network=ground.network,
        connect_mode=str(kept["connectMode"]),
        transit_encryption_mode=str(kept["transitEncryptionMode"]),
        auth_enabled=True,
        redis_version=str(kept["redisVersion"]),
        redis_configs=POLICY,
        persistence_config=redis.InstancePersistenceConfigArgs(
            persistence_mode="RDB", rdb_snapshot_period="TWELVE_HOURS"
        ),
        maintenance_policy=redis.InstanceMaintenancePolicyArgs(
            weekly_maintenance_windows=[
                redis.InstanceMaintenancePolicyWeeklyMaintenanceWindowArgs(
                    day="SUNDAY",
                    start_time=redis.InstanceMaintenancePolicyWeeklyMaintenanceWindowStartTimeArgs(hours=3),
                )
            ]
        ),
        deletion_protection=plan.spec.protect,
        labels=site.labels(),
        opts=site.options(REDIS),
    )
