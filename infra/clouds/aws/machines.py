"""EC2 as the blueprint's site of machines: network, rights, groups and entry, from the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi
import pulumi_aws as aws

from infra.clouds.aws import filters, images, machine_entry, machine_groups, machine_identity, storage
from infra.clouds.aws.facts import whole
from infra.clouds.aws.here import here as look
from infra.clouds.aws.keys import flow_logs, key, log_group, server_logs
from infra.clouds.aws.network import network
from infra.clouds.machine_site import Boot, MachineIdentity, ServingGroup
from infra.clouds.site import EntryAddress, Grant, Ground, ModelFiles
from infra.plan import Plan, Pool
from infra.plan.flows import MACHINES, flows

OUTSIDE = "0.0.0.0/0"  # storage, secrets and registries answer from public ranges that change
UNFILTERED = ("dns", "metadata")  # what no security group judges: docs.aws.amazon.com/vpc/latest/userguide


class Machines:
    """Implements infra.clouds.machine_site.MachineSite."""

    ground: Ground
    log_group: pulumi.Input[str] | None

    def __init__(self, plan: Plan, *, stack: str) -> None:
        self._plan, self._stack = plan, stack
        self._provider = aws.Provider("aws", region=plan.spec.region)
        self._images: dict[str, pulumi.Output[str]] = {}

    def build(self) -> None:
        spec = self._plan.spec
        here = self._here = look(spec, self._stack, self._provider, control_plane=False)
        self._key = key(here, flow_logs(here), server_logs(here))
        net = self._net = network(here, self._key)
        self._servers = filters.group(here, net, "servers", "Serving machines of the stack, as stores know them")
        self._ways_out = self._let_out()
        self._logs = log_group(here, "servers", server_logs(here), self._key)
        self.log_group = server_logs(here)
        self.ground = Ground(
            stack=self._stack,
            cloud="aws",
            region=spec.region,
            project=None,
            zones=here.zones,
            network=net.vpc.id,
            subnets=net.private_ids(here.zones),
            server_security_groups=(self._servers.id,),
            private_ranges=(net.cidr,),
            provider=self._provider,
            kms_key=self._key.arn,
            labels={"slipway-stack": self._stack},
            after=net.routes,
        )

    def _let_out(self) -> tuple[pulumi.Resource, ...]:
        """From the servers, by the table of flows; a store of the cloud's interfaces is reached as storage is."""
        made = []
        for flow in flows("aws", MACHINES):
            if flow.source != "servers" or flow.target in UNFILTERED:
                continue
            if flow.target == "store":
                port = _store_port(self._plan)
                if port:
                    made.append(filters.to_range(self._here, "servers", flow, port, self._servers, self._net.cidr))
            else:
                made.append(filters.to_range(self._here, "servers", flow, int(flow.port), self._servers, OUTSIDE))
        return tuple(made)

    def image(self, pool: Pool) -> str:
        return images.image(pool).parameter

    def identity(self, grants: Sequence[Grant]) -> MachineIdentity:
        return machine_identity.identity(self._here, self._key, self._logs, grants)

    def upload(self, files: Mapping[str, pulumi.Asset], digest: str) -> ModelFiles:
        return storage.upload(self._here, self._key, files, digest)

    def model_missing(self, storage_uri: str) -> str | None:
        return storage.model_missing(self._provider, storage_uri)

    def prepare(self, ports: Mapping[str, int], ready_path: str, longest_s: float) -> None:
        ask = machine_entry.Ask(ports=ports, ready_path=ready_path, longest_s=longest_s)
        self._door = machine_entry.prepare(self._here, self._net, self._servers, ask)

    def group(self, plan: Plan, pool: Pool, generation: str, boot: Boot, identity: MachineIdentity) -> ServingGroup:
        one = images.image(pool)
        pinned = plan.spec.pins.get(one.parameter)
        if pinned is None and one.name not in self._images:
            self._images[one.name] = images.held(self._here, one)
        boot_image = self._images[one.name] if pinned is None else pulumi.Output.from_input(pinned)
        ground = machine_groups.Ground(
            here=self._here,
            net=self._net,
            servers=self._servers,
            door=self._door,
            identity=identity,
            after=(self._logs, *self._ways_out),
        )
        return machine_groups.serving_group(ground, plan, pool, generation, boot, one, boot_image)

    def entry(self, groups: Sequence[ServingGroup]) -> EntryAddress:
        """The groups have joined it by themselves."""
        found = machine_entry.address(self._here, self._net, self._door)
        return EntryAddress(
            http=found.http,
            grpc=found.grpc,
            reachable_from=found.reachable_from,
            after=(*found.after, *(r for g in groups for r in g.after)),
        )

    def tunnel(self, groups: Sequence[ServingGroup], port: int) -> Sequence[pulumi.Input[str]]:
        """By Session Manager: it needs no port that is open, and no key."""
        region = self._plan.spec.region
        return [g.address.apply(lambda name: _tunnel(region, name, port)) for g in groups]


def _tunnel(region: str, group: str, port: int) -> str:
    first = (
        f"$(aws autoscaling describe-auto-scaling-groups --region {region} --auto-scaling-group-names {group} "
        "--query 'AutoScalingGroups[0].Instances[0].InstanceId' --output text)"
    )
    ports = f"portNumber={port},localPortNumber={port}"
    document = "--document-name AWS-StartPortForwardingSession"
    return f'aws ssm start-session --region {region} --target "{first}" {document} --parameters {ports}'


def _store_port(plan: Plan) -> int | None:
    """Of a store that has an address in the network."""
    return whole("store_port_elasticache") if plan.spec.feature_store == "elasticache" else None
