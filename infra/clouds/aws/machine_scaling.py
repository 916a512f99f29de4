"""How many machines: target tracking on the requests that each of them gets, at a part of what it carries."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws

from infra.clouds.aws.facts import whole
from infra.clouds.aws.here import Here
from infra.clouds.aws.machine_entry import Door
from infra.plan import Pool
from infra.plan.groups import Scaling

NAMESPACE, METRIC = "AWS/ApplicationELB", "RequestCountPerTarget"
MINUTE = 60  # the metric is a sum over a minute


def policies(
    here: Here, door: Door, group: aws.autoscaling.Group, pool: Pool, generation: str, bounds: Scaling
) -> tuple[pulumi.Resource, ...]:
    """The largest number that a policy asks for counts, and all must agree before a machine goes."""
    target = round(bounds.target * pool.node_rps * MINUTE)
    one = len(door.counted) == 1
    tracking = aws.autoscaling.PolicyTargetTrackingConfigurationArgs(
        target_value=target,
        predefined_metric_specification=_requests(door) if one else None,
        customized_metric_specification=None if one else _all_requests(door),
    )
    made = [_policy(here, group, pool, generation, "requests", tracking)]
    if not door.all_counted and pool.accelerator == "none":
        busy = aws.autoscaling.PolicyTargetTrackingConfigurationArgs(
            target_value=whole("cpu_target"),
            predefined_metric_specification=aws.autoscaling.PolicyTargetTrackingConfigurationPredefinedMetricSpecificationArgs(
                predefined_metric_type="ASGAverageCPUUtilization"
            ),
        )
        made.append(_policy(here, group, pool, generation, "processors", busy))
    return tuple(made)


def _policy(
    here: Here,
    group: aws.autoscaling.Group,
    pool: Pool,
    generation: str,
    what: str,
    tracking: aws.autoscaling.PolicyTargetTrackingConfigurationArgs,
) -> aws.autoscaling.Policy:
    role = f"{pool.role}-{what}"
    return aws.autoscaling.Policy(
        f"{role}-{generation}",
        name=here.name("autoscaling/policy:Policy", role, generation),
        autoscaling_group_name=group.name,
        policy_type="TargetTrackingScaling",
        target_tracking_configuration=tracking,
        opts=here.on(),
    )


def _requests(door: Door) -> aws.autoscaling.PolicyTargetTrackingConfigurationPredefinedMetricSpecificationArgs:
    """Every group of the stack is behind the same target group: each sees the mean of all machines."""
    ((balancer, target),) = door.counted
    return aws.autoscaling.PolicyTargetTrackingConfigurationPredefinedMetricSpecificationArgs(
        predefined_metric_type="ALBRequestCountPerTarget",
        resource_label=pulumi.Output.concat(balancer.arn_suffix, "/", target.arn_suffix),
    )


def _all_requests(door: Door) -> aws.autoscaling.PolicyTargetTrackingConfigurationCustomizedMetricSpecificationArgs:
    """HTTP and gRPC are two target groups of the same machines: what a machine gets is the sum."""
    args = aws.autoscaling
    parts = [
        args.PolicyTargetTrackingConfigurationCustomizedMetricSpecificationMetricArgs(
            id=f"m{i}",
            return_data=False,
            metric_stat=args.PolicyTargetTrackingConfigurationCustomizedMetricSpecificationMetricMetricStatArgs(
                stat="Sum",
                metric=args.PolicyTargetTrackingConfigurationCustomizedMetricSpecificationMetricMetricStatMetricArgs(
                    namespace=NAMESPACE,
                    metric_name=METRIC,
                    dimensions=[
                        args.PolicyTargetTrackingConfigurationCustomizedMetricSpecificationMetricMetricStatMetricDimensionArgs(
                            name=name, value=value
                        )
                        for name, value in (("LoadBalancer", balancer.arn_suffix), ("TargetGroup", target.arn_suffix))
                    ],
                ),
            ),
        )
        for i, (balancer, target) in enumerate(door.counted)
    ]
    # a protocol that nobody speaks has no data, which is not nothing at all
    together = args.PolicyTargetTrackingConfigurationCustomizedMetricSpecificationMetricArgs(
        id="all",
        label="requests of each machine in a minute",
        expression=" + ".join(f"FILL(m{i}, 0)" for i in range(len(parts))),
        return_data=True,
    )
    return args.PolicyTargetTrackingConfigurationCustomizedMetricSpecificationArgs(metrics=[*parts, together])
