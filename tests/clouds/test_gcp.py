"""The GKE site: its whole life against the simulated cloud, and what its resources say about access and cost."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

for _package in ("pulumi_gcp", "pulumi_kubernetes"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (extras `gcp`, `kubernetes`)")

from infra.catalog import load  # noqa: E402
from infra.clouds.gcp.firewall import sources  # noqa: E402
from infra.clouds.gcp.pools import gpus, system_zones  # noqa: E402
from infra.clouds.models import lacking  # noqa: E402
from infra.plan import Kinds, Plan, make_plan  # noqa: E402
from infra.plan.flows import flows  # noqa: E402
from infra.spec import parse  # noqa: E402
from tests.clouds.scanned import unexplained  # noqa: E402
from tests.clouds.site_project import SiteProject, asked, changed, of, worked  # noqa: E402

PUBLIC: Mapping[str, object] = {
    "exposure": "public",
    "allowed_cidrs": ["198.51.100.0/24", "203.0.113.0/24"],
    "tls": {"certificate": "serving"},
}
NO_LABELS = (  # types that take none: their names say whose they are
    *("Network", "Subnetwork", "Router", "RouterNat", "Firewall", "InstanceGroupNamedPort", "KeyRing", "Account"),
    *("RegionHealthCheck", "RegionBackendService", "RegionTargetTcpProxy", "BucketObject", "NodePool"),
)
POOL = "container/nodePool:NodePool"


def project(tmp_path: Path) -> SiteProject:
    return SiteProject(name="site_gcp", folder=tmp_path)


@pytest.mark.slow
def test_whole_life(tmp_path: Path) -> None:
    """A switch makes and deletes pools alone (and what runs on them); back is as before; nothing is left; the second
    life meets no name of the first, though Google keeps key rings for ever."""
    site, wide, tall = project(tmp_path), worked("gke-gpu"), worked("gke-gpu", scaling="vertical")
    assert set(changed(site.go("up", wide))) == {"create"}
    before = asked(site.resources())
    assert changed(site.go("up", wide)) == {}
    switched = site.go("up", tall)
    assert set(changed(switched)) == {"create", "delete"}
    moved = {s.urn.split("::")[2] for s in switched.steps if s.op != "same"}
    assert moved == {"gcp:container/nodePool:NodePool", "kubernetes:apps/v1:Deployment"}
    assert set(changed(site.go("up", wide))) == {"create", "delete"}
    assert asked(site.resources()) == before
    assert set(changed(site.go("destroy", wide))) == {"delete"}
    assert site.world.leftovers() == ()
    assert changed(site.go("destroy", wide)) == {}
    assert set(changed(site.go("up", wide))) == {"create"}
    assert set(changed(site.go("destroy", wide))) == {"delete"}
    assert site.world.leftovers() == ()


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """gke-gpu as configured, which is private, and protected."""
    site = project(tmp_path_factory.mktemp("private"))
    assert changed(site.go("up", worked("gke-gpu", protect=True, budget_usd_per_month=100000)))
    return site.resources()


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    site = project(tmp_path_factory.mktemp("public"))
    assert changed(site.go("up", worked("gke-cpu", **PUBLIC)))
    return site.resources()


def test_every_resource_has_a_stated_provider_and_labels(private: list[dict[str, Any]]) -> None:
    """No resource goes to whatever account or cluster is around; each can be found again by its stack and role."""
    for r in private:
        if r["type"].startswith("pulumi:providers"):
            assert r["urn"].rpartition("::")[2] in ("gcp", "kubernetes"), r["urn"]
            continue
        assert "::default" not in r["provider"], r["urn"]
        kind, name = r["type"].rpartition(":")[2], json.dumps(r["inputs"])
        if r["type"].startswith("gcp:") and not re.search(r"I[Aa][Mm]Member$", kind):
            if kind in NO_LABELS:
                assert "dev" in name, r["urn"]
            else:
                labels = r["inputs"].get("labels") or r["inputs"]["resourceLabels"]
                assert labels["slipway-stack"] == "dev", r["urn"]
                assert labels["slipway-role"], r["urn"]


def test_the_control_plane_is_closed_and_keeps_its_word(private: list[dict[str, Any]]) -> None:
    (cluster,) = of(private, "container/cluster:Cluster").values()
    blocks = cluster["masterAuthorizedNetworksConfig"]["cidrBlocks"]
    assert [b["cidrBlock"] for b in blocks] == ["203.0.113.0/24"]
    assert cluster["privateClusterConfig"]["enablePrivateNodes"] is True
    assert cluster["datapathProvider"] == "ADVANCED_DATAPATH"
    assert cluster["workloadIdentityConfig"]["workloadPool"] == "my-project.svc.id.goog"
    assert cluster["databaseEncryption"]["state"] == "ENCRYPTED"
    assert cluster["masterAuth"]["clientCertificateConfig"]["issueClientCertificate"] is False
    assert cluster["addonsConfig"]["httpLoadBalancing"]["disabled"] is True, "no load balancer outside the state"
    assert cluster["deletionProtection"] is True, "protect"
    assert of(private, "storage/bucket:Bucket")["models"]["forceDestroy"] is False, "protect"


def test_what_needs_what(private: list[dict[str, Any]]) -> None:
    """Nodes need NAT and rights, and so go before them; the cluster, the longest step, waits for neither NAT nor
    bucket; a forwarding rule needs the load balancer's own subnet."""
    needs = {r["urn"].partition("::site-gcp::")[2]: r.get("dependencies", ()) for r in private}

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            found = {urn.partition("::site-gcp::")[2] for urn in needs[todo.pop()]}
            todo += found - seen
            seen |= found
        return {urn.rpartition("::")[2] for urn in seen}

    cluster = reached("gcp:container/cluster:Cluster::cluster")
    assert {"control-plane", "nodes", "network", "nodes-defaultNodeServiceAccount", "dev-secrets"} <= cluster
    assert not {"nat", "models", "proxies"} & cluster
    for urn in [u for u in needs if u.startswith(f"gcp:{POOL}")]:
        assert {"cluster", "nat", "nodes-defaultNodeServiceAccount"} <= reached(urn)
    for urn in [u for u in needs if "ForwardingRule" in u]:
        assert {"proxies", "system", "entry"} <= reached(urn)


