"""The fixture of the command's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_project import ROOT, Command
from stack_project import free_block, temporary


@pytest.fixture
def slipway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    with temporary() as place:  # a short path: the preflight counts the bytes of the stack's socket
        yield _made(place, monkeypatch)


def _made(place: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    folder, binaries = place / "project", place / "bin"
    (folder / "stacks/config").mkdir(parents=True)
    binaries.mkdir()
    (folder / "Pulumi.yaml").write_text((ROOT / "Pulumi.yaml").read_text())
    (folder / "serving").symlink_to(ROOT / "serving")
    made = Command(folder, binaries)
    text = (ROOT / "stacks/config/Pulumi.local.yaml").read_text().rstrip("\n")
    # its own ports: the preflight would name the stack of `make up` where that is running
    made.config.write_text(f"{text}\n  slipway:port: {free_block()}\n")
    for tool in ("ldd", "sh", "cat"):  # what the machine itself must have, and no pulumi
        (binaries / tool).symlink_to(f"/usr/bin/{tool}")
    monkeypatch.setenv("PATH", str(binaries))
    return made
