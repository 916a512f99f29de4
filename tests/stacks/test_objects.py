"""What stands around the servers: flows and their policies, autoscaling objects, charts; against their own schemas."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from scanner import checkov

from infra.charts import charts, scaling, values
from infra.charts.values import Where
from infra.plan import Plan
from infra.plan.flows import PODS, flows
from infra.spec import parse
from stacks import registry
from tests.serving import manifests
from tests.stacks import objects

Json = dict[str, Any]
HERE = Path(__file__).parent
PLANS = dict(manifests.plans())
NEWEST = int(kubernetes_validate.latest_version().split(".")[1])
OLDER = [pytest.param(f"1.{minor}", marks=pytest.mark.slow) for minor in range(33, NEWEST)]
VERSIONS = [*OLDER, f"1.{NEWEST}"]
# The cloud's own filters say who comes from outside the cluster; addresses are translated on the way to the pod.
OPENED_BY_THE_CLOUD = ("allow-envoy", "allow-keda-metrics", "allow-keda-webhook", "allow-vpa")
SECURITY = (HERE.parents[1] / "docs" / "security.md").read_text()


def custom() -> dict[tuple[str, str], Json]:
    """Schemas of custom resources, as their projects publish them, made strict: an unknown field is an error."""
    found = {}
    for path in (HERE / "crds").glob("*.json"):
        kept = json.loads(path.read_text())
        assert kept["source"]
        found[kept["apiVersion"], kept["kind"]] = strict(kept["schema"])
    return found


def strict(schema: Json) -> Json:
    closed = {k: strict(v) if isinstance(v, dict) and k != "properties" else v for k, v in schema.items()}
    if "properties" in schema:
        closed["properties"] = {k: strict(v) for k, v in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            closed.setdefault("additionalProperties", False)
    return closed


CUSTOM = custom()


def check(manifest: Json, version: str) -> None:
    """Built-in kinds against Kubernetes' own schema; any other needs a schema that is kept here."""
    schema = CUSTOM.get((manifest["apiVersion"], manifest["kind"]))
    if schema is None:
        kubernetes_validate.validate(manifest, version, strict=True)
        return
    # the object's own fields are left open by the schemas of custom resources
    body = {k: v for k, v in manifest.items() if k != "metadata"}
    jsonschema.Draft202012Validator(schema).validate(body)


@pytest.mark.parametrize("version", VERSIONS)
def test_objects_are_valid(version: str) -> None:
    for plan in PLANS.values():
        for manifest in (*objects.network_policies(plan), *objects.scaled(plan)):
            check(manifest, version)


