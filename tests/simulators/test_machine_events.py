"""Groups of machines over time: autoscalers under load, machines taken back and lost, rolling updates, flows beside."""

from __future__ import annotations

import json

import pytest
from cloud_driver import CallError
from machine_site import COS, DEMAND, MIG, READY, ec2, gce, phase, user_data

from infra.plan import Plan
from serving import triton_pod, vm
from simulators.core import boot, events, flows, groups, machine_scaling, side_flows, userdata
from simulators.core.autoscaling import set_load
from simulators.core.faults import Fault
from simulators.core.traffic import Demand
from simulators.core.values import Json
from simulators.core.world import Thing, World
from tests.serving.clouds import cloud_plan
from tests.serving.servers import PROJECT

for _package in ("pulumi_gcp", "pulumi_aws", "botocore"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (extra `simulators`)")

DRAINS = user_data(stop="/bin/sh -c 'touch /run/leaving; sleep 11'")


def thing(world: World, name: str) -> Thing:
    return next(t for t in world.things.values() if t.name == name)


def after(world: World, fault: Fault) -> int:
    """The event, with an operation after it; where its phase begins."""
    world.begin_phase()
    first = len(world.operations)
    events.apply(world, fault)
    driver_bucket(world)
    return first


def driver_bucket(world: World) -> None:
    from cloud_driver import gcp

    gcp(world).create("gcp:storage/bucket:Bucket", f"b{len(world.operations)}", {"name": "later", "location": "US"})


def test_an_autoscaler_follows_requests_within_its_bounds() -> None:
    """Rate balancing at 50 requests/s a machine and a target of 0.8: 40 for each."""
    w = World()
    s = gce(w)
    group = s.group("a")
    s.enter(group)
    s.scaler(group, least=1, most=6)
    first = len(w.operations)
    set_load(w, "server-*", 150, "rps")
    assert groups.size(thing(w, "server-a")) == 4
    set_load(w, "server-*", 4000, "rps")
    assert groups.size(thing(w, "server-a")) == 6
    set_load(w, "server-*", 10, "rps")
    assert groups.size(thing(w, "server-a")) == 1
    assert phase(w, first, Demand(rps=0)).points[-1].ready in (1, 2)
    kept = s.cloud.update(group, {**group.inputs, "description": "x"}, ignored=["targetSize"])
    assert groups.size(thing(w, "server-a")) == 1, "ignore_changes leaves the number to the autoscaler"
    assert kept.id == group.id


def test_target_tracking_counts_a_minutes_requests() -> None:
    w = World()
    s = ec2(w)
    s.group("a")
    label = f"{thing(w, 'entry').outputs['arnSuffix']}/{s.target['arnSuffix']}"
    metric: Json = {"predefinedMetricType": "ALBRequestCountPerTarget", "resourceLabel": label}
    tracking: Json = {"targetValue": 2400, "predefinedMetricSpecification": metric}
    policy: dict[str, Json] = {
        "name": "p", "autoscalingGroupName": "server-a", "policyType": "TargetTrackingScaling",
        "targetTrackingConfiguration": tracking,
    }  # fmt: skip
    s.cloud.create("aws:autoscaling/policy:Policy", "p", policy)
    rule = next(m for m in s.cloud.made.values() if m.token.endswith(":ListenerRule"))
    s.cloud.delete(rule)
    with pytest.raises(CallError, match="does not route traffic to the target group"):
        s.cloud.create("aws:autoscaling/policy:Policy", "q", {**policy, "name": "q"})
    set_load(w, "server-a", 150, "rps")
    assert groups.size(thing(w, "server-a")) == 4, "2400 a minute are 40 a second"
    assert thing(w, "server-a").outputs["desiredCapacity"] == 4
    w.stockouts.append("m6i.*|*")
    set_load(w, "server-a", 240, "rps")
    assert any("InsufficientInstanceCapacity" in n for n in w.notices)


def test_an_update_waits_for_the_number_of_the_program() -> None:
    """The autoscaler has moved the group: an update that changes its minimum waits in vain, another one does not."""
    w = World()
    s = ec2(w)
    group = s.group("a", count=2)
    machine_scaling.move(w, thing(w, "server-a"), 4)
    s.cloud.update(group, {**group.inputs, "maxSize": 8}, ignored=["desiredCapacity"])
    with pytest.raises(CallError, match=r"want exactly 2 healthy instance\(s\) in Auto Scaling Group, have 4"):
        s.cloud.update(group, {**group.inputs, "minSize": 2}, ignored=["desiredCapacity"])


def test_a_warm_pool_has_machines_with_their_image() -> None:
    """The first machines start from nothing; those that come later were stopped with all that they need."""
    w = World()
    s = ec2(w)
    s.group("a", warmPool={"poolState": "Stopped"})
    took = w.operations[-1].end_s - w.operations[-1].start_s
    machine_scaling.move(w, thing(w, "server-a"), 3)
    first, second = [e.offset_s for e in w.pods if e.ready > 0]
    assert (first, second - took) == (45 + 180 + 45, 45 + 45)


def test_autoscaler_moved_is_an_event_of_groups_too() -> None:
    w = World()
    s = gce(w)
    group = s.group("a")
    s.scaler(group)
    events.apply(w, Fault(kind="autoscaler-moved", type=MIG, name="server-a", message="5"))
    assert groups.size(thing(w, "server-a")) == 5
    events.apply(w, Fault(kind="autoscaler-moved", type=MIG, name="server-a", message="9"))
    assert groups.size(thing(w, "server-a")) == 6


@pytest.mark.parametrize(("told", "lost_s"), [(DRAINS, 0), (user_data(), 10), (user_data(stop="/bin/sleep 4"), 6)])
def test_a_spot_machine_taken_back_serves_on_until_checks_see_it(told: str, lost_s: float) -> None:
    """It refuses two checks of 5 s: what it does not serve of these 10 s is lost."""
    w = World()
    s = gce(w)
    plan: Json = {"provisioningModel": "SPOT", "preemptible": True, "automaticRestart": False}
    s.enter(s.group("a", s.template("a", told, scheduling=plan), count=4))
    first = after(w, Fault(kind="spot-reclaimed", type=MIG, name="server-a"))
    found = phase(w, first)
    assert found.failed_requests == pytest.approx(100 / 4 * lost_s, abs=1)
    assert all("taken back as a spot machine (30 s notice)" in one.why for one in found.losses)
    assert found.points[-1].ready == 4, "the group makes another"


def test_quota_and_stockout_come_from_outside_too() -> None:
    w = World()
    s = gce(w)
    events.apply(w, Fault(kind="quota-short", name="CPUS", message="16"))
    events.apply(w, Fault(kind="stockout", name="spot:n2-*"))
    with pytest.raises(CallError, match=r"Quota 'CPUS' exceeded\. Limit: 16\.0"):
        s.group("a", count=3)
    plan: Json = {"provisioningModel": "SPOT", "preemptible": True, "automaticRestart": False}
    with pytest.raises(CallError, match="ZONE_RESOURCE_POOL_EXHAUSTED"):
        s.group("b", s.template("b", scheduling=plan))
    w.quotas.clear()
    events.apply(w, Fault(kind="image-missing", name="*tritonserver*"))
    with pytest.raises(CallError, match="manifest unknown"):
        s.group("c", count=1)
    events.apply(w, Fault(kind="quota-short", name="CPUS", message="many"))
    assert any(n.startswith("quota-short: nothing") for n in w.notices)


def test_disks_that_outlive_their_machines_are_left() -> None:
    w = World()
    s = gce(w)
    kept: Json = [{"boot": True, "sourceImage": COS, "diskSizeGb": 50, "autoDelete": False}]
    group = s.group("a", s.template("a", disks=kept), count=2)
    s.cloud.delete(group)
    assert [x.why for x in w.leftovers() if x.type.endswith(":Disk")] == [
        "a disk of a machine of server-a: its template does not delete it with the machine"
    ] * 2


def test_aws_tells_the_balancer_before_a_spot_machine_goes() -> None:
    w = World()
    s = ec2(w)
    spread: Json = {"onDemandBaseCapacity": 1, "onDemandPercentageAboveBaseCapacity": 0}
    spec: Json = {"launchTemplateId": s.template("m").id, "version": "1"}
    mixed: Json = {"launchTemplate": {"launchTemplateSpecification": spec}, "instancesDistribution": spread}
    s.group("a", s.template("unused"), launchTemplate=None, mixedInstancesPolicy=mixed, count=3)
    assert groups.of(w, thing(w, "server-a")).spots == 2
    first = after(w, Fault(kind="spot-reclaimed", name="server-a"))
    assert phase(w, first).failed_requests == 0


def test_a_lost_machine_is_missed_until_the_check_sees_it() -> None:
    w = World()
    s = gce(w)
    s.enter(s.group("a", count=4))
    first = after(w, Fault(kind="node-lost", type=MIG, name="server-a"))
    found = phase(w, first)
    assert found.failed_requests == pytest.approx(100 / 4 * 15, abs=1)
    assert found.points[-1].ready == 4


def test_a_new_template_rolls_and_a_bad_one_leaves_the_old_machines() -> None:
    w = World()
    s = gce(w)
    group = s.group("a", count=3)
    s.enter(group)
    w.begin_phase()
    first = len(w.operations)
    versions: Json = [{"instanceTemplate": s.template("b", image_of("26.08"))["selfLink"]}]
    s.cloud.update(group, {**group.inputs, "versions": versions})
    found = phase(w, first, Demand(rps=150, rates=DEMAND.rates))
    assert (found.failed_requests, found.points[-1].ready) == (0, 3)
    w.begin_phase()
    first = len(w.operations)
    worse: Json = [{"instanceTemplate": s.template("c", "#cloud-config\n{}")["selfLink"]}]
    with pytest.raises(Exception, match="names no container image"):
        s.cloud.update(group, {**group.inputs, "versions": worse})
    assert phase(w, first).failed_requests == 0


def image_of(tag: str) -> str:
    return user_data(image=f"nvcr.io/nvidia/tritonserver:{tag}-py3")


def test_what_machines_need_beside_the_requests() -> None:
    w = World()
    s = gce(w)
    s.enter(s.group("a", s.template("a", user_data(before="/bin/echo gs://models/digits"))))
    judged = {f.target: f for f in side_flows.judge(w, flows.serving(w))}
    assert judged["storage"].arrives
    closed: Json = [{"protocol": "all"}]
    s.cloud.create(
        "gcp:compute/firewall:Firewall", "closed",
        {"name": "closed", "network": s.network["selfLink"], "direction": "EGRESS", "denies": closed,
         "destinationRanges": ["0.0.0.0/0"], "priority": 65000},
    )  # fmt: skip
    (storage,) = [f for f in side_flows.judge(w, flows.serving(w)) if f.target == "storage"]
    assert storage.why == "firewall rule closed keeps machines of server-a from 199.36.153.8/32 on tcp/443"


@pytest.mark.parametrize(("cloud", "accelerator"), [("gcp", "none"), ("gcp", "t4"), ("aws", "a10g")])
def test_the_machines_that_slipway_renders_come_to_serve(cloud: str, accelerator: str) -> None:
    """The reader of user data and the renderer agree: image, host network, driver, device, drain."""
    plan: Plan = cloud_plan(cloud, shape="vm", accelerator=accelerator)
    uri = {"gcp": "gs", "aws": "s3"}[cloud] + "://own/digest"
    container = triton_pod.pod(plan, plan.pools[0], project=PROJECT, uploaded=uri)
    told = userdata.read(vm.user_data(container, plan.pools[0], cloud=cloud))
    image = {"gcp": "projects/cos-cloud/global/images/family/cos-121-lts", "aws": "base-oss-nvidia-driver-gpu"}[cloud]
    number = 0 if accelerator == "none" else 1
    machine = groups.Machine(cloud=cloud, type="x", accelerator="T4", accelerators=number, image=image, told=told)
    begin = boot.of(World(), machine)
    numbers = vm.boot(plan, plan.pools[0], container)
    ready = boot.Check(
        name="ready",
        port=numbers.ports["http"],
        path=numbers.ready_path,
        interval_s=5,
        healthy=2,
        unhealthy=2,
        timeout_s=5,
    )
    assert (begin.never, boot.unanswered(machine, ready), told.ports) == ("", "", None)
    assert 0 < told.lingers_s < numbers.drain_s
    assert begin.seconds < numbers.startup_s
    assert READY.startswith("/v2")
    assert json.dumps(told.images)
