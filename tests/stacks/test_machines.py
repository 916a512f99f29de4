"""The blueprint of machines over its whole life: each worked stack, modes, costs, servers, stores, faults."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

for _package in ("pulumi_gcp", "pulumi_aws", "botocore"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (extra `simulators`)")

from cli.main import app  # noqa: E402
from engine import Result  # noqa: E402
from simulators.core import health  # noqa: E402
from simulators.core.faults import Fault  # noqa: E402
from simulators.core.kubernetes import conflicts  # noqa: E402
from tests.stacks.life import ROOT, TALL, WIDE, Life, done, moved  # noqa: E402
from tests.stacks.test_kubernetes import LOCAL_MODEL, SAVEDMODEL  # noqa: E402
from tests.stacks.watched import Watched  # noqa: E402

FULL = "SLIPWAY_FULL" in os.environ  # minutes of CPU
STACKS = ("gce-cpu", "gce-gpu", "gce-tpu", "ec2-cpu", "ec2-gpu")
# What a switch may touch: all of it bears the generation's digest, but for the balancer's list on Google Cloud.
OF_A_GENERATION = {
    "gcp:compute/instanceTemplate:InstanceTemplate",
    "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager",
    "gcp:compute/regionAutoscaler:RegionAutoscaler",
    "gcp:compute/regionHealthCheck:RegionHealthCheck",
    "aws:ec2/launchTemplate:LaunchTemplate",
    "aws:autoscaling/group:Group",
    "aws:autoscaling/policy:Policy",
}
LIST = "gcp:compute/regionBackendService:RegionBackendService"
GROUPS = ("*:RegionInstanceGroupManager", "aws:autoscaling/group:Group")


def on_google(life: Life) -> bool:
    return life.stack.startswith("gce")


def switch(life: Life, to: dict[str, str]) -> list[Result]:
    """As `slipway switch` does it: a second update where the first left old machines standing."""
    first = done(life.go("up", to))
    if "standing" not in first.outputs:
        return [first]
    return [first, done(life.go("up", to))]


def kinds(names: set[str]) -> set[str]:
    return {name.split("::")[0] for name in names}


def groups(life: Life) -> set[str]:
    """Logical names of the groups that stand."""
    return {
        n.split("::")[1]
        for n in life.resources()
        if n.split("::")[0].endswith((":RegionInstanceGroupManager", "autoscaling/group:Group"))
    }


def digest(group: str) -> str:
    """Of the generation; an elastic group of AWS bears its least number behind it."""
    return next(word for word in group.split("-") if len(word) == 8 and set(word) <= set("0123456789abcdef"))


@pytest.mark.slow
@pytest.mark.parametrize("stack", STACKS)
def test_whole_life(stack: str, tmp_path: Path) -> None:
    """Up, nothing, there and back with an identical state and no request lost, away, away again, and once more."""
    life = Life(stack=stack, folder=tmp_path / "state")
    watched = Watched(life)
    watched.go(WIDE)
    first = life.go("up", WIDE)
    assert moved(done(first)) == {}
    before = life.plain()
    updates = 2 if on_google(life) else 1
    for to in (TALL, WIDE):
        assert sum(watched.go(to).failed_requests or 0 for _ in range(updates)) == 0
        assert len({digest(name) for name in groups(life)}) == 1
    assert life.plain() == before
    assert conflicts(life.world) == ()
    done(life.go("destroy"))
    assert life.world.leftovers() == ()
    assert moved(done(life.go("destroy"))) == {}
    done(life.go("up", WIDE))
    done(life.go("destroy"))
    assert life.world.leftovers() == ()


@pytest.mark.slow
@pytest.mark.parametrize("stack", ["gce-gpu", "ec2-cpu"])
def test_a_switch_touches_its_generations_alone(stack: str, tmp_path: Path) -> None:
    """The new stands before the old goes: in another update on Google Cloud, at the end of the same one on AWS."""
    life = Life(stack=stack, folder=tmp_path / "state")
    first = str(done(life.go("up", WIDE)).outputs["generation"])
    results = switch(life, TALL)
    second = str(results[-1].outputs["generation"])
    changes = [moved(r) for r in results]
    made = {n for c in changes for n in c.get("create", set())}
    gone = {n for c in changes for n in c.get("delete", set())}
    assert kinds(made | gone) <= OF_A_GENERATION
    assert all(second in name for name in made)
    assert all(first in name for name in gone)
    assert {op for c in changes for op in c} <= {"create", "update", "delete"}
    assert kinds({n for c in changes for n in c.get("update", set())}) == ({LIST} if on_google(life) else set())
    if on_google(life):
        assert "delete" not in changes[0]
        assert "create" not in changes[1]
        between = results[0].outputs
        assert len(between["machines"]) == 2
        assert first in between["standing"]
        assert "an hour" in between["standing"]
        assert between["next"][0] == f"slipway up {stack}"
    ops = [s.op for r in results for s in r.steps if s.op in ("create", "delete")]
    assert ops.index("delete") > max(i for i, op in enumerate(ops) if op == "create")


COSTS = ("economy", "balanced", "performance")
# With the worked stacks' own, which the whole life has, each mode on each cloud.
SOME = [("gce-cpu", "performance"), ("gce-gpu", "economy"), ("ec2-cpu", "economy"), ("ec2-gpu", "performance")]


@pytest.mark.slow
@pytest.mark.parametrize(("stack", "cost"), [(s, c) for s in STACKS for c in COSTS] if FULL else SOME)
def test_each_cost_mode(stack: str, cost: str, tmp_path: Path) -> None:
    """The budget is set out of the way: what is looked at is whether the plan of each mode can be stood up."""
    life = Life(stack=stack, folder=tmp_path / "state", always={"cost": cost, "budget_usd_per_month": 90000})
    done(life.go("up", WIDE))
    switch(life, TALL)
    done(life.go("destroy"))
    assert life.world.leftovers() == ()


S3 = [SAVEDMODEL[0] | {"storage_uri": "s3://slipway-example-models/churn"}]
SERVED = {
    "tf-serving on Compute Engine": ("gce-cpu", {"server": "tf-serving", "models": SAVEDMODEL}),
    "tf-serving on EC2, copied at start": ("ec2-cpu", {"server": "tf-serving", "model_access": "sync", "models": S3}),
    "a file of this machine on EC2": ("ec2-cpu", {"models": LOCAL_MODEL}),
    "features in Redis, behind a password": ("gce-gpu", {"features": {"keys": 1000, "value_bytes": 64}}),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", list(SERVED))
def test_servers_models_and_stores(case: str, tmp_path: Path) -> None:
    """Also in a mode that switches, and gone without a trace."""
    stack, change = SERVED[case]
    without = ("feature_store", "features") if "server" in change else ()  # the store is looked up inside Triton
    life = Life(
        stack=stack, folder=tmp_path / "state", always=change | {"budget_usd_per_month": 90000}, without=without
    )
    done(life.go("up", WIDE))
    assert moved(done(life.go("up", WIDE))) == {}
    assert len(switch(life, TALL)) == (2 if on_google(life) else 1)
    done(life.go("destroy"))
    assert life.world.leftovers() == ()


@pytest.mark.slow
def test_files_of_an_old_generation_stay_until_it_is_gone(tmp_path: Path) -> None:
    """Another file of the same name on this machine is another generation; the machines of the old one, which may start
    again at any time between the two updates, still find theirs. Then back to the first file."""
    model = tmp_path / "digits.onnx"
    sample = Path(__file__).parents[2] / "serving" / "samples" / "digits" / "digits.onnx"
    shutil.copy(sample, model)
    models = [LOCAL_MODEL[0] | {"storage_uri": str(model)}]
    without = ("feature_store", "features")
    life = Life(stack="gce-cpu", folder=tmp_path / "state", always={"models": models}, without=without)
    watched = Watched(life)
    watched.go(WIDE)
    before, old = life.plain(), files(life)
    model.write_bytes(sample.read_bytes() + b"\x32\x03new")  # ModelProto.doc_string
    watched.go(WIDE)
    new = files(life)
    assert len(groups(life)) == 4, "base and burst of both"
    assert len(new) == len(old)
    assert not new & old
    assert old <= {t.name for t in life.world.things.values()}, "in the bucket, though no file here has them"
    watched.go(WIDE)
    assert len(groups(life)) == 2
    life.always = {}  # models in buckets of the user's: the stack's own bucket goes, but not before the machines
    watched.go(WIDE)
    assert "gcp:storage/bucket:Bucket::models" in life.resources()
    watched.go(WIDE)
    assert "gcp:storage/bucket:Bucket::models" not in life.resources()
    shutil.copy(sample, model)
    life.always = {"models": models}
    watched.go(WIDE)
    watched.go(WIDE)
    assert life.plain() == before
    done(life.go("destroy"))
    assert life.world.leftovers() == ()


def files(life: Life) -> set[str]:
    """Keys of the models' files that the stack declares."""
    return {str(r["outputs"]["name"]) for n, r in life.resources().items() if "ucketObject" in n and ".onnx" in n}


