"""The Kubernetes blueprint over its whole life: each worked stack, both modes, each cost mode, both servers, faults."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

for _package in ("pulumi_gcp", "pulumi_aws", "pulumi_kubernetes", "botocore"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (extra `simulators`)")

from infra.spec import SpecError  # noqa: E402
from serving.wheels import fetched  # noqa: E402
from simulators.core.faults import Fault  # noqa: E402
from simulators.core.kubernetes import conflicts  # noqa: E402
from tests.stacks.life import TALL, WIDE, Life, done, moved  # noqa: E402

FULL = "SLIPWAY_FULL" in os.environ  # minutes of CPU
STACKS = ("gke-cpu", "gke-gpu", "gke-tpu", "eks-cpu", "eks-gpu")
# What a switch may touch: all of it bears the generation's digest.
OF_A_GENERATION = {
    "gcp:container/nodePool:NodePool",
    "aws:eks/nodeGroup:NodeGroup",
    "aws:ec2/launchTemplate:LaunchTemplate",
    "aws:autoscaling/tag:Tag",
    "kubernetes:apps/v1:Deployment",
    "kubernetes:core/v1:ConfigMap",
    "kubernetes:helm.sh/v3:Release",
    "kubernetes:policy/v1:PodDisruptionBudget",
    "kubernetes:keda.sh/v1alpha1:ScaledObject",
    "kubernetes:autoscaling.k8s.io/v1:VerticalPodAutoscaler",
}
SAVEDMODEL = [
    {
        "name": "churn",
        "storage_uri": "gs://slipway-example-models/churn",
        "format": "savedmodel",
        "size_mib": 12,
        "max_batch": 32,
        "profile": {"vcpu": {"base_ms": 2.0, "per_item_ms": 1.0}},
    }
]
LOCAL_MODEL = [
    {
        "name": "digits",
        "storage_uri": "serving/samples/digits/digits.onnx",
        "format": "onnx",
        "size_mib": 0.2,
        "max_batch": 32,
        "profile": {"vcpu": {"base_ms": 2.0, "per_item_ms": 1.0}},
    }
]


@pytest.mark.slow
@pytest.mark.parametrize("stack", STACKS)
def test_whole_life(stack: str, tmp_path: Path) -> None:
    """Up, nothing, there and back with an identical state, away, away again, and once more with the same names."""
    life = Life(stack=stack, folder=tmp_path / "state")
    assert set(moved(done(life.go("up", WIDE)))) == {"create"}
    assert moved(done(life.go("up", WIDE))) == {}
    before, first = life.plain(), life.go("up", WIDE).outputs["generation"]
    there = done(life.go("up", TALL))
    second = there.outputs["generation"]
    changes = moved(there)
    assert set(changes) == {"create", "delete"}
    assert {name.split("::")[0] for names in changes.values() for name in names} <= OF_A_GENERATION
    assert all(second in name for name in changes["create"])
    assert all(first in name for name in changes["delete"])
    ops = [s.op for s in there.steps if s.op in ("create", "delete")]
    assert ops.index("delete") > max(i for i, op in enumerate(ops) if op == "create"), (
        "the new stands before the old goes"
    )
    done(life.go("up", WIDE))
    assert life.plain() == before
    assert conflicts(life.world) == ()
    done(life.go("destroy"))
    assert life.world.leftovers() == ()
    assert moved(done(life.go("destroy"))) == {}
    done(life.go("up", WIDE))
    done(life.go("destroy"))
    assert life.world.leftovers() == ()


@pytest.mark.slow
@pytest.mark.parametrize("cost", ["economy", "balanced", "performance"])
@pytest.mark.parametrize("stack", STACKS)
def test_each_cost_mode(stack: str, cost: str, tmp_path: Path) -> None:
    """The budget is set out of the way: what is looked at is whether the plan of each mode can be stood up."""
    life = Life(stack=stack, folder=tmp_path / "state", always={"cost": cost, "budget_usd_per_month": 90000})
    done(life.go("up", WIDE))
    assert set(moved(done(life.go("up", TALL)))) <= {"create", "delete"}
    done(life.go("destroy"))
    assert life.world.leftovers() == ()


SERVED = {
    "tf-serving on GKE": ("gke-cpu", {"server": "tf-serving", "models": SAVEDMODEL}),
    "tf-serving on EKS, copied at start": (
        "eks-cpu",
        {
            "server": "tf-serving",
            "model_access": "sync",
            "models": [SAVEDMODEL[0] | {"storage_uri": "s3://slipway-example-models/churn"}],
        },
    ),
    "a file of this machine on GKE": ("gke-cpu", {"models": LOCAL_MODEL}),
    "a file of this machine on EKS": ("eks-cpu", {"models": LOCAL_MODEL}),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", list(SERVED))
def test_servers_and_models(case: str, tmp_path: Path) -> None:
    """Also in a mode that switches, and gone without a trace."""
    stack, change = SERVED[case]
    without = ("feature_store", "features") if "server" in change else ()  # the store is looked up inside Triton
    life = Life(stack=stack, folder=tmp_path / "state", always=change, without=without)
    done(life.go("up", WIDE))
    assert moved(done(life.go("up", WIDE))) == {}
    done(life.go("up", TALL))
    done(life.go("destroy"))
    assert life.world.leftovers() == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stack", "change"),
    [("gke-cpu", {}), ("eks-cpu", {}), ("gke-cpu", {"server": "tf-serving", "models": SAVEDMODEL})],
    ids=["gke-cpu", "eks-cpu", "beside tf-serving"],
)
def test_predictions_by_id_bring_the_stores_client(stack: str, change: dict[str, object], tmp_path: Path) -> None:
    """Its packages and the code beside the model are objects of the stack's bucket, the same at every run."""
    wheels = tmp_path / "wheels"
    try:
        fetched("memorystore" if stack == "gke-cpu" else "dynamodb", wheels, ("numpy",) if change else ())
    except SpecError as e:
        pytest.skip(f"packages cannot be had here: {e}")
    life = Life(stack=stack, folder=tmp_path / "state", always=change, wheels=str(wheels))
    done(life.go("up", WIDE))
    objects = [n for n in life.resources() if "ucketObject" in n and "_by_id" in n]
    assert any("wheels" in n for n in objects)
    assert any("features" in n for n in objects)
    assert moved(done(life.go("up", WIDE))) == {}
    done(life.go("destroy"))
    assert life.world.leftovers() == ()


