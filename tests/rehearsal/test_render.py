"""`slipway render`: manifests that hold together, every declared resource, and no secret."""

from __future__ import annotations

import json
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from cli_project import ROOT
from typer.testing import CliRunner

from cli import rendering
from cli.errors import CliError
from cli.main import app
from engine import values as v

for _package in ("pulumi_gcp", "pulumi_aws", "pulumi_kubernetes", "botocore"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (extra `simulators`)")

KUBERNETES = "1.34"  # what GKE and EKS run
SAMPLES = ROOT / "tests" / "simulators" / "projects"


def secret(value: object) -> dict[str, object]:
    return {v.SIG: v.SECRET, "value": value}


def test_secrets_are_masked_leaf_by_leaf() -> None:
    """The shape stays, so that a manifest stays valid; nothing of a value does, in either form of the state."""
    inputs = {
        "plain": 2.0,
        "password": secret("hunter2"),
        "data": secret({"a": "hunter2", "b": ["hunter2", None]}),
        "stored": {v.SIG: v.SECRET, "plaintext": json.dumps({"c": "hunter2"})},
    }
    masked = rendering.masked(inputs)
    assert masked == {
        "plain": 2,
        "password": "[secret]",
        "data": {"a": "[secret]", "b": ["[secret]", None]},
        "stored": {"c": "[secret]"},
    }
    assert isinstance(masked["plain"], int)


def test_manifests_come_in_an_order_that_can_be_applied() -> None:
    """Namespace and accounts first; Pulumi's annotations are gone; a Secret's data is base64; a chart is none."""

    def row(kind: str, name: str, **more: object) -> dict[str, object]:
        metadata = {"name": name, "annotations": {"pulumi.com/skipAwait": "true", "a": "b"}}
        token = f"kubernetes:core/v1:{kind}"
        return {"type": token, "inputs": {"apiVersion": "v1", "kind": kind, "metadata": metadata, **more}}

    rows = [
        row("Pod", "p"),
        row("Secret", "s", data=secret({"k": "aHVudGVyMg=="})),
        row("Namespace", "n"),
        {"type": "kubernetes:helm.sh/v3:Release", "inputs": {"chart": "keda"}},
        {"type": "gcp:compute/network:Network", "inputs": {"apiVersion": "v1", "kind": "Pod", "metadata": {}}},
    ]
    found = rendering.manifests(rows)
    assert [m["kind"] for m in found] == ["Namespace", "Pod", "Secret"]
    assert found[0]["metadata"] == {"name": "n", "annotations": {"a": "b"}}
    assert list(found[0])[:3] == ["apiVersion", "kind", "metadata"]
    assert found[2]["data"] == {"k": "W3NlY3JldF0="}


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(CliError, match="holds other files"):
        rendering.refuse_foreign(tmp_path)
    (tmp_path / rendering.RESOURCES).write_text("{}")
    rendering.refuse_foreign(tmp_path)


def render(project: Path, folder: Path) -> str:
    arguments = ["--project", str(project), "render", "dev", str(folder)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.slow
def test_a_whole_stack(tmp_path: Path) -> None:
    """Each object of the cluster is a file, each resource an entry with its options; a second render replaces it."""
    folder = tmp_path / "out"
    assert "36 resources, 7 manifests" in render(SAMPLES / "gcp", folder)
    files = sorted((folder / "manifests").iterdir())
    objects = [yaml.safe_load(f.read_text()) for f in files]
    assert objects[0]["kind"] == "Namespace"
    for each in objects:
        kubernetes_validate.validate(each, KUBERNETES, strict=True)
    deployment = next(o for o in objects if o["kind"] == "Deployment")
    assert deployment["spec"]["replicas"] == 2
    assert all(o["metadata"]["name"] for o in objects)
    resources = json.loads((folder / "resources.json").read_text())["resources"]
    assert len(resources) == 36
    assert all(set(r) == {"type", "name", "inputs", "options"} for r in resources)
    network = next(r for r in resources if r["name"] == "net")
    assert network["options"]["customTimeouts"] == {"delete": 1200}
    assert network["inputs"] == {"name": "net", "autoCreateSubnetworks": False}
    render(SAMPLES / "gcp", folder)
    again = [yaml.safe_load(f.read_text()) for f in sorted((folder / "manifests").iterdir())]
    assert [o["kind"] for o in again] == [o["kind"] for o in objects], "files of the first render are gone"


@pytest.mark.slow
def test_no_secret_reaches_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    render(Path(__file__).parent / "project", folder)
    text = (folder / "resources.json").read_text()
    assert "[secret]" in text
    assert "the plain value" not in text
