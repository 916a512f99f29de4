"""The clouds' own parts of a machine's scripts, run as the machine runs them: secrets, registries, notice, drain."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import botocore.session
import pytest
from botocore.parsers import create_parser

from serving import sync, triton_pod, vm
from serving.scripts import objects
from tests.serving.cloud_sides import GROUP, NAMESPACE, RESULTS, TARGETS, Amazon, Cloud, Google, cloud, query_answer
from tests.serving.clouds import cloud_plan
from tests.serving.machine import Machine
from tests.serving.servers import PROJECT

pytestmark = pytest.mark.slow

SECRET = "projects/p/secrets/store-password/versions/latest"
NASTY = 'it\'s "quoted" $HOME `x` \\n ünd & more'
INSTANCE = "i-0123456789abcdef0"


@pytest.fixture
def google() -> Iterator[Cloud]:
    with cloud(Google) as server:
        yield server


@pytest.fixture
def amazon() -> Iterator[Cloud]:
    with cloud(Amazon) as server:
        server.metadata["instance-id"] = INSTANCE
        yield server


def run(
    script: str, *words: str, env: Mapping[str, str], path: str = "/usr/bin:/bin"
) -> subprocess.CompletedProcess[str]:
    program = ["sh"] if script.endswith(".sh") else [sys.executable, "-I"]
    return subprocess.run(
        [*program, str(sync.SCRIPTS / script), *words],
        env={"PATH": path, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def google_environment(server: Cloud) -> dict[str, str]:
    return {"SLIPWAY_METADATA_URL": server.url, "SLIPWAY_SECRETS_URL": server.url}


def amazon_environment(server: Cloud) -> dict[str, str]:
    return {"SLIPWAY_METADATA_URL": server.url, "SLIPWAY_AWS_URL": server.url}


def test_a_secret_of_google_is_read_as_it_is(google: Cloud) -> None:
    google.secrets[SECRET] = NASTY
    google.failures = 1  # passes
    told = run("vm_gcp.sh", "secret", SECRET, env=google_environment(google))
    assert (told.returncode, told.stdout) == (0, NASTY)
    none = run("vm_gcp.sh", "secret", SECRET.replace("store", "other"), env=google_environment(google))
    assert none.returncode != 0
    assert none.stdout == ""


def test_a_secret_of_amazon_is_read_as_it_is(amazon: Cloud) -> None:
    """Signed with the keys of the machine's role, as botocore signs."""
    amazon.secrets["/slipway/store-password"] = NASTY
    told = run("vm_aws.py", "secret", "/slipway/store-password", env=amazon_environment(amazon))
    assert (told.returncode, told.stdout) == (0, NASTY), told.stderr
    none = run("vm_aws.py", "secret", "/slipway/none", env=amazon_environment(amazon))
    assert none.returncode != 0
    assert none.stdout == ""


def test_own_registries_are_entered_and_others_left(google: Cloud, amazon: Cloud, tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\n{{ echo "$*"; cat; echo; }} >>{tmp_path}/told\n')
    docker.chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin"
    for image in ("nvcr.io/nvidia/tritonserver:26.07-py3", "tensorflow/serving:2.20.0"):
        assert run("vm_gcp.sh", "login", image, env=google_environment(google), path=path).returncode == 0
        assert run("vm_aws.py", "login", image, env=amazon_environment(amazon), path=path).returncode == 0
    assert not (tmp_path / "told").exists()
    own = "europe-docker.pkg.dev/p/r/triton:1"
    assert run("vm_gcp.sh", "login", own, env=google_environment(google), path=path).returncode == 0
    ecr = "123456789012.dkr.ecr.us-east-1.amazonaws.com/triton:1"
    told = run("vm_aws.py", "login", ecr, env=amazon_environment(amazon), path=path)
    assert told.returncode == 0, told.stderr
    lines = (tmp_path / "told").read_text().splitlines()
    assert lines[0] == "login --username oauth2accesstoken --password-stdin https://europe-docker.pkg.dev"
    assert lines[1] == "ya29.c.token-of_the/machine"
    assert lines[-2] == f"login --username AWS --password-stdin {ecr.partition('/')[0]}"
    assert lines[-1]


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"spot/instance-action": '{"action": "terminate", "time": "2026-11-25T10:00:00Z"}'}, "spot: terminate"),
        ({"autoscaling/target-lifecycle-state": "Terminated"}, "the group takes the machine out"),
    ],
)
def test_amazons_notice_ends_the_watch(amazon: Cloud, metadata: dict[str, str], said: str) -> None:
    amazon.metadata |= metadata
    assert run("vm_aws.py", "watch", env=amazon_environment(amazon)).stdout.strip() == said


