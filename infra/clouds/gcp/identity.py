"""Rights of servers: a Google service account, which pods act as or machines are, and its grants."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pulumi
from pulumi_gcp import projects, serviceaccount, storage

from infra.clouds.gcp.here import Here
from infra.clouds.machine_site import MachineIdentity
from infra.clouds.site import Grant, Identity

ANNOTATION = "iam.gke.io/gcp-service-account"
# logs and metrics; images from the project's own registry
MACHINE_ROLES = ("roles/logging.logWriter", "roles/monitoring.metricWriter", "roles/artifactregistry.reader")


@cache
def _roles() -> dict[str, dict[str, str]]:
    with Path(__file__).with_name("roles.csv").open(newline="", encoding="utf-8") as file:
        return {r["grant"]: r for r in csv.DictReader(file)}


def identity(
    here: Here, cluster: pulumi.Resource, namespace: str, service_account: str, grants: Sequence[Grant]
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
    return Identity(
        annotations={ANNOTATION: account.email}, after=[acts, *_all(here, service_account, account, grants)]
    )


def machine_identity(here: Here, role: str, grants: Sequence[Grant]) -> MachineIdentity:
    """A machine is its service account: what it writes and reads for itself, and the grants."""
    account = serviceaccount.Account(
        role,
        account_id=here.name("serviceaccount/account:Account", role),
        display_name=f"Machines of Slipway's stack {here.stack}",
        opts=here.on(),
    )
    own = [
        projects.IAMMember(
            f"{role}-{right.rpartition('.')[2]}",
            project=here.project,
            role=right,
            member=account.member,
            opts=here.on(),
        )
        for right in MACHINE_ROLES
    ]
    return MachineIdentity(principal=account.email, after=[account, *own, *_all(here, role, account, grants)])


def _all(here: Here, role: str, account: serviceaccount.Account, grants: Sequence[Grant]) -> Iterator[pulumi.Resource]:
    """Named by what each is for, not by its place: one that moved would be made anew and then taken away under its old
    name, and two members with one role on one thing are one member to Google."""
    seen: Counter[str] = Counter()
    for grant in grants:
        own = f"-{grant.target}" if isinstance(grant.target, str) and not grant.bind else ""
        name = f"{role}-{grant.kind.replace('_', '-')}{own}"
        seen[name] += 1
        name = f"{name}-{seen[name]}" if seen[name] > 1 else name
        if grant.bind:
            yield from grant.bind(name, account.member)
        else:
            yield _granted(here, name, account, grant)


def _granted(here: Here, name: str, account: serviceaccount.Account, grant: Grant) -> pulumi.Resource:
    row = _roles().get(grant.kind)
    if row is None:
        raise ValueError(f"{grant.kind}: no role of Google Cloud is known for it; known are {', '.join(_roles())}")
    target = pulumi.Output.from_input(grant.target)
    if row["resource"] == "secret":  # projects/P/secrets/NAME, or one of its versions
        from pulumi_gcp import secretmanager  # few stacks have one

        whole = target.apply(lambda t: t.partition("/versions/")[0])
        return secretmanager.SecretIamMember(
            name, secret_id=whole, role=row["role"], member=account.member, opts=here.on()
        )
    parts = target.apply(lambda t: t.partition("/")[::2])
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
