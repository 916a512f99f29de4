"""Groups of machines on Compute Engine: their whole life against the simulated cloud, and what their resources say."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pulumi_gcp", reason="pulumi_gcp is not installed (extra `gcp`)")

from infra.catalog import load
from infra.clouds.gcp.boot import disk_type, image
from infra.clouds.gcp.firewall import sources
from infra.plan import Kinds, Plan, make_plan
from infra.plan.flows import flows
from infra.plan.groups import scaling
from infra.spec import parse
from tests.clouds.scanned import unexplained
from tests.clouds.site_project import SiteProject, asked, changed, of, worked

PUBLIC: Mapping[str, object] = {
    "exposure": "public",
    "allowed_cidrs": ["198.51.100.0/24", "203.0.113.0/24"],
    "tls": {"certificate": "serving"},
}
NO_LABELS = (  # types that take none: their names say whose they are
    *("Network", "Subnetwork", "Router", "RouterNat", "Firewall", "Account", "RegionHealthCheck", "RegionUrlMap"),
    *("RegionBackendService", "RegionTargetTcpProxy", "RegionTargetHttpProxy", "BucketObject", "RegionAutoscaler"),
    "RegionInstanceGroupManager",
)
TEMPLATE = "compute/instanceTemplate:InstanceTemplate"
GROUP = "compute/regionInstanceGroupManager:RegionInstanceGroupManager"
SCALER = "compute/regionAutoscaler:RegionAutoscaler"
CHECK = "compute/regionHealthCheck:RegionHealthCheck"
BACKEND = "compute/regionBackendService:RegionBackendService"
COS, PINNED = "projects/cos-cloud/global/images/family/cos-125-lts", "projects/cos-cloud/global/images/cos-125-1-2-3"
OF_A_GENERATION = {f"gcp:{kind}" for kind in (TEMPLATE, GROUP, SCALER, CHECK)}
SPOT: Mapping[str, object] = {"cost": "balanced", "scaling": "horizontal", "budget_usd_per_month": None}
WIDE = worked("gce-gpu", **SPOT)
TALL = worked("gce-gpu", **{**SPOT, "scaling": "vertical"})


def project(tmp_path: Path) -> SiteProject:
    return SiteProject(name="site_gce", folder=tmp_path)


def planned(stack: str, **more: object) -> Plan:
    return make_plan(parse(worked(stack, budget_usd_per_month=None, **more)), Kinds(), load())


def behind(site: SiteProject, backend: str) -> set[str]:
    """Names of the groups that a backend service sends requests to."""
    return {b["group"].rpartition("/")[2] for b in of(site.resources(), BACKEND)[backend]["backends"]}


@pytest.mark.slow
def test_whole_life(tmp_path: Path) -> None:
    """A change of capacity takes two updates: the first adds a generation and sends requests to both, the second takes
    the old one out and away. Back is as before, and nothing is left."""
    site = project(tmp_path)
    assert set(changed(site.go("up", WIDE))) == {"create"}
    before = asked(site.resources())
    assert changed(site.go("up", WIDE)) == {}
    first = site.go("up", TALL, old=json.dumps(WIDE))
    assert set(changed(first)) == {"create", "update"}
    made = {s.urn.split("::")[2] for s in first.steps if s.op == "create"}
    assert made == OF_A_GENERATION, "all of it bears the digest"
    assert {s.urn.split("::")[2] for s in first.steps if s.op == "update"} == {f"gcp:{BACKEND}"}
    old, new = (make_plan(parse(s), Kinds(), load()).generation for s in (WIDE, TALL))
    assert {n.rpartition("-")[2] for n in behind(site, "entry-http")} == {old, new}
    second = site.go("up", TALL)
    assert set(changed(second)) == {"update", "delete"}
    assert {n.rpartition("-")[2] for n in behind(site, "entry-http")} == {new}
    assert set(changed(site.go("up", WIDE, old=json.dumps(TALL)))) == {"create", "update"}
    assert set(changed(site.go("up", WIDE))) == {"update", "delete"}
    assert asked_but_for_ids(asked(site.resources())) == asked_but_for_ids(before)
    assert set(changed(site.go("destroy", WIDE))) == {"delete"}
    assert site.world.leftovers() == ()


def asked_but_for_ids(inputs: Mapping[str, str]) -> dict[str, str]:
    return {k: re.sub(r"uniqueId=\d+", "uniqueId=", v) for k, v in inputs.items()}


@pytest.mark.slow
def test_machines_that_do_not_start_leave_the_old_ones_serving(tmp_path: Path) -> None:
    """The update fails with the reason; requests go where they went; turning back removes the failed generation."""
    site = project(tmp_path)
    assert changed(site.go("up", WIDE))
    before, serving = asked(site.resources()), behind(site, "entry-http")
    failed = site.go("up", TALL, old=json.dumps(WIDE), broken="yes")
    assert not failed.ok
    assert any("no GPU driver" in e for e in failed.errors), failed.errors
    assert behind(site, "entry-http") == serving
    assert changed(site.go("up", WIDE)).keys() <= {"delete"}
    assert asked(site.resources()) == before


@pytest.mark.slow
def test_machines_of_another_server_stand_beside_the_old_ones(tmp_path: Path) -> None:
    """Other ports and another ready path: the old machines' firewall stays open and their own check is kept; the entry
    asks anew, by another check, only when the new machines answer."""
    files = [{**m, "format": "savedmodel"} for m in worked("gce-cpu")["models"]]  # type: ignore[attr-defined]
    old = worked("gce-cpu", server="tf-serving", models=files, cost="performance", budget_usd_per_month=None)
    new = worked("gce-cpu", cost="performance", budget_usd_per_month=None)
    site = project(tmp_path)
    assert changed(site.go("up", old))
    step = {s.urn.rpartition("::")[2]: i for i, s in enumerate(site.go("up", new, old=json.dumps(old)).steps)}
    before, after = (make_plan(parse(s), Kinds(), load()).generation for s in (old, new))
    assert step[f"serving-{after}"] < step["entry-http"]
    rules = of(site.resources(), "compute/firewall:Firewall")
    assert rules[f"proxy-subnet-servers-serving-{before}"]["allows"][0]["ports"] == ["8500", "8501"]
    assert rules["proxy-subnet-servers"]["allows"][0]["ports"] == ["8000", "8001"]
    checks = of(site.resources(), CHECK)
    assert checks[f"serving-{before}"]["httpHealthCheck"] == {"port": 8501, "requestPath": "/v1/models/m"}
    (entry,) = (c for n, c in checks.items() if n.startswith("entry-"))
    assert entry["httpHealthCheck"] == {"port": 8000, "requestPath": "/v2/health/ready"}
    assert {n.rpartition("-")[2] for n in behind(site, "entry-http")} == {before, after}
    assert changed(site.go("up", new)).keys() == {"update", "delete"}


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """A base on demand, a burst on spot machines; protected."""
    site = project(tmp_path_factory.mktemp("private"))
    assert changed(site.go("up", worked("gce-gpu", **SPOT, protect=True)))
    return site.resources()


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    site = project(tmp_path_factory.mktemp("public"))
    assert changed(site.go("up", worked("gce-cpu", **PUBLIC, pins={COS: PINNED})))
    return site.resources()


def test_every_resource_has_a_stated_provider_and_labels(private: list[dict[str, Any]]) -> None:
    for r in private:
        if r["type"].startswith("pulumi:providers"):
            assert r["urn"].rpartition("::")[2] == "gcp", r["urn"]
            continue
        assert "::default" not in r["provider"], r["urn"]
        kind = r["type"].rpartition(":")[2]
        if re.search(r"I[Aa][Mm]Member$", kind):
            continue
        if kind in NO_LABELS:
            assert "dev" in json.dumps(r["inputs"]), r["urn"]
        else:
            assert r["inputs"]["labels"]["slipway-stack"] == "dev", r["urn"]
            assert r["inputs"]["labels"]["slipway-role"], r["urn"]


def test_a_machine_is_closed_and_is_its_service_account(private: list[dict[str, Any]]) -> None:
    for logical, template in of(private, TEMPLATE).items():
        (interface,) = template["networkInterfaces"]
        assert "accessConfigs" not in interface, "no address of the internet's"
        assert set(template["shieldedInstanceConfig"].values()) == {True}
        assert template["serviceAccount"]["email"] == "dev-machines@my-project.iam.gserviceaccount.com"
        metadata = template["metadata"]
        assert metadata["user-data"].startswith("#cloud-config\n")
        assert "gs://dev-models" in metadata["user-data"], "the address of the uploaded files"
        assert metadata["block-project-ssh-keys"] == "true"
        assert template["labels"]["slipway-generation"] == logical.rpartition("-")[2]
    assert of(private, "storage/bucket:Bucket")["models"]["forceDestroy"] is False, "protect"


def test_its_rights_are_what_was_granted_and_what_every_machine_writes(private: list[dict[str, Any]]) -> None:
    member = "serviceAccount:dev-machines@my-project.iam.gserviceaccount.com"
    of_project = {g["role"] for g in of(private, "projects/iAMMember:IAMMember").values() if g["member"] == member}
    assert of_project == {"roles/logging.logWriter", "roles/monitoring.metricWriter", "roles/artifactregistry.reader"}
    on_buckets = of(private, "storage/bucketIAMMember:BucketIAMMember").values()
    assert {(g["role"], g["bucket"]) for g in on_buckets} == {
        ("roles/storage.objectViewer", of(private, "storage/bucket:Bucket")["models"]["name"]),
        ("roles/storage.objectUser", "theirs"),
    }
    (secret,) = of(private, "secretmanager/secretIamMember:SecretIamMember").values()
    assert secret["secretId"] == "projects/my-project/secrets/dev-store-password"
    assert secret["role"] == "roles/secretmanager.secretAccessor"


def test_a_group_waits_for_answers_heals_and_is_the_autoscalers_afterwards(private: list[dict[str, Any]]) -> None:
    """For spot machines that others stand in for nobody waits: there may be none today, and an update must not fail
    for it. Where nothing stands in they are waited for: else the old ones would go before them."""
    groups, checks, scalers = of(private, GROUP), of(private, CHECK), of(private, SCALER)
    plan = planned("gce-gpu", **{k: v for k, v in SPOT.items() if k != "budget_usd_per_month"})
    assert set(groups) == {f"{p.role}-{plan.generation}" for p in plan.pools} == set(scalers)
    assert {p.capacity_type for p in plan.pools} == {"spot", "on-demand"}
    for pool in plan.pools:
        role = f"{pool.role}-{plan.generation}"
        group, spot = groups[role], pool.capacity_type == "spot"
        assert group["name"] == f"dev-{role}"
        assert group["waitForInstances"] is not spot
        assert group["targetSize"] == pool.start_nodes
        update = group["updatePolicy"]
        assert (update["maxUnavailableFixed"], update["type"]) == (0, "PROACTIVE")
        assert update["maxSurgeFixed"] >= len(group["distributionPolicyZones"])
        healing = group["autoHealingPolicies"]
        assert healing["initialDelaySec"] == plan.serving.startup_budget_s
        assert healing["healthCheck"].endswith(f"/dev-{role}")
        assert checks[role]["httpHealthCheck"] == {"port": 8000, "requestPath": "/v2/health/ready"}
        policy, wanted = scalers[role]["autoscalingPolicy"], scaling(plan, pool)
        assert (policy["minReplicas"], policy["maxReplicas"]) == (wanted.least, wanted.most)
        assert policy["loadBalancingUtilization"]["target"] == wanted.target
        scheduling = of(private, TEMPLATE)[role]["scheduling"]
        assert scheduling["onHostMaintenance"] == "TERMINATE", "a machine with a GPU cannot move"
        assert (scheduling["provisioningModel"] == "SPOT") is spot


def test_only_the_table_of_flows_is_let_in(private: list[dict[str, Any]]) -> None:
    ports = {"http": "8000", "grpc": "8001", "metrics": "8002"}
    wanted = {
        (frozenset(sources(f.source)), ports[f.port]) for f in flows("gcp", "machines") if inward(f.source, f.target)
    }
    rules = [r for r in of(private, "compute/firewall:Firewall").values() if r["direction"] == "INGRESS"]
    assert {(frozenset(r["sourceRanges"]), p) for r in rules for a in r["allows"] for p in a["ports"]} == wanted
    assert all(r["targetTags"] == ["dev-servers"] and r["logConfig"] for r in rules)
    assert all(t["tags"] == ["dev-servers"] for t in of(private, TEMPLATE).values())
    assert "0.0.0.0/0" not in {s for r in rules for s in r["sourceRanges"]}


def test_machines_speak_to_whom_the_table_names(private: list[dict[str, Any]]) -> None:
    """Storage and registries, whose addresses change; a store inside; the last rule refuses the rest."""
    rules = {n: r for n, r in of(private, "compute/firewall:Firewall").items() if r["direction"] == "EGRESS"}
    rest = rules.pop("servers-elsewhere")
    assert (rest["denies"], rest["destinationRanges"], rest["priority"]) == (
        [{"protocol": "all"}],
        ["0.0.0.0/0"],
        65534,
    )
    wanted = {f.target: f for f in flows("gcp", "machines") if f.source == "servers"}
    assert set(rules) == {f"servers-{t}" for t in wanted if t not in ("dns", "metadata")}
    outside = {
        p for r in rules.values() if "0.0.0.0/0" in r["destinationRanges"] for a in r["allows"] for p in a["ports"]
    }
    assert outside == {"443", "80"}


def inward(source: str, target: str) -> bool:
    return target == "servers" and source != "clients"  # they speak to the load balancer's proxies


def test_the_private_entry_balances_requests_and_passes_grpc_on(private: list[dict[str, Any]]) -> None:
    """What is not routed meets a refusal, and behind it a backend without machines."""
    rules = of(private, "compute/forwardingRule:ForwardingRule").values()
    assert {r["portRange"] for r in rules} == {"80", "8001"}
    assert {r["loadBalancingScheme"] for r in rules} == {"INTERNAL_MANAGED"}
    assert len({json.dumps(r["ipAddress"]) for r in rules}) == 1
    backends = of(private, BACKEND)
    assert "backends" not in backends["entry-refused"]
    assert {b["balancingMode"] for b in backends["entry-http"]["backends"]} == {"RATE"}
    for rate in (b["maxRatePerInstance"] for b in backends["entry-http"]["backends"]):
        (kept,) = struct.unpack("f", struct.pack("f", rate))
        assert float(f"{kept:.7g}") == rate, "Google keeps 32 bits, and every preview would see a change"
    assert {b["balancingMode"] for b in backends["entry-grpc"]["backends"]} == {"CONNECTION"}
    assert len(backends["entry-http"]["backends"]) == len(of(private, GROUP)) == 2
    (routes,) = of(private, "compute/regionUrlMap:RegionUrlMap").values()
    (matcher,) = routes["pathMatchers"]
    assert routes["defaultService"] == matcher["defaultService"]
    assert matcher["defaultService"].endswith("dev-entry-refused")
    assert matcher["defaultRouteAction"]["faultInjectionPolicy"]["abort"] == {"httpStatus": 403, "percentage": 100}
    let_in = {r["priority"] for r in matcher["routeRules"] if r["service"].endswith("dev-entry-http")}
    assert let_in == {r["priority"] for r in matcher["routeRules"]} - {1}, "statistics look like a model's name"


@pytest.mark.slow
def test_the_public_entry_asks_who_comes_and_reads_both_protocols(public: list[dict[str, Any]]) -> None:
    rules = of(public, "compute/forwardingRule:ForwardingRule").values()
    assert {(r["portRange"], r["loadBalancingScheme"]) for r in rules} == {
        ("443", "EXTERNAL_MANAGED"),
        ("8001", "EXTERNAL_MANAGED"),
    }
    assert len(of(public, "compute/regionTargetHttpsProxy:RegionTargetHttpsProxy")) == 2
    backends = of(public, BACKEND)
    assert (backends["entry-http"]["protocol"], backends["entry-grpc"]["protocol"]) == ("HTTP", "H2C")
    assert all(b["securityPolicy"].endswith("dev-entry-callers") for b in backends.values())
    routes = of(public, "compute/regionUrlMap:RegionUrlMap")["entry-grpc"]
    paths = {m["fullPathMatch"] for r in routes["pathMatchers"][0]["routeRules"] for m in r["matchRules"]}
    assert "/inference.GRPCInferenceService/ModelInfer" in paths
    assert not [p for p in paths if re.search("Repository|Trace|Log|SharedMemory|Statistics", p)]


@pytest.mark.slow
def test_tf_servings_grpc_needs_tls_and_a_tpu_is_its_machine_type(tmp_path: Path) -> None:
    """Its port would also let clients replace the configuration: nothing passes it on unread."""
    site = project(tmp_path)
    result = site.go("up", worked("gce-tpu"))
    assert changed(result)
    assert result.outputs["grpc"] == ""
    assert "no gRPC without tls" in str(result.outputs["from"])
    ways = result.outputs["tunnel"]
    assert isinstance(ways, list)
    assert "list-instances dev-" in ways[0]
    assert "start-iap-tunnel INSTANCE 8000 " in ways[-1]
    (rule,) = of(site.resources(), "compute/forwardingRule:ForwardingRule").values()
    assert rule["portRange"] == "80"
    for template in of(site.resources(), TEMPLATE).values():
        assert template["machineType"].startswith("ct6e-standard-")
        assert "guestAccelerators" not in template
        (disk,) = template["disks"]
        assert (disk["diskType"], "tpu" in disk["sourceImage"]) == ("hyperdisk-balanced", True)


@pytest.mark.slow
def test_the_scanner_finds_nothing_that_is_not_explained(
    private: list[dict[str, Any]], public: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Every failed check of the cloud's resources stands in docs/security.md with its reason."""
    assert not unexplained(tmp_path, "gcp", private, public)


