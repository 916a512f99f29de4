"""What a cloud makes by itself beside a resource, and whether it goes when the resource goes (effects.csv)."""

from __future__ import annotations

from fnmatch import fnmatchcase

from simulators.core import paths, references, tables, templates
from simulators.core.checks import text
from simulators.core.values import plain_properties
from simulators.core.world import Thing, World

STAYS = "stays"
_TOKENS = {  # what a row makes -> the type that it is on each cloud
    ("load-balancer", "aws"): "aws:lb/loadBalancer:LoadBalancer",
    ("load-balancer", "gcp"): "gcp:compute/forwardingRule:ForwardingRule",
    ("security-group", "aws"): "aws:ec2/securityGroup:SecurityGroup",
    ("firewall-rule", "gcp"): "gcp:compute/firewall:Firewall",
    ("network-endpoint-group", "gcp"): "gcp:compute/networkEndpointGroup:NetworkEndpointGroup",
    ("disk", "aws"): "aws:ebs/volume:Volume",
    ("disk", "gcp"): "gcp:compute/disk:Disk",
    ("instance", "aws"): "aws:ec2/instance:Instance",
    ("network-interface", "aws"): "aws:ec2/networkInterface:NetworkInterface",
    ("log-group", "aws"): "aws:cloudwatch/logGroup:LogGroup",
}
CLUSTERS = ("gcp:container/cluster:Cluster", "aws:eks/cluster:Cluster")
WORKLOADS = ("Deployment", "DaemonSet", "StatefulSet", "Job", "Pod", "ReplicaSet")


def on_create(world: World, thing: Thing) -> None:
    """Makes the traces of a resource: a load balancer of a Service, a disk of a claim, a cluster's log group."""
    for row in _rows(thing):
        if row["class"] != "2" and row["makes"]:
            _make(world, thing, row)


def on_delete(world: World, thing: Thing, now: float, cascade: bool) -> None:
    """`cascade`: the owner went because what it lived in went, or its delete was cut off: nobody tidied up."""
    for trace in [t for t in world.things.values() if t.owner == thing.key]:
        fate = trace.after_cascade if cascade else trace.after_delete
        if fate in (STAYS, "recreated"):
            trace.owner = ""
        else:
            trace.gone_at = now + float(fate or 0)
    if thing.token == "aws:eks/nodeGroup:NodeGroup":
        _interfaces_left(world, thing)
    if thing.token == "aws:cloudwatch/logGroup:LogGroup":
        _log_group_again(world, thing)


def _rows(thing: Thing) -> list[dict[str, str]]:
    inputs = plain_properties(thing.inputs)
    found = []
    for row in tables.rows("effects"):
        if not fnmatchcase(thing.token, row["type"]):
            continue
        path, _, wanted = row["when"].partition("=")
        value = paths.get(inputs, paths.parse(path)) if path else None
        if not path or (value not in (None, [], "") if wanted == "*" else text(value) == wanted):
            found.append(row)
    return found


def _make(world: World, thing: Thing, row: dict[str, str]) -> None:
    home = cluster_of(world, thing)
    cloud = home.cloud if home is not None else thing.cloud
    what, _, only = row["makes"].partition("@")
    token = _TOKENS.get((what, cloud))
    if token is None or (only and only != cloud):
        return
    name = templates.fill(row["name"], plain_properties(thing.inputs), {}, f"{thing.key}{row['makes']}")
    if any(t.token == token and t.name == name for t in world.things.values()):
        return
    trace = Thing(
        cloud=cloud,
        token=token,
        id=name,
        name=name,
        scope=name if what == "log-group" else "",
        owner=thing.key,
        leak=int(row["class"]),
        holds=_holds(world, home or thing, row["holds"]),
        after_delete=row["after_delete"],
        after_cascade=row["after_cascade"],
        billable=row["billable"] == "yes",
        why=row["why"],
    )
    world.things[trace.key] = trace


def cluster_of(world: World, thing: Thing) -> Thing | None:
    """The cluster that an object lives in; the cluster itself for itself; None for anything else."""
    if thing.token in CLUSTERS:
        return thing
    return next((t for t in world.things.values() if t.key == thing.cluster), None) if thing.cluster else None


def _holds(world: World, cluster: Thing, what: str) -> list[str]:
    """Ids of the networks, subnets and groups that a trace keeps from being deleted."""
    if not what:
        return []
    inputs = plain_properties(cluster.inputs)
    wanted_urns = references.dependencies(world, cluster.token, inputs)
    near = [t for t in world.things.values() if t.urn and t.urn in wanted_urns]
    networks = [
        t
        for near_one in near
        for t in world.things.values()
        if t.urn and t.urn in references.dependencies(world, near_one.token, plain_properties(near_one.inputs))
    ]
    kinds = {"network": ("Network", "Vpc"), "subnets": ("Network", "Vpc", "Subnetwork", "Subnet")}
    wanted = kinds.get(what, ("Subnet", "Vpc", "SecurityGroup"))
    return sorted({t.id for t in (*near, *networks) if t.token.rpartition(":")[2] in wanted})


def _interfaces_left(world: World, group: Thing) -> None:
    """The last nodes went while pods ran: vpc-cni had no time to give its interfaces back."""
    name = text(plain_properties(group.inputs).get("clusterName"))
    cluster = next((t for t in world.things.values() if t.token == CLUSTERS[1] and t.name == name), None)
    if cluster is None or any(
        t is not group and t.token == group.token and t.inputs.get("clusterName") == name for t in world.things.values()
    ):
        return
    if any(t.cluster == cluster.key and t.token.rpartition(":")[2] in WORKLOADS for t in world.things.values()):
        row = next(r for r in tables.rows("effects") if r["class"] == "2")
        made = templates.fill(row["name"], {}, {}, group.key)
        trace = Thing(
            cloud="aws", token="aws:ec2/networkInterface:NetworkInterface", id=f"eni-{made[-8:]}", name=made, leak=2,
            holds=_holds(world, cluster, "nodes"), why=row["why"],
        )  # fmt: skip
        world.things[trace.key] = trace


def _log_group_again(world: World, group: Thing) -> None:
    """A control plane that still logs makes its log group again at once."""
    for cluster in [t for t in world.things.values() if t.token == CLUSTERS[1]]:
        for row in _rows(cluster):
            if row["makes"].startswith("log-group") and group.name == f"/aws/eks/{cluster.name}/cluster":
                _make(world, cluster, row)
