"""User data of machines: valid for cloud-init and systemd, within the clouds' limits, closed, without secrets."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from infra.plan import Plan
from infra.spec import SpecError
from serving import tf_serving, triton, triton_pod, vm
from serving.container import ContainerSpec
from serving.facts import rows
from tests.serving.clouds import PROFILE, cloud_plan, model, tf_plan
from tests.serving.servers import PROJECT

SCHEMA = PROJECT / ".venv/share/cloud-init/schema-cloud-config-v1.json"
GPUS = {"gcp": "t4", "aws": "a10g"}
STORES = {"gcp": "memorystore", "aws": "elasticache"}
SECRETS = {"SLIPWAY_STORE_PASSWORD": "projects/p/secrets/store-password/versions/latest"}
Json = dict[str, Any]


def tpu() -> tuple[Plan, ContainerSpec]:
    own = model(storage_uri="gs://models/digits", format="savedmodel", profile={**PROFILE, "v6e": PROFILE["v5e"]})
    plan = tf_plan(shape="vm", accelerator="v6e", image="mine/tf-tpu:1", models=[own])
    return plan, tf_serving.pod(plan, plan.pools[0], project=PROJECT)


def made(cloud: str, server: str, accelerator: str, access: str) -> tuple[Plan, ContainerSpec]:
    if accelerator == "tpu":
        return tpu()
    processor = GPUS[cloud] if accelerator == "gpu" else "none"
    if server == "tf-serving":
        plan = tf_plan(cloud, shape="vm", accelerator=processor, model_access=access)
        return plan, tf_serving.pod(plan, plan.pools[0], project=PROJECT)
    features = {"keys": 1000, "value_bytes": 256}
    changes: dict[str, object] = {"feature_store": STORES[cloud], "features": features, "model_access": access}
    plan = cloud_plan(cloud, shape="vm", accelerator=processor, **changes)
    store = triton.Store(url="$SLIPWAY_STORE_URL", key_prefix="x:")
    uri = {"gcp": "gs", "aws": "s3"}[cloud] + "://own/digest"
    return plan, triton_pod.pod(plan, plan.pools[0], project=PROJECT, uploaded=uri, store=store)


COMBINATIONS = [
    *itertools.product(("gcp", "aws"), ("triton",), ("none", "gpu"), ("direct", "sync")),
    *itertools.product(("gcp",), ("tf-serving",), ("none", "gpu"), ("direct", "sync")),
    *itertools.product(("aws",), ("tf-serving",), ("none", "gpu"), ("sync",)),
    ("gcp", "tf-serving", "tpu", "direct"),
]
CA = "-----BEGIN CERTIFICATE-----\n" + "MIIC'x\"$y\n" * 20 + "-----END CERTIFICATE-----\n"


@pytest.fixture(scope="module", params=COMBINATIONS, ids="-".join)
def rendered(request: pytest.FixtureRequest) -> tuple[Plan, ContainerSpec, str]:
    plan, container = made(*request.param)
    env = {"SLIPWAY_STORE_URL": "rediss://10.0.0.3:6378/0", "SLIPWAY_STORE_CA": CA}
    group = "slipway-x-servers" if plan.spec.cloud == "aws" else None
    text = vm.user_data(container, plan.pools[0], cloud=plan.spec.cloud, env=env, secrets=SECRETS, log_group=group)
    return plan, container, text


@cache
def parsed(text: str) -> Any:
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # the same, in C where it is there


def files(text: str) -> dict[str, str]:
    return {f["path"]: f["content"] for f in parsed(text)["write_files"]}


def words(text: str) -> list[str]:
    """The command that starts the server."""
    return shlex.split(files(text)["/etc/slipway/server.run"])


def schema() -> Json:
    if not SCHEMA.exists():
        pytest.skip("cloud-init's schema is not here: `sh tools/cloud_init_schema.sh .venv/share/cloud-init` had none")
    found: Json = json.loads(SCHEMA.read_text())
    return found


def test_cloud_init_takes_it(rendered: tuple[Plan, ContainerSpec, str]) -> None:
    text = rendered[2]
    assert text.startswith("#cloud-config\n")
    checker = jsonschema.Draft4Validator(schema())
    document = parsed(text)
    assert [e.message for e in checker.iter_errors(document)] == []
    wrong = document | {"write_files": [{"path": 5}]}
    assert list(checker.iter_errors(wrong)), "a check that finds nothing"


def test_systemd_takes_the_units(rendered: tuple[Plan, ContainerSpec, str], tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    units = [p for p in files(rendered[2]) if p.startswith("/etc/systemd/system/")]
    for path in units:
        (tmp_path / Path(path).name).write_text(files(rendered[2])[path])
    told = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / Path(p).name) for p in units)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.returncode, told.stderr) == (0, "")
    enabled = {c[2] for c in parsed(rendered[2])["runcmd"] if c[:2] == ["systemctl", "enable"]}
    assert enabled == {Path(p).name for p in units}


def test_the_clouds_take_its_size(rendered: tuple[Plan, ContainerSpec, str]) -> None:
    plan, _, text = rendered
    assert vm.too_long(text, plan) is None
    packed = vm.compressed(text)
    assert gzip.decompress(packed).decode() == text
    assert packed == vm.compressed(text)
    if plan.spec.cloud == "aws":
        assert len(packed) <= 16384


def test_what_is_too_long_is_refused_with_a_way_out() -> None:
    plan, container = made("aws", "triton", "none", "direct")
    assert container.pod is not None
    noise = "".join(hashlib.sha256(i.to_bytes(2)).hexdigest() for i in range(500))
    large = replace(container, pod=replace(container.pod, config={**container.pod.config, "x": noise}))
    with pytest.raises(SpecError, match=r"start-up data has .* and aws takes 16384.*shape to kubernetes"):
        vm.boot(plan, plan.pools[0], large)


def test_it_is_closed_as_far_as_the_device_lets_it(rendered: tuple[Plan, ContainerSpec, str]) -> None:
    plan, container, text = rendered
    said = " ".join(words(text))
    assert "--read-only" in said
    assert "--network host" in said
    assert f"--stop-timeout {int(container.stop_timeout_s)}" in said
    if plan.pools[0].tpu_topology:
        assert "--privileged" in said
    else:
        assert "--user 1000:1000 --cap-drop ALL --security-opt no-new-privileges" in said
        assert "--privileged" not in said
    modes = {f["path"]: f["permissions"] for f in parsed(text)["write_files"]}
    assert {m for p, m in modes.items() if p.startswith("/etc/slipway/") and "/config/" not in p} == {"0600"}


def test_devices_are_given_as_the_cloud_wants_it(rendered: tuple[Plan, ContainerSpec, str]) -> None:
    plan, _, text = rendered
    said, told = words(text), files(text)
    gpu = plan.pools[0].accelerator != "none" and not plan.pools[0].tpu_topology
    assert ("--gpus" in said) is (gpu and plan.spec.cloud == "aws")
    on_cos = gpu and plan.spec.cloud == "gcp"
    assert ("/var/lib/nvidia/lib64:/usr/local/nvidia/lib64:ro" in said) is on_cos
    assert ("DRIVER='cos-extensions install gpu -- -version=latest'" in told["/etc/slipway/settings"]) is on_cos
    assert ("DEVICES='/dev/nvidia[0-9]* " in told["/etc/slipway/server.settings"]) is on_cos


def test_no_secret_is_in_it(rendered: tuple[Plan, ContainerSpec, str]) -> None:
    """The name of the secret alone; the value comes by the environment, as all values do."""
    _, container, text = rendered
    assert container.pod is not None
    settings = files(text)["/etc/slipway/server.settings"]
    assert f"SECRETS='SLIPWAY_STORE_PASSWORD {SECRETS['SLIPWAY_STORE_PASSWORD']}\n'" in settings
    given = [b for a, b in itertools.pairwise(words(text)) if a == "--env"]
    wanted = {*container.pod.env, "SLIPWAY_STORE_URL", "SLIPWAY_STORE_CA", "SLIPWAY_STORE_PASSWORD"}
    assert set(given) == wanted
    assert all(re.fullmatch(r"\w+", name) for name in given), "names, no values"


def test_values_reach_the_shell_as_they_are(rendered: tuple[Plan, ContainerSpec, str], tmp_path: Path) -> None:
    """A certificate has many lines, and quotes mean nothing in it."""
    (tmp_path / "env").write_text(files(rendered[2])["/etc/slipway/server.env"])
    told = subprocess.run(
        ["sh", "-c", '. ./env; printf %s "$SLIPWAY_STORE_CA"'], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert told.stdout == CA


def test_the_numbers_are_the_plans(rendered: tuple[Plan, ContainerSpec, str]) -> None:
    plan, container, text = rendered
    numbers = vm.boot(plan, plan.pools[0], container)
    assert container.pod is not None
    assert numbers.startup_s >= plan.serving.startup_budget_s
    assert numbers.drain_s >= container.pod.pre_stop_s + container.stop_timeout_s
    assert numbers.ready_path == container.ready_path
    unit = files(text)["/etc/systemd/system/slipway-server.service"]
    assert f"TimeoutStopSec={numbers.drain_s}" in unit
    assert f"READY_S={numbers.startup_s}\n" in files(text)["/etc/slipway/server.settings"]
    ports = next(v for v in files(text)["/etc/slipway/server.settings"].splitlines() if v.startswith("PORTS"))
    assert {int(p) for p in re.findall(r"\d+", ports)} == set(numbers.ports.values())


def test_spot_machines_drain_within_their_notice() -> None:
    """What the planner counted with: 30 s on Google Cloud, 120 s on AWS."""
    for cloud, notice in (("gcp", 30), ("aws", 120)):
        plan = cloud_plan(cloud, shape="vm", cost="balanced", load={"mean_rps": 900, "peak_rps": 5000})
        pool = next(p for p in plan.pools if p.capacity_type == "spot")
        container = triton_pod.pod(plan, pool, project=PROJECT, uploaded="gs://own/digest")
        numbers = vm.boot(plan, pool, container)
        assert numbers.spot_notice_s == notice
        assert numbers.drain_s <= notice


def test_a_value_that_is_not_known_yet_is_refused() -> None:
    plan, container = made("gcp", "triton", "none", "direct")
    assert container.pod is not None
    late: Mapping[str, object] = {**container.pod.env, "SLIPWAY_STORE_URL": {"valueFrom": "x"}}
    with pytest.raises(TypeError, match="SLIPWAY_STORE_URL is dict"):
        vm.user_data(replace(container, pod=replace(container.pod, env=late)), plan.pools[0], cloud="gcp")


def test_many_servers_on_a_machine_are_refused() -> None:
    plan, container = made("gcp", "triton", "gpu", "direct")
    shared = replace(plan.pools[0], replicas_per_node=2)
    with pytest.raises(SpecError, match="2 servers on a machine were planned"):
        vm.boot(plan, shared, container)


def test_every_row_is_used_and_dated() -> None:
    names = {r["name"] for r in rows("vm_rows.csv")}
    used = " ".join((PROJECT / "serving" / f).read_text() for f in ("vm.py", "vm_files.py"))
    assert {n for n in names if f'"{n}"' not in used} == set()
    assert all(r["source"] and re.fullmatch(r"20\d\d-\d\d", r["date"]) for r in rows("vm_rows.csv"))
    keys = [(r["cloud"], r["accelerator"], r["name"]) for r in rows("vm_rows.csv")]
    assert len(keys) == len(set(keys))