@pytest.mark.parametrize("stack", ["gce-gpu", "ec2-gpu"])
def test_an_empty_bucket_is_refused_before_anything(stack: str, tmp_path: Path) -> None:
    """The way out is in the message; nothing was made in any cloud."""
    life = Life(stack=stack, folder=tmp_path / "state")
    life.world.emptied.append("slipway-example-models")
    refused = life.go("up")
    assert not refused.ok
    assert "models[0].storage_uri" in refused.errors[0]
    assert f"slipway models push {stack}" in refused.errors[0]
    assert not life.world.things


@pytest.mark.slow
@pytest.mark.parametrize("stack", ["gce-cpu", "ec2-cpu"])
def test_nothing_changes_after_the_autoscalers_moved(stack: str, tmp_path: Path) -> None:
    """The number of machines is theirs after creation: the next update leaves it, and so does one after a refresh."""
    life = Life(stack=stack, folder=tmp_path / "state")
    done(life.go("up", WIDE))
    before = sizes(life)
    moves = tuple(Fault(kind="autoscaler-moved", type=kind, name="*burst-*", message="2") for kind in GROUPS)
    assert moved(done(life.go("up", WIDE, faults=moves))) == {}
    done(life.go("refresh"))
    assert sizes(life) != before, "the refresh saw what the autoscaler did"
    assert moved(done(life.go("up", WIDE))) == {}


