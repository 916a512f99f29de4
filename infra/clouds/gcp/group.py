"""A group of equal machines over the zones: made anew where one does not answer, scaled by what it is asked."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
from pulumi_gcp import compute

from infra.clouds.gcp.facts import whole
from infra.clouds.gcp.here import Here
from infra.clouds.gcp.network import Network
from infra.clouds.gcp.template import template
from infra.clouds.machine_site import Boot, MachineIdentity, ServingGroup
from infra.plan import Plan, Pool
from infra.plan.groups import scaling

# The autoscaler owns the number of machines: it is stated at creation and never again.
AUTOSCALED = ("targetSize",)


def group(
    here: Here,
    net: Network,
    plan: Plan,
    pool: Pool,
    generation: str,
    boot: Boot,
    identity: MachineIdentity,
    rules: Sequence[pulumi.Resource],
) -> ServingGroup:
    """Everything comes from the arguments, nothing from the stack's present plan: an old generation is declared again
    from what was recorded of it, and must then be the same."""
    after = [*identity.after, *boot.after, *rules, net.nat]  # rights, what it reads, who may ask it, the way to images
    described = template(here, net, plan, pool, generation, boot, identity)
    made = _manager(here, plan, pool, generation, boot, described, after)
    scaled = _autoscaler(here, plan, pool, generation, boot, made)
    return ServingGroup(
        generation=generation,
        role=pool.role,
        address=made.instance_group,
        max_rps_per_machine=pool.node_rps,
        after=[made, scaled],
    )


def _manager(
    here: Here,
    plan: Plan,
    pool: Pool,
    generation: str,
    boot: Boot,
    described: compute.InstanceTemplate,
    after: Sequence[pulumi.Resource],
) -> compute.RegionInstanceGroupManager:
    role, spot = f"{pool.role}-{generation}", pool.capacity_type == "spot"
    check = _healing(here, pool, generation, boot)
    version = compute.RegionInstanceGroupManagerVersionArgs
    return compute.RegionInstanceGroupManager(
        role,
        name=here.name("compute/regionInstanceGroupManager:RegionInstanceGroupManager", pool.role, generation),
        region=plan.spec.region,
        base_instance_name=here.name("compute/instance:Base", pool.role, generation),
        versions=[version(name=generation, instance_template=described.self_link_unique)],
        target_size=scaling(plan, pool).start,
        distribution_policy_zones=list(pool.zones),
        # spot where there is some; others evenly, and elsewhere when a zone has none left
        distribution_policy_target_shape="ANY" if spot else "BALANCED",
        update_policy=_update(pool),
        auto_healing_policies=compute.RegionInstanceGroupManagerAutoHealingPoliciesArgs(
            health_check=check.id, initial_delay_sec=_start_s(boot)
        ),
        named_ports=[
            compute.RegionInstanceGroupManagerNamedPortArgs(name=name, port=boot.ports[name])
            for name in ("http", "grpc")
        ],
        wait_for_instances=scaling(plan, pool).awaited,
        wait_for_instances_status="STABLE",
        opts=here.on(
            *after,
            ignore=AUTOSCALED,
            slow=True,
            create_s=boot.startup_s + whole("group_margin"),
        ),
    )


def _update(pool: Pool) -> compute.RegionInstanceGroupManagerUpdatePolicyArgs:
    return compute.RegionInstanceGroupManagerUpdatePolicyArgs(
        type="PROACTIVE",
        minimal_action="REPLACE",
        most_disruptive_allowed_action="REPLACE",
        replacement_method="SUBSTITUTE",
        max_surge_fixed=len(pool.zones),  # of a regional group: one a zone at least, or none
        max_unavailable_fixed=0,
        instance_redistribution_type="NONE",  # nobody is moved for the sake of evenness
    )


def _start_s(boot: Boot) -> int:
    """How long a machine is left alone; the plan refuses what takes longer than Google allows."""
    return min(boot.startup_s, whole("longest_initial_delay"))


def _healing(here: Here, pool: Pool, generation: str, boot: Boot) -> compute.RegionHealthCheck:
    """The generation's own: another generation may serve other models on other ports."""
    return compute.RegionHealthCheck(
        f"{pool.role}-{generation}",
        name=here.name("compute/regionHealthCheck:RegionHealthCheck", pool.role, generation),
        region=here.spec.region,
        check_interval_sec=whole("healing_interval"),
        timeout_sec=whole("healing_timeout"),
        healthy_threshold=1,
        unhealthy_threshold=whole("healing_after"),
        http_health_check=compute.RegionHealthCheckHttpHealthCheckArgs(
            port=boot.ports["http"], request_path=boot.ready_path
        ),
        log_config=compute.RegionHealthCheckLogConfigArgs(enable=True),
        opts=here.on(),
    )


def _autoscaler(
    here: Here,
    plan: Plan,
    pool: Pool,
    generation: str,
    boot: Boot,
    made: compute.RegionInstanceGroupManager,
) -> compute.RegionAutoscaler:
    """Also where the number is fixed: one owner of it, in every mode. Of the two signals the one that asks for more
    machines counts: requests against what the plan says a machine carries, and the processors, should the plan be
    wrong or the requests come by a port that the load balancer does not read."""
    policy, bounds = compute.RegionAutoscalerAutoscalingPolicyArgs, scaling(plan, pool)
    slowly = compute.RegionAutoscalerAutoscalingPolicyScaleInControlArgs
    return compute.RegionAutoscaler(
        f"{pool.role}-{generation}",
        name=here.name("compute/regionAutoscaler:RegionAutoscaler", pool.role, generation),
        region=plan.spec.region,
        target=made.id,
        autoscaling_policy=policy(
            min_replicas=bounds.least,
            max_replicas=bounds.most,
            mode="ON",
            cooldown_period=_start_s(boot),
            load_balancing_utilization=compute.RegionAutoscalerAutoscalingPolicyLoadBalancingUtilizationArgs(
                target=bounds.target
            ),
            cpu_utilization=compute.RegionAutoscalerAutoscalingPolicyCpuUtilizationArgs(
                target=bounds.target, predictive_method="NONE"
            ),
            scale_in_control=slowly(
                max_scaled_in_replicas=compute.RegionAutoscalerAutoscalingPolicyScaleInControlMaxScaledInReplicasArgs(
                    percent=whole("scale_in_percent")
                ),
                time_window_sec=whole("scale_in_window"),
            ),
        ),
        opts=here.on(),
    )