def test_the_machines_own_python_understands_its_script() -> None:
    """3.9 on Amazon Linux 2023; the standard library alone."""
    tree = ast.parse((sync.SCRIPTS / "vm_aws.py").read_text(), feature_version=(3, 9))
    imported = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
    named = {a.name for n in imported if isinstance(n, ast.Import) for a in n.names}
    named |= {n.module or "" for n in imported if isinstance(n, ast.ImportFrom)}
    assert {n.partition(".")[0] for n in named} <= set(sys.stdlib_module_names)
    assert "datetime.UTC" not in (sync.SCRIPTS / "vm_aws.py").read_text(), "since 3.11"


def test_no_notice_is_none(amazon: Cloud) -> None:
    amazon.metadata["autoscaling/target-lifecycle-state"] = "InService"
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(
            [sys.executable, "-I", str(sync.SCRIPTS / "vm_aws.py"), "watch"], env=amazon_environment(amazon), timeout=2
        )


def test_a_machine_of_amazon_leaves_in_order(amazon: Cloud, tmp_path: Path) -> None:
    """The whole watch unit: notice, out of the target groups, a wait, the server stopped, the group told."""
    plan = cloud_plan("aws", shape="vm")
    container = triton_pod.pod(plan, plan.pools[0], project=PROJECT, uploaded="s3://own/digest")
    text = vm.user_data(container, plan.pools[0], cloud="aws")
    assert "LAG_S=41\n" in text
    machine = Machine.of(text.replace("LAG_S=41", "LAG_S=0"), tmp_path, **amazon_environment(amazon))
    amazon.metadata["autoscaling/target-lifecycle-state"] = "Terminated"
    told = machine.step("slipway-watch.service", "ExecStart")
    assert told.returncode == 0, told.stderr
    changed = [a for a in amazon.asked if not a["Action"][0].startswith("Describe")]
    assert [(a["Action"][0], a.get("TargetGroupArn")) for a in changed] == [
        ("DeregisterTargets", [TARGETS]),
        ("DeregisterTargets", [f"{TARGETS}-grpc"]),
        ("CompleteLifecycleAction", None),
    ]
    assert changed[0]["Targets.member.1.Id"] == [INSTANCE]
    completed = {k: v[0] for k, v in changed[2].items() if k not in ("Action", "Version")}
    wanted = {"AutoScalingGroupName": GROUP, "LifecycleHookName": "drain", "InstanceId": INSTANCE}
    assert completed == wanted | {"LifecycleActionResult": "CONTINUE"}
    assert machine.said("systemctl").splitlines() == ["stop slipway-server.service"]
    assert "leaving: the group takes the machine out" in machine.said("console")


