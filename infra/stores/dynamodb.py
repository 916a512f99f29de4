"""DynamoDB as feature store on AWS: one table, paid by request or with autoscaled capacity."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from infra.plan import Kind, Plan
from infra.plan import store as sizes
from infra.plan.cost_facts import amount
from infra.stores import alarms
from infra.stores.store import URL, Site, Store, recorded_fields

if TYPE_CHECKING:
    import pulumi
    from pulumi_aws.dynamodb import Table

    from infra.clouds.site import Grant, Ground
    from infra.plan.cost import Amount

KIND = Kind(
    name="dynamodb",
    unsupported={
        "gcp": "it is a service of AWS; use bigtable or firestore.",
        "local": "it is a service of AWS; use redis.",
        "on-prem": "it is a service of AWS; bring a store of your own.",
    },
)
TABLE = "aws:dynamodb/table:Table"
KEY, VALUE, EXPIRES = "id", "v", "expires"  # attributes of an entity; the client in serving/ knows the same
READ = ("dynamodb:BatchGetItem", "dynamodb:GetItem")
WRITE = (*READ, "dynamodb:BatchWriteItem", "dynamodb:DeleteItem", "dynamodb:PutItem")
RECOVERY_DAYS = 35


def fields(plan: Plan, stack: str) -> dict[str, object]:
    """What would replace the store if it changed, and how it is paid."""
    provisioned = sizes.dynamodb_provisioned(plan.spec) is not None
    return {
        "kind": KIND.name,
        "region": plan.spec.region,
        "hashKey": KEY,
        "capacity": "provisioned" if provisioned else "on-demand",
        "data_bytes": sizes.data_bytes(plan.spec),
    }


def build(ground: Ground, plan: Plan, recorded: Mapping[str, object] | None = None) -> Store:
    import pulumi

    site = Site(ground=ground, protect=plan.spec.protect, recorded=recorded_fields(KIND.name, recorded))
    kept = site.kept(fields(plan, ground.stack))
    table = _table(site, plan, kept)
    scaled = _autoscaling(site, plan, table)
    watched = alarms.amazon(site, KIND.name, {"": {"TableName": table.name}}, table)
    url = pulumi.Output.concat("dynamodb://", str(kept["region"]), "/", table.name)
    return Store(
        kind=KIND.name,
        url=url,
        port=443,
        env={URL: url},
        grants=[_grant(site, table, READ)],
        writers=[_grant(site, table, WRITE)],
        after=[table, *scaled, *watched],
        fingerprint=site.fingerprint(kept, url),
    )


def _table(site: Site, plan: Plan, kept: Mapping[str, object]) -> Table:
    from pulumi_aws import dynamodb

    provisioned = sizes.dynamodb_provisioned(plan.spec)
    # once autoscaling has them, units are its own; until then the program says with how many it begins
    theirs = provisioned is not None and site.recorded.get("capacity") == "provisioned"
    return dynamodb.Table(
        "store",
        name=site.name(TABLE),
        billing_mode="PAY_PER_REQUEST" if provisioned is None else "PROVISIONED",
        read_capacity=int(provisioned[0].max) if provisioned else None,
        write_capacity=int(provisioned[1].max) if provisioned else None,
        hash_key=str(kept["hashKey"]),
        attributes=[dynamodb.TableAttributeArgs(name=str(kept["hashKey"]), type="S")],
        ttl=dynamodb.TableTtlArgs(attribute_name=EXPIRES, enabled=True),
        point_in_time_recovery=dynamodb.TablePointInTimeRecoveryArgs(
            enabled=True, recovery_period_in_days=RECOVERY_DAYS
        ),
        server_side_encryption=dynamodb.TableServerSideEncryptionArgs(enabled=True, kms_key_arn=site.ground.kms_key),
        deletion_protection_enabled=plan.spec.protect,
        tags=site.labels(),
        opts=site.options(TABLE, ignore=("attributes", *(("readCapacity", "writeCapacity") if theirs else ()))),
    )


def _autoscaling(site: Site, plan: Plan, table: Table) -> list[pulumi.Resource]:
    provisioned = sizes.dynamodb_provisioned(plan.spec)
    if provisioned is None:
        return []
    target = amount("dynamodb_target", plan.spec)
    return [
        resource
        for word, units in zip(("Read", "Write"), provisioned, strict=True)
        for resource in _scaled(site, table, word, units, target)
    ]


def _scaled(site: Site, table: Table, word: str, units: Amount, target: Decimal) -> Sequence[pulumi.Resource]:
    from pulumi_aws import appautoscaling

    role = f"store-{word.lower()}"
    scaled = appautoscaling.Target(
        role,
        service_namespace="dynamodb",
        resource_id=table.name.apply(lambda name: f"table/{name}"),
        scalable_dimension=f"dynamodb:table:{word}CapacityUnits",
        min_capacity=int(units.min),
        max_capacity=int(units.max),
        opts=site.options("aws:appautoscaling/target:Target", holds_data=False),
    )
    tracking = appautoscaling.PolicyTargetTrackingScalingPolicyConfigurationArgs(
        target_value=float(target * 100),
        predefined_metric_specification=appautoscaling.PolicyTargetTrackingScalingPolicyConfigurationPredefinedMetricSpecificationArgs(
            predefined_metric_type=f"DynamoDB{word}CapacityUtilization"
        ),
    )
    policy = appautoscaling.Policy(
        role,
        name=site.name("aws:appautoscaling/policy:Policy", role),
        policy_type="TargetTrackingScaling",
        service_namespace=scaled.service_namespace,
        resource_id=scaled.resource_id,
        scalable_dimension=scaled.scalable_dimension,
        target_tracking_scaling_policy_configuration=tracking,
        opts=site.options("aws:appautoscaling/policy:Policy", holds_data=False),
    )
    return [scaled, policy]


def _grant(site: Site, table: Table, actions: Sequence[str]) -> Grant:
    from infra.clouds.site import Grant

    return Grant(kind=f"store:{KIND.name}", target=table.arn, bind=_bind(site, table, actions))


def _bind(
    site: Site, table: Table, actions: Sequence[str]
) -> Callable[[str, pulumi.Input[str]], Sequence[pulumi.Resource]]:
    """These actions on the table alone, and its key where the stack has one."""

    def bind(name: str, principal: pulumi.Input[str]) -> Sequence[pulumi.Resource]:
        import pulumi
        from pulumi_aws import iam

        token = "aws:iam/rolePolicy:RolePolicy"
        return [
            iam.RolePolicy(
                f"store-{name}",
                name=site.name(token, f"store-{name}"),
                role=principal,
                policy=pulumi.Output.all(table.arn, site.ground.kms_key).apply(lambda v: _policy(actions, *v)),
                opts=site.options(token, holds_data=False),
            )
        ]

    return bind


def _policy(actions: Sequence[str], table: str, key: str | None) -> str:
    statements = [{"Effect": "Allow", "Action": sorted(actions), "Resource": [table]}]
    if key is not None:
        statements.append({"Effect": "Allow", "Action": ["kms:Decrypt", "kms:DescribeKey"], "Resource": [key]})
    return json.dumps({"Version": "2012-10-17", "Statement": statements})
