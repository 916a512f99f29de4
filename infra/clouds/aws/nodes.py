"""Node groups: the system group that no mode replaces, and one group for each pool of a generation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.clouds.aws.cluster import Cluster
from infra.clouds.aws.here import Here
from infra.clouds.aws.network import Network
from infra.clouds.aws.policies import MANAGED, trusts
from infra.clouds.site import Placement, Toleration
from infra.plan import Plan, Pool
from infra.plan.cost_facts import amount, text
from infra.plan.facts import fact

ROLE, GENERATION = "slipway-role", "slipway-generation"  # labels
SERVING = "slipway-serving"  # taint: pods that no server is stay away from serving nodes
ACCELERATOR = "k8s.amazonaws.com/accelerator"  # by this label the Cluster Autoscaler waits for a node's GPUs
PRESENT = "nvidia.com/gpu.present"  # the device plugin's chart asks for it, and on EKS nobody else sets it
GPU = "nvidia.com/gpu"
TEMPLATE = "k8s.io/cluster-autoscaler/node-template"  # what a group without nodes would bring
ROOT_DEVICE = "/dev/xvda"  # of Amazon Linux 2023
EFFECTS = {"NO_SCHEDULE": "NoSchedule"}
NODE_POLICIES = ("AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly")


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What every node group stands on."""

    here: Here
    net: Network
    cluster: Cluster
    role: aws.iam.Role
    groups: tuple[pulumi.Output[str], ...]  # security groups of every node
    after: tuple[pulumi.Resource, ...]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One node group, as the cloud is asked for it."""

    role: str
    digest: str
    machine_type: str
    disk_gib: int
    zones: tuple[str, ...]
    start: int
    least: int
    most: int
    spot: bool = False
    arch: str = "amd64"
    gpus: int = 0
    turns: int = 1  # pods that share one GPU, as the device plugin announces it
    labels: Mapping[str, str]
    taints: tuple[tuple[str, str], ...] = ()  # key and value; NoSchedule

    @property
    def ami_type(self) -> str:
        """Amazon Linux 2023; its GPU image has the driver, and not the device plugin."""
        chip = "ARM_64" if self.arch == "arm64" else "x86_64"
        return f"AL2023_{chip}_{'NVIDIA' if self.gpus else 'STANDARD'}"


def system_shape(here: Here) -> Shape:
    """The digest covers what EKS would replace the group for: then another group of another name comes first."""
    machine, disk = text("system_machine", here.spec), int(fact("boot_disk", here.spec))
    nodes = int(amount("system_nodes", here.spec))
    digest = hashlib.sha256(json.dumps([machine, disk, here.zones]).encode()).hexdigest()[:8]
    return Shape(
        role="system",
        digest=digest,
        machine_type=machine,
        disk_gib=disk,
        zones=here.zones,
        start=nodes,
        least=nodes,
        most=nodes,
        labels={ROLE: "system"},
    )


def pool_shape(plan: Plan, pool: Pool, generation: str, zones: tuple[str, ...]) -> Shape:
    """The least is 0: AWS refuses one above the size that the autoscaler left. The autoscaler keeps what pods need."""
    gpus = pool.accelerator_count if pool.accelerator != "none" else 0
    gpu_labels = {ACCELERATOR: pool.accelerator, PRESENT: "true"}
    return Shape(
        role=pool.role,
        digest=generation,
        machine_type=pool.machine_type,
        disk_gib=pool.disk_gib or int(fact("boot_disk", plan.spec)),
        zones=tuple(z for z in zones if not pool.zones or z in pool.zones),
        start=pool.start_nodes,
        least=0,
        most=max(pool.max_nodes, pool.start_nodes, 1),
        spot=pool.capacity_type == "spot",
        arch=pool.arch,
        gpus=gpus,
        turns=1 if plan.serving.gpu_sharing == "none" else plan.serving.gpu_clients,
        labels={ROLE: pool.role, GENERATION: generation, **(gpu_labels if gpus else {})},
        taints=((SERVING, "true"), *(((GPU, "present"),) if gpus else ())),
    )


def placement(shape: Shape, replicas_per_node: int, after: tuple[pulumi.Resource, ...]) -> Placement:
    selector = {k: v for k, v in shape.labels.items() if k in (ROLE, GENERATION)}
    return Placement(
        node_selector=selector,
        tolerations=tuple(Toleration(key=k, value=v, effect="NoSchedule") for k, v in shape.taints),
        device=GPU if shape.gpus else None,
        devices=_devices(shape, replicas_per_node),
        after=after,
    )


def _devices(shape: Shape, replicas_per_node: int) -> int:
    """Of a shared GPU a pod asks for one share: two shares of one are no more than one."""
    if not shape.gpus or shape.turns > 1:
        return min(shape.gpus, 1)
    return max(1, shape.gpus // max(1, replicas_per_node))


def node_role(here: Here) -> tuple[aws.iam.Role, tuple[pulumi.Resource, ...]]:
    """To join and to pull images: the network add-on and the workloads have roles of their own."""
    role = aws.iam.Role(
        "nodes",
        name=here.name("iam/role:Role", "nodes"),
        assume_role_policy=trusts("ec2.amazonaws.com"),
        tags=here.tags("nodes"),
        opts=here.on(),
    )
    rights = tuple(
        aws.iam.RolePolicyAttachment(f"nodes-{p}", role=role.name, policy_arn=MANAGED + p, opts=here.on())
        for p in NODE_POLICIES
    )
    return role, rights


def node_group(ground: Ground, shape: Shape, *more_groups: pulumi.Output[str]) -> aws.eks.NodeGroup:
    here = ground.here
    logical = f"{shape.role}-{shape.digest}"
    template = _template(ground, shape, logical, more_groups)
    owned = shape.start == shape.least == shape.most  # nobody else moves the count
    return aws.eks.NodeGroup(
        logical,
        cluster_name=ground.cluster.resource.name,
        node_group_name=here.name("eks/nodeGroup:NodeGroup", shape.role, shape.digest),
        node_role_arn=ground.role.arn,
        subnet_ids=ground.net.private_ids(shape.zones),
        ami_type=shape.ami_type,
        capacity_type="SPOT" if shape.spot else "ON_DEMAND",
        instance_types=[shape.machine_type],
        version=ground.cluster.version,
        labels=dict(shape.labels),
        taints=[aws.eks.NodeGroupTaintArgs(key=key, value=value, effect="NO_SCHEDULE") for key, value in shape.taints],
        scaling_config=aws.eks.NodeGroupScalingConfigArgs(
            min_size=shape.least, max_size=shape.most, desired_size=shape.start
        ),
        update_config=aws.eks.NodeGroupUpdateConfigArgs(max_unavailable=1),
        node_repair_config=aws.eks.NodeGroupNodeRepairConfigArgs(enabled=True),
        launch_template=aws.eks.NodeGroupLaunchTemplateArgs(
            id=template.id,
            version=template.latest_version.apply(lambda v: str(int(v))),  # numbers come back as floats
        ),
        tags=here.tags(logical),
        opts=here.on(*ground.after, ignore=() if owned else ("scalingConfig.desiredSize",), slow_delete=True),
    )


def _template(
    ground: Ground, shape: Shape, logical: str, more_groups: tuple[pulumi.Output[str], ...]
) -> aws.ec2.LaunchTemplate:
    """Metadata by session token only and not from pods: a pod's rights are those of its service account."""
    here = ground.here
    return aws.ec2.LaunchTemplate(
        logical,
        name=here.name("ec2/launchTemplate:LaunchTemplate", shape.role, shape.digest),
        update_default_version=True,
        metadata_options=aws.ec2.LaunchTemplateMetadataOptionsArgs(
            http_endpoint="enabled", http_tokens="required", http_put_response_hop_limit=1
        ),
        block_device_mappings=[
            aws.ec2.LaunchTemplateBlockDeviceMappingArgs(
                device_name=ROOT_DEVICE,
                ebs=aws.ec2.LaunchTemplateBlockDeviceMappingEbsArgs(
                    volume_type="gp3", volume_size=shape.disk_gib, encrypted="true", delete_on_termination="true"
                ),
            )
        ],
        monitoring=aws.ec2.LaunchTemplateMonitoringArgs(enabled=False),
        vpc_security_group_ids=[ground.cluster.security_group, *ground.groups, *more_groups],
        tag_specifications=[
            aws.ec2.LaunchTemplateTagSpecificationArgs(resource_type=kind, tags=here.tags(logical))
            for kind in ("instance", "volume", "network-interface")
        ],
        tags=here.tags(logical),
        opts=here.on(),
    )