def test_a_custom_resource_without_a_schema_is_a_failure() -> None:
    """And so is a field that its schema does not know."""
    with pytest.raises((kubernetes_validate.utils.SchemaNotFoundError, kubernetes_validate.ValidationError)):
        check({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a"}}, f"1.{NEWEST}")
    made = next(objects.scaled(PLANS["gke-cpu"]))
    made["spec"]["pollingIntervall"] = 1
    with pytest.raises(jsonschema.ValidationError, match="pollingIntervall"):
        check(made, f"1.{NEWEST}")


@pytest.mark.parametrize("name", ["gke-cpu", "eks-cpu", "gke-gpu", "gke-tpu", "eks-gpu"])
def test_targets_follow_littles_law(name: str) -> None:
    """At the planned peak, requests inside all servers divided by the target are as many replicas as run then."""
    plan = PLANS[name]
    inside = plan.spec.load.peak_rps * plan.latency_ms.mean / 1000
    replicas = sum(
        min(1.0, plan.spec.load.peak_rps / plan.max_rps_within_slo)
        * pool.node_rps
        * pool.max_nodes
        * plan.latency_ms.mean
        / 1000
        / scaling.targets(plan, pool).in_flight
        for pool in plan.pools
    )
    assert replicas == pytest.approx(plan.replicas.max)
    assert inside == pytest.approx(
        sum(scaling.targets(plan, p).in_flight * p.max_nodes * p.replicas_per_node for p in plan.pools), rel=1e-6
    )


def test_the_base_carries_its_part_first() -> None:
    """The burst sees only what the fixed replicas do not carry; with none of that it goes to its least."""
    plan = PLANS["gke-cpu"]
    base = next(p for p in plan.pools if p.role == "base")
    carried = scaling.targets(plan, base).in_flight * base.max_nodes * base.replicas_per_node
    burst = next(m for m in objects.scaled(plan) if "burst" in m["metadata"]["name"])
    query = burst["spec"]["triggers"][0]["metadata"]["query"]
    assert query.startswith("clamp_min(")
    assert f"- {carried:.4g}, 0)" in query
    assert burst["spec"]["maxReplicaCount"] == sum(
        p.max_nodes * p.replicas_per_node for p in plan.pools if p.role == "burst"
    )


def test_one_controller_for_each_number() -> None:
    """VPA counts no requests and KEDA looks at no CPU or memory; equal bounds pin what does not follow the load."""
    for plan in PLANS.values():
        for manifest in objects.scaled(plan):
            if manifest["kind"] == "ScaledObject":
                assert {t["type"] for t in manifest["spec"]["triggers"]} == {"prometheus"}
                assert manifest["spec"]["minReplicaCount"] <= manifest["spec"]["maxReplicaCount"]
    vertical = list(objects.scaled(PLANS["gke-cpu-vertical"]))
    assert {m["kind"] for m in vertical} == {"ScaledObject", "VerticalPodAutoscaler"}
    pinned = [m["spec"] for m in vertical if m["kind"] == "ScaledObject"]
    assert all(s["minReplicaCount"] == s["maxReplicaCount"] for s in pinned)


def rules(plan: Plan) -> Iterator[tuple[str, str, Json]]:
    for policy in objects.network_policies(plan):
        for way in ("ingress", "egress"):
            for rule in policy["spec"].get(way, []):
                yield policy["metadata"]["name"], way, rule


@pytest.mark.parametrize("name", ["gke-cpu", "eks-cpu"])
def test_every_row_opens_both_ends_and_nothing_else_is_open(name: str) -> None:
    plan = PLANS[name]
    found = objects.network_policies(plan)
    denied = {p["metadata"]["namespace"] for p in found if p["metadata"]["name"] == "default-deny"}
    assert denied == {p["metadata"]["namespace"] for p in found}
    ends = 0
    for flow in flows(plan.spec.cloud):
        if (flow.target, flow.port) != ("servers", "by-id"):  # Triton looks up by itself
            ends += (flow.source in PODS) + (flow.target in PODS)
    assert ends == len(list(rules(plan))), "as many rules as the table has ends that are pods"
    for policy, way, rule in rules(plan):
        assert len(rule["ports"]) == 1
        assert "from" in rule or "to" in rule or policy in OPENED_BY_THE_CLOUD, (policy, way)


def test_metrics_and_admin_ports_are_for_prometheus_alone() -> None:
    """Who may speak to the port of measurements, by the rendered policies."""
    for policy in objects.network_policies(PLANS["gke-cpu"]):
        for rule in policy["spec"].get("ingress", []):
            if rule["ports"][0]["port"] in (8002, 9902):
                labels = [p["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for p in rule["from"]]
                assert labels == ["prometheus"]
            assert rule["ports"][0]["port"] != 19000, "Envoy's administration"


def test_charts_are_pinned_with_their_source() -> None:
    for chart in charts():
        assert re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", chart.version), chart.name
        assert chart.source
        assert re.fullmatch(r"20[0-9]{2}-[0-9]{2}", chart.as_of)
        assert chart.repository.startswith("https://")


def test_prometheus_keeps_nothing_on_a_disk_that_outlives_it() -> None:
    """A claim would leave a disk behind, and be billed."""
    place = Where(node_selector={"slipway-role": "system"})
    given = values.prometheus(place, {"servers": values.job("serving", "server", "metrics")})
    server = given["server"]
    assert isinstance(server, dict)
    assert server["persistentVolume"] == {"enabled": False}
    assert server["nodeSelector"] == {"slipway-role": "system"}
    assert server["extraFlags"] == []


def test_device_plugin_shares_as_planned() -> None:
    """Lists replace the chart's own; the configuration is the text that the plugin reads."""
    where = [Where(node_selector={"slipway-role": r}, tolerations=[{"key": "a", "operator": "Exists"}]) for r in "xy"]
    shared = values.device_plugin(where, name="d", sharing="time-slicing", clients=4)
    config = shared["config"]
    assert isinstance(config, dict)
    read = yaml.safe_load(config["map"]["shared"])
    assert read["sharing"]["timeSlicing"]["resources"] == [{"name": "nvidia.com/gpu", "replicas": 4}]
    assert "config" not in values.device_plugin(where, name="d", sharing="none", clients=1)
    assert len(shared["tolerations"]) == 1  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gke-cpu", "gke-cpu-vertical", "eks-gpu", "gke-tf", "eks-cpu-sync"])
def test_checkov_finds_nothing_that_is_not_explained(name: str, tmp_path: Path) -> None:
    """Every failed check stands in docs/security.md with its reason."""
    for number, manifest in enumerate(objects.everything(PLANS[name])):
        (tmp_path / f"{number}.yaml").write_text(yaml.safe_dump(plain(manifest)))
    report = checkov(tmp_path, "kubernetes")
    failed = {f"{c['check_id']} {c['resource']}": c["check_name"] for c in report["results"]["failed_checks"]}
    unexplained = {k: v for k, v in failed.items() if k.split()[0] not in SECURITY}
    assert not unexplained
    assert report["summary"]["passed"] > 100


def plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def test_mps_is_refused_by_name() -> None:
    """Its pods need the host's shared memory, which the servers' namespace does not let in: docs/security.md."""
    values = yaml.safe_load((HERE.parents[1] / "stacks" / "config" / "Pulumi.gke-gpu.yaml").read_text())["config"]
    spec = {k.partition(":")[2]: v for k, v in values.items()}
    assert registry.unbuilt(parse(spec)) is None
    refused = registry.unbuilt(parse(spec | {"gpu_sharing": {"strategy": "mps", "clients": 4}}))
    assert refused is not None
    assert "hostIPC" in str(refused)
    assert "MPS is refused" in SECURITY