def sizes(life: Life) -> list[object]:
    rows = [r for n, r in sorted(life.resources().items()) if n.split("::")[1] in groups(life)]
    return [r["outputs"].get("targetSize", r["outputs"].get("desiredCapacity")) for r in rows]


@pytest.mark.slow
@pytest.mark.parametrize("stack", ["gce-gpu", "ec2-cpu"])
def test_a_switch_that_fails_at_each_step_and_is_reverted(stack: str, tmp_path: Path) -> None:
    """After the revert the state is as before, whichever step of whichever update failed; nothing new is left.

    Some of the steps, and all of them with SLIPWAY_FULL in the environment.
    """
    life = Life(stack=stack, folder=tmp_path / "state")
    done(life.go("up", WIDE))
    before = life.plain()
    starts, counts = [life], []
    for update in range(2 if on_google(life) else 1):
        starts.append(starts[-1].copy(tmp_path / f"after-{update}"))
        counts.append(sum(len(names) for names in moved(done(starts[-1].go("up", TALL))).values()))
    for update, steps in enumerate(counts):
        assert steps > 5
        for number in range(steps) if FULL else (0, steps // 2, steps - 1):
            future = starts[update].copy(tmp_path / f"step-{update}-{number}")
            failed = future.go("up", TALL, faults=(Fault(kind="fail", operation="*", skip=number),))
            assert not failed.ok, number
            switch(future, WIDE)
            assert future.plain() == before, number


@pytest.mark.slow
def test_another_switch_while_one_is_half_done(tmp_path: Path) -> None:
    """Three generations stand, all of them serve, and the next update leaves the wanted one alone. Between the two
    updates of a switch the way back is open, and the load balancer says that both are healthy."""
    life = Life(stack="gce-gpu", folder=tmp_path / "state", always={"budget_usd_per_month": 90000})
    watched = Watched(life)
    watched.go(WIDE)
    before = life.plain()
    watched.go(TALL)
    behind = health.backends(life.world)
    assert all(h.in_s is not None for h in behind), "healthy, or soon"
    assert {h.group.rpartition("-")[2] for h in behind} == {n.rpartition("-")[2] for n in groups(life)}
    back = life.copy(tmp_path / "back")
    watched.go(WIDE | {"cost": "performance"})
    assert len({n.rpartition("-")[2] for n in groups(life)}) == 3
    watched.go(WIDE | {"cost": "performance"})
    assert len({n.rpartition("-")[2] for n in groups(life)}) == 1
    gone = back.copy(tmp_path / "gone")
    done(gone.go("destroy"))
    assert gone.world.leftovers() == ()
    switch(back, WIDE)
    assert back.plain() == before


@pytest.mark.slow
@pytest.mark.parametrize("stack", ["gce-gpu", "ec2-cpu"] if FULL else ["gce-gpu"])
def test_an_engine_that_is_killed_goes_on(stack: str) -> None:
    """Early and late in an update, in both of a switch, and in a destroy: the phases end well, nothing is left."""
    rules = ["killed@9", "killed@30", "killed@4,phase=switch", "killed@11,phase=switch", "killed@7,phase=destroy"]
    faults = [word for rule in rules for word in ("--fault", rule)]
    options = ["--json", "--scenario", "up,switch,destroy", *faults]
    said = CliRunner().invoke(app, ["--project", str(ROOT), "--engine", "embedded", "rehearse", stack, *options])
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout)
    assert [p["name"] for p in found["phases"]].count("switch") == (2 if stack.startswith("gce") else 1)
    assert sum(p["failed_requests"] or 0 for p in found["phases"]) == 0
    creates = [s["urn"] for s in found["steps"] if s["op"] == "create" and s["phase"] == "up"]
    assert len(creates) == len(set(creates))


