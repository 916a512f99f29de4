"""One generation of what serves: its pools, a Deployment for each, and what scales it; its digest is in every name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pulumi

from infra.charts import scaling
from infra.charts.scaling import Most, Scaled
from infra.clouds.site import KubernetesSite, Placement
from infra.plan import Plan, Pool
from infra.plan.modes import numbers
from serving.container import ContainerSpec
from serving.kubernetes import NAMESPACE, Group, generation_objects, name, parts
from stacks.objects import Objects
from stacks.services import Services, device_plugin

FALLBACK = "fallback"  # pool of on-demand machines that takes what spot does not get; empty until then


def fallback(plan: Plan, pool: Pool) -> Pool | None:
    """On-demand machines of the same kind, none of them until spot runs out."""
    if pool.capacity_type != "spot" or not numbers(plan.spec).spot_fallback:
        return None
    role = pool.role.replace("burst", FALLBACK)
    return replace(pool, role=role, capacity_type="on-demand", min_nodes=0, start_nodes=0, expected_nodes=0)


def places(site: KubernetesSite, plan: Plan, generation: str) -> list[list[Placement]]:
    """The machines of each pool of the plan, the best place of its pods first."""
    made = []
    for part, pool in zip(parts(plan), plan.pools, strict=True):
        own = replace(pool, role=part)
        wanted = [own, *(p for p in [fallback(plan, own)] if p is not None)]
        made.append([site.pool(p, generation) for p in wanted])
    return made


def groups(plan: Plan, containers: Sequence[ContainerSpec], placed: Sequence[Sequence[Placement]]) -> Iterator[Group]:
    for part, pool, container, where in zip(parts(plan), plan.pools, containers, placed, strict=True):
        yield Group(part=part, pool=pool, container=container, placements=where)


def serve(
    objects: Objects,
    plan: Plan,
    found: Sequence[Group],
    services: Services,
    *,
    stack: str,
    generation: str,
    after: Sequence[pulumi.Resource],
    pools: Sequence[Sequence[Placement]],
) -> None:
    """Every object of the generation. What scales a Deployment waits for it, and so goes first."""
    plugin = device_plugin(objects, plan, generation, [p for where in pools for p in where], after)
    manifests = generation_objects(plan, found, stack=stack, generation=generation)
    files = [objects.declare(m, after=after) for m in manifests if m["kind"] == "ConfigMap"]
    deployments = {}
    for manifest, group, where in zip(_of(manifests, "Deployment"), found, pools, strict=True):
        assert group.container.pod is not None
        deployments[group.part] = objects.declare(
            manifest,
            after=[*after, *files, *plugin, *(r for p in where for r in p.after)],
            ignore=["spec.replicas"] if group.scaled else [],
            ready_within_s=group.container.pod.ready_within_s,
        )
    for manifest in manifests:
        if manifest["kind"] not in ("ConfigMap", "Deployment"):
            objects.declare(manifest, after=after)
    for group in found:
        _scale(objects, plan, group, generation, services, deployments[group.part])


def _of(manifests: Sequence[Mapping[str, object]], kind: str) -> list[Mapping[str, object]]:
    return [m for m in manifests if m["kind"] == kind]


def _scale(
    objects: Objects,
    plan: Plan,
    group: Group,
    generation: str,
    services: Services,
    deployment: pulumi.Resource,
) -> None:
    """One controller for each number: the autoscaler counts the elastic ones, Pulumi the base, VPA sizes pods."""
    assert group.container.pod is not None
    labels = {"slipway-generation": generation, "slipway-pool": group.part}
    scaled = Scaled(name=name(group.part, generation), namespace=NAMESPACE, pool=group.pool, labels=labels)
    if group.scaled:
        objects.declare(scaling.scaled_object(plan, scaled), after=[deployment, services.keda])
    if numbers(plan.spec).in_place_resize:
        node = group.container.pod.resources
        most = Most(cpu_milli=node.cpu_milli, memory_mib=node.memory_mib)
        manifest = scaling.vertical_pod_autoscaler(plan, scaled, most)
        objects.declare(manifest, after=[deployment, *services.vpa])