def test_a_model_that_is_not_there_is_refused_before_anything_is_declared(tmp_path: Path) -> None:
    site = project(tmp_path)
    site.world.absent.append("gone")
    refused = site.go("preview", WIDE, model="gs://gone/models/churn")
    assert not refused.ok
    assert not [s for s in refused.steps if not s.urn.endswith(("site-gce-dev", "gcp"))]
    assert any("there is no bucket gone" in e for e in refused.errors)


def test_on_demand_machines_stand_in_for_spot_ones_only_where_the_mode_says_so() -> None:
    """At a higher target, so that spot grows first; the group keeps a machine, or its autoscaler would see nothing."""
    balanced, economy = planned("gce-cpu", cost="balanced"), planned("gce-cpu", cost="economy")
    base, burst = (scaling(balanced, p) for p in balanced.pools)
    assert (base.awaited, burst.awaited) == (True, False)
    assert base.most == balanced.pools[0].max_nodes + balanced.pools[1].max_nodes
    assert base.target > burst.target
    frugal, spare = (scaling(economy, p) for p in economy.pools)
    assert (frugal.most, frugal.target) == (economy.pools[0].max_nodes, spare.target)
    assert (spare.least, spare.awaited) == (1, True)
    mixed = planned("gce-gpu", cost="balanced", scaling="horizontal", accelerator="auto")
    assert len({p.machine_type for p in mixed.pools}) > 1
    standing = next(p for p in mixed.pools if p.capacity_type == "on-demand")
    spot = sum(p.max_nodes * p.node_rps for p in mixed.pools if p.capacity_type == "spot")
    more = scaling(mixed, standing).most - standing.max_nodes
    assert spot <= more * standing.node_rps < spot + standing.node_rps, "as many as carry the same, of another machine"


@pytest.mark.slow
def test_what_slipway_pinned_is_what_machines_boot_from(public: list[dict[str, Any]]) -> None:
    assert {t["disks"][0]["sourceImage"] for t in of(public, TEMPLATE).values()} == {PINNED}


def test_what_machines_boot_from_depends_on_their_kind() -> None:
    (gpu, *_), (tpu, *_) = planned("gce-gpu").pools, planned("gce-tpu").pools
    assert image(gpu) == COS
    assert disk_type(gpu) == "pd-balanced"
    assert image(tpu) != image(gpu)
    models = worked("gce-tpu")["models"]
    assert isinstance(models, list)
    fast = {**models[0], "profile": {"v5p": {"base_ms": 2.0, "per_item_ms": 0.1}}}
    (older, *_) = planned("gce-tpu", accelerator="v5p", models=[fast]).pools
    assert (older.machine_type, older.tpu_topology) == ("ct5p-hightpu-4t", "2x2x1")
    assert (image(older), disk_type(older)) == (image(tpu), "pd-balanced")
