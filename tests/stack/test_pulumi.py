"""The same stack under the real Pulumi CLI, and handed over to it from the embedded engine."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from stack_project import Project, leftovers, make_project, stop_all, temporary

PULUMI = shutil.which("pulumi")
pytestmark = [
    pytest.mark.real,
    pytest.mark.pulumi,
    pytest.mark.slow,
    pytest.mark.skipif(PULUMI is None, reason="the Pulumi CLI is not on PATH: the local stack was not run under it"),
]


@pytest.fixture
def project() -> Iterator[Project]:
    """A project with a Pulumi home and a file backend of its own."""
    with temporary() as folder:
        made = make_project(folder)
        (folder / "backend").mkdir()
        made.env |= {
            "PULUMI_HOME": str(folder / "home"),
            "PULUMI_BACKEND_URL": f"file://{folder}/backend",
            "PULUMI_CONFIG_PASSPHRASE": "",
            "PULUMI_SKIP_UPDATE_CHECK": "1",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "1",
            "PULUMI_ERROR_OUTPUT_STRING": "1",
        }
        try:
            yield made
        finally:
            pulumi(made, "destroy", "--yes", "--skip-preview", "--stack", "local", code=None)
            stop_all(made)


def pulumi(project: Project, *args: str, code: int | None = 0, stdin: str | None = None) -> str:
    assert PULUMI is not None
    done = subprocess.run(
        [PULUMI, *args, "--non-interactive"],
        cwd=project.folder,
        env=project.environment(),
        capture_output=True,
        text=True,
        input=stdin,
        timeout=300,
    )
    if code is not None:
        assert done.returncode == code, f"pulumi {args}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def up(project: Project) -> dict[str, object]:
    pulumi(project, "up", "--yes", "--skip-preview", "--stack", "local")
    outputs: dict[str, object] = json.loads(pulumi(project, "stack", "output", "--json", "--stack", "local"))
    return outputs


def test_up_switch_destroy(project: Project) -> None:
    """Up, `pulumi config set scaling vertical`, up, destroy: the plain words of the README."""
    pulumi(project, "stack", "init", "local")
    first = up(project)
    pulumi(project, "up", "--yes", "--skip-preview", "--expect-no-changes", "--stack", "local")
    pulumi(project, "config", "set", "scaling", "vertical", "--stack", "local")
    second = up(project)
    assert first["url_http"] == second["url_http"]
    assert first["generation"] != second["generation"]
    assert "label" in project.run("predict", "local", "--id", "7", "--json", engine="pulumi").stdout
    pulumi(project, "destroy", "--yes", "--skip-preview", "--stack", "local")
    assert [x for x in leftovers(project) if "/.slipway/" not in x] == []
    assert not project.root.exists()


def test_handed_over(project: Project) -> None:
    """`pulumi stack import` of the embedded engine's export takes the stack over: nothing to change."""
    project.run("up", "local", "--yes")
    exported = project.run("export", "local").stdout
    pulumi(project, "stack", "init", "local")
    pulumi(project, "stack", "import", "--stack", "local", stdin=exported)
    pulumi(project, "preview", "--expect-no-changes", "--stack", "local")
    pulumi(project, "destroy", "--yes", "--skip-preview", "--stack", "local")
    assert not project.root.exists()