def test_pools_are_the_plans_and_the_autoscalers_afterwards(private: list[dict[str, Any]]) -> None:
    """The digest is in both names of a serving pool and in nobody else's; the system pool is nobody's to scale."""
    pools = of(private, POOL)
    system = pools.pop("system")
    assert system["nodeCount"] * len(system["nodeLocations"]) == 2
    assert "taints" not in system["nodeConfig"]
    assert "autoscaling" not in system
    assert set(pools) == {n for n in pools if n.startswith(("serving", "base", "burst", "fallback"))}
    generation = next(iter(pools)).rpartition("-")[2]
    for logical, pool in pools.items():
        config, scaling = pool["nodeConfig"], pool["autoscaling"]
        assert logical.endswith(generation)
        assert pool["name"] == f"dev-{logical}"
        assert "nodeCount" not in pool
        assert pool["initialNodeCount"] * len(pool["nodeLocations"]) <= scaling["totalMaxNodeCount"]
        assert config["labels"]["slipway-generation"] == generation
        assert config["guestAccelerators"][0]["type"] == "nvidia-l4"
        assert config["guestAccelerators"][0]["gpuDriverInstallationConfig"] == {"gpuDriverVersion": "DEFAULT"}
        assert config["workloadMetadataConfig"]["mode"] == "GKE_METADATA"
        assert scaling["locationPolicy"] == ("ANY" if config["spot"] else "BALANCED")
        longer = {"shutdownGracePeriodSeconds": 120, "shutdownGracePeriodCriticalPodsSeconds": 15}
        assert (longer.items() <= config["kubeletConfig"].items()) == config["spot"], "GKE refuses it on demand"
    others = [r["urn"].rpartition("::")[2] for r in private if r["type"] not in (f"gcp:{POOL}", DEPLOYMENT)]
    assert not [n for n in others if generation in n]


@pytest.mark.slow
def test_without_administrators_addresses_the_dns_endpoint_asks_iam(tmp_path: Path) -> None:
    """No address of the control plane is public then, and the kubeconfig names the endpoint's name."""
    site = project(tmp_path)
    result = site.go("up", worked("gke-cpu", admin_cidrs=[]))
    assert changed(result)
    (cluster,) = of(site.resources(), "container/cluster:Cluster").values()
    assert cluster["privateClusterConfig"]["enablePrivateEndpoint"] is True
    assert cluster["controlPlaneEndpointsConfig"]["dnsEndpointConfig"]["allowExternalTraffic"] is True
    assert not cluster["masterAuthorizedNetworksConfig"]["cidrBlocks"]
    server = json.loads(str(result.outputs["kubeconfig"]))["clusters"][0]["cluster"]
    assert set(server) == {"server"}
    assert server["server"].endswith(".us-central1.gke.goog")
    assert "--dns-endpoint" in str(result.outputs["command"])