@pytest.mark.slow
@pytest.mark.parametrize("stack", ["gce-gpu", "ec2-gpu"])
def test_a_bad_template_leaves_the_old_machines_serving(stack: str, tmp_path: Path) -> None:
    """Machines that never serve fail the update with their reason; no request is lost; the way back is an update."""
    life = Life(stack=stack, folder=tmp_path / "state")
    watched = Watched(life)
    watched.go(WIDE)
    before = life.plain()
    image = Fault(kind="image-missing", name="*bad*")
    bad = {"image": "example/bad-triton:1"}
    failed = life.copy(tmp_path / "told").go("up", TALL | bad, faults=(image,))
    assert not failed.ok
    assert any("bad-triton" in e for e in failed.errors), failed.errors
    phase = watched.go(TALL | bad, image, ends_well=False)
    assert phase.failed_requests == 0
    watched.go(WIDE)
    assert life.plain() == before


@pytest.mark.slow
@pytest.mark.parametrize("stack", ["gce-cpu", "ec2-gpu"])
def test_an_update_goes_on_after_any_failure(stack: str, tmp_path: Path) -> None:
    """Up that failed on the way (with SLIPWAY_FULL: at every tenth step) goes on at the next run; a destroy, too."""
    for number in range(0, 60, 10) if FULL else (25,):
        life = Life(stack=stack, folder=tmp_path / f"step-{number}")
        assert not life.go("up", faults=(Fault(kind="fail", operation="*", skip=number),)).ok
        done(life.go("up"))
        assert not life.go("destroy", faults=(Fault(kind="fail", operation="delete", skip=number),)).ok
        done(life.go("destroy"))
        assert life.world.leftovers() == ()


@pytest.mark.slow
def test_what_a_stack_tells(tmp_path: Path) -> None:
    """Addresses with from where they answer, the way in, the bill, and what the next update has to know."""
    for stack, tunnel in (("gce-gpu", "start-iap-tunnel"), ("ec2-gpu", "aws ssm start-session")):
        outputs = done(Life(stack=stack, folder=tmp_path / stack).go("up")).outputs
        assert outputs["url_http"].startswith("http://")
        assert outputs["url_grpc"].endswith(":8001")
        assert "network" in outputs["reachable_from"]
        assert any(tunnel in line for line in outputs["next"])
        assert outputs["usd_per_month"]["min"] <= outputs["usd_per_month"]["max"]
        assert outputs["models"] == ["resnet50"]
        assert len(outputs.get("machines", [])) == (stack == "gce-gpu"), "where a second update has to know the first"
        assert all(len(record) < 16_000 for record in outputs.get("machines", []))
        assert f"slipway switch {stack}" in outputs["next"]
