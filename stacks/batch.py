"""Batch prediction: a job on spot machines of its own that asks the entry, with rights on its two buckets alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pulumi

from infra.clouds.site import Grant, KubernetesSite
from infra.plan import Plan, Pool
from infra.plan.cost_facts import text
from infra.plan.facts import fact
from serving.kubernetes import NAMESPACE
from serving.kubernetes_batch import ACCOUNT, batch
from stacks.objects import Objects

MOST_NODES = 2  # it is a client: the servers compute


def run_batch(
    objects: Objects, site: KubernetesSite, plan: Plan, *, stack: str, after: Sequence[pulumi.Resource]
) -> None:
    """Nothing where no batch is asked for."""
    wanted = plan.spec.batch
    if wanted is None:
        return
    machine = text("system_machine", plan.spec)
    pool = Pool(
        role="batch",
        machine_type=machine,
        capacity_type="spot",
        min_nodes=0,
        max_nodes=MOST_NODES,
        zones=site.ground.zones,
        disk_gib=int(fact("boot_disk", plan.spec)),
    )
    place = site.pool(pool, hashlib.sha256(machine.encode()).hexdigest()[:8])
    grants = [
        Grant(kind="read_bucket", target=wanted.input_uri.split("/")[2]),
        Grant(kind="read_write_prefix", target=wanted.output_uri.split("://")[1].rstrip("/")),
    ]
    identity = site.identity(NAMESPACE, ACCOUNT, grants)
    made = [*after, *identity.after, *place.after]
    for manifest in batch(plan, stack=stack, placements=[place], annotations=identity.annotations):
        made.append(objects.declare(manifest, after=made))
