"""Valkey on Memorystore: one shard behind Private Service Connect, rights by IAM instead of a password."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from infra.plan import Plan
from infra.plan import store as sizes
from infra.spec import Spec
from infra.stores import alarms
from infra.stores.store import CA, URL, Site, Store

if TYPE_CHECKING:
    import pulumi
    from pulumi_gcp.memorystore import Instance

    from infra.clouds.site import Grant

INSTANCE = "gcp:memorystore/instance:Instance"
POLICY = "gcp:networkconnectivity/serviceConnectionPolicy:ServiceConnectionPolicy"
MEMBER = "gcp:projects/iAMMember:IAMMember"
PORT = 6379
ROLE = "roles/memorystore.dbConnectionUser"


def fixed_fields(spec: Spec) -> dict[str, object]:
    """What would replace the instance if it changed."""
    return {
        "location": spec.region,
        "mode": "CLUSTER_DISABLED",  # one address, so that any client of Redis speaks to it
        "authorizationMode": "IAM_AUTH",
        "transitEncryptionMode": "SERVER_AUTHENTICATION",
    }


def build(site: Site, plan: Plan, kept: Mapping[str, object]) -> Store:
    instance = _instance(site, plan, kept)
    its = instance.instance_id.apply(lambda i: f'resource.labels.instance_id = "{i}"')
    watched = alarms.google(site, "valkey", [its], instance)
    address = instance.endpoints.apply(_address)
    url = address.apply(lambda host: f"rediss://{host}:{PORT}/0?auth=google")
    certificates = instance.managed_server_cas.apply(
        lambda found: "\n".join(
            c for ca in found or [] for chain in ca.ca_certs or [] for c in chain.certificates or []
        )
    )
    return Store(
        kind="memorystore",
        url=url,
        port=PORT,
        env={URL: url, CA: certificates},
        ranges=[address.apply(lambda host: f"{host}/32")],
        grants=[_grant(site, instance)],
        writers=[_grant(site, instance)],
        after=[instance, *watched],
        fingerprint=site.fingerprint(kept, url),
    )


def _address(endpoints: Sequence[object] | None) -> str:
    """The address in the stack's network of the connection that was made by itself."""
    for endpoint in endpoints or []:
        for connection in getattr(endpoint, "connections", None) or []:
            made = getattr(connection, "psc_auto_connection", None)
            if made is not None and made.ip_address:
                return str(made.ip_address)
    return ""


def _instance(site: Site, plan: Plan, kept: Mapping[str, object]) -> Instance:
    from pulumi_gcp import memorystore, networkconnectivity

    ground = site.ground
    size = sizes.memorystore_size(plan.spec)
    assert size is not None, "checked before anything is declared: infra/stores/protect.py"
    policy = networkconnectivity.ServiceConnectionPolicy(
        "store",
        name=site.name(POLICY),
        project=ground.project,
        location=str(kept["location"]),
        service_class="gcp-memorystore",
        network=ground.network,
        psc_config=networkconnectivity.ServiceConnectionPolicyPscConfigArgs(subnetworks=ground.subnets),
        labels=site.labels(),
        opts=site.options(POLICY, holds_data=False),
    )
    return memorystore.Instance(
        "store",
        instance_id=site.name(INSTANCE),
        project=ground.project,
        location=str(kept["location"]),
        mode=str(kept["mode"]),
        shard_count=1,
        replica_count=sizes.replicas(plan.spec),
        node_type=size.size,
        engine_version="VALKEY_8_0",
        engine_configs={"maxmemory-policy": "noeviction"},
        authorization_mode=str(kept["authorizationMode"]),
        transit_encryption_mode=str(kept["transitEncryptionMode"]),
        desired_auto_created_endpoints=[
            memorystore.InstanceDesiredAutoCreatedEndpointArgs(network=ground.network, project_id=ground.project or "")
        ],
        persistence_config=memorystore.InstancePersistenceConfigArgs(
            mode="RDB",
            rdb_config=memorystore.InstancePersistenceConfigRdbConfigArgs(rdb_snapshot_period="TWELVE_HOURS"),
        ),
        deletion_protection_enabled=plan.spec.protect,
        labels=site.labels(),
        opts=site.options(INSTANCE, after=[policy]),
    )


def _grant(site: Site, instance: Instance) -> Grant:
    from infra.clouds.site import Grant

    return Grant(kind="store:memorystore", target=instance.name, bind=_bind(site, instance))


def _bind(site: Site, instance: Instance) -> Callable[[str, pulumi.Input[str]], Sequence[pulumi.Resource]]:
    """Connections to this instance alone: the role is the project's, its condition names the instance."""

    def bind(name: str, principal: pulumi.Input[str]) -> Sequence[pulumi.Resource]:
        from pulumi_gcp import projects

        condition = projects.IAMMemberConditionArgs(
            title=f"{site.ground.stack} store",
            expression=instance.name.apply(lambda its: f'resource.name == "{its}"'),
        )
        return [
            projects.IAMMember(
                f"store-{name}",
                project=site.ground.project or "",
                role=ROLE,
                member=principal,
                condition=condition,
                opts=site.options(MEMBER, holds_data=False),
            )
        ]

    return bind