def scaling_tags(here: Here, shape: Shape, group: aws.eks.NodeGroup) -> tuple[pulumi.Resource, ...]:
    """What the Cluster Autoscaler must know of a group while it has no node to look at."""
    name = scaling_group(group)
    wanted = {f"{TEMPLATE}/label/{k}": v for k, v in shape.labels.items()}
    wanted |= {f"{TEMPLATE}/taint/{k}": f"{v}:NoSchedule" for k, v in shape.taints}
    wanted[f"{TEMPLATE}/resources/ephemeral-storage"] = f"{shape.disk_gib}Gi"
    if shape.gpus:
        wanted[f"{TEMPLATE}/resources/{GPU}"] = str(shape.gpus * shape.turns)
    return tuple(
        aws.autoscaling.Tag(
            f"{shape.role}-{shape.digest}-{key.removeprefix(TEMPLATE + '/').replace('/', '-')}",
            autoscaling_group_name=name,
            tag=aws.autoscaling.TagTagArgs(key=key, value=value, propagate_at_launch=False),
            opts=here.on(),
        )
        for key, value in wanted.items()
    )


def scaling_group(group: aws.eks.NodeGroup) -> pulumi.Output[str]:
    """The auto scaling group that EKS made for a node group."""
    return group.resources.apply(lambda found: (found[0].autoscaling_groups or [])[0].name or "")
