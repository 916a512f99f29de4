"""One resource after another: names, references, quotas, secrets, unknowns, drift, and each kind of fault."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import grpc
import pytest
from cloud_driver import KUBECONFIG, CallError, Driver, RefusedError, aws, deployment, eks, gcp, gke, node_pool

from simulators.core import diff, schema, tables
from simulators.core.faults import KINDS, Fault, FaultError, parse
from simulators.core.values import SECRET, SIGNATURE, UNKNOWN
from simulators.core.world import World

for _package in ("pulumi_gcp", "pulumi_aws", "pulumi_kubernetes", "botocore"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (extra `simulators`)")

ROOT = Path(__file__).resolve().parents[2]
NETWORK = "gcp:compute/network:Network"
TABLE = {"name": "t", "hashKey": "k", "attributes": [{"name": "k", "type": "S"}]}


@pytest.fixture
def world() -> World:
    return World()


def test_unknown_type_is_refused_by_name(world: World) -> None:
    with pytest.raises(CallError, match="gcp:pubsub/topic:Topic: this type is not simulated") as caught:
        gcp(world).check("gcp:pubsub/topic:Topic", "t", {})
    assert caught.value.code == grpc.StatusCode.UNIMPLEMENTED


def test_nonce_proves_that_it_is_a_simulator(world: World) -> None:
    """A rehearsal asks before it does anything; a real provider does not know the function."""
    assert gcp(world).invoke("simulators:index:nonce")["nonce"] == world.nonce


def test_names_are_made_once_and_kept(world: World) -> None:
    cloud = gcp(world)
    made = cloud.create(NETWORK, "net", {})
    assert str(made["name"]).startswith("net-")
    assert len(str(made["name"])) == len("net-") + 7
    kind, answer, checked = cloud.diff(made, {"mtu": 1500})
    assert (kind, checked["name"]) == ("update", made["name"])
    kind, answer, _ = cloud.diff(made, {"name": "other"})
    assert (kind, answer.deleteBeforeReplace) == ("replace", True), "a given name is deleted first, as measured"


def test_a_name_that_exists_collides(world: World) -> None:
    gcp(world).create(NETWORK, "a", {"name": "net"})
    with pytest.raises(CallError, match="already exists"):
        gcp(world).create(NETWORK, "b", {"name": "net"})


def test_a_reference_to_nothing_is_refused(world: World) -> None:
    inputs = {"name": "s", "network": "nowhere", "ipCidrRange": "10.0.0.0/20", "region": "us-central1"}
    with pytest.raises(CallError, match="network: 'nowhere' was not found"):
        gcp(world).create("gcp:compute/subnetwork:Subnetwork", "s", inputs)


def test_what_others_refer_to_cannot_go(world: World) -> None:
    cloud = gcp(world)
    network = cloud.create(NETWORK, "net", {"name": "net"})
    inputs = {"name": "s", "network": network.id, "ipCidrRange": "10.0.0.0/20", "region": "us-central1"}
    cloud.create("gcp:compute/subnetwork:Subnetwork", "s", inputs)
    with pytest.raises(CallError, match="net is in use by Subnetwork s"):
        cloud.delete(network)
    assert cloud.destroy() == []


def test_cluster_with_node_groups_cannot_go_on_eks_and_can_on_gke(world: World) -> None:
    site = gke(world)
    pool = node_pool(site)
    site.cloud.delete(site.cluster)
    assert site.cloud.read(pool) is None, "GKE deletes the pools of a cluster with it"


def test_objects_of_one_name_collide_in_one_cluster_only(world: World) -> None:
    """An object that exists is not adopted; the same name in another cluster is another object."""
    site, other = gke(world), eks(world)
    site.namespace()
    with pytest.raises(CallError, match="Namespace/serving' already exists"):
        site.kubernetes.create("kubernetes:core/v1:Namespace", "again", {"metadata": {"name": "serving"}})
    other.namespace()


def test_phases_follow_each_other(world: World) -> None:
    """Each run of an engine begins where the last one ended; its plugin processes begin one phase together."""
    gcp(world).create(NETWORK, "a", {"name": "a"})
    for _ in range(2):
        world.begin_phase(owner="run-2")
    gcp(world).create(NETWORK, "b", {"name": "b"})
    world.begin_phase(owner="run-2")
    gcp(world).create(NETWORK, "c", {"name": "c"})
    assert [(o.start_s, o.end_s) for o in world.operations] == [(0, 12), (12, 24), (12, 24)]


def test_quota_is_a_number_and_is_named(world: World) -> None:
    cloud = aws(world)
    for i in range(5):
        cloud.create("aws:ec2/vpc:Vpc", f"v{i}", {"cidrBlock": "10.0.0.0/16"})
    with pytest.raises(CallError, match="quotaExceeded: VPCs per Region: limit 5, used 5"):
        cloud.create("aws:ec2/vpc:Vpc", "v5", {"cidrBlock": "10.0.0.0/16"})


def test_secrets_stay_marked(world: World) -> None:
    cloud = aws(world)
    secret = {SIGNATURE: SECRET, "value": "hunter2hunter2hunter2"}
    cloud.create("aws:secretsmanager/secret:Secret", "s", {"name": "s"})
    arn = next(iter(cloud.made.values())).id
    made = cloud.create(
        "aws:secretsmanager/secretVersion:SecretVersion", "v", {"secretId": arn, "secretString": secret}
    )
    assert made["secretString"] == secret


def test_preview_invents_nothing(world: World) -> None:
    """Computed outputs are absent in a preview, unknown inputs pass, and nothing exists afterwards."""
    outputs = gcp(world).preview(
        "gcp:container/nodePool:NodePool", "p", {"cluster": UNKNOWN, "location": "us-central1"}
    )
    assert "instanceGroupUrls" not in outputs
    assert outputs["cluster"] == UNKNOWN
    assert world.leftovers() == ()


def test_drift_is_seen_by_read(world: World) -> None:
    cloud = gcp(world)
    made = cloud.create(NETWORK, "net", {"name": "net", "mtu": 1460})
    world.change_by_hand("gcp", "net", "mtu", 1500)
    found = cloud.read(made)
    assert found is not None
    assert found["mtu"] == 1500
    world.remove_by_hand("gcp", "net")
    assert cloud.read(made) is None
    cloud.delete(made)  # not found is success


def test_a_kubeconfig_that_leads_nowhere_is_unreachable(world: World) -> None:
    config = {"kubeconfig": KUBECONFIG.format(server="https://10.0.0.1")}
    lost = Driver(cloud="kubernetes", world=world, config=config)
    with pytest.raises(CallError, match=r"unreachable: no API server answers at https://10\.0\.0\.1"):
        lost.create("kubernetes:core/v1:Namespace", "n", {"metadata": {"name": "n"}})


def test_a_kind_that_no_chart_brought_does_not_exist(world: World) -> None:
    site = gke(world)
    with pytest.raises(CallError, match=r'no matches for kind "ScaledObject".*chart keda'):
        site.kubernetes.create(
            "kubernetes:keda.sh/v1alpha1:ScaledObject", "s", {"spec": {"scaleTargetRef": {"name": "d"}}}
        )


def test_tags_find_what_a_killed_run_made(world: World) -> None:
    cloud = aws(world)
    cloud.create(
        "aws:ec2/vpc:Vpc", "v", {"cidrBlock": "10.0.0.0/16", "tags": {"slipway-stack": "s", "slipway-role": "net"}}
    )
    filters = [{"key": "slipway-stack", "values": ["s"]}]
    rows = cloud.invoke("aws:resourcegroupstaggingapi/getResources:getResources", {"tagFilters": filters})
    assert [r["resourceId"] for r in rows["resourceTagMappingLists"]] == [next(iter(cloud.made.values())).id]  # type: ignore[union-attr, index]


def test_clock_follows_dependencies_and_nobody_sleeps(world: World) -> None:
    """A pool starts when its cluster is there; two networks start together."""
    site = gke(world)
    node_pool(site)
    gcp(world).create(NETWORK, "other", {"name": "other"})
    by_name = {o.name: o for o in world.operations}
    assert by_name["pool"].start_s == by_name["c"].end_s
    assert by_name["other"].start_s == 0
    assert by_name["c"].end_s - by_name["c"].start_s == tables.kinds("gcp")["gcp:container/cluster:Cluster"].create_s


@pytest.mark.parametrize("kind", ["fail", "quota"])
def test_fault_makes_nothing(world: World, kind: str) -> None:
    world.faults = (Fault(kind=kind, type="aws:dynamodb/*"),)
    cloud = aws(world)
    with pytest.raises(CallError, match="internalError" if kind == "fail" else "quotaExceeded"):
        cloud.create("aws:dynamodb/table:Table", "t", TABLE)
    assert world.leftovers() == ()
    cloud.create("aws:dynamodb/table:Table", "t", TABLE)


def test_fault_hang_costs_the_whole_time_out(world: World) -> None:
    world.faults = (Fault(kind="hang"),)
    with pytest.raises(CallError, match="timeout while waiting for create after 1800 s"):
        aws(world).create("aws:dynamodb/table:Table", "t", TABLE, timeout=1800)
    assert world.horizon == 1800


def test_fault_partial_is_made_and_not_ready(world: World) -> None:
    world.faults = (Fault(kind="partial", message="status CREATING"),)
    cloud = aws(world)
    with pytest.raises(CallError, match="status CREATING") as caught:
        cloud.create("aws:dynamodb/table:Table", "t", TABLE)
    assert caught.value.partial is not None
    assert caught.value.partial.id == "t"
    made = next(iter(cloud.made.values()))
    cloud.update(made, TABLE)  # what the next run does
    assert cloud.destroy() == []


def test_fault_throttle_costs_time_then_passes(world: World) -> None:
    world.faults = (Fault(kind="throttle"),)
    aws(world).create("aws:dynamodb/table:Table", "t", TABLE)
    assert world.horizon == 11 + 30
    world.faults = (Fault(kind="throttle", times=0),)
    with pytest.raises(CallError, match="rateLimitExceeded"):
        aws(world).create("aws:dynamodb/table:Table", "u", {**TABLE, "name": "u"})


def test_fault_expired_credentials_stop_one_cloud(world: World) -> None:
    world.faults = (Fault(kind="expired", type="aws:*", skip=1, operation="*"),)
    cloud = aws(world)
    made = cloud.create("aws:dynamodb/table:Table", "t", TABLE)
    for _ in range(2):
        with pytest.raises(CallError, match="ExpiredToken"):
            cloud.delete(made)
    gcp(world).create(NETWORK, "net", {})
    world.expired = []
    cloud.delete(made)


def test_fault_strikes_the_nth_time_on_the_named(world: World) -> None:
    world.faults = (Fault(kind="fail", name="b*", skip=1, times=1),)
    cloud = gcp(world)
    for name in ("a1", "b1"):
        cloud.create(NETWORK, name, {"name": name})
    with pytest.raises(CallError, match="internalError"):
        cloud.create(NETWORK, "b2", {"name": "b2"})
    cloud.create(NETWORK, "b3", {"name": "b3"})


KILLED = """
import sys
sys.path.insert(0, "tests")
from pathlib import Path
from cloud_driver import aws
from simulators.core.faults import Fault
from simulators.core.world import World
world = World(path=Path(sys.argv[1]))
with world.transaction():
    world.faults = (Fault(kind="killed", name="t"),)
