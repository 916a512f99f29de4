"""The engine killed around every write of its state: the next run completes, nothing is made twice or forgotten."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import crash_run  # noqa: E402
import harness  # noqa: E402

pytestmark = pytest.mark.slow
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["crash_run"])


class Stack:
    """A stack whose two generations are the steps of scenario `generations`."""

    def __init__(self, folder: Path, like: Stack | None = None) -> None:
        self.folder = folder
        self.bench = harness.Bench(HERE / "lab", folder, "generations")
        self.report = folder / "report"
        if like is not None and like.bench.shelf.exists():
            shutil.copytree(like.folder / "state", folder / "state")
            shutil.copy(like.bench.shelf, self.bench.shelf)

    def run(self, command: str, step: int = 0, crash_at: str | None = None) -> int:
        self.report.write_text("")
        env = {**self.bench.env, "STEP": str(step)}
        arguments = (command, str(self.folder), env, crash_at, crash_at is None, str(self.report))
        process = FORK.Process(target=crash_run.one, args=arguments)
        process.start()
        process.join(120)
        assert process.exitcode is not None, "the run hangs"
        return process.exitcode

    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads((self.folder / "state/dev.json").read_text())["deployment"].get(
            "resources", []
        )
        return rows

    def ids(self) -> list[str]:
        return sorted(r["id"] for r in self.rows() if r["type"].startswith("lab:") and not r.get("delete"))


def walk(tmp_path: Path, when: str, before: list[tuple[str, int]], command: str, step: int, left: list[str]) -> int:
    """Kills the command at its first write, the next time at its second, and so on until it is through."""
    ready = Stack(tmp_path / "ready")
    for earlier, its_step in before:
        assert ready.run(earlier, its_step) == 0
    for n in range(1, 60):
        stack = Stack(tmp_path / f"{n}", ready)
        code = stack.run(command, step, f"{when}:{n}")
        assert code in (0, -signal.SIGKILL), stack.report.read_text()
        if code == 0:
            return n - 1
        assert stack.run(command, step) == 0, f"killed {when} write {n}: {stack.report.read_text()}"
        assert stack.ids() == left, f"killed {when} write {n}: {stack.report.read_text()}"
        things = stack.bench.things()
        assert sorted(things) == left, f"killed {when} write {n}: what is there is not what the state says"
        twice = [name for name, thing in things.items() if thing["made"] != 1]
        assert not twice, f"killed {when} write {n}: made twice: {twice}; {stack.report.read_text()}"
        assert "pending_operations" not in json.loads((stack.folder / "state/dev.json").read_text())["deployment"]
    raise AssertionError("the run never gets through")


@pytest.mark.parametrize("when", ["before", "after"])
def test_up_killed_at_every_write(when: str, tmp_path: Path) -> None:
    """First `up`: every create that was cut off is found again by its name."""
    assert walk(tmp_path, when, [], "up", 0, ["base", "g1", "user"]) >= 10


@pytest.mark.parametrize("when", ["before", "after"])
def test_change_of_generation_killed_at_every_write(when: str, tmp_path: Path) -> None:
    """New generation made, user moved to it, old one deleted: at each point the next run ends in the same state."""
    assert walk(tmp_path, when, [("up", 0)], "up", 1, ["base", "g2", "user"]) >= 6


@pytest.mark.parametrize("when", ["before", "after"])
def test_destroy_killed_at_every_write(when: str, tmp_path: Path) -> None:
    """A delete that went through is not tried again, one that did not is."""
    assert walk(tmp_path, when, [("up", 0)], "destroy", 0, []) >= 6


def test_killed_while_the_provider_works(tmp_path: Path) -> None:
    """Settling says what became of the create that was cut off."""
    from engine import settle

    stack = Stack(tmp_path / "s")
    assert stack.run("up", 0, "before:6") == -signal.SIGKILL  # the first create is under way
    servicer = crash_run.LAB.Lab(stack.bench.diary, stack.bench.shelf)
    told = settle(stack.bench.project, "dev", tmp_path / "s/state", providers={"lab": servicer})
    assert [line for line in told if "imported" in line] or [line for line in told if "never made" in line], told
