"""Groups of machines as the real clouds have them: what is waited for, what is refused, what never serves."""

from __future__ import annotations

import base64

import pytest
from cloud_driver import CallError
from machine_site import (
    DRIVER,
    MIG,
    TRITON,
    Gce,
    ec2,
    gce,
    phase,
    user_data,
)

from simulators.core import groups, health
from simulators.core.values import Json, Properties
from simulators.core.world import World

for _package in ("pulumi_gcp", "pulumi_aws", "botocore"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (extra `simulators`)")

START = 25 + 180 + 45  # boot of Container-Optimized OS, image and start of Triton: rows of boots.csv and images.csv


def gpu_template(s: Gce, told: str, **more: Json) -> Properties:
    """What a T4 machine is told."""
    cards: Json = [{"type": "nvidia-tesla-t4", "count": 1}]
    extra: Properties = {"machineType": "n1-standard-4", "guestAccelerators": cards, **more}
    return s.template("gpu", told, **extra).inputs


def test_up_waits_until_machines_are_healthy() -> None:
    w = World()
    s = gce(w)
    s.group("a")
    took = w.operations[-1]
    assert took.end_s - took.start_s == 23 + START + 10, "the group itself, a start, two health checks of 5 s"
    template = s.template("b")
    s.group("b", template, waitForInstances=False)
    assert w.operations[-1].end_s - w.operations[-1].start_s == 23, "the provider returns at once"
    s.group("c", template, autoHealingPolicies=None)
    assert w.operations[-1].end_s - w.operations[-1].start_s == 23 + 20, (
        "running is all that a group without a check is"
    )


def test_no_target_size_is_none() -> None:
    """The provider sends 0; the autoscaler that comes later brings the group to its minimum."""
    w = World()
    s = gce(w)
    made = s.group("a", targetSize=None)
    assert w.operations[-1].end_s - w.operations[-1].start_s == 23
    thing = next(t for t in w.things.values() if t.token == MIG)
    assert groups.size(thing) == 0
    scaler = s.scaler(made, least=2)
    assert groups.size(thing) == 2
    s.cloud.update(scaler, {**scaler.inputs, "autoscalingPolicy": {"minReplicas": 0, "maxReplicas": 1}})
    assert groups.size(thing) == 1


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("", "its template has no user data"),
        ("#cloud-config\nruncmd: [echo]", "names no container image"),
        ("#cloud-config\n\t:", "cloud-init cannot read its user data"),
        ("docker run triton", "cloud-init ignores its user data"),
        (user_data(flags="-p 9000:8000"), "connection refused on port 8000; the containers publish 9000"),
        (user_data(image="tensorflow/serving:2.20.0", flags="--network host"), "HTTP 404 at /v2/health/ready"),
    ],
)
def test_a_bad_template_never_becomes_healthy(told: str, reason: str) -> None:
    s = gce(World())
    template = s.template("bad", told)
    with pytest.raises(CallError) as failed:
        s.group("bad", template)
    assert "timeout while waiting for state to become 'created' (last state: 'creating', timeout: 15m0s)" in str(
        failed.value
    )
    assert reason in str(failed.value)
    assert failed.value.partial is not None, "the group is there and is kept in the state"


def test_a_gpu_needs_its_driver_and_its_device() -> None:
    device = "-p 8000:8000 --device /dev/nvidia0:/dev/nvidia0"
    wrong = {
        user_data(flags=device): f"has none, and nothing installs it ({DRIVER})",
        user_data(flags="-p 8000:8000", before=DRIVER): "the server finds no GPU: its container is not given one",
        user_data(flags="-p 8000:8000 --gpus all", before=DRIVER): "--gpus fails on this image",
    }
    for told, reason in wrong.items():
        s = gce(World())
        gpu_template(s, told)
        with pytest.raises(CallError, match="the group's last error") as failed:
            s.group("gpu", s.cloud.made[next(u for u in s.cloud.made if u.endswith("t-gpu"))])
        assert reason in str(failed.value)
    w = World()
    s = gce(w)
    cards: Json = [{"type": "nvidia-tesla-t4", "count": 1}]
    template = s.template(
        "gpu", user_data(flags=device, before=DRIVER), machineType="n1-standard-4", guestAccelerators=cards
    )
    s.group("gpu", template)
    assert w.operations[-1].end_s - w.operations[-1].start_s == 23 + START + 75 + 10, "the driver takes its time"


