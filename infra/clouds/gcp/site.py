"""GKE as the blueprint sees it: one cluster with its network, and what is asked of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi
import pulumi_gcp as gcp

from infra.clouds.gcp import cluster, models, pools
from infra.clouds.gcp.entry import entry
from infra.clouds.gcp.facts import text
from infra.clouds.gcp.firewall import Aim, allow
from infra.clouds.gcp.here import Here
from infra.clouds.gcp.identity import identity
from infra.clouds.gcp.keys import key
from infra.clouds.gcp.network import cluster_network
from infra.clouds.gcp.nodes import node_identity
from infra.clouds.site import EntryAddress, Grant, Ground, Identity, ModelFiles, Placement
from infra.plan import Plan, Pool
from infra.plan.cost_facts import amount

CALLED_BY_THE_CONTROL_PLANE = ("keda_metrics", "keda_webhook")


class Site:
    """A `KubernetesSite` on Google Cloud."""

    def __init__(self, plan: Plan, *, stack: str) -> None:
        spec = plan.spec
        if spec.project is None:  # a rule of the specification asks for it
            raise ValueError("project: is required where cloud is gcp")
        provider = gcp.Provider("gcp", project=spec.project, region=spec.region)
        zones = pools.system_zones(spec.region, spec.zones, int(amount("system_nodes", spec)))
        self._plan = plan
        self._here = Here(spec=spec, stack=stack, project=spec.project, provider=provider, zones=zones)
        self._bucket: gcp.storage.Bucket | None = None

    def build(self) -> None:
        here, spec = self._here, self._here.spec
        self._net = net = cluster_network(here)
        secrets = key(here)
        self._nodes = node_identity(here, net.nat)
        self._cluster = made = cluster.cluster(here, net, secrets, self._nodes)
        rules = allow(here, net.network, CALLED_BY_THE_CONTROL_PLANE, Aim())
        self._system = system = pools.system_pool(here, made, self._nodes)
        self.cluster = made.name
        self.kubeconfig = cluster.kubeconfig(here, made)
        self.kubeconfig_command = cluster.kubeconfig_command(here, made)
        self.kubernetes = cluster.kubernetes_provider(here, made, self.kubeconfig)
        self.ready: Sequence[pulumi.Resource] = [system, *rules]
        self.system = Placement(node_selector=pools.SYSTEM, after=[system])
        self.ground = Ground(
            stack=here.stack,
            cloud="gcp",
            region=spec.region,
            project=here.project,
            zones=here.zones,
            network=net.network.id,
            subnets=[net.nodes.id],
            private_ranges=[text("node_range"), text("pod_range")],
            provider=here.provider,
            labels={"slipway-stack": here.labels("store")["slipway-stack"]},
            after=[net.network],
        )

    def pool(self, pool: Pool, generation: str) -> Placement:
        return pools.serving_pool(self._here, self._cluster, self._nodes, self._plan, pool, generation)

    def identity(self, namespace: str, service_account: str, grants: Sequence[Grant]) -> Identity:
        return identity(self._here, self._cluster, namespace, service_account, grants)

    def upload(self, files: Mapping[str, pulumi.Asset], digest: str) -> ModelFiles:
        if self._bucket is None:
            self._bucket = models.bucket(self._here)
        return models.upload(self._here, self._bucket, files, digest)

    def model_missing(self, storage_uri: str) -> str | None:
        return models.missing(self._here.provider, storage_uri)

    def entry(self, node_ports: Mapping[str, int]) -> EntryAddress:
        allow_envoy = allow(self._here, self._net.network, ("envoy",), Aim(ports=node_ports))
        made = entry(self._here, self._net, self._system, node_ports)
        return EntryAddress(
            http=made.http, grpc=made.grpc, reachable_from=made.reachable_from, after=[*made.after, *allow_envoy]
        )
