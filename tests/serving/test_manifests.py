"""The rendered manifests: valid in each supported version of Kubernetes, restricted, and with the plan's numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest

from infra.plan import Plan
from serving import kubernetes, kubernetes_entry, tf_by_id
from tests.serving import manifests
from tests.serving.clouds import cloud_plan, model, tf_plan

Json = dict[str, Any]
PLANS = dict(manifests.plans())
NEWEST = int(kubernetes_validate.latest_version().split(".")[1])
VERSIONS = [f"1.{minor}" for minor in range(33, NEWEST + 1)]


@pytest.fixture(scope="module", params=sorted(PLANS))
def plan(request: pytest.FixtureRequest) -> Plan:
    return PLANS[request.param]


def pods(objects: list[Json]) -> Iterator[Json]:
    """Every pod's specification."""
    for found in objects:
        spec = found.get("spec", {})
        if found["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if "template" in spec:
            yield spec["template"]["spec"]


def containers(pod: Json) -> list[Json]:
    return [*pod["containers"], *pod.get("initContainers", [])]


def of_kind(objects: list[Json], kind: str, name: str = "") -> list[Json]:
    return [o for o in objects if o["kind"] == kind and name in o["metadata"]["name"]]


def shape(value: object) -> object:
    """What a schema looks at: names and types, not the values. Objects of one shape are valid together."""
    if isinstance(value, dict):
        return tuple(sorted((k, shape(v)) for k, v in value.items()))
    if isinstance(value, list):
        return tuple(sorted({str(shape(v)) for v in value}))
    return type(value).__name__


@pytest.mark.parametrize(
    "version",
    [pytest.param(v, marks=() if v in (VERSIONS[0], VERSIONS[-1]) else pytest.mark.slow) for v in VERSIONS],
)
def test_kubernetes_takes_every_object(version: str) -> None:
    """Strictly: a field that the version does not know is a failure. Of each shape of object one is tried."""
    every = [o for p in PLANS.values() for o in manifests.everything(p)]
    distinct = {(o["kind"], str(shape({k: v for k, v in o.items() if k != "data"}))): o for o in every}
    assert {k for k, _ in distinct} == {o["kind"] for o in every}
    for found in distinct.values():
        kubernetes_validate.validate(found, version, strict=True)


def test_a_wrong_field_would_be_found() -> None:
    deployment = of_kind(manifests.everything(PLANS["gke-cpu"]), "Deployment")[0]
    deployment["spec"]["template"]["spec"]["terminationGracePeriod"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[0], strict=True)


def test_pods_keep_the_restricted_standard(plan: Plan) -> None:
    """The rules of the standard, and a root that cannot be written."""
    found = list(pods(manifests.everything(plan)))
    assert found
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert {next(iter(set(v) - {"name"})) for v in pod["volumes"]} <= {"configMap", "emptyDir", "secret"}
        assert pod["automountServiceAccountToken"] is False
        for container in containers(pod):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security["readOnlyRootFilesystem"] is True
            assert ":" in container["image"].rsplit("/", 1)[-1]


def test_what_is_mounted_is_there(plan: Plan) -> None:
    """Each mount has its volume, each volume its ConfigMap with just those keys, each reference its object."""
    objects = manifests.everything(plan)
    maps = {o["metadata"]["name"]: o for o in of_kind(objects, "ConfigMap")}
    accounts = {o["metadata"]["name"] for o in of_kind(objects, "ServiceAccount")}
    priorities = {o["metadata"]["name"] for o in of_kind(objects, "PriorityClass")}
    names = [(o["kind"], o["metadata"]["name"]) for o in objects]
    assert len(set(names)) == len(names)
    for pod in pods(objects):
        assert pod["serviceAccountName"] in accounts
        assert pod["priorityClassName"] in priorities
        volumes = {v["name"]: v for v in pod["volumes"]}
        assert len(volumes) == len(pod["volumes"])
        for container in containers(pod):
            assert {m["name"] for m in container["volumeMounts"]} <= set(volumes)
        for volume in volumes.values():
            if "configMap" in volume:
                data = maps[volume["configMap"]["name"]]["data"]
                assert {i["key"] for i in volume["configMap"]["items"]} == set(data)
                assert sum(len(v.encode()) for v in data.values()) < 1_000_000
    assert all(m["immutable"] for m in maps.values())


def test_every_file_that_a_container_names_is_mounted(plan: Plan) -> None:
    """Arguments, commands and settings name files of the configuration folder that exist."""
    for pod in pods(manifests.everything(plan)):
        for container in containers(pod):
            paths = {
                f"{m['mountPath']}/{i['path']}"
                for m in container["volumeMounts"]
                for v in pod["volumes"]
                if v["name"] == m["name"] and "configMap" in v
                for i in v["configMap"]["items"]
            }
            if container["name"] == tf_by_id.NAME:  # what it runs comes from the bucket
                continue
            folder = next(m["mountPath"] for m in container["volumeMounts"] if m["name"] == "config")
            words = [w.partition("=")[2] or w for w in (*container["command"], *container.get("args", ()))]
            named = {w for w in words if w.startswith(f"{folder}/")}
            assert named
            assert named <= paths


def test_probes_and_services_name_ports_that_exist(plan: Plan) -> None:
    objects = manifests.everything(plan)
    for pod in pods(objects):
        for container in pod["containers"]:
            ports = {p["name"] for p in container.get("ports", ())}
            assert len({p["containerPort"] for p in container.get("ports", ())}) == len(ports)
            for check in ("startupProbe", "readinessProbe", "livenessProbe"):
                for how in ("httpGet", "tcpSocket"):
                    if how in container.get(check, {}):
                        assert container[check][how]["port"] in ports
    for service in of_kind(objects, "Service"):
        selected = [
            d
            for d in of_kind(objects, "Deployment")
            if service["spec"]["selector"].items() <= d["spec"]["template"]["metadata"]["labels"].items()
        ]
        assert selected
        for deployment in selected:
            beside = deployment["spec"]["template"]["spec"]["containers"]
            ports = {p["name"] for container in beside for p in container["ports"]}
            assert {p["targetPort"] for p in service["spec"]["ports"]} <= ports


def test_the_drain_fits_its_time(plan: Plan) -> None:
    """preStop outlasts the discovery lag; the grace outlasts preStop and the server's own exit."""
    for group in manifests.groups(plan):
        pod = group.container.pod
        assert pod is not None
        assert pod.pre_stop_s >= 5
        rest = plan.serving.exit_timeout_s if plan.spec.server == "triton" else 0
        assert pod.grace_s > pod.pre_stop_s + rest
        if plan.spec.server == "tf-serving":  # it does not stop by itself: requests end while it still runs
            assert pod.pre_stop_s >= 5 + plan.spec.max_request_s


def test_the_start_may_last_as_long_as_the_plan_says(plan: Plan) -> None:
    for deployment in of_kind(manifests.everything(plan), "Deployment", "server-"):
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        probe = container["startupProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] >= plan.serving.startup_budget_s
        assert deployment["spec"]["progressDeadlineSeconds"] > plan.serving.startup_budget_s


def test_replicas_are_those_of_the_peak(plan: Plan) -> None:
    deployments = of_kind(manifests.everything(plan), "Deployment", "server-")
    assert sum(d["spec"]["replicas"] for d in deployments) == plan.replicas.start
    assert len(deployments) == len(plan.pools)


def test_pods_of_a_node_fit_the_node(plan: Plan) -> None:
    """Requests of all replicas of a node, in the smallest allocatable that a cloud's own formula gives."""
    for group in manifests.groups(plan):
        pool, pod = group.pool, group.container.pod
        assert pod is not None
        if not pool.vcpus:
            continue
        parts = [pod.resources, *(s.resources for s in pod.sidecars)]
        cpu = sum(r.cpu_milli for r in parts) * pool.replicas_per_node
        memory = sum(r.memory_mib for r in parts) * pool.replicas_per_node
        assert cpu < pool.vcpus * 1000 * (1 - 0.0025) - 60 - 300
        assert memory < pool.memory_gib * 1024 * 0.95 - 100
        assert cpu > 0.5 * pool.vcpus * 1000
        assert memory > 0.5 * pool.memory_gib * 1024
        shared = sum(f.mib for f in pod.folders.values() if f.memory)
        assert shared < pod.resources.memory_mib / 2


def test_a_burst_prefers_its_pool_and_bears_the_other() -> None:
    pod = next(
        d["spec"]["template"]["spec"]
        for d in of_kind(manifests.everything(cloud_plan(max_request_s=2)), "Deployment", "server-burst")
    )
    node = pod["affinity"]["nodeAffinity"]
    terms = node["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert [t["matchExpressions"][0]["values"] for t in terms] == [["burst"], ["fallback"]]
    (preferred,) = node["preferredDuringSchedulingIgnoredDuringExecution"]
    assert preferred["preference"] == terms[0]
    assert pod["tolerations"] == [
        {"key": "slipway-pool", "effect": "NoSchedule", "operator": "Equal", "value": "serving"}
    ]


def test_a_gpu_is_asked_for_by_its_own_name() -> None:
    for name in ("gke-gpu", "eks-gpu", "gke-gpu-shared"):
        for deployment in of_kind(manifests.everything(PLANS[name]), "Deployment", "server-"):
            resources = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]
            assert resources["requests"] == resources["limits"]
            assert resources["limits"]["nvidia.com/gpu"] == "1"


def test_zones_are_strict_where_the_mode_counts_on_them() -> None:
    for name, when in (("gke-cpu-performance", "DoNotSchedule"), ("gke-cpu", "ScheduleAnyway")):
        for deployment in of_kind(manifests.everything(PLANS[name]), "Deployment", "server-"):
            zone, host = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
            assert (zone["topologyKey"], zone["whenUnsatisfiable"]) == (kubernetes.ZONE, when)
            assert host["whenUnsatisfiable"] == "ScheduleAnyway"


def test_values_of_the_caller_pass_untouched() -> None:
    """An output of a resource stands where it was put: it is not turned into text."""
    later, secret = object(), {"valueFrom": {"secretKeyRef": {"name": "store", "key": "password"}}}
    plan = PLANS["gke-cpu"]
    group = manifests.groups(plan, {"SLIPWAY_STORE_URL": later, "PASSWORD": secret})[0]
    objects = kubernetes.generation_objects(plan, [group], stack="web", generation="0" * 8)
    env = of_kind(objects, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["env"]
    assert next(e for e in env if e["name"] == "SLIPWAY_STORE_URL")["value"] is later
    assert {"name": "PASSWORD", **secret} in env


def test_whatever_would_restart_a_server_is_a_new_generation() -> None:
    """Settings, uploaded files and image; not what only an autoscaler or a neighbour sees."""
    plan = cloud_plan()

    def of(changed: Plan, uploaded: str = "a") -> str:
        return kubernetes.generation(changed, [g.container for g in manifests.groups(changed)], uploaded)

    same = of(plan)
    assert of(cloud_plan()) == same
    assert of(plan, "b") != same
    assert of(cloud_plan(max_request_s=6)) != same
    assert of(cloud_plan(image="example/triton:1")) != same
    assert of(cloud_plan(models=[model(max_batch=2)])) != same
    assert of(cloud_plan(batch=manifests.BATCH)) == same


def test_two_generations_stand_behind_one_service() -> None:
    load = {"load": {"mean_rps": 3000, "peak_rps": 12000, "burst_cv": 1.0}}
    first, second = cloud_plan(**load), cloud_plan(scaling="vertical", **load)
    objects = {p.spec.scaling: manifests.everything(p) for p in (first, second)}
    names = [{o["metadata"]["name"] for o in of_kind(x, "Deployment", "server-")} for x in objects.values()]
    assert not names[0] & names[1]
    services = [of_kind(x, "Service", kubernetes.SERVERS)[0] for x in objects.values()]
    assert services[0] == services[1]
    for found in objects.values():
        for deployment in of_kind(found, "Deployment", "server-"):
            labels = deployment["spec"]["template"]["metadata"]["labels"]
            assert services[0]["spec"]["selector"].items() <= labels.items()
            assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_the_entry_is_the_same_in_every_mode() -> None:
    """A switch must not touch it: neither scaling, cost nor machine is in it."""
    entries = [
        kubernetes_entry.entry(p, manifests.container(p), stack="web", system=manifests.SYSTEM)
        for p in (
            cloud_plan(),
            cloud_plan(scaling="vertical"),
            cloud_plan(cost="economy"),
            cloud_plan(accelerator="l4"),
        )
    ]
    assert all(e == entries[0] for e in entries)
    assert entries[0] != kubernetes_entry.entry(
        tf_plan(), manifests.container(tf_plan()), stack="web", system=manifests.SYSTEM
    )
