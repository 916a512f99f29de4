"""What groups of virtual machines are to the blueprint: the same questions to every cloud, answered with resources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pulumi

from infra.clouds.site import EntryAddress, Grant, Ground, ModelFiles
from infra.plan import Plan, Pool


@dataclass(frozen=True, kw_only=True)
class Boot:
    """What a machine of a group is told, and what others must know of it."""

    user_data: pulumi.Input[str]  # cloud-config, plain text
    ports: Mapping[str, int]  # of the server on the machine: http, grpc, metrics
    ready_path: str  # HTTP 200 on the port http when every model is loaded
    startup_s: int  # from the order for a machine to its first answer, at the longest: autohealing waits so long
    drain_s: int  # from the order to go until it is gone, at the longest
    spot_notice_s: int = 0  # what the drain may take on a machine that is taken back
    after: Sequence[pulumi.Resource] = ()  # what must be there before a machine starts: model files, store


@dataclass(frozen=True, kw_only=True)
class MachineIdentity:
    """The machines' rights in the cloud."""

    principal: pulumi.Output[str]  # gcp: e-mail of the service account; aws: name of the instance profile
    after: Sequence[pulumi.Resource] = ()


@dataclass(frozen=True, kw_only=True)
class ServingGroup:
    """One group of equal machines of one generation, with what scales it."""

    generation: str
    role: str
    address: pulumi.Output[str]  # gcp: URL of the instance group; aws: name of the auto scaling group
    max_rps_per_machine: float  # the entry may count with it
    after: Sequence[pulumi.Resource] = field(default_factory=tuple)


class MachineSite(Protocol):
    """One network with what every machine needs. Making it declares the cloud's provider alone, so that
    `model_missing` can be asked before anything is; `build` declares the network and sets `ground`. Every other method
    comes after it."""

    ground: Ground
    log_group: pulumi.Input[str] | None  # aws: where the servers' output goes; None: the cloud knows by itself

    def __init__(self, plan: Plan, *, stack: str) -> None: ...

    def build(self) -> None:
        """Network, firewall, what reads images and writes logs."""
        ...

    def identity(self, grants: Sequence[Grant]) -> MachineIdentity:
        """Cloud rights of the machines: the models' buckets and the store, and no more."""
        ...

    def upload(self, files: Mapping[str, pulumi.Asset], digest: str) -> ModelFiles:
        """Objects under a folder named by the digest, in a bucket of the stack."""
        ...

    def model_missing(self, storage_uri: str) -> str | None:
        """Why the model at that address cannot be served; None: it is there. By an invoke, in preview as well."""
        ...

    def image(self, pool: Pool) -> str:
        """The name of the machines' boot image: another one is another generation. Before `build` as well."""
        ...

    def prepare(self, ports: Mapping[str, int], ready_path: str, longest_s: float) -> None:
        """What groups must be told of the entry before it stands (aws: balancer, listeners and target groups, which
        an auto scaling group joins by itself). Before the first `group`. The path is one that every generation that
        stands answers with 200 when it is ready."""
        ...

    def group(self, plan: Plan, pool: Pool, generation: str, boot: Boot, identity: MachineIdentity) -> ServingGroup:
        """Template, group, autoscaler of one pool; the generation's digest stands in every logical and physical name.
        `plan` is the generation's own: of an old generation that still stands it is the recorded one, and the same
        call must then give the same resources. Autohealing asks for the boot's own ready path."""
        ...

    def entry(self, groups: Sequence[ServingGroup]) -> EntryAddress:
        """The load balancer in front of all groups, per request."""
        ...

    def tunnel(self, groups: Sequence[ServingGroup], port: int) -> Sequence[pulumi.Input[str]]:
        """Commands that open a way to the port of one machine from where no route leads into the network."""
        ...