SHARED: dict[str, Any] = {
    "accelerator": "a100-40",
    "budget_usd_per_month": None,
    "models": [
        {"name": "m", "storage_uri": "gs://models/m", "profile": {"a100-40": {"base_ms": 2.0, "per_item_ms": 0.2}}},
    ],
}


@pytest.mark.parametrize(
    ("strategy", "clients", "partition", "sharing"),
    [
        ("time-slicing", 3, None, ("TIME_SHARING", 3)),
        ("mps", 3, None, ("MPS", 3)),
        ("mig", 7, "1g.5gb", None),
        ("mig", 2, "3g.20gb", None),
    ],
)
def test_a_gpu_is_shared_as_the_plan_says(
    strategy: str, clients: int, partition: str | None, sharing: tuple[str, int] | None
) -> None:
    plan = planned(gpu_sharing={"strategy": strategy, "clients": clients})
    pool = plan.pools[0]
    made = gpus(pool, plan)
    assert made is not None
    assert (made.type, made.count, made.gpu_partition_size) == ("nvidia-tesla-a100", pool.accelerator_count, partition)
    turns: Any = made.gpu_sharing_config
    assert (turns and (turns.gpu_sharing_strategy, turns.max_shared_clients_per_gpu)) == sharing


def planned(**more: object) -> Plan:
    return make_plan(parse(worked("gke-gpu", **SHARED, **more)), Kinds(), load())


