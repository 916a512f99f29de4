"""Whole programs against the simulated clouds: up, no-op, change, destroy, up again, with faults, on both engines."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import Request, Result, run
from simulators import PLUGINS, providers
from simulators.core.faults import Fault
from simulators.core.timeline import schedule
from simulators.core.world import World

for _package in ("pulumi_gcp", "pulumi_aws", "pulumi_kubernetes", "botocore"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (extra `simulators`)")

pytestmark = pytest.mark.slow
PROJECTS = Path(__file__).parent / "projects"
CHANGE = {"gcp": "e2-standard-8", "aws": "m6i.2xlarge"}
EXPECTED_CHANGE = {
    "gcp": {"update": 1},
    "aws": {"replace": 1},
}  # machineType in place on GKE, replaced on EKS: measured
Go = Callable[..., Result]


def embedded(cloud: str, folder: Path, world: World) -> Go:
    project = folder / "project"
    shutil.copytree(PROJECTS / cloud, project)

    def go(command: str, faults: tuple[Fault, ...] = (), **config: str) -> Result:
        world.begin_phase()
        world.faults = faults
        return run(
            Request(
                command=command,  # type: ignore[arg-type]
                project=project,
                stack="dev",
                config={f"sample-{cloud}:{k}": v for k, v in config.items()},
                providers=providers(world),
                env={"PULUMI_CONFIG_PASSPHRASE": ""},
                warm=True,
            )
        )

    return go


def counted(result: Result) -> dict[str, int]:
    return {k: v for k, v in result.changes.items() if k not in ("same", "read")}


@pytest.mark.parametrize("cloud", ["gcp", "aws"])
def test_up_noop_change_destroy_and_again(cloud: str, tmp_path: Path) -> None:
    """At least 30 resources; the second up changes nothing; after destroy nothing is left, and the names are free."""
    world = World()
    go = embedded(cloud, tmp_path, world)
    first = go("up")
    assert first.ok, first.errors
    assert sum(first.changes.values()) >= 30
    assert counted(go("up")) == {}
    changed = go("up", machine=CHANGE[cloud])
    assert changed.ok, changed.errors
    assert counted(changed) == EXPECTED_CHANGE[cloud]
    gone = go("destroy")
    assert gone.ok, gone.errors
    assert world.leftovers() == ()
    assert counted(go("destroy")) == {}
    if cloud == "aws":  # the same names once more, after everything that AWS remembers of them
        assert go("up").ok
        assert go("destroy").ok
        assert world.leftovers() == ()


def test_faults_on_a_whole_stack(tmp_path: Path) -> None:
    """A failed cluster leaves what does not need it; a pool that is not ready is kept, and the next up mends it."""
    world = World()
    go = embedded("gcp", tmp_path, world)
    failed = go("up", faults=(Fault(kind="fail", type="gcp:container/cluster:*"),))
    assert not failed.ok
    assert any("internalError" in e for e in failed.errors)
    half = go("up", faults=(Fault(kind="partial", type="gcp:container/nodePool:*", message="status ERROR"),))
    assert not half.ok
    assert any("status ERROR" in e for e in half.errors)
    mended = go("up")
    assert mended.ok, mended.errors
    switch = go("up", faults=(Fault(kind="fail", operation="*"),), machine=CHANGE["gcp"])
    assert not switch.ok
    assert counted(go("up")) == {}, "a change that failed and was taken back leaves what was there"
    assert go("destroy", faults=(Fault(kind="fail", type="gcp:redis/*", operation="delete"),)).ok is False
    assert any(x.name == "store" for x in world.leftovers())
    assert go("destroy").ok
    assert world.leftovers() == ()


def test_timeline_has_the_cluster_on_its_critical_path(tmp_path: Path) -> None:
    world = World()
    go = embedded("gcp", tmp_path, world)
    assert go("up").ok
    state = json.loads((tmp_path / "project" / ".slipway" / "state" / "dev.json").read_text())
    resources = state.get("deployment", state)["resources"]
    needs = {r["urn"]: r.get("dependencies", []) for r in resources}
    timeline = schedule(world.operations, needs, parallel=16)
    names = [urn.rpartition("::")[2] for urn in timeline.critical]
    assert "cluster" in names
    assert timeline.makespan_s >= 12 + 22 + 300 + 90, "network, subnet, cluster, pool: one after the other"
    assert schedule(world.operations, needs, parallel=1).makespan_s == sum(
        o.end_s - o.start_s for o in world.operations
    )


@pytest.fixture
def pulumi(tmp_path: Path) -> Callable[..., dict[str, object]]:
    if shutil.which("pulumi") is None:
        pytest.skip("the Pulumi CLI is not on PATH")
    project, state = tmp_path / "cli", tmp_path / "backend"
    state.mkdir()
    env = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "GOOGLE_", "KUBECONFIG"))} | {
        "PULUMI_HOME": str(tmp_path / "home"),
        "PULUMI_BACKEND_URL": f"file://{state}",
        "PULUMI_CONFIG_PASSPHRASE": "",
        "PULUMI_SKIP_UPDATE_CHECK": "1",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "1",
        "SLIPWAY_SIMULATOR_WORLD": str(tmp_path / "world.json"),
    }

    def go(*arguments: str) -> dict[str, object]:
        command = ["pulumi", *arguments, "--cwd", str(project), "--non-interactive"]
        ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=500)
        assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
        text = ended.stdout.strip()
        return json.loads(text) if text.startswith("{") else {"text": text}

    return go


@pytest.mark.pulumi
@pytest.mark.parametrize("cloud", ["gcp", "aws"])
def test_the_pulumi_cli_takes_the_same_steps(
    cloud: str, tmp_path: Path, pulumi: Callable[..., dict[str, object]]
) -> None:
    """The same programs on the real engine, with the simulators as plugins named by the copy's Pulumi.yaml."""
    project = tmp_path / "cli"
    shutil.copytree(PROJECTS / cloud, project)
    file = project / "Pulumi.yaml"
    paths = "".join(f"    - {{name: {name}, path: {folder}}}\n" for name, folder in PLUGINS.items())
    python = Path(__file__).resolve().parents[2] / ".venv"
    runtime = f"runtime: {{name: python, options: {{toolchain: pip, virtualenv: {python}}}}}\n"
    file.write_text(file.read_text().replace("runtime: python\n", runtime) + f"plugins:\n  providers:\n{paths}")
    pulumi("stack", "init", "dev")
    up = pulumi("up", "--yes", "--skip-preview")
    assert "created" in str(up["text"])
    assert "unchanged" in str(pulumi("up", "--yes", "--skip-preview", "--expect-no-changes")["text"])
    world = World(path=tmp_path / "world.json")
    with world.transaction():
        made = {o.urn.rpartition("::")[2] for o in world.operations if o.op == "create"}
    other = World()
    go = embedded(cloud, tmp_path, other)
    assert go("up").ok
    assert made == {o.urn.rpartition("::")[2] for o in other.operations}
    pulumi("config", "set", "machine", CHANGE[cloud])
    pulumi("up", "--yes", "--skip-preview")
    pulumi("destroy", "--yes", "--skip-preview")
    assert world.leftovers() == ()