def test_auto_healing_that_does_not_wait_makes_machines_anew_for_ever() -> None:
    s = gce(World())
    with pytest.raises(CallError, match="initialDelaySec is 60 s and a start takes 250 s") as failed:
        s.group("a", delay=60)
    assert "each machine is made anew before it serves" in str(failed.value)
    s.group("b", delay=300)


def test_health_checks_come_only_where_the_firewall_lets_them() -> None:
    s = gce(World(), health=False)
    with pytest.raises(
        CallError, match=r"no firewall rule allows health checks \(35.191.0.0/16\) to machines of server-a"
    ):
        s.group("a")


def test_capacity_and_quota_of_old_and_new_together() -> None:
    w = World(quotas={"CPUS": 40})
    s = gce(w)
    s.group("a", count=3)
    with pytest.raises(CallError, match=r"QUOTA_EXCEEDED: Quota 'CPUS' exceeded. Limit: 40.0"):
        s.group("b", count=3)
    (b,) = [t for t in w.things.values() if t.name == "server-b"]
    assert b.state["alive"] == 2, "two of three fit beside the old ones"
    w.stockouts.append("n2-*|us-central1-b")
    w.quotas.clear()
    with pytest.raises(CallError, match="ZONE_RESOURCE_POOL_EXHAUSTED: The zone 'us-central1-b'"):
        s.group("c", count=3)
    policy: Json = {
        "type": "PROACTIVE",
        "minimalAction": "REPLACE",
        "maxSurgeFixed": 3,
        "instanceRedistributionType": "NONE",
    }
    s.group("d", count=3, distributionPolicyTargetShape="ANY", updatePolicy=policy)


def test_a_zone_without_that_machine() -> None:
    s = gce(World())
    template = s.template("a100", user_data(flags="--gpus all"), machineType="a2-ultragpu-1g")
    with pytest.raises(CallError, match="'zones/us-central1-b/acceleratorTypes/A100-80' was not found"):
        s.group("a100", template, count=3)


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (
            {"maxSurgeFixed": 1, "maxUnavailableFixed": 0},
            "Fixed updatePolicy.maxSurge for regional managed instance group",
        ),
        ({"maxSurgeFixed": 0, "maxUnavailableFixed": 0}, "cannot be both 0"),
        ({"maxSurgeFixed": 3, "replacementMethod": "RECREATE"}, "maxSurge must be equal to 0 when replacement method"),
    ],
)
def test_update_policies_that_the_cloud_refuses(policy: Properties, reason: str) -> None:
    s = gce(World())
    with pytest.raises(CallError, match=reason):
        s.group("a", updatePolicy={"type": "PROACTIVE", "minimalAction": "REPLACE", **policy})


def test_a_change_of_group_takes_two_updates() -> None:
    """While a backend service names the old group it cannot go; detached, it drains and goes, and nothing is lost."""
    w = World()
    s = gce(w)
    old = s.group("old")
    service = s.enter(old)
    w.begin_phase()
    first = len(w.operations)
    new = s.group("new", count=3)
    s.cloud.update(service, s.service_inputs(old, new))
    seen = {h.group: h for h in health.backends(w)}
    assert (seen["server-old"].healthy, seen["server-old"].in_s) == (2, 0.0)
    assert (seen["server-new"].healthy, seen["server-new"].total, seen["server-new"].in_s) == (0, 3, 10.0)
    asked = s.cloud.invoke("gcp:index:health", {"service": service["selfLink"]})
    assert [one["group"] for one in asked["groups"]] == ["server-old", "server-new"]  # type: ignore[index,union-attr,call-overload]
    with pytest.raises(
        CallError, match=r"is already being used by '.*/backendServices/http', resourceInUseByAnotherResource"
    ):
        s.cloud.delete(old)
    found = phase(w, first)
    assert (found.failed_requests, found.points[0].ready, found.points[-1].ready) == (0, 2, 5)
    w.begin_phase()
    second = len(w.operations)
    s.cloud.update(service, s.service_inputs(new))
    s.cloud.delete(old)
    found = phase(w, second)
    assert (found.failed_requests, found.points[-1].ready) == (0, 3)
    assert found.problems == ()


def test_a_new_group_in_one_update_is_missed_until_checks_pass() -> None:
    """Old out and new in at once: the balancer has nobody until it has seen the new machines twice."""
    w = World()
    s = gce(w)
    old = s.group("old")
    service = s.enter(old)
    new = s.group("new")
    w.begin_phase()
    first = len(w.operations)
    s.cloud.update(service, s.service_inputs(new))
    s.cloud.create("gcp:storage/bucket:Bucket", "later", {"name": "later", "location": "US"})
    found = phase(w, first)
    assert found.min_capacity_ratio == 0.0
    assert sum(x.end_s - x.start_s for x in found.losses) == pytest.approx(20), "two checks and the programming"


