"""Pods run only where nodes exist that take them; what does not run says why, in the scheduler's own kind of words."""

from __future__ import annotations

import pytest
from cloud_driver import CallError, Site, deployment, eks, gke, node_group, node_pool

from simulators.core import charts, kubernetes, nodes
from simulators.core.values import Json, Properties
from simulators.core.world import World

for _package in ("pulumi_gcp", "pulumi_aws", "pulumi_kubernetes", "botocore"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (extra `simulators`)")

DEPLOYMENT = "kubernetes:apps/v1:Deployment"
GPU: Properties = {"name": "c", "image": "i:1", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
L4: Json = [{"type": "nvidia-l4", "count": 1}]


@pytest.fixture
def site() -> Site:
    return gke(World(), removeDefaultNodePool=True)


def refused(site: Site, body: Properties, timeout: float = 0) -> str:
    with pytest.raises(CallError) as caught:
        site.kubernetes.create(DEPLOYMENT, "d", body, timeout)
    assert caught.value.partial is not None, "it exists and is not ready"
    return str(caught.value)


def test_gpu_where_no_pool_has_one(site: Site) -> None:
    node_pool(site)
    said = refused(site, deployment(containers=[GPU]))
    assert "0 of 1 pods run, 1 pending: 0/6 nodes are available: 6 Insufficient nvidia.com/gpu." in said
    assert "no pool would take it" in said


def test_gpu_pool_takes_it(site: Site) -> None:
    node_pool(site, machineType="g2-standard-4", guestAccelerators=L4)
    site.kubernetes.create(DEPLOYMENT, "d", deployment(containers=[GPU]))


def test_missing_toleration(site: Site) -> None:
    taint: Json = [{"key": "serving", "value": "only", "effect": "NO_SCHEDULE"}]
    node_pool(site, taints=taint)
    assert "6 node(s) had untolerated taint {serving: only}" in refused(site, deployment())
    toleration: Json = [{"key": "serving", "operator": "Exists"}]
    site.kubernetes.create(DEPLOYMENT, "e", deployment("e", tolerations=toleration))


def test_selector_that_no_node_has(site: Site) -> None:
    node_pool(site)
    said = refused(site, deployment(nodeSelector={"cloud.google.com/gke-spot": "true"}))
    assert "6 node(s) didn't match Pod's node affinity/selector" in said


def test_pool_at_its_maximum(site: Site) -> None:
    """The autoscaler makes nodes up to the pool's maximum, and says so when it is reached."""
    inputs: Properties = {
        "name": "p",
        "cluster": "c",
        "location": "us-central1-a",
        "initialNodeCount": 1,
        "autoscaling": {"minNodeCount": 1, "maxNodeCount": 3},
        "nodeConfig": {"machineType": "e2-standard-2"},
    }
    site.cloud.create("gcp:container/nodePool:NodePool", "p", inputs)
    site.kubernetes.create(DEPLOYMENT, "fits", deployment("fits", replicas=2))
    said = refused(site, deployment(replicas=4))
    assert "1 of 4 pods run, 3 pending: 0/3 nodes are available: 3 Insufficient cpu." in said
    assert "max node group size reached (p has 3 of 3)" in said


def test_startup_probe_that_gives_up_too_early(site: Site) -> None:
    node_pool(site)
    probe: Properties = {
        "httpGet": {"path": "/v2/health/ready", "port": 8000},
        "periodSeconds": 5,
        "failureThreshold": 3,
    }
    slow: Properties = {"name": "triton", "image": "nvcr.io/nvidia/tritonserver:26.07-py3", "startupProbe": probe}
    said = refused(site, deployment(containers=[slow]))
    assert "startupProbe allows 15 s and the server listens after 45 s: it is restarted for ever" in said


def test_a_large_image_outlasts_a_short_time_out(site: Site) -> None:
    node_pool(site)
    slow: Json = [{"name": "triton", "image": "nvcr.io/nvidia/tritonserver:26.07-py3"}]
    assert "not ready after 60 s; it needs 225 s (image 180 s, start 45 s)" in refused(
        site, deployment(containers=slow), timeout=60
    )


def test_hpa_and_vpa_on_the_same_metric(site: Site) -> None:
    node_pool(site)
    keda: Properties = {"chart": "vpa", "namespace": "kube-system"}
    site.kubernetes.create("kubernetes:helm.sh/v3:Release", "vpa", keda)
    ref: Properties = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
    target: Properties = {"type": "Utilization", "averageUtilization": 60}
    cpu: Properties = {"type": "Resource", "resource": {"name": "cpu", "target": target}}
    hpa: Properties = {"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "scaleTargetRef": ref, "metrics": [cpu]}}
    site.kubernetes.create("kubernetes:autoscaling/v2:HorizontalPodAutoscaler", "h", hpa)
    vpa: Properties = {"metadata": {"name": "v"}, "spec": {"targetRef": ref}}
    made = site.kubernetes.create("kubernetes:autoscaling.k8s.io/v1:VerticalPodAutoscaler", "v", vpa)
    said = kubernetes.conflicts(site.cloud.world)
    assert said == (
        "HorizontalPodAutoscaler h and VerticalPodAutoscaler v both act on cpu of d: "
        "each moves what the other measures",
    )
    policy: Json = [{"containerName": "*", "controlledResources": ["memory"]}]
    spec: Properties = {"targetRef": ref, "resourcePolicy": {"containerPolicies": policy}}
    site.kubernetes.update(made, {"metadata": {"name": "v"}, "spec": spec})
    assert kubernetes.conflicts(site.cloud.world) == ()


def test_the_next_up_mends_what_was_pending(site: Site) -> None:
    refused(site, deployment())
    node_pool(site)
    made = next(m for m in site.kubernetes.made.values() if m.token == DEPLOYMENT)
    site.kubernetes.update(made, deployment())


def test_eks_gpu_needs_its_device_plugin() -> None:
    """On AL2023 nobody announces the GPU of a node until the plugin runs."""
    site = eks(World())
    group = node_group(site)
    wanted = {**group.inputs, "instanceTypes": ["g5.xlarge"], "nodeGroupName": "gpu", "amiType": "AL2023_x86_64_NVIDIA"}
    site.cloud.create("aws:eks/nodeGroup:NodeGroup", "gpu", wanted)
    assert "Insufficient nvidia.com/gpu" in refused(site, deployment(containers=[GPU]))
    plugin: Properties = {"chart": "nvidia-device-plugin", "namespace": "kube-system", "values": {"affinity": {}}}
    made = site.kubernetes.create("kubernetes:helm.sh/v3:Release", "plugin", plugin)
    said = refused(site, deployment("e", containers=[GPU]))
    assert "Insufficient nvidia.com/gpu" in said, "Helm merges maps: the chart still waits for labels of a discovery"
    terms: Json = [{"matchExpressions": [{"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}]}]
    affinity: Json = {"nodeAffinity": {charts.REQUIRED: {"nodeSelectorTerms": terms}}}
    site.kubernetes.update(made, {**plugin, "values": {"affinity": affinity}})
    site.kubernetes.create(DEPLOYMENT, "f", deployment("f", containers=[GPU]))


def test_a_node_keeps_part_of_itself() -> None:
    """4 vCPU and 16 GiB are 3.92 and 13.3 for pods: the published scale."""
    free = nodes.allocatable("gcp", "e2-standard-4")
    assert float(free["cpu"]) == pytest.approx(3.92)
    assert float(free["memory"]) / 2**30 == pytest.approx(13.3, abs=0.1)


def test_tpu_chips_of_a_single_host_slice(site: Site) -> None:
    """The machine type says chips, label and topology; a pod takes the whole VM."""
    node_pool(site, machineType="ct6e-standard-4t")
    chips: Properties = {"name": "c", "image": "i:1", "resources": {"limits": {"google.com/tpu": "4"}}}
    where: Json = {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice",
        "cloud.google.com/gke-tpu-topology": "2x2",
    }
    site.kubernetes.create(DEPLOYMENT, "d", deployment(containers=[chips], nodeSelector=where, replicas=6))
    said = refused(site, deployment("e", containers=[chips], nodeSelector=where))
    assert "6 Insufficient google.com/tpu" in said
    other = {**where, "cloud.google.com/gke-tpu-topology": "2x4"}
    assert "didn't match Pod's node affinity/selector" in refused(
        site, deployment("f", containers=[chips], nodeSelector=other)
    )
    assert "untolerated taint {google.com/tpu: present}" in refused(site, deployment("g"))


def test_a_multi_host_slice_comes_whole_or_not_at_all(site: Site) -> None:
    inputs: Properties = {
        "name": "slice",
        "cluster": "c",
        "location": "us-central1-a",
        "initialNodeCount": 0,
        "autoscaling": {"minNodeCount": 0, "maxNodeCount": 3},
        "placementPolicy": {"type": "COMPACT", "tpuTopology": "4x4"},
        "nodeConfig": {"machineType": "ct6e-standard-4t"},
    }
    made = site.cloud.create("gcp:container/nodePool:NodePool", "slice", inputs)
    chips: Properties = {"name": "c", "image": "i:1", "resources": {"limits": {"google.com/tpu": "4"}}}
    said = refused(site, deployment(containers=[chips]))
    assert "max node group size reached (slice has 0 of 3)" in said, "a slice of 16 chips needs four machines"
    site.cloud.update(made, {**inputs, "autoscaling": {"minNodeCount": 0, "maxNodeCount": 4}})
    site.kubernetes.create(DEPLOYMENT, "e", deployment("e", containers=[chips]))
    pool = next(t for t in site.cloud.world.things.values() if t.name == "slice")
    assert pool.state["nodes"] == 4


@pytest.mark.parametrize(
    ("machine", "accelerator", "shares"),
    [
        ("g2-standard-4", {"type": "nvidia-l4", "count": 1}, 1),
        (
            "g2-standard-4",
            {
                "type": "nvidia-l4",
                "count": 1,
                "gpuSharingConfig": {"gpuSharingStrategy": "TIME_SHARING", "maxSharedClientsPerGpu": 3},
            },
            3,
        ),
        (
            "g2-standard-24",
            {
                "type": "nvidia-l4",
                "count": 2,
                "gpuSharingConfig": {"gpuSharingStrategy": "MPS", "maxSharedClientsPerGpu": 4},
            },
            8,
        ),
        ("a2-highgpu-1g", {"type": "nvidia-tesla-a100", "count": 1, "gpuPartitionSize": "1g.5gb"}, 7),
    ],
)
def test_a_gpu_shared_or_in_partitions(site: Site, machine: str, accelerator: Json, shares: int) -> None:
    pool = node_pool(site, machineType=machine, guestAccelerators=[accelerator])
    cluster = next(t for t in site.cloud.world.things.values() if t.token.endswith("cluster:Cluster"))
    (found,) = nodes.pools(site.cloud.world, cluster)
    assert found.name == pool["name"]
    assert found.allocatable["nvidia.com/gpu"] == shares


def test_time_slicing_of_the_device_plugin_on_eks() -> None:
    site = eks(World())
    group = node_group(site)
    gpu = {**group.inputs, "instanceTypes": ["g5.xlarge"], "nodeGroupName": "gpu", "amiType": "AL2023_x86_64_NVIDIA"}
    gpu["labels"] = {"nvidia.com/gpu.present": "true", "pool": "a"}
    site.cloud.create("aws:eks/nodeGroup:NodeGroup", "gpu", gpu)
    sharing: Json = {"timeSlicing": {"resources": [{"name": "nvidia.com/gpu", "replicas": 2}]}}
    values: Properties = {"nodeSelector": {"pool": "a"}, "config": {"map": {"shared": {"sharing": sharing}}}}
    plugin: Properties = {"chart": "nvidia-device-plugin", "version": "0.20.0", "values": values}
    site.kubernetes.create("kubernetes:helm.sh/v3:Release", "plugin", plugin)
    site.kubernetes.create(DEPLOYMENT, "f", deployment("f", containers=[GPU], replicas=4))
    assert "4 Insufficient nvidia.com/gpu" in refused(site, deployment("g", containers=[GPU])), (
        "two nodes, two shares each"
    )


def test_pods_spread_over_zones(site: Site) -> None:
    """The system pool has nodes in three zones; one more in a zone than in another is allowed, two are not."""
    node_pool(site, machineType="e2-standard-16")
    key = "topology.kubernetes.io/zone"
    spread: Json = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "d"}},
        }
    ]
    site.kubernetes.create(DEPLOYMENT, "d", deployment(replicas=6, topologySpreadConstraints=spread))
    thing = next(t for t in site.cloud.world.things.values() if t.token == DEPLOYMENT)
    placed = thing.state["pods"]
    assert isinstance(placed, list)
    zones = [int(str(n).rpartition("-")[2]) % 3 for n in placed]
    assert sorted(zones.count(z) for z in range(3)) == [2, 2, 2]
    one: Json = [{**spread[0], "labelSelector": {"matchLabels": {"app": "e"}}}]  # type: ignore[dict-item,index]
    narrow = deployment("e", replicas=2, topologySpreadConstraints=one, nodeSelector={key: "us-central1-a"})
    site.kubernetes.create(DEPLOYMENT, "e", narrow)
    apart: Json = [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "f"}}}]
    affinity: Json = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": apart}}
    said = refused(site, deployment("f", replicas=7, affinity=affinity))
    assert "6 of 7 pods run" in said
    assert "didn't match pod anti-affinity rules" in said


def test_a_chart_needs_room(site: Site) -> None:
    """Its pods ask for what its values say; too much, and the release does not become ready."""
    node_pool(site)
    large: Json = {"operator": {"requests": {"cpu": "8", "memory": "1Gi"}}}
    release: Properties = {"chart": "keda", "name": "keda", "version": "2.20.2", "values": {"resources": large}}
    with pytest.raises(CallError, match="Deployment keda-operator: 0 of 1 pods run: 0/6 nodes are available"):
        site.kubernetes.create("kubernetes:helm.sh/v3:Release", "keda", release)
    made = next(m for m in site.kubernetes.made.values() if m.token.endswith(":Release"))
    site.kubernetes.update(made, {**release, "values": {}})
    thing = next(t for t in site.cloud.world.things.values() if t.token.endswith(":Release"))
    assert charts.room(thing)["cpu"] == pytest.approx(0.3)
    assert {o.kind for o in charts.objects(thing)} >= {"CustomResourceDefinition", "APIService", "Service"}
    site.kubernetes.update(made, {**release, "version": "2.99.0", "values": {}})
    assert "chart keda 2.99.0: its objects are taken from version 2.20.2, which has rows" in site.cloud.world.notices
