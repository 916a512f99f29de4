"""One pool of one generation as machines: a launch template, and the auto scaling group that joins the entry itself."""

from __future__ import annotations

import base64
import gzip
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.clouds.aws import machine_scaling
from infra.clouds.aws.facts import whole
from infra.clouds.aws.here import Here
from infra.clouds.aws.images import Image
from infra.clouds.aws.machine_entry import Door
from infra.clouds.aws.network import Network
from infra.clouds.machine_site import Boot, MachineIdentity, ServingGroup
from infra.plan import Plan, Pool
from infra.plan.facts import fact
from infra.plan.groups import Scaling, prepares, scaling

DRAIN, START = "drain", "start"  # lifecycle hooks
PARTS = ("instance", "volume", "network-interface")


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What every group stands on."""

    here: Here
    net: Network
    servers: aws.ec2.SecurityGroup
    door: Door
    identity: MachineIdentity
    after: tuple[pulumi.Resource, ...]  # ways out, and where the servers' output goes


def serving_group(
    ground: Ground, plan: Plan, pool: Pool, generation: str, boot: Boot, image: Image, image_id: pulumi.Output[str]
) -> ServingGroup:
    here, bounds = ground.here, scaling(plan, pool)
    template = _template(ground, pool, generation, boot, image, image_id)
    spot = pool.capacity_type == "spot"
    moves, prepared = bounds.least < bounds.most, prepares(plan.spec, pool)
    mark = _mark(generation, bounds, prepared)
    logical = f"{pool.role}-{mark}"
    made = aws.autoscaling.Group(
        logical,
        name=here.name("autoscaling/group:Group", pool.role, mark),
        min_size=bounds.least,
        max_size=bounds.most,
        desired_capacity=bounds.start,
        vpc_zone_identifiers=ground.net.private_ids(_zones(here, pool)),
        launch_template=None if spot else _plain(template),
        mixed_instances_policy=_spot(template, pool) if spot else None,
        capacity_rebalance=spot,
        target_group_arns=[t.arn for t in ground.door.targets],
        # the generation before this one goes when these serve, and not when they have started
        wait_for_elb_capacity=bounds.start,
        wait_for_capacity_timeout=f"{boot.startup_s + whole('capacity_margin')}s",
        health_check_type="ELB",
        health_check_grace_period=boot.startup_s,
        default_instance_warmup=boot.startup_s,
        instance_maintenance_policy=aws.autoscaling.GroupInstanceMaintenancePolicyArgs(
            min_healthy_percentage=100, max_healthy_percentage=whole("replace_above")
        ),
        initial_lifecycle_hooks=_hooks(boot, prepared),
        warm_pool=_warm_pool(bounds.most) if prepared else None,
        # what an operator looks at; they cost nothing
        enabled_metrics=[
            aws.autoscaling.Metric.GROUP_DESIRED_CAPACITY,
            aws.autoscaling.Metric.GROUP_IN_SERVICE_INSTANCES,
        ],
        tags=[
            aws.autoscaling.GroupTagArgs(key=key, value=value, propagate_at_launch=True)
            for key, value in here.tags(logical).items()
        ],
        opts=_options(ground, boot, moves),
    )
    policies = machine_scaling.policies(ground.here, ground.door, made, pool, mark, bounds) if moves else ()
    return ServingGroup(
        generation=generation,
        role=pool.role,
        address=made.name,
        max_rps_per_machine=pool.node_rps,
        after=(made, *policies),
    )


def _mark(generation: str, bounds: Scaling, prepared: bool) -> str:
    """The generation, and what makes another group of it. On an update of the least size the provider waits for exactly
    the wanted number, which an autoscaler has moved meanwhile (terraform-provider-aws, issue 5241); the number that it
    was started with stays in its inputs, and AWS refuses a most below it; and the hooks of a group with machines that
    stand by are given to it when it is made, and never later."""
    if bounds.least == bounds.most:
        return generation
    return "-".join([generation, str(bounds.least), str(bounds.start), *(["warm"] if prepared else [])])


def _options(ground: Ground, boot: Boot, moves: bool) -> pulumi.ResourceOptions:
    """It needs a way out for images and models, rights, an entry that sends requests, and what the caller names. It
    goes when the balancer has drained its machines, and then they themselves."""
    before = (*ground.net.routes, *ground.after, *ground.identity.after, *ground.door.after, *boot.after)
    # hooks belong to the making of a group: with others it would be made anew, under a name that it still has
    ignore = ("initialLifecycleHooks", *(["desiredCapacity"] if moves else []))
    return ground.here.on(*before, ignore=ignore, slow_delete=True, drain_s=2 * boot.drain_s)


def _zones(here: Here, pool: Pool) -> tuple[str, ...]:
    return tuple(z for z in here.zones if not pool.zones or z in pool.zones)


def _hooks(boot: Boot, prepared: bool) -> list[aws.autoscaling.GroupInitialLifecycleHookArgs]:
    """Of the group itself: one declared apart would go before the group, whose machines would then not drain. The
    machine ends each wait by itself, when it has drained or its server is ready; else the wait ends. Without the second
    a machine that is prepared would be stopped before it has anything."""
    waits = {"TERMINATING": (DRAIN, boot.drain_s), **({"LAUNCHING": (START, boot.startup_s)} if prepared else {})}
    return [
        aws.autoscaling.GroupInitialLifecycleHookArgs(
            name=name,
            lifecycle_transition=f"autoscaling:EC2_INSTANCE_{way}",
            default_result="CONTINUE",
            heartbeat_timeout=max(whole("hook_shortest"), seconds),
        )
        for way, (name, seconds) in waits.items()
    ]


def _warm_pool(most: int) -> aws.autoscaling.GroupWarmPoolArgs:
    """Stopped machines, as many as the group may still grow by."""
    return aws.autoscaling.GroupWarmPoolArgs(pool_state="Stopped", min_size=0, max_group_prepared_capacity=most)


def _plain(template: aws.ec2.LaunchTemplate) -> aws.autoscaling.GroupLaunchTemplateArgs:
    return aws.autoscaling.GroupLaunchTemplateArgs(id=template.id, version=_version(template))


def _spot(template: aws.ec2.LaunchTemplate, pool: Pool) -> aws.autoscaling.GroupMixedInstancesPolicyArgs:
    """Spot alone: on-demand machines are another pool of the plan."""
    return aws.autoscaling.GroupMixedInstancesPolicyArgs(
        instances_distribution=aws.autoscaling.GroupMixedInstancesPolicyInstancesDistributionArgs(
            on_demand_base_capacity=0,
            on_demand_percentage_above_base_capacity=0,
            spot_allocation_strategy="price-capacity-optimized",
        ),
        launch_template=aws.autoscaling.GroupMixedInstancesPolicyLaunchTemplateArgs(
            launch_template_specification=aws.autoscaling.GroupMixedInstancesPolicyLaunchTemplateLaunchTemplateSpecificationArgs(
                launch_template_id=template.id, version=_version(template)
            ),
            overrides=[
                aws.autoscaling.GroupMixedInstancesPolicyLaunchTemplateOverrideArgs(instance_type=pool.machine_type)
            ],
        ),
    )


def _version(template: aws.ec2.LaunchTemplate) -> pulumi.Output[str]:
    return template.latest_version.apply(lambda v: str(int(v)))  # numbers come back as floats


def _template(
    ground: Ground, pool: Pool, generation: str, boot: Boot, image: Image, image_id: pulumi.Output[str]
) -> aws.ec2.LaunchTemplate:
    """Metadata by session token only. The server's container has the machine's own network, so that a token need not
    travel further than one hop."""
    here, logical = ground.here, f"{pool.role}-{generation}"
    return aws.ec2.LaunchTemplate(
        logical,
        name=here.name("ec2/launchTemplate:LaunchTemplate", pool.role, generation),
        update_default_version=True,
        image_id=image_id,
        instance_type=pool.machine_type,
        iam_instance_profile=aws.ec2.LaunchTemplateIamInstanceProfileArgs(name=ground.identity.principal),
        user_data=pulumi.Output.from_input(boot.user_data).apply(packed),
        vpc_security_group_ids=[ground.servers.id],
        metadata_options=aws.ec2.LaunchTemplateMetadataOptionsArgs(
            http_endpoint="enabled", http_tokens="required", http_put_response_hop_limit=1
        ),
        block_device_mappings=[
            aws.ec2.LaunchTemplateBlockDeviceMappingArgs(
                device_name=image.device,
                ebs=aws.ec2.LaunchTemplateBlockDeviceMappingEbsArgs(
                    volume_type="gp3",
                    volume_size=pool.disk_gib or int(fact("boot_disk", here.spec)),
                    encrypted="true",
                    delete_on_termination="true",
                ),
            )
        ],
        monitoring=aws.ec2.LaunchTemplateMonitoringArgs(enabled=False),
        instance_initiated_shutdown_behavior="terminate",
        tag_specifications=[
            aws.ec2.LaunchTemplateTagSpecificationArgs(resource_type=part, tags=here.tags(logical)) for part in PARTS
        ],
        tags=here.tags(logical),
        opts=here.on(),
    )


def packed(user_data: str) -> str:
    """As EC2 takes it. Compressed only where it would be too long: a text that can be read helps who looks for an
    error, and no version of a compressor changes it."""
    raw, most = user_data.encode(), whole("user_data_limit")
    if len(raw) > most:
        raw = gzip.compress(raw, compresslevel=9, mtime=0)
    if len(raw) > most:
        raise pulumi.RunError(
            f"models: the machines' start-up data has {len(raw)} bytes even compressed, and EC2 takes {most}. "
            "To fix: divide the models among stacks, or set shape to kubernetes"
        )
    return base64.b64encode(raw).decode()
