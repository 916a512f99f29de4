"""The entry of a cluster: Envoy on the system pool, and the load balancer that the stack declares in front of it."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi

from infra.clouds.site import EntryAddress, KubernetesSite
from infra.plan import Plan
from serving.container import ContainerSpec
from serving.kubernetes_entry import NODE_PORTS, entry
from stacks.objects import Objects, unawaited

READY_S = 600  # a new node of the system pool and the image


def enter(
    objects: Objects,
    site: KubernetesSite,
    plan: Plan,
    *,
    stack: str,
    container: ContainerSpec,
    after: Sequence[pulumi.Resource],
) -> EntryAddress:
    """Nothing of it belongs to a generation: a switch finds it as it is and leaves it so."""
    made = list(after)
    for manifest in entry(plan, container, stack=stack, system=site.system):
        workload = manifest["kind"] == "Deployment"
        waits = [*made, *site.system.after] if workload else after
        made.append(objects.declare(unawaited(manifest), after=waits, ready_within_s=READY_S if workload else None))
    return site.entry(NODE_PORTS)
