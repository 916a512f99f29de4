"""Programs that fork from a process with their packages imported behave as those that start from nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from engine import Request, Result, run


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "p"
    folder.mkdir()
    (folder / "Pulumi.yaml").write_text(
        f"name: warm\nruntime: {{name: python, options: {{toolchain: pip, virtualenv: {sys.prefix}}}}}\n"
    )
    return folder


def go(project: Path, program: str, *, warm: bool = True, **env: str) -> Result:
    (project / "__main__.py").write_text(textwrap.dedent(program))
    given = {"PULUMI_CONFIG_PASSPHRASE": "", **env}
    return run(Request(command="up", project=project, stack="dev", env=given, warm=warm))


def test_packages_are_kept_and_nothing_of_the_project(project: Path) -> None:
    """The second program finds `wave`, which the first imported, and the project's own module as it is by then."""
    program = """
        import os, sys, pulumi
        pulumi.export("kept", "wave" in sys.modules)
        import wave, mine
        pulumi.export("mine", mine.VALUE)
        pulumi.export("told", [os.getcwd(), os.environ.get("WORD"), sys.argv])
    """
    (project / "mine.py").write_text("VALUE = 1\n")
    first = go(project, program, WORD="a")
    (project / "mine.py").write_text("VALUE = 22\n")
    second = go(project, program)
    cold = go(project, program, warm=False)
    for result in (first, second, cold):
        assert result.ok, result.errors
    assert second.outputs["kept"] is True
    assert cold.outputs["kept"] is False
    assert (first.outputs["mine"], second.outputs["mine"]) == (1, 22)
    assert first.outputs["told"][1] == "a"  # type: ignore[index]
    assert second.outputs["told"] == cold.outputs["told"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "program",
    [
        "import pulumi\nraise pulumi.RunError('no way')\n",
        "1 / 0\n",
        "import sys\nsys.exit(7)\n",
        "import os\nos._exit(9)\n",
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n",
        "print('a line')\nimport nowhere\n",
    ],
)
def test_ends_as_a_program_of_its_own(project: Path, program: str) -> None:
    for _ in range(2):  # and leaves the next one well
        warm, cold = go(project, program), go(project, program, warm=False)
        assert not warm.ok
        assert [(d.severity, d.message) for d in warm.diagnostics] == [
            (d.severity, d.message) for d in cold.diagnostics
        ]


@pytest.mark.slow
def test_nothing_outlives_a_killed_engine(project: Path, tmp_path: Path) -> None:
    """The program and the process that it was forked from go with the engine."""
    mark = tmp_path / "runs"
    (project / "__main__.py").write_text(
        f"import pathlib, time\npathlib.Path({str(mark)!r}).touch()\ntime.sleep(600)\n"
    )
    code = (
        "from pathlib import Path\nfrom engine import Request, run\n"
        f"run(Request(command='up', project=Path({str(project)!r}), stack='dev', warm=True))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PULUMI_CONFIG_PASSPHRASE": ""})
    try:
        until = time.monotonic() + 60
        while not mark.exists() and time.monotonic() < until:
            time.sleep(0.05)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) == 2, "the process that forks, and the program"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not psutil.wait_procs(children, timeout=10)[1]
