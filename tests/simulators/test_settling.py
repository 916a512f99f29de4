"""A run that was killed: what it made is found again, by id, by fields or by tags, and nothing is made twice."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cloud_driver import aws, gke, node_pool
from machine_site import ec2, gce

from simulators.core import locate, tables
from simulators.core.values import Json
from simulators.core.world import World

for _package in ("pulumi_gcp", "pulumi_aws", "pulumi_kubernetes", "botocore"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (extra `simulators`)")

PROJECTS = Path(__file__).parent / "projects"
CHILD = """
import json, sys
from pathlib import Path
from engine import Request, run, settle
from simulators import providers
from simulators.core.faults import Fault
from simulators.core.world import World
project, world_file, command, step = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
world = World(path=world_file)
with world.transaction():
    world.faults = (Fault(kind="killed", operation="*", skip=step),) if step >= 0 else ()
world.begin_phase()
if command == "settle":
    found = settle(project, "dev", providers=providers(world))
    print(json.dumps([str(s) for s in found]))
else:
    done = run(Request(command=command, project=project, stack="dev", providers=providers(world), parallel=1))
    print(json.dumps({"ok": done.ok, "errors": done.errors, "changes": dict(done.changes)}))
"""


def child(project: Path, world: Path, command: str, step: int = -1) -> tuple[int, Json]:
    command_line = [sys.executable, "-c", CHILD, str(project), str(world), command, str(step)]
    env = os.environ | {"PULUMI_CONFIG_PASSPHRASE": ""}
    ended = subprocess.run(command_line, capture_output=True, text=True, timeout=300, env=env)
    lines = ended.stdout.strip().splitlines()
    assert ended.returncode in (0, -9), ended.stderr[-2000:]
    return ended.returncode, json.loads(lines[-1]) if lines else None


@pytest.mark.slow
@pytest.mark.parametrize(("cloud", "step"), [("gcp", 25), ("aws", 30)])
def test_killed_at_a_step_then_settled_nothing_is_made_twice(cloud: str, step: int, tmp_path: Path) -> None:
    project, file = tmp_path / "project", tmp_path / "world.json"
    shutil.copytree(PROJECTS / cloud, project)
    code, _ = child(project, file, "up", step)
    assert code == -9, "the engine was killed"
    _, settled = child(project, file, "settle")
    assert isinstance(settled, list)
    assert [s for s in settled if "imported" in str(s)], settled
    _, done = child(project, file, "up")
    assert isinstance(done, dict)
    assert done["ok"], done["errors"]
    world = World(path=file)
    with world.transaction():
        made = [o.urn for o in world.operations if o.op == "create" and o.result == "ok"]
    assert len(made) == len(set(made)), "nothing was made twice"
    _, gone = child(project, file, "destroy")
    assert isinstance(gone, dict)
    assert gone["ok"], gone["errors"]
    assert world.leftovers() == ()


@pytest.mark.parametrize("cloud", ["gcp", "aws", "kubernetes"])
def test_every_type_has_a_way_to_be_found(cloud: str) -> None:
    """An id with a part that the cloud draws needs a row of its own."""
    for token, kind in tables.kinds(cloud).items():
        drawn = [s for s in locate._SLOT.findall(kind.identity) if locate.DRAWN.fullmatch(s)]
        row = locate.how(token)
        assert (row["how"] == "id") is (not drawn) or row["type"] == token, token
        assert not (drawn and row["how"] == "id"), f"{token}: {kind.identity} cannot be composed"


def ask(driver: object, token: str, **question: Json) -> object:
    return driver.invoke(f"{token.partition(':')[0]}:index:locate", {"type": token, "name": "n", **question})  # type: ignore[attr-defined]


def test_by_id_fields_and_tags() -> None:
    world = World()
    site = gke(world)
    pool = node_pool(site)
    token = "gcp:container/nodePool:NodePool"
    assert ask(site.cloud, token, inputs={"name": "pool", "cluster": "c", "location": "us-central1"}) == {"id": pool.id}
    assert ask(site.cloud, token, inputs={"name": "other", "cluster": "c", "location": "us-central1"}) == {"id": ""}
    site.namespace()
    space = "kubernetes:core/v1:Namespace"
    assert ask(site.kubernetes, space, inputs={"metadata": {"name": "serving"}}) == {"id": "serving"}
    cloud = aws(world)
    vpc = cloud.create("aws:ec2/vpc:Vpc", "v", {"cidrBlock": "10.0.0.0/16", "tags": {"slipway-role": "network"}})
    tagged = {"inputs": {"cidrBlock": "10.0.0.0/16"}, "tags": {"slipway-role": "network"}}
    assert ask(cloud, "aws:ec2/vpc:Vpc", **tagged) == {"id": vpc.id}  # type: ignore[arg-type]
    assert ask(cloud, "aws:ec2/vpc:Vpc", inputs={"cidrBlock": "10.0.0.0/16"}) == {"unknown": True}, "no tag, no answer"
    subnet = cloud.create("aws:ec2/subnet:Subnet", "s", {"vpcId": vpc.id, "cidrBlock": "10.0.0.0/20"})
    asked: Json = {"vpcId": vpc.id, "cidrBlock": "10.0.0.0/20"}
    assert ask(cloud, "aws:ec2/subnet:Subnet", inputs=asked) == {"id": subnet.id}
    table = cloud.create("aws:ec2/routeTable:RouteTable", "t", {"vpcId": vpc.id})
    gateway = cloud.create("aws:ec2/internetGateway:InternetGateway", "g", {"vpcId": vpc.id})
    way: Json = {"routeTableId": table.id, "destinationCidrBlock": "0.0.0.0/0", "gatewayId": gateway.id}
    route = cloud.create("aws:ec2/route:Route", "r", way)
    assert ask(cloud, "aws:ec2/route:Route", inputs=way) == {"id": route.id}, "without a destination of IPv6"
    cloud.create("aws:ec2/vpc:Vpc", "w", {"cidrBlock": "10.0.0.0/16", "tags": {"slipway-role": "network"}})
    assert ask(cloud, "aws:ec2/vpc:Vpc", **tagged) == {"unknown": True}, "two bear the tag"  # type: ignore[arg-type]


def test_everything_of_a_machine_stack_is_found_again() -> None:
    """Templates, groups, autoscalers, routes, target groups, rules, profiles, secrets: by id or by fields."""
    world = World()
    google = gce(world)
    group = google.group("a", waitForInstances=False)
    google.enter(group)
    google.scaler(group)
    secret = google.cloud.create(
        "gcp:secretmanager/secret:Secret", "word", {"secretId": "word", "replication": {"auto": {}}}
    )
    google.cloud.create(
        "gcp:secretmanager/secretVersion:SecretVersion", "word", {"secret": secret.id, "secretData": "x"}
    )
    amazon = ec2(world)
    amazon.group("a", waitForCapacityTimeout="0")
    role: Json = {"name": "servers", "assumeRolePolicy": '{"Version": "2012-10-17", "Statement": []}'}
    amazon.cloud.create("aws:iam/role:Role", "servers", role)
    profile: Json = {"name": "servers", "role": "servers"}
    amazon.cloud.create("aws:iam/instanceProfile:InstanceProfile", "servers", profile)
    word: Json = {"name": "word", "type": "SecureString", "value": "x"}
    amazon.cloud.create("aws:ssm/parameter:Parameter", "word", word)
    for site in (google, amazon):
        for made in site.cloud.made.values():
            if made.token != "aws:ec2/vpc:Vpc":  # by its tags, which these have not
                assert ask(site.cloud, made.token, inputs=made.inputs) == {"id": made.id}, made.urn