table = {"name": "t", "hashKey": "k", "attributes": [{"name": "k", "type": "S"}]}
aws(world).create("aws:dynamodb/table:Table", "t", table)
"""


def test_fault_killed_leaves_the_thing_in_the_cloud(tmp_path: Path) -> None:
    """The engine dies after the cloud did it and before it was told; the world remembers what no state does."""
    path = tmp_path / "world.json"
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=ROOT, env={**os.environ}, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    world = World(path=path)
    assert [x.name for x in world.leftovers()] == ["t"]
    assert aws(world).invoke("aws:resourcegroupstaggingapi/getResources:getResources")["resourceTagMappingLists"]


def test_every_kind_of_fault_is_tested_here() -> None:
    others = ("test_events.py", "test_machine_events.py")
    text = "".join(p.read_text() for p in (Path(__file__), *map(Path(__file__).with_name, others)))
    assert [k for k in KINDS if f'kind="{k}"' not in text and f'"{k}"' not in text] == []


def test_faults_are_read_from_json_or_refused() -> None:
    assert parse(json.dumps([{"kind": "fail", "type": "aws:*"}]))[0].type == "aws:*"
    with pytest.raises(FaultError, match="no kind 'explode'; allowed: fail"):
        parse('[{"kind": "explode"}]')


def test_provider_configuration_takes_nothing_from_the_machine(world: World) -> None:
    from pulumi.runtime.proto import provider_pb2 as p

    for cloud, missing in (("gcp", "project"), ("aws", "region"), ("kubernetes", "kubeconfig")):
        driver = Driver(cloud=cloud, world=world)
        answer = driver.simulator.CheckConfig(p.CheckRequest(urn="u"), driver.context)
        assert [f.property for f in answer.failures] == [missing]


def test_check_reports_all_problems_at_once(world: World) -> None:
    with pytest.raises(RefusedError) as caught:
        gcp(world).check("gcp:container/nodePool:NodePool", "p", {"nodeCount": -1, "nodeConfig": {"mashineType": "x"}})
    assert {path for path, _ in caught.value.failures} == {"nodeCount", "nodeConfig.mashineType", "cluster"}


def test_tables_are_whole() -> None:
    """Every row has a source that sources.csv explains, and every type of a row is known."""
    sources = {r["key"] for r in tables.rows("sources")}
    known = {t for cloud in ("gcp", "aws", "kubernetes") for t in tables.kinds(cloud)}
    names = [f"{t}_{c}" for t in ("types", "fields", "rules") for c in ("gcp", "aws", "k8s")]
    names += ["defaults_gcp", "defaults_aws", "outputs_gcp", "outputs_aws"]
    names += ["references", "protections", "reuse", "quotas", "effects", "limits", "custom_resources"]
    wrong = [f"{n}: {r}" for n in names for r in tables.rows(n) if r["source"] not in sources]
    typed = [n for n in names if n not in ("limits", "custom_resources")]
    unknown = [
        f"{n}: {r['type']}" for n in typed for r in tables.rows(n) if "*" not in r["type"] and r["type"] not in known
    ]
    assert wrong == []
    assert unknown == []


def test_deployment_needs_a_namespace_that_exists(world: World) -> None:
    site = gke(world)
    node_pool(site)
    body = deployment()
    body["metadata"] = {"name": "d", "namespace": "nowhere"}
    with pytest.raises(CallError, match='namespace "nowhere" not found'):
        site.kubernetes.create("kubernetes:apps/v1:Deployment", "d", body)


@pytest.mark.parametrize("cloud", ["gcp", "aws", "kubernetes"])
def test_every_type_is_covered(cloud: str) -> None:
    """Checked, replaced, priced and timed: a type that lacks one of them is a gap."""
    gaps: list[str] = []
    with (Path(__file__).parents[2] / "infra" / "plan" / "cost_resources.csv").open(newline="") as file:
        priced = [r["type"] for r in csv.DictReader(file) if r["billed"]]
    for token, kind in tables.kinds(cloud).items():
        groups = [r["group"] for r in tables.rows("custom_resources")]
        custom = cloud == "kubernetes" and token.split(":")[1].startswith(tuple(groups))
        if schema.classes(token) is None and not custom:
            gaps.append(f"{token}: not checked")
        exact, wild = tables.of_type("fields", token)
        if not any(r["action"] == "replace" for r in (*exact, *wild, *diff.identity_rows(token))):
            gaps.append(f"{token}: nothing replaces it")
        if not any(fnmatchcase(token, row) for row in priced):
            gaps.append(f"{token}: neither priced nor said to be free")
        if kind.create_s <= 0 or kind.delete_s <= 0:
            gaps.append(f"{token}: takes no time")
    assert gaps == []


def test_processes_share_the_past_and_a_torn_end_counts_not(tmp_path: Path) -> None:
    """Three plugins write one world; the past only grows, and what a killed one half wrote is overwritten."""
    ours, theirs = World(path=tmp_path / "world.json"), World(path=tmp_path / "world.json")
    site = gke(ours)
    site.namespace()
    with (tmp_path / "world.past").open("a") as file:
        file.write('{"torn')
    site.namespace("later")
    with theirs.transaction():
        assert [(e.seq, e.key) for e in theirs.journal] == [(e.seq, e.key) for e in ours.journal]
        assert set(theirs.past(len(theirs.operations))) == set(ours.things)
