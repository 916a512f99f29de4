"""What stands in the cluster for the life of the stack: namespaces, refused flows, accounts, secrets, services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi

from infra.clouds.site import KubernetesSite
from infra.plan import Plan
from infra.plan.flows import PODS, SERVING, SYSTEM, flows
from infra.stores.store import Store
from serving import kubernetes as serving
from serving import kubernetes_entry
from serving.container import ContainerSpec
from stacks.objects import Objects, unawaited
from stacks.policies import ANYWHERE, policies
from stacks.services import DEVICES, Services, brings_devices, namespace, services

SECRET = "feature-store"


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What the stable objects are made from."""

    plan: Plan
    stack: str
    store: Store | None
    annotations: Mapping[str, object]  # of the servers' account: its identity in the cloud
    container: ContainerSpec


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What the servers get and wait for."""

    env: Mapping[str, object]
    services: Services
    after: Sequence[pulumi.Resource]
    system: Sequence[pulumi.Resource]  # what pods of the system namespace wait for


def ground(objects: Objects, site: KubernetesSite, given: Ground) -> Standing:
    """A pod starts only when its namespace refuses what is not allowed, so nothing ever ran without policies."""
    stable = serving.stable(given.stack, given.container, annotations=given.annotations)
    made = {SYSTEM: namespace(objects, SYSTEM, site.ready)}
    made |= {str(SERVING): objects.declare(m, after=site.ready) for m in stable if m["kind"] == "Namespace"}
    if brings_devices(given.plan):
        made[DEVICES] = namespace(objects, DEVICES, site.ready)
    allowed = _policies(objects, site, given, made)
    rest = [objects.declare(unawaited(m), after=[made[SERVING]]) for m in stable if m["kind"] != "Namespace"]
    env, secret = _store_env(objects, given.store, [made[SERVING]])
    system = [made[SYSTEM], *allowed[SYSTEM], *site.ready]
    others = [made[DEVICES]] if DEVICES in made else []
    return Standing(
        env=env,
        services=services(objects, site, given.plan, system),
        after=[made[SERVING], *allowed[SERVING], *rest, *secret, *others],
        system=system,
    )


def roles(plan: Plan) -> set[str]:
    """The roles of the table of flows that this stack has as pods."""
    cloud = plan.spec.cloud
    named = {end for f in flows(cloud) for end in (f.source, f.target)} & set(PODS)
    return named if plan.spec.batch is not None else named - {"batch"}


def _policies(
    objects: Objects, site: KubernetesSite, given: Ground, namespaces: Mapping[str, pulumi.Resource]
) -> dict[str, list[pulumi.Resource]]:
    store, own = given.store, given.container.ports
    ports: dict[tuple[str, str], int] = {
        ("servers", "http"): int(own.http),
        ("servers", "grpc"): int(own.grpc),
        ("servers", "metrics"): int(own.metrics),
        **{("servers", s.name): s.port for s in (given.container.pod.sidecars if given.container.pod else ())},
        ("envoy", "http"): kubernetes_entry.HTTP,
        ("envoy", "grpc"): kubernetes_entry.GRPC,
        ("envoy", "metrics"): kubernetes_entry.METRICS,
    }
    present = roles(given.plan)
    if store is not None:
        ports["store", "store"] = store.port
    made: dict[str, list[pulumi.Resource]] = {SYSTEM: [], SERVING: []}
    ranges = (store.ranges if store else ()) or ANYWHERE
    for manifest in policies(given.plan.spec.cloud, present, ports, ranges):
        metadata = manifest["metadata"]
        assert isinstance(metadata, dict)
        where = metadata["namespace"]
        made[where].append(objects.declare(manifest, after=[namespaces[where]]))
    return made


def _store_env(
    objects: Objects, store: Store | None, after: Sequence[pulumi.Resource]
) -> tuple[dict[str, object], list[pulumi.Resource]]:
    """How the servers reach the store: addresses as they are, secrets out of a Secret."""
    if store is None:
        return {}, []
    env: dict[str, object] = dict(store.env)
    if not store.secrets:
        return env, []
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET, "namespace": SERVING},
        "type": "Opaque",
        "stringData": dict(store.secrets),
    }
    made = objects.declare(manifest, after=after, secret=["data", "stringData"])
    env |= {key: {"valueFrom": {"secretKeyRef": {"name": SECRET, "key": key}}} for key in store.secrets}
    return env, [made]