@pytest.mark.slow
def test_pods_run_on_partitions(tmp_path: Path) -> None:
    site = project(tmp_path)
    assert changed(site.go("up", worked("gke-gpu", **SHARED, gpu_sharing={"strategy": "mig", "clients": 7})))
    pods = [
        d["spec"]["template"]["spec"] for n, d in of(site.resources(), "apps/v1:Deployment").items() if n != "system"
    ]
    assert pods
    for pod in pods:
        assert pod["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "1"}


@pytest.mark.slow
def test_a_tpu_slice_is_its_machine_type(tmp_path: Path) -> None:
    """On one host no accelerator and no placement is stated, or GKE refuses the pool; the pods find their nodes."""
    site = project(tmp_path)
    assert changed(site.go("up", worked("gke-tpu")))
    pools = {n: p for n, p in of(site.resources(), POOL).items() if n != "system"}
    assert pools
    for pool in pools.values():
        assert pool["nodeConfig"]["machineType"] == "ct5lp-hightpu-1t"
        assert "guestAccelerators" not in pool["nodeConfig"]
        assert "placementPolicy" not in pool
        assert "diskType" not in pool["nodeConfig"]
    pods = [
        d["spec"]["template"]["spec"] for n, d in of(site.resources(), "apps/v1:Deployment").items() if n != "system"
    ]
    for pod in pods:
        assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "1x1"
        assert pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": "1"}


DEPLOYMENT = "kubernetes:apps/v1:Deployment"


def test_only_the_table_of_flows_is_let_in(private: list[dict[str, Any]]) -> None:
    """Each rule is a line of the table, and each line that crosses the cluster's edge is a rule: no other is declared,
    and none is open to everybody."""
    ports = {"http": "30080", "grpc": "30081"}
    wanted = {
        (frozenset(sources(f.source)), ports.get(f.port, f.port))
        for f in flows("gcp", "network")
        if f.source != "clients"  # they speak to the load balancer's proxies
    }
    rules = of(private, "compute/firewall:Firewall").values()
    found = {(frozenset(r["sourceRanges"]), p) for r in rules for a in r["allows"] for p in a["ports"]}
    assert found == wanted
    assert all(r["targetTags"] == ["dev-system"] and r["logConfig"] for r in rules)
    system = of(private, POOL)["system"]
    assert "dev-system" in system["nodeConfig"]["tags"]


def test_a_service_account_gets_what_it_was_granted_and_no_more(private: list[dict[str, Any]]) -> None:
    acts = of(private, "serviceaccount/iAMMember:IAMMember")["model-server-acts"]
    assert acts["member"] == "serviceAccount:my-project.svc.id.goog[serving/model-server]"
    member = "serviceAccount:dev-model-server@my-project.iam.gserviceaccount.com"
    on_buckets = [g for g in of(private, "storage/bucketIAMMember:BucketIAMMember").values() if g["member"] == member]
    assert {g["role"] for g in on_buckets} == {"roles/storage.objectViewer", "roles/storage.objectUser"}
    (theirs,) = (g for g in on_buckets if g["bucket"] == "theirs")
    assert "projects/_/buckets/theirs/objects/results/" in theirs["condition"]["expression"]
    assert not [g for g in of(private, "projects/iAMMember:IAMMember").values() if g["member"] == member]


def test_the_private_entry_has_one_address_and_passes_connections_on(private: list[dict[str, Any]]) -> None:
    rules = of(private, "compute/forwardingRule:ForwardingRule").values()
    assert {r["portRange"] for r in rules} == {"80", "8001"}
    assert {r["loadBalancingScheme"] for r in rules} == {"INTERNAL_MANAGED"}
    assert len({json.dumps(r["ipAddress"]) for r in rules}) == 1
    (address,) = of(private, "compute/address:Address").values()
    assert address["purpose"] == "SHARED_LOADBALANCER_VIP"
    zones = of(private, POOL)["system"]["nodeLocations"]
    ports = of(private, "compute/instanceGroupNamedPort:InstanceGroupNamedPort").values()
    assert {(p["zone"], p["port"]) for p in ports} == {(z, p) for z in zones for p in (30080, 30081)}
    for backend in of(private, "compute/regionBackendService:RegionBackendService").values():
        assert len(backend["backends"]) == len(zones)


@pytest.mark.slow
def test_the_public_entry_asks_who_comes_and_ends_tls(public: list[dict[str, Any]]) -> None:
    rules = of(public, "compute/forwardingRule:ForwardingRule").values()
    assert {r["portRange"] for r in rules} == {"443", "8001"}
    assert {r["loadBalancingScheme"] for r in rules} == {"EXTERNAL_MANAGED"}
    proxies = of(public, "compute/regionTargetHttpsProxy:RegionTargetHttpsProxy").values()
    certificate = "projects/my-project/regions/us-central1/sslCertificates/serving"
    assert [p["sslCertificates"] for p in proxies] == [[certificate]] * 2
    assert all(p["sslPolicy"] for p in proxies)
    (armor,) = of(public, "compute/regionSecurityPolicy:RegionSecurityPolicy").values()
    told = {r["action"]: r["match"]["config"]["srcIpRanges"] for r in armor["rules"]}
    assert told == {"allow": PUBLIC["allowed_cidrs"], "deny(403)": ["*"]}
    for backend in of(public, "compute/regionBackendService:RegionBackendService").values():
        assert backend["securityPolicy"].endswith("dev-entry-callers")
        assert backend["protocol"] in ("HTTP", "H2C")


@pytest.mark.slow
def test_the_scanner_finds_nothing_that_is_not_explained(
    private: list[dict[str, Any]], public: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Every failed check of the cloud's resources stands in docs/security.md with its reason."""
    assert not unexplained(tmp_path, "gcp", private, public)


def test_the_state_holds_no_credentials(private: list[dict[str, Any]]) -> None:
    """The kubeconfig names a command, so that nothing in it changes from run to run."""
    provider = of(private, "providers:kubernetes")["kubernetes"]
    assert provider["clusterIdentifier"].endswith("clusters/dev-cluster"), "else a new kubeconfig replaces every object"
    config = json.loads(provider["kubeconfig"])
    (user,) = config["users"]
    assert set(user["user"]) == {"exec"}
    assert user["user"]["exec"]["command"] == "gke-gcloud-auth-plugin"
    assert config["clusters"][0]["cluster"]["certificate-authority-data"]


def test_a_model_that_is_not_there_is_refused_before_anything_is_declared(tmp_path: Path) -> None:
    site, spec = project(tmp_path), worked("gke-cpu")
    for bucket, world in (("emptied", site.world.emptied), ("gone", site.world.absent)):
        world.append(bucket)
        refused = site.go("preview", spec, model=f"gs://{bucket}/models/churn")
        assert not refused.ok
        assert not [s for s in refused.steps if not s.urn.endswith(("site-gcp-dev", "gcp"))]
    assert any("there is no bucket gone" in e for e in refused.errors)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ([], "is empty"),
        (["1/"], "is empty"),
        (["model.onnx"], "has no version folder, such as 1/; it has model.onnx"),
        (["config.pbtxt", "v1/model.onnx"], "has no version folder"),
    ],
)
def test_what_a_models_folder_lacks(names: list[str], says: str) -> None:
    assert says in str(lacking("gs://b/m", names))


def test_a_models_folder_that_is_whole() -> None:
    assert lacking("gs://b/m", ["config.pbtxt", "12/model.onnx"]) is None


def test_the_system_pools_zones_depend_on_no_mode() -> None:
    assert system_zones("us-central1", (), 2) == ("us-central1-a", "us-central1-b")
    assert system_zones("us-central1", ("us-central1-f",), 2) == ("us-central1-f",)
