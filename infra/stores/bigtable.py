"""Bigtable as feature store on Google Cloud: one table, autoscaled nodes, a cluster a copy."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from infra.plan import Kind, Plan
from infra.plan import store as sizes
from infra.stores import alarms
from infra.stores.store import URL, Site, Store, recorded_fields

if TYPE_CHECKING:
    import pulumi
    from pulumi_gcp.bigtable import Instance, Table

    from infra.clouds.site import Grant, Ground

KIND = Kind(
    name="bigtable",
    unsupported={
        "aws": "it is a service of Google Cloud; use dynamodb.",
        "local": "it is a service of Google Cloud; use redis.",
        "on-prem": "it is a service of Google Cloud; bring a store of your own.",
    },
)
INSTANCE, TABLE = "gcp:bigtable/instance:Instance", "gcp:bigtable/table:Table"
PROFILE, CLUSTER = "gcp:bigtable/appProfile:AppProfile", "gcp:bigtable/instance:InstanceCluster"
COLLECTION = "gcp:bigtable/gCPolicy:GCPolicy"
FAMILY = "f"
ZONES = ("clusters[0].zone", "clusters[1].zone")
CPU_TARGET = 60  # per cent; autoscaling adds nodes above it


def fields(plan: Plan, stack: str) -> dict[str, object]:
    """What would replace the store if it changed, and what it is planned to hold."""
    spec = plan.spec
    return {
        "kind": KIND.name,
        "project": spec.project,
        "clusters[0].storageType": "SSD",
        "data_bytes": sizes.data_bytes(spec),
        "capacity_bytes": int((sizes.capacity_gib(spec) or 0) * 2**30),
    }


def build(ground: Ground, plan: Plan, recorded: Mapping[str, object] | None = None) -> Store:
    site = Site(ground=ground, protect=plan.spec.protect, recorded=recorded_fields(KIND.name, recorded))
    clusters = 1 + sizes.replicas(plan.spec)
    if len(ground.zones) < clusters:
        raise ValueError(f"Bigtable with {clusters} clusters needs as many zones, and there is {ground.zones}")
    zones = {f"clusters[{i}].zone": zone for i, zone in enumerate(_zones(site, clusters))}
    kept = site.kept({**fields(plan, ground.stack), **zones, "clusters": clusters})
    instance = _instance(site, plan, kept, list(zones.values()))
    table = _table(site, plan, instance)
    profile, collection = _profile(site, instance), _collection(site, plan, instance, table)
    its = instance.name.apply(lambda name: f'resource.labels.instance = "{name}"')
    watched = alarms.google(site, KIND.name, [its], instance)
    lifetime = plan.spec.features.ttl_s if plan.spec.features else None
    lives = "" if lifetime is None else f"&ttl_s={lifetime}"
    url = instance.name.apply(
        lambda name: (
            f"bigtable://{ground.project}/{name}/{site.name(TABLE)}?app_profile={site.name(PROFILE)}&family={FAMILY}{lives}"
        )
    )
    return Store(
        kind=KIND.name,
        url=url,
        port=443,
        env={URL: url},
        grants=[_grant(site, table, "roles/bigtable.reader")],
        writers=[_grant(site, table, "roles/bigtable.user")],
        after=[table, profile, collection, *watched],
        # a second cluster that was taken away may come back in its own zone
        fingerprint=site.fingerprint({**{k: v for k, v in site.recorded.items() if k in ZONES}, **kept}, url),
    )


def _zones(site: Site, clusters: int) -> list[str]:
    """A zone a cluster: the recorded ones, then others of the stack's."""
    recorded = [str(z) for i in range(clusters) if (z := site.recorded.get(f"clusters[{i}].zone"))]
    return [*recorded, *(z for z in site.ground.zones if z not in recorded)][:clusters]


def _instance(site: Site, plan: Plan, kept: Mapping[str, object], zones: Sequence[str]) -> Instance:
    from pulumi_gcp import bigtable

    nodes = sizes.bigtable_nodes(plan.spec)
    both = len(zones) > 1 and site.recorded.get("clusters") == len(zones)
    return bigtable.Instance(
        "store",
        name=site.name(INSTANCE),
        project=site.ground.project,
        clusters=[
            bigtable.InstanceClusterArgs(
                cluster_id=site.name(CLUSTER, f"store-{i}"),
                zone=zone,
                storage_type=str(kept["clusters[0].storageType"]),
                autoscaling_config=bigtable.InstanceClusterAutoscalingConfigArgs(
                    min_nodes=int(nodes.min), max_nodes=int(nodes.max), cpu_target=CPU_TARGET
                ),
            )
            for i, zone in enumerate(zones)
        ],
        deletion_protection=plan.spec.protect,
        force_destroy=not plan.spec.protect,  # its backups would keep it: leak class 13
        labels=site.labels(),
        opts=site.options(INSTANCE, absent=None if both else "clusters[1]"),
    )


def _table(site: Site, plan: Plan, instance: Instance) -> Table:
    from pulumi_gcp import bigtable

    return bigtable.Table(
        "store-table",
        name=site.name(TABLE),
        project=site.ground.project,
        instance_name=instance.name,
        column_families=[bigtable.TableColumnFamilyArgs(family=FAMILY)],
        deletion_protection="PROTECTED" if plan.spec.protect else "UNPROTECTED",
        opts=site.options(TABLE),
    )


def _profile(site: Site, instance: Instance) -> pulumi.Resource:
    """Requests go to the nearest cluster that answers; a write is one row's, so that no transaction is needed."""
    from pulumi_gcp import bigtable

    return bigtable.AppProfile(
        "store-profile",
        app_profile_id=site.name(PROFILE),
        project=site.ground.project,
        instance=instance.name,
        multi_cluster_routing_use_any=True,
        ignore_warnings=True,
        opts=site.options(PROFILE, holds_data=False),
    )


def _collection(site: Site, plan: Plan, instance: Instance, table: Table) -> pulumi.Resource:
    """One version of each value, as long as it may live. Goes with the table: a replicated one keeps it to the end."""
    from pulumi_gcp import bigtable

    rules: list[dict[str, object]] = [{"max_version": 1}]
    lifetime = plan.spec.features.ttl_s if plan.spec.features else None
    if lifetime is not None:
        rules.append({"max_age": f"{lifetime}s"})
    return bigtable.GCPolicy(
        "store-collection",
        project=site.ground.project,
        instance_name=instance.name,
        table=table.name,
        column_family=FAMILY,
        gc_rules=json.dumps({"rules": rules, **({"mode": "union"} if len(rules) > 1 else {})}),
        ignore_warnings=True,
        deletion_policy="ABANDON",
        opts=site.options(COLLECTION, holds_data=False),
    )


def _grant(site: Site, table: Table, role: str) -> Grant:
    from infra.clouds.site import Grant

    return Grant(kind=f"store:{KIND.name}", target=table.name, bind=_bind(site, table, role))


def _bind(site: Site, table: Table, role: str) -> Callable[[str, pulumi.Input[str]], Sequence[pulumi.Resource]]:
    """The role on the table alone."""

    def bind(name: str, principal: pulumi.Input[str]) -> Sequence[pulumi.Resource]:
        from pulumi_gcp import bigtable

        token = "gcp:bigtable/tableIamMember:TableIamMember"
        return [
            bigtable.TableIamMember(
                f"store-{name}",
                project=site.ground.project,
                instance_name=table.instance_name,
                table=table.name,
                role=role,
                member=principal,
                opts=site.options(token, holds_data=False),
            )
        ]

    return bind