def test_backend_services_refuse_modes_that_do_not_go_together() -> None:
    s = gce(World())
    group = s.group("a", waitForInstances=False)
    member: Properties = {"group": group["instanceGroup"], "balancingMode": "RATE", "capacityScaler": 1}
    base = {k: v for k, v in s.service_inputs(group).items() if k != "backends"}

    def service(name: str, **more: Json) -> None:
        inputs: Properties = {**base, "name": name, "backends": [{**member, **more}]}
        if more.get("balancingMode") == "CONNECTION":
            inputs["protocol"] = "TCP"
        s.cloud.create("gcp:compute/regionBackendService:RegionBackendService", name, inputs)

    with pytest.raises(CallError, match="At least one of maxRate, maxRatePerInstance"):
        service("none")
    with pytest.raises(CallError, match="cannot be used with a regional managed instance group"):
        service("whole", maxRate=100)
    service("rate", maxRatePerInstance=50)
    service("tcp", balancingMode="CONNECTION", maxConnectionsPerInstance=100)
    with pytest.raises(CallError, match="incompatible balancing_mode"):
        service("mixed", balancingMode="UTILIZATION")


def test_an_auto_scaling_group_waits_for_its_load_balancer() -> None:
    w = World()
    s = ec2(w)
    old = s.group("old")
    start = 45 + 180 + 45
    assert w.operations[-1].end_s - w.operations[-1].start_s == start + 2 * 10
    w.begin_phase()
    first = len(w.operations)
    s.group("new", count=3)
    s.cloud.delete(old, timeout=900)
    assert w.operations[-1].end_s - w.operations[-1].start_s == 120, "60 s of draining and 60 s to end fit into it"
    found = phase(w, first)
    assert (found.failed_requests, found.points[-1].ready, found.problems) == (0, 3, ())


def test_an_auto_scaling_group_that_does_not_come() -> None:
    s = ec2(World())
    waits = r"waiting for Auto Scaling Group \(server-a\) capacity satisfied: "
    with pytest.raises(CallError, match=waits + "timeout while waiting for state to become 'ok'") as failed:
        s.group("a", waitForCapacityTimeout="2m")
    assert "last state: 'want exactly 2 healthy instance(s) registered to Load Balancer, have 0', timeout: 2m0s" in str(
        failed.value
    )
    with pytest.raises(CallError, match="healthCheckGracePeriod is 60 s"):
        s.group("b", healthCheckGracePeriod=60)
    with pytest.raises(CallError, match=r"want exactly 3 healthy instance.*have 2"):
        s.group("c", waitForElbCapacity=3)
    s.world.stockouts.append("m6i.*|*")
    with pytest.raises(
        CallError, match=r"scaling activity .*: Failed: Could not launch On-Demand .*InsufficientInstanceCapacity"
    ):
        s.group("d")
    packed = base64.b64encode(user_data().encode()).decode()
    overrides: Json = [{"instanceType": "q9.large"}]
    spec: Json = {"launchTemplateId": s.template("odd", userData=packed).id, "version": "1"}
    mixed: Json = {"launchTemplate": {"launchTemplateSpecification": spec, "overrides": overrides}}
    with pytest.raises(CallError, match=r"Invalid instance type: q9\.large"):
        s.group("e", launchTemplate=None, mixedInstancesPolicy=mixed)


def test_security_groups_keep_health_checks_out() -> None:
    s = ec2(World(), allowed=False)
    with pytest.raises(
        CallError, match="no security group of machines of server-a allows the load balancer on tcp/8000"
    ):
        s.group("a")


def test_machines_go_on_trying_until_their_image_is_there() -> None:
    """A failed create is kept in the state; the next run updates it, and waits again."""
    w = World(no_images=["*tritonserver*"])
    s = gce(w)
    with pytest.raises(CallError, match=f"manifest for {TRITON} not found: manifest unknown"):
        s.group("a")
    made = s.cloud.made[next(u for u in s.cloud.made if u.endswith("server-a"))]
    with pytest.raises(CallError, match="manifest unknown"):
        s.cloud.update(made, made.inputs)
    w.no_images.clear()
    s.cloud.update(made, made.inputs)
    took = w.operations[-1]
    assert took.end_s - took.start_s == 60 + 180 + 45 + 10, "the update itself, the image, the server, two checks"
    s.cloud.update(made, made.inputs)
    assert w.operations[-1].end_s - w.operations[-1].start_s == 60
