"""EKS as the blueprint's site: cluster, pools, identities, model files and entry, from the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes

from infra.clouds.aws import entry, identity, nodes, storage
from infra.clouds.aws.cluster import add_on, cluster
from infra.clouds.aws.here import here as look
from infra.clouds.aws.keys import control_plane_logs, flow_logs, key
from infra.clouds.aws.network import network
from infra.clouds.site import EntryAddress, Grant, Ground, Identity, ModelFiles, Placement
from infra.plan import Plan, Pool


class Site:
    """Implements infra.clouds.site.KubernetesSite."""

    ground: Ground
    kubernetes: pulumi.ProviderResource
    cluster: pulumi.Output[str]
    cluster_version: str
    ready: Sequence[pulumi.Resource]
    kubeconfig: pulumi.Output[str]
    kubeconfig_command: pulumi.Output[str]
    system: Placement

    def __init__(self, plan: Plan, *, stack: str) -> None:
        self._plan, self._stack = plan, stack
        self._provider = aws.Provider("aws", region=plan.spec.region)

    def build(self) -> None:
        spec = self._plan.spec
        here = self._here = look(spec, self._stack, self._provider)
        self._key = key(here, control_plane_logs(here), flow_logs(here))
        net = self._net = network(here, self._key)
        self._filters = entry.filters(here, net)
        self._cluster = cluster(here, net, self._key)
        entry.control_plane_rules(here, self._filters, self._cluster.security_group)
        role, rights = nodes.node_role(here)
        self._nodes = nodes.Ground(
            here=here,
            net=net,
            cluster=self._cluster,
            role=role,
            groups=(self._filters.nodes.id,),
            after=(*rights, *net.routes, *self._cluster.node_add_ons),
        )
        shape = nodes.system_shape(here)
        self._system_group = nodes.node_group(self._nodes, shape, self._filters.system.id)
        # names of services, and the usage that the vertical autoscaler reads: pods of the system nodes
        on_nodes = [add_on(here, self._cluster.resource, n, self._system_group) for n in ("coredns", "metrics-server")]
        self.ready = (self._system_group, *on_nodes, *self._cluster.node_add_ons)
        self.system = nodes.placement(shape, 1, self.ready)
        self.cluster, self.cluster_version = self._cluster.resource.name, self._cluster.version
        self._connect()
        self.ground = Ground(
            stack=self._stack,
            cloud="aws",
            region=spec.region,
            project=None,
            zones=here.zones,
            network=net.vpc.id,
            subnets=net.private_ids(here.zones),
            server_security_groups=(self._filters.nodes.id,),
            private_ranges=(net.cidr,),
            provider=self._provider,
            kms_key=self._key.arn,
            labels={"slipway-stack": self._stack},
            after=net.routes,
        )

    def _connect(self) -> None:
        """A command stands for the credentials: a token in the state would change every run."""
        made, name, region = self._cluster.resource, self._cluster.name, self._plan.spec.region
        command = ["--region", region, "eks", "get-token", "--cluster-name", name, "--output", "json"]
        user = {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "aws", "args": command}
        server = {
            "server": made.endpoint,
            "certificate-authority-data": made.certificate_authority.apply(lambda a: a.data),
        }
        self.kubeconfig = pulumi.Output.json_dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": name,
                "clusters": [{"name": name, "cluster": server}],
                "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
                "users": [{"name": name, "user": {"exec": user | {"interactiveMode": "Never"}}}],
            }
        )
        self.kubeconfig_command = made.name.apply(lambda n: f"aws eks update-kubeconfig --region {region} --name {n}")
        self.kubernetes = kubernetes.Provider("kubernetes", kubeconfig=self.kubeconfig, cluster_identifier=made.arn)

    def pool(self, pool: Pool, generation: str) -> Placement:
        here = self._here
        shape = nodes.pool_shape(self._plan, pool, generation, here.zones)
        group = nodes.node_group(self._nodes, shape)
        tags = nodes.scaling_tags(here, shape, group)
        return nodes.placement(shape, pool.replicas_per_node, (group, *tags))

    def identity(self, namespace: str, service_account: str, grants: Sequence[Grant]) -> Identity:
        return identity.identity(
            self._here, self._cluster, self._key, lambda: self._agent, namespace, service_account, grants
        )

    @cached_property
    def _agent(self) -> aws.eks.Addon:
        return identity.pod_identity_agent(self._here, self._cluster)

    def upload(self, files: Mapping[str, pulumi.Asset], digest: str) -> ModelFiles:
        return storage.upload(self._here, self._key, files, digest)

    def model_missing(self, storage_uri: str) -> str | None:
        return storage.model_missing(self._provider, storage_uri)

    def entry(self, node_ports: Mapping[str, int]) -> EntryAddress:
        group = nodes.scaling_group(self._system_group)
        return entry.entry(self._here, self._net, self._filters, group, node_ports)
