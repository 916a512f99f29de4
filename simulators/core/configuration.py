"""Reads a provider's configuration: which account, which defaults, which cluster a kubeconfig means."""

from __future__ import annotations

import json

import yaml

from simulators.core import paths
from simulators.core.checks import text
from simulators.core.effects import CLUSTERS
from simulators.core.lifecycle import CloudError, Target
from simulators.core.values import Json, Properties, plain_properties
from simulators.core.world import Thing, World

# outputs at which a control plane answers: its address, and on GKE its name
ENDPOINTS: tuple[tuple[paths.Step, ...], ...] = (
    ("endpoint",),
    ("controlPlaneEndpointsConfig", "dnsEndpointConfig", "endpoint"),
)
NO_CLUSTER = "(none)"


def values(args: Properties) -> Properties:
    """The SDK sends what is no string as JSON inside a string."""
    found: Properties = {}
    for name, value in plain_properties(args).items():
        found[name] = _decoded(value) if name != "kubeconfig" else value
    return found


def _decoded(value: Json) -> Json:
    if isinstance(value, str) and value[:1] in ("{", "[", "t", "f"):
        try:
            decoded: Json = json.loads(value)
        except ValueError:
            return value
        return decoded
    return value


def target(cloud: str, args: Properties, world: World) -> Target:
    config = values(args)
    if cloud == "gcp":
        region = text(config.get("region")) or text(config.get("zone"))[:-2]
        defaults = {"project": text(config.get("project")), "region": region, "zone": text(config.get("zone"))}
        return Target(cloud=cloud, account=cloud, defaults={**defaults, "location": region}, config=config)
    if cloud == "aws":
        return Target(cloud=cloud, account=cloud, defaults={"region": text(config.get("region"))}, config=config)
    namespace = text(config.get("namespace")) or "default"
    defaults = {"metadata.namespace": namespace, "namespace": namespace}
    cluster = cluster_key(world, config)
    return Target(cloud=cloud, account=cluster, defaults=defaults, config=config, cluster=cluster)


def server(config: Properties) -> str:
    """The API server that the kubeconfig names in its current context."""
    try:
        document = yaml.safe_load(text(config.get("kubeconfig")) or "{}")
    except yaml.YAMLError:
        return ""
    if not isinstance(document, dict):
        return ""
    contexts = {c.get("name"): c.get("context", {}) for c in document.get("contexts") or []}
    wanted = contexts.get(document.get("current-context"), {}).get("cluster")
    clusters = document.get("clusters") or []
    chosen = [c for c in clusters if wanted is None or c.get("name") == wanted] or clusters
    return str(chosen[0].get("cluster", {}).get("server", "")) if chosen else ""


def cluster_key(world: World, config: Properties) -> str:
    """The key of the simulated cluster that answers at the kubeconfig's server."""
    address = server(config)
    if not address:
        return NO_CLUSTER
    names = (address, address.removeprefix("https://"))
    for thing in world.things.values():
        if thing.token in CLUSTERS:
            outputs = plain_properties(thing.outputs)
            if any(text(paths.get(outputs, at)) in names for at in ENDPOINTS):
                return thing.key
    return f"?{address}"


def live_cluster(world: World, aim: Target) -> Thing | None:
    """The cluster behind a Kubernetes provider. Unreachable is an error of its own kind: nothing is known then."""
    if aim.cloud != "kubernetes":
        return None
    cluster = world.things.get(aim.cluster)
    if cluster is None:
        where = aim.cluster.lstrip("?") if aim.cluster != NO_CLUSTER else "no kubeconfig was given"
        raise CloudError(f"configured Kubernetes cluster is unreachable: no API server answers at {where}")
    return cluster
