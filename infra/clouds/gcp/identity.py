"""Rights of pods: a Google service account that one Kubernetes service account may act as, and its grants."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pulumi
from pulumi_gcp import container, serviceaccount, storage

from infra.clouds.gcp.here import Here
from infra.clouds.site import Grant, Identity

ANNOTATION = "iam.gke.io/gcp-service-account"


@cache
def _roles() -> dict[str, dict[str, str]]:
    with Path(__file__).with_name("roles.csv").open(newline="", encoding="utf-8") as file:
        return {r["grant"]: r for r in csv.DictReader(file)}


def identity(
    here: Here, cluster: container.Cluster, namespace: str, service_account: str, grants: Sequence[Grant]
) -> Identity:
    account = serviceaccount.Account(
        service_account,
        account_id=here.name("serviceaccount/account:Account", service_account),
        display_name=f"{namespace}/{service_account} of Slipway's stack {here.stack}",
        opts=here.on(),
    )
    # the pool of identities comes with the project's first cluster that has one
    acts = serviceaccount.IAMMember(
        f"{service_account}-acts",
        service_account_id=account.name,
        role="roles/iam.workloadIdentityUser",
        member=f"serviceAccount:{here.project}.svc.id.goog[{namespace}/{service_account}]",
        opts=here.on(cluster),
    )
    after: list[pulumi.Resource] = [acts]
    for i, grant in enumerate(grants):
        name = f"{service_account}-{i}"
        after += grant.bind(name, account.member) if grant.bind else [_granted(here, name, account, grant)]
    return Identity(annotations={ANNOTATION: account.email}, after=after)


def _granted(here: Here, name: str, account: serviceaccount.Account, grant: Grant) -> pulumi.Resource:
    row = _roles().get(grant.kind)
    if row is None:
        raise ValueError(f"{grant.kind}: no role of Google Cloud is known for it; known are {', '.join(_roles())}")
    parts = pulumi.Output.from_input(grant.target).apply(lambda t: t.partition("/")[::2])
    return storage.BucketIAMMember(
        name,
        bucket=parts.apply(lambda p: p[0]),
        role=row["role"],
        member=account.member,
        condition=_condition(grant.kind, row["condition"], parts) if row["condition"] else None,
        opts=here.on(),
    )


def _condition(kind: str, text: str, parts: pulumi.Output[tuple[str, str]]) -> storage.BucketIAMMemberConditionArgs:
    """Conditions hold on buckets with uniform access alone; Google refuses the grant on others, and says so."""
    filled = parts.apply(lambda p: text.replace("{bucket}", p[0]).replace("{prefix}", p[1]))
    return storage.BucketIAMMemberConditionArgs(title=kind, expression=filled)
