"""Firestore as feature store on Google Cloud: one database in native mode, a document an entity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from infra.plan import Kind, Plan
from infra.plan import store as sizes
from infra.stores import alarms
from infra.stores.store import URL, Site, Store, recorded_fields

if TYPE_CHECKING:
    import pulumi
    from pulumi_gcp.firestore import Database

    from infra.clouds.site import Grant, Ground

KIND = Kind(
    name="firestore",
    unsupported={
        "aws": "it is a service of Google Cloud; use dynamodb.",
        "local": "it is a service of Google Cloud; use redis.",
        "on-prem": "it is a service of Google Cloud; bring a store of your own.",
    },
)
DATABASE, FIELD = "gcp:firestore/database:Database", "gcp:firestore/field:Field"
MEMBER = "gcp:projects/iAMMember:IAMMember"
COLLECTION = "features"
VALUE, EXPIRES = "v", "expires"  # fields of a document; the client in serving/ knows the same


def fields(plan: Plan, stack: str) -> dict[str, object]:
    """What would replace the store if it changed."""
    return {
        "kind": KIND.name,
        "project": plan.spec.project,
        "locationId": plan.spec.region,
        "type": "FIRESTORE_NATIVE",
        "data_bytes": sizes.data_bytes(plan.spec),
    }


def build(ground: Ground, plan: Plan, recorded: Mapping[str, object] | None = None) -> Store:
    site = Site(ground=ground, protect=plan.spec.protect, recorded=recorded_fields(KIND.name, recorded))
    kept = site.kept(fields(plan, ground.stack))
    database = _database(site, plan, kept)
    made = _fields(site, plan, database)
    its = database.name.apply(lambda name: f'resource.labels.database_id = "{name}"')
    refused = 'metric.labels.response_code = "RESOURCE_EXHAUSTED"'
    watched = alarms.google(site, KIND.name, [its, refused], database)
    url = database.name.apply(lambda name: f"firestore://{ground.project}/{name}/{COLLECTION}")
    return Store(
        kind=KIND.name,
        url=url,
        port=443,
        env={URL: url},
        grants=[_grant(site, database, "roles/datastore.viewer")],
        writers=[_grant(site, database, "roles/datastore.user")],
        after=[database, *made, *watched],
        fingerprint=site.fingerprint(kept, url),
    )


def _database(site: Site, plan: Plan, kept: Mapping[str, object]) -> Database:
    """Its id stays taken for minutes after a deletion, so that none is stated: the provider adds a part to the name."""
    from pulumi_gcp import firestore

    protect = plan.spec.protect
    return firestore.Database(
        site.name(DATABASE),
        project=site.ground.project,
        location_id=str(kept["locationId"]),
        type=str(kept["type"]),
        concurrency_mode="OPTIMISTIC",
        point_in_time_recovery_enablement="POINT_IN_TIME_RECOVERY_ENABLED",
        delete_protection_state=f"DELETE_PROTECTION_{'ENABLED' if protect else 'DISABLED'}",
        deletion_policy="DELETE",  # its own default abandons the database, and the bill goes on
        opts=site.options(DATABASE),
    )


def _fields(site: Site, plan: Plan, database: Database) -> list[pulumi.Resource]:
    """Nothing is looked up by value: no index on either field, which halves what a write costs; and the life's end."""
    from pulumi_gcp import firestore

    lives = plan.spec.features is not None and plan.spec.features.ttl_s is not None
    return [
        firestore.Field(
            f"store-{name}",
            project=site.ground.project,
            database=database.name,
            collection=COLLECTION,
            field=name,
            index_config=firestore.FieldIndexConfigArgs(indexes=[]),
            ttl_config=firestore.FieldTtlConfigArgs() if name == EXPIRES and lives else None,
            opts=site.options(FIELD, holds_data=False),
        )
        for name in (VALUE, EXPIRES)
    ]


def _grant(site: Site, database: Database, role: str) -> Grant:
    from infra.clouds.site import Grant

    return Grant(kind=f"store:{KIND.name}", target=database.name, bind=_bind(site, database, role))


def _bind(site: Site, database: Database, role: str) -> Callable[[str, pulumi.Input[str]], Sequence[pulumi.Resource]]:
    """The role in this database alone: it is the project's, its condition names the database."""

    def bind(name: str, principal: pulumi.Input[str]) -> Sequence[pulumi.Resource]:
        from pulumi_gcp import projects

        project = site.ground.project or ""
        condition = projects.IAMMemberConditionArgs(
            title=f"{site.ground.stack} store",
            expression=database.name.apply(lambda its: f'resource.name == "projects/{project}/databases/{its}"'),
        )
        return [
            projects.IAMMember(
                f"store-{name}",
                project=project,
                role=role,
                member=principal,
                condition=condition,
                opts=site.options(MEMBER, holds_data=False),
            )
        ]

    return bind
