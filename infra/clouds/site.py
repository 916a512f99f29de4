"""What a managed Kubernetes cluster is to the blueprint: the same questions to every cloud, answered with resources."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pulumi

from infra.plan import Plan, Pool


@dataclass(frozen=True, kw_only=True)
class Toleration:
    key: str
    value: str | None  # None: any value
    effect: str  # NoSchedule or NoExecute


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where pods of one node pool may run, and the device that they ask for."""

    node_selector: Mapping[str, str]
    tolerations: tuple[Toleration, ...] = ()
    device: str | None = None  # extended resource, such as nvidia.com/gpu or google.com/tpu
    devices: int = 0  # of it, for each replica
    after: Sequence[pulumi.Resource] = ()  # the pool, and what makes its devices appear


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A Kubernetes service account's rights in the cloud."""

    annotations: Mapping[str, pulumi.Input[str]]
    after: Sequence[pulumi.Resource] = ()


@dataclass(frozen=True, kw_only=True)
class Grant:
    """A right of the model servers, by what it is for: a cloud turns it into its own roles.

    kind: read_bucket (target: bucket name), read_write_prefix (target: bucket/prefix), scale_node_groups (target: the
    cluster's name; AWS only), read_secret (target: its name; machines' own, by `bind`), or a store's own kind that its
    module in infra/stores knows.
    """

    kind: str
    target: pulumi.Input[str]
    # (logical name, principal) -> what grants it: a store declares the rights on itself, and then nothing else is to be
    # done for this grant. The principal is an IAM member on GCP, the name of a role on AWS.
    bind: Callable[[str, pulumi.Input[str]], Sequence[pulumi.Resource]] | None = None


@dataclass(frozen=True, kw_only=True)
class EntryAddress:
    """The load balancer that the stack declares, in front of Envoy's node ports."""

    http: pulumi.Output[str]  # URL
    grpc: pulumi.Output[str]  # host:port
    reachable_from: str  # in words
    after: Sequence[pulumi.Resource] = ()


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """Model files of a local path, as objects of a bucket that the stack owns."""

    uri: pulumi.Output[str]  # gs://… or s3://… of the repository, without a trailing slash
    bucket: pulumi.Output[str]
    after: Sequence[pulumi.Resource]


@dataclass(frozen=True, kw_only=True)
class Ground:
    """Network facts that a store needs to stand beside the cluster."""

    stack: str
    cloud: str
    region: str
    project: str | None  # gcp
    zones: tuple[str, ...]
    network: pulumi.Output[str]  # gcp: network id; aws: VPC id
    subnets: Sequence[pulumi.Input[str]]  # gcp: subnetwork id; aws: private subnet ids
    server_security_groups: Sequence[pulumi.Input[str]] = ()  # aws: of the nodes
    private_ranges: Sequence[str] = ()  # addresses of nodes and pods
    provider: pulumi.ProviderResource | None = None
    kms_key: pulumi.Input[str] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    after: Sequence[pulumi.Resource] = ()


class KubernetesSite(Protocol):
    """One cluster with its network. Making it declares the cloud's provider alone, so that `model_missing` can be asked
    before anything is; `build` declares network and cluster and sets the attributes below. Every other method comes
    after it, declares what it needs, and may be called once a name."""

    ground: Ground
    kubernetes: pulumi.ProviderResource  # explicit provider of the cluster's objects
    cluster: pulumi.Output[str]  # its name
    cluster_version: str  # minor; AWS alone, where the Cluster Autoscaler's release follows it
    ready: Sequence[pulumi.Resource]  # what must stand before any object: system pool, add-ons
    kubeconfig: pulumi.Output[str]
    kubeconfig_command: pulumi.Output[str]
    system: Placement  # where Envoy, KEDA and Prometheus run

    def __init__(self, plan: Plan, *, stack: str) -> None: ...

    def build(self) -> None:
        """Network, cluster, system pool, add-ons."""
        ...

    def pool(self, pool: Pool, generation: str) -> Placement:
        """A node pool of one generation; the digest stands in the logical and the physical name."""
        ...

    def identity(self, namespace: str, service_account: str, grants: Sequence[Grant]) -> Identity:
        """Cloud rights for pods with that service account."""
        ...

    def upload(self, files: Mapping[str, pulumi.Asset], digest: str) -> ModelFiles:
        """Objects under a folder named by the digest, in a bucket of the stack."""
        ...

    def model_missing(self, storage_uri: str) -> str | None:
        """Why the model at that address cannot be served (an empty bucket, a wrong name); None: it is there.

        Asks the cloud by an invoke, in preview as well."""
        ...

    def entry(self, node_ports: Mapping[str, int]) -> EntryAddress:
        """The load balancer; node_ports by name: http, grpc."""
        ...
