"""Compute Engine as the blueprint sees it: one network, groups of machines, and what is asked of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi
import pulumi_gcp as gcp

from infra.catalog import load
from infra.clouds.gcp import models
from infra.clouds.gcp.boot import image
from infra.clouds.gcp.facts import text
from infra.clouds.gcp.firewall import Aim, allow, let_out
from infra.clouds.gcp.group import group
from infra.clouds.gcp.here import Here
from infra.clouds.gcp.identity import machine_identity
from infra.clouds.gcp.machine_entry import Asked, machine_entry
from infra.clouds.gcp.network import machine_network
from infra.clouds.gcp.template import TAG
from infra.clouds.machine_site import Boot, MachineIdentity, ServingGroup
from infra.clouds.site import EntryAddress, Grant, Ground, ModelFiles
from infra.plan import Plan, Pool
from infra.plan.flows import MACHINES
from infra.plan.zones import network_zones


class Machines:
    """A `MachineSite` on Google Cloud."""

    log_group: pulumi.Input[str] | None = None  # Cloud Logging knows the machine by itself

    def __init__(self, plan: Plan, *, stack: str) -> None:
        spec = plan.spec
        if spec.project is None:  # a rule of the specification asks for it
            raise ValueError("project: is required where cloud is gcp")
        provider = gcp.Provider("gcp", project=spec.project, region=spec.region)
        zones = network_zones(spec, load())
        self._here = Here(spec=spec, stack=stack, project=spec.project, provider=provider, zones=zones)
        self._bucket: gcp.storage.Bucket | None = None

    def image(self, pool: Pool) -> str:
        return image(pool)

    def build(self) -> None:
        here = self._here
        self._net = net = machine_network(here)
        self.ground = Ground(
            stack=here.stack,
            cloud="gcp",
            region=here.spec.region,
            project=here.project,
            zones=here.zones,
            network=net.network.id,
            subnets=[net.nodes.id],
            private_ranges=[text("node_range")],
            provider=here.provider,
            labels={"slipway-stack": here.labels("store")["slipway-stack"]},
            after=[net.network],
        )

    def identity(self, grants: Sequence[Grant]) -> MachineIdentity:
        return machine_identity(self._here, "machines", grants)

    def upload(self, files: Mapping[str, pulumi.Asset], digest: str) -> ModelFiles:
        """Kept until the bucket goes: machines of an old generation read theirs when they start, and what is no longer
        on this machine cannot be declared again."""
        if self._bucket is None:
            self._bucket = models.bucket(self._here)
        return models.upload(self._here, self._bucket, files, digest, kept=True)

    def model_missing(self, storage_uri: str) -> str | None:
        return models.missing(self._here.provider, storage_uri)

    def prepare(self, ports: Mapping[str, int], ready_path: str, longest_s: float) -> None:
        """The firewall lets the load balancer's health checks in before the first machine stands."""
        self._asked = Asked(ports=ports, ready_path=ready_path, longest_s=longest_s)
        out = let_out(self._here, self._net.network, "servers", Aim(layer=MACHINES, tag=TAG))
        self._open = [*self._let_in(ports, None), *out]

    def group(self, plan: Plan, pool: Pool, generation: str, boot: Boot, identity: MachineIdentity) -> ServingGroup:
        rules = self._open
        if dict(boot.ports) != dict(self._asked.ports):  # an old generation of another kind of server
            rules = [*rules, *self._let_in(boot.ports, f"{pool.role}-{generation}")]
        return group(self._here, self._net, plan, pool, generation, boot, identity, rules)

    def entry(self, groups: Sequence[ServingGroup]) -> EntryAddress:
        return machine_entry(self._here, self._net, self._asked, groups)

    def tunnel(self, groups: Sequence[ServingGroup], port: int) -> Sequence[pulumi.Input[str]]:
        """Whom IAM lets through Identity-Aware Proxy reaches one machine: which there are, then the way to one."""
        here = self._here
        where = f"--region {here.spec.region} --project {here.project}"
        shown = "--format 'value(instance.basename(), instance.scope().segment(0))'"
        found = [
            pulumi.Output.concat(
                "gcloud compute instance-groups managed list-instances ", g.address.apply(_last), f" {where} {shown}"
            )
            for g in groups
        ]
        way = f"--local-host-port localhost:{port} --zone ZONE --project {here.project}"
        return [*found, f"gcloud compute start-iap-tunnel INSTANCE {port} {way}"]

    def _let_in(self, ports: Mapping[str, int], digest: str | None) -> list[gcp.compute.Firewall]:
        return allow(
            self._here, self._net.network, ("servers",), Aim(layer=MACHINES, tag=TAG, ports=ports, digest=digest)
        )


def _last(url: str) -> str:
    return url.rpartition("/")[2]
