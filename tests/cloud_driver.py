"""Speaks to a simulator as an engine does, call by call: what a naive program would ask for, and nothing more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import provider_pb2 as p
from pulumi.runtime.proto import status_pb2

from simulators.core.servicer import Simulator
from simulators.core.values import Json, Properties, from_struct, to_struct
from simulators.core.world import World

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: c
clusters: [{{name: c, cluster: {{server: "{server}"}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
users: [{{name: u, user: {{}}}}]
"""


class CallError(Exception):
    """The provider aborted: `partial` is what it made all the same."""

    def __init__(self, code: grpc.StatusCode, text: str, partial: p.ErrorResourceInitFailed | None = None) -> None:
        super().__init__(text)
        self.code, self.partial = code, partial


class RefusedError(Exception):
    """Check refused: (property, reason) each."""

    def __init__(self, failures: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{path}: {reason}" for path, reason in failures))
        self.failures = failures


class _Context(grpc.ServicerContext):  # type: ignore[misc]
    """The two ways in which a servicer ends a call; the rest of the interface is never used."""

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        raise CallError(code, details)

    def abort_with_status(self, status: grpc.Status) -> NoReturn:
        packed = dict(status.trailing_metadata)["grpc-status-details-bin"]
        failed = p.ErrorResourceInitFailed()
        status_pb2.Status.FromString(packed).details[0].Unpack(failed)
        raise CallError(status.code, status.details, failed)


for _name in _Context.__abstractmethods__ | grpc.ServicerContext.__abstractmethods__:
    if _name not in ("abort", "abort_with_status"):
        setattr(_Context, _name, None)
_Context.__abstractmethods__ = frozenset()


@dataclass(kw_only=True)
class Made:
    token: str
    name: str
    urn: str
    id: str
    inputs: Properties
    outputs: Properties

    def __getitem__(self, path: str) -> Json:
        return self.outputs[path]


@dataclass(kw_only=True)
class Driver:
    """One provider of one cloud in a world; `made` is its state, in the order of creation."""

    cloud: str
    world: World
    config: Properties = field(default_factory=dict)
    made: dict[str, Made] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.simulator = Simulator(self.cloud, self.world)
        self.context = _Context()
        self.simulator.Configure(p.ConfigureRequest(args=to_struct(self.config)), self.context)

    def check(self, token: str, name: str, inputs: Mapping[str, Json], old: Properties | None = None) -> Properties:
        request = p.CheckRequest(urn=urn(token, name), news=to_struct(inputs), randomSeed=name.encode())
        if old is not None:
            request.olds.CopyFrom(to_struct(old))
        response = self.simulator.Check(request, self.context)
        if response.failures:
            raise RefusedError([(f.property, f.reason) for f in response.failures])
        return from_struct(response.inputs)

    def preview(self, token: str, name: str, inputs: Mapping[str, Json]) -> Properties:
        checked = self.check(token, name, inputs)
        request = p.CreateRequest(urn=urn(token, name), properties=to_struct(checked), preview=True)
        return from_struct(self.simulator.Create(request, self.context).properties)

    def create(self, token: str, name: str, inputs: Mapping[str, Json], timeout: float = 0) -> Made:
        checked = self.check(token, name, inputs)
        request = p.CreateRequest(urn=urn(token, name), properties=to_struct(checked), timeout=timeout)
        try:
            response = self.simulator.Create(request, self.context)
        except CallError as error:
            if error.partial is not None:
                self._keep(token, name, error.partial.id, checked, from_struct(error.partial.properties))
            raise
        return self._keep(token, name, response.id, checked, from_struct(response.properties))

    def _keep(self, token: str, name: str, identity: str, inputs: Properties, outputs: Properties) -> Made:
        made = Made(token=token, name=name, urn=urn(token, name), id=identity, inputs=inputs, outputs=outputs)
        self.made[made.urn] = made
        return made

    def diff(self, made: Made, inputs: Mapping[str, Json]) -> tuple[str, p.DiffResponse, Properties]:
        """(same, update or replace; the answer; the checked inputs)"""
        checked = self.check(made.token, made.name, inputs, made.inputs)
        request = p.DiffRequest(
            urn=made.urn,
            id=made.id,
            old_inputs=to_struct(made.inputs),
            olds=to_struct(made.outputs),
            news=to_struct(checked),
        )
        answer = self.simulator.Diff(request, self.context)
        some = answer.changes == p.DiffResponse.DIFF_SOME
        return "replace" if answer.replaces else "update" if some else "same", answer, checked

    def update(self, made: Made, inputs: Mapping[str, Json], timeout: float = 0, ignored: Sequence[str] = ()) -> Made:
        _, _, checked = self.diff(made, inputs)
        request = p.UpdateRequest(
            urn=made.urn,
            id=made.id,
            olds=to_struct(made.outputs),
            news=to_struct(checked),
            old_inputs=to_struct(made.inputs),
            timeout=timeout,
            ignoreChanges=list(ignored),
        )
        response = self.simulator.Update(request, self.context)
        return self._keep(made.token, made.name, made.id, checked, from_struct(response.properties))

    def delete(self, made: Made, timeout: float = 0) -> None:
        request = p.DeleteRequest(urn=made.urn, id=made.id, properties=to_struct(made.outputs), timeout=timeout)
        self.simulator.Delete(request, self.context)
        del self.made[made.urn]

    def destroy(self) -> list[str]:
        """Deletes in reverse order as far as it goes; returns what failed, in the provider's words."""
        failed: list[str] = []
        for made in reversed(list(self.made.values())):
            try:
                self.delete(made)
            except CallError as error:
                failed.append(str(error))
        return failed

    def read(self, made: Made) -> Properties | None:
        response = self.simulator.Read(p.ReadRequest(urn=made.urn, id=made.id), self.context)
        return from_struct(response.properties) if response.id else None

    def invoke(self, token: str, args: Mapping[str, Json] | None = None) -> Properties:
        response = self.simulator.Invoke(p.InvokeRequest(tok=token, args=to_struct(args or {})), self.context)
        if response.failures:
            raise CallError(grpc.StatusCode.NOT_FOUND, response.failures[0].reason)
        return from_struct(getattr(response, "return"))

    def cancel(self) -> empty_pb2.Empty:
        return self.simulator.Cancel(empty_pb2.Empty(), self.context)


def urn(token: str, name: str) -> str:
    return f"urn:pulumi:s::p::{token}::{name}"


def gcp(world: World) -> Driver:
    return Driver(cloud="gcp", world=world, config={"project": "slipway-test", "region": "us-central1"})


def aws(world: World) -> Driver:
    return Driver(cloud="aws", world=world, config={"region": "us-east-1"})


def kubernetes(world: World, cluster: Made) -> Driver:
    """A Kubernetes provider that points at a simulated cluster."""
    server = str(cluster["endpoint"])
    server = server if server.startswith("https://") else f"https://{server}"
    return Driver(cloud="kubernetes", world=world, config={"kubeconfig": KUBECONFIG.format(server=server)})


@dataclass(kw_only=True)
class Site:
    """A network and a cluster on one cloud, with a Kubernetes provider for it."""

    cloud: Driver
    network: Made
    subnets: list[Made]
    cluster: Made
    kubernetes: Driver

    def namespace(self, name: str = "serving") -> Made:
        return self.kubernetes.create("kubernetes:core/v1:Namespace", name, {"metadata": {"name": name}})


def gke(world: World, **cluster: Json) -> Site:
    cloud = gcp(world)
    network = cloud.create("gcp:compute/network:Network", "net", {"name": "net", "autoCreateSubnetworks": False})
    subnet = cloud.create(
        "gcp:compute/subnetwork:Subnetwork",
        "sub",
        {"name": "sub", "network": network["selfLink"], "ipCidrRange": "10.0.0.0/20", "region": "us-central1"},
    )
    inputs: Properties = {
        "name": "c",
        "location": "us-central1",
        "network": network["selfLink"],
        "subnetwork": subnet["selfLink"],
        "deletionProtection": False,
        "initialNodeCount": 1,
    }
    made = cloud.create("gcp:container/cluster:Cluster", "c", {**inputs, **cluster})
    return Site(cloud=cloud, network=network, subnets=[subnet], cluster=made, kubernetes=kubernetes(world, made))


def eks(world: World, **cluster: Json) -> Site:
    cloud = aws(world)
    network = cloud.create("aws:ec2/vpc:Vpc", "vpc", {"cidrBlock": "10.40.0.0/16"})
    subnets = [
        cloud.create(
            "aws:ec2/subnet:Subnet",
            f"sub-{zone}",
            {"vpcId": network.id, "cidrBlock": f"10.40.{i * 16}.0/20", "availabilityZone": f"us-east-1{zone}"},
        )
        for i, zone in enumerate("ab")
    ]
    role = cloud.create(
        "aws:iam/role:Role",
        "role",
        {"name": "role", "assumeRolePolicy": '{"Version": "2012-10-17", "Statement": []}'},
    )
    inputs: Properties = {
        "name": "c",
        "roleArn": role["arn"],
        "vpcConfig": {"subnetIds": [s.id for s in subnets]},
    }
    made = cloud.create("aws:eks/cluster:Cluster", "c", {**inputs, **cluster})
    return Site(cloud=cloud, network=network, subnets=subnets, cluster=made, kubernetes=kubernetes(world, made))


def node_group(site: Site) -> Made:
    role = next(m for m in site.cloud.made.values() if m.token == "aws:iam/role:Role")
    return site.cloud.create(
        "aws:eks/nodeGroup:NodeGroup",
        "nodes",
        {
            "clusterName": "c",
            "nodeGroupName": "nodes",
            "nodeRoleArn": role["arn"],
            "subnetIds": [s.id for s in site.subnets],
            "scalingConfig": {"minSize": 1, "maxSize": 3, "desiredSize": 2},
            "instanceTypes": ["m6i.large"],
        },
    )


def node_pool(site: Site, name: str = "pool", **node_config: Json) -> Made:
    return site.cloud.create(
        "gcp:container/nodePool:NodePool",
        name,
        {
            "name": name,
            "cluster": "c",
            "location": "us-central1",
            "nodeCount": 2,
            "nodeConfig": {"machineType": "e2-standard-4", **node_config},
        },
    )


def deployment(name: str = "d", replicas: int = 1, **pod: Json) -> Properties:
    container: Properties = {"name": "c", "image": "i:1", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}
    labels: Properties = {"app": name}
    spec: Properties = {"containers": [container], **pod}
    return {
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def service(name: str, kind: str, **annotations: Json) -> Properties:
    return {
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"type": kind, "selector": {"app": "d"}, "ports": [{"port": 80}]},
    }