@pytest.mark.parametrize(
    ("state", "completed"),
    [("Pending:Wait", ["start"]), ("Warmed:Pending:Wait", ["start"]), ("InService", []), ("Terminating:Wait", [])],
)
def test_a_group_of_amazon_that_waits_for_a_machine_is_told(
    amazon: Cloud, state: str, completed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When its server is ready, also one that is only prepared; a server that starts again tells nobody."""
    machine = RESULTS["DescribeAutoScalingInstances"].replace("Terminating:Wait", state)
    monkeypatch.setitem(RESULTS, "DescribeAutoScalingInstances", machine)
    assert run("vm_aws.py", "ready", env=amazon_environment(amazon)).returncode == 0
    told = [a["LifecycleHookName"][0] for a in amazon.asked if a["Action"] == ["CompleteLifecycleAction"]]
    assert told == completed


@pytest.mark.parametrize("action", sorted(RESULTS))
def test_the_answers_have_amazons_shape(action: str) -> None:
    """What the machine is answered here is what botocore reads from the real service, field by field."""
    api = "elbv2" if action == "DeregisterTargets" else "autoscaling"
    version, space = NAMESPACE["elasticloadbalancing" if api == "elbv2" else "autoscaling"]
    service = botocore.session.get_session().get_service_model(api)
    assert service.api_version == version
    text = query_answer(action, space)
    answer = {"status_code": 200, "headers": {}, "body": text.encode()}
    parsed = create_parser("query").parse(answer, service.operation_model(action).output_shape)
    del parsed["ResponseMetadata"]
    for value in re.findall(r">([^<>]+)<", RESULTS[action]):
        assert value.strip('"').lower() in json.dumps(parsed, default=str).lower()


def test_secrets_become_the_servers_environment(google: Cloud, tmp_path: Path) -> None:
    """And nothing else: a file on a disk of memory that root alone reads, no argument, no word of a log."""
    google.secrets[SECRET] = NASTY
    plan = cloud_plan(shape="vm")
    container = triton_pod.pod(plan, plan.pools[0], project=PROJECT, uploaded="gs://own/digest")
    text = vm.user_data(container, plan.pools[0], cloud="gcp", secrets={"SLIPWAY_STORE_PASSWORD": SECRET})
    machine = Machine.of(text, tmp_path, **google_environment(google))
    told = machine.step("slipway-server.service", "ExecStartPre")
    assert told.returncode == 0, told.stderr
    kept = tmp_path / "run/server.secrets"
    assert kept.stat().st_mode & 0o777 == 0o600
    script = f'. {kept}; printf %s "$SLIPWAY_STORE_PASSWORD"'
    assert subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout == NASTY
    assert NASTY not in told.stdout + told.stderr + machine.said("docker/calls.jsonl") + machine.said("console")
    assert "SLIPWAY_STORE_PASSWORD" in json.dumps(container.pod.env if container.pod else {}) + text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("IMAGE=nvcr.io/", "IMAGE=missing/"), "cannot start: image missing/"),
        (
            ("SECRETS=''", "SECRETS='X projects/p/secrets/none/versions/1'"),
            "cannot start: secret projects/p/secrets/none",
        ),
        (("DRIVER=''", "DRIVER='false x'"), "cannot start: the driver"),
    ],
)
def test_what_fails_before_the_server_is_told(
    google: Cloud, tmp_path: Path, change: tuple[str, str], reason: str
) -> None:
    plan = cloud_plan(shape="vm")
    container = triton_pod.pod(plan, plan.pools[0], project=PROJECT, uploaded="gs://own/digest")
    text = vm.user_data(container, plan.pools[0], cloud="gcp").replace(*change).replace("sleep $((5", "sleep $((0")
    assert change[1] in text
    machine = Machine.of(text, tmp_path, **google_environment(google))
    told = machine.step("slipway-server.service", "ExecStartPre")
    assert told.returncode == 1
    assert f"slipway: {reason}" in machine.said("console")
    assert not [c for c in machine.calls() if c[0] == "run"]


def test_models_are_copied_before_the_server(google: Cloud, tmp_path: Path) -> None:
    """A bucket that does not answer: the copy's own words, and no server."""
    plan = cloud_plan(shape="vm", model_access="sync")
    container = triton_pod.pod(plan, plan.pools[0], project=PROJECT, uploaded="gs://own/digest")
    text = vm.user_data(container, plan.pools[0], cloud="gcp")
    nowhere = {"SLIPWAY_GS_URL": google.url, "SLIPWAY_METADATA_URL": google.url}
    machine = Machine.of(text, tmp_path, STAND_IN_ENV=json.dumps(nowhere), **google_environment(google))
    told = machine.step("slipway-server.service", "ExecStartPre")
    assert told.returncode == 1
    assert "slipway: cannot start: models: " in machine.said("console")
    (copy,) = (c for c in machine.calls() if c[0] == "run")
    assert copy[copy.index("--name") + 1] == "slipway-server-models"
    assert "type=volume,source=slipway-server-models,target=/models,volume-nocopy" in copy


def test_a_machines_own_role_reads_the_bucket(amazon: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_ROLE_ARN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLIPWAY_METADATA_URL", amazon.url)
    keys = objects._own_keys()
    assert (keys.access, keys.secret, keys.session) == ("AKID", "secret/+x", "session==")