@pytest.mark.parametrize("stack", ["gke-cpu", "eks-cpu"])
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
@pytest.mark.parametrize("stack", ["gke-cpu", "eks-cpu"])
def test_nothing_changes_after_the_autoscalers_moved(stack: str, tmp_path: Path) -> None:
    """Replicas and nodes are theirs after creation: the next update leaves them, and so does one after a refresh."""
    life = Life(stack=stack, folder=tmp_path / "state")
    done(life.go("up"))
    fault = Fault(kind="autoscaler-moved", type="*:Deployment", name="server-*", message="1")
    assert moved(done(life.go("up", faults=(fault,)))) == {}
    counts = [r["outputs"]["spec"]["replicas"] for n, r in life.resources().items() if "apps/v1:Deployment" in n]
    done(life.go("refresh"))
    after = [r["outputs"]["spec"]["replicas"] for n, r in life.resources().items() if "apps/v1:Deployment" in n]
    assert counts != after, "the refresh saw what the autoscaler did"
    assert moved(done(life.go("up"))) == {}


@pytest.mark.slow
def test_a_switch_that_fails_at_each_step_and_is_reverted(tmp_path: Path) -> None:
    """After the revert the state is as before, whichever step failed; nothing of the new generation is left.

    Four of the steps, and all of them with SLIPWAY_FULL in the environment.
    """
    life = Life(stack="gke-cpu", folder=tmp_path / "state")
    done(life.go("up", WIDE))
    before = life.plain()
    there = done(life.copy(tmp_path / "whole").go("up", TALL))
    steps = sum(len(names) for names in moved(there).values())
    assert steps > 10
    for number in range(steps) if FULL else (0, steps // 3, 2 * steps // 3, steps - 1):
        future = life.copy(tmp_path / f"step-{number}")
        failed = future.go("up", TALL, faults=(Fault(kind="fail", operation="*", skip=number),))
        assert not failed.ok, number
        done(future.go("up", WIDE))
        assert future.plain() == before, number


@pytest.mark.slow
def test_an_update_goes_on_after_any_failure(tmp_path: Path) -> None:
    """Up that failed early or late (with SLIPWAY_FULL: at every tenth step) goes on at the next run; a destroy, too."""
    for number in range(0, 60, 10) if FULL else (10, 50):
        life = Life(stack="gke-cpu", folder=tmp_path / f"step-{number}")
        assert not life.go("up", faults=(Fault(kind="fail", operation="*", skip=number),)).ok
        done(life.go("up"))
        assert not life.go("destroy", faults=(Fault(kind="fail", operation="delete", skip=number),)).ok
        done(life.go("destroy"))
        assert life.world.leftovers() == ()


@pytest.mark.slow
def test_what_a_stack_tells(tmp_path: Path) -> None:
    """Addresses with from where they answer, the way in, the store that a later update compares with, the bill."""
    life = Life(stack="gke-cpu", folder=tmp_path / "state")
    outputs = done(life.go("up")).outputs
    assert outputs["url_http"].startswith("http://")
    assert "network" in outputs["reachable_from"]
    assert outputs["kubeconfig_command"].startswith("gcloud container clusters get-credentials ")
    assert outputs["store"]["kind"] == "memorystore"
    assert outputs["usd_per_month"]["min"] <= outputs["usd_per_month"]["max"]
    assert outputs["models"] == ["churn"]
    assert json.dumps(outputs["plan"])
    assert "slipway switch gke-cpu" in outputs["next"]
