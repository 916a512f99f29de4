"""State on disk: what a reader finds after any cut, who holds the stack, what a secret looks like."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.api import EngineError, Locked
from engine.lock import locked
from engine.rows import Row
from engine.secrets import Crypter
from engine.state import State
from engine.values import secret

URN = "urn:pulumi:dev::p::lab:index:Box::"


def row(name: str, **more: object) -> Row:
    made: Row = {"urn": URN + name, "custom": True, "type": "lab:index:Box", "id": name, "inputs": {"content": 1}}
    made.update(more)  # type: ignore[typeddict-item]
    return made


def fresh(folder: Path) -> State:
    return State(folder / "dev.json", {"PULUMI_CONFIG_PASSPHRASE": "word"})


def test_steps_are_found_again_without_folding(tmp_path: Path) -> None:
    """A process that vanishes leaves a journal; the next reader sees each finished step and each open one."""
    state = fresh(tmp_path)
    first = state.begin("creating", row("a"))
    state.end(first, add=row("a", outputs={"serial": "1"}))
    state.begin("creating", row("b"))
    state.close()
    again = fresh(tmp_path)
    assert [r["urn"] for r in again.rows()] == [URN + "a"]
    assert [(o["type"], o["resource"]["urn"]) for o in again.operations()] == [("creating", URN + "b")]


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_line_that_was_cut_off_never_happened(tmp_path: Path, cut: int) -> None:
    """The last write of a journal may be torn; all before it holds."""
    state = fresh(tmp_path)
    state.end(state.begin("creating", row("a")), add=row("a"))
    state.begin("creating", row("b"))
    state.close()
    journal = tmp_path / "dev.journal"
    journal.write_bytes(journal.read_bytes()[:-cut])
    again = fresh(tmp_path)
    assert [r["urn"] for r in again.rows()] == [URN + "a"]
    assert again.operations() == []


def test_a_journal_of_an_older_deployment_is_ignored(tmp_path: Path) -> None:
    """Killed between the rename and the end of the journal: its steps are in the deployment already."""
    state = fresh(tmp_path)
    state.end(state.begin("creating", row("a")), add=row("a"))
    kept = (tmp_path / "dev.journal").read_bytes()
    state.fold()
    (tmp_path / "dev.journal").write_bytes(kept)
    assert [r["urn"] for r in fresh(tmp_path).rows()] == [URN + "a"]


def test_folding_leaves_a_deployment_that_pulumi_reads(tmp_path: Path) -> None:
    """Version 3, rows in the order in which they were made, what is empty left out."""
    state = fresh(tmp_path)
    for name in ("a", "b"):
        state.end(state.begin("creating", row(name)), add=row(name, protect=False, dependencies=[]))
    state.fold()
    document = json.loads((tmp_path / "dev.json").read_text())
    assert document["version"] == 3
    assert [set(r) for r in document["deployment"]["resources"]] == [{"urn", "custom", "type", "id", "inputs"}] * 2
    assert not (tmp_path / "dev.journal").exists()


def test_a_name_that_changed_is_followed_by_all_who_use_it(tmp_path: Path) -> None:
    """An alias renames a row; those not yet looked at must not refer to a name that is gone."""
    state = fresh(tmp_path)
    for r in (row("old"), row("user", dependencies=[URN + "old"], propertyDependencies={"content": [URN + "old"]})):
        state.end(state.begin("creating", r), add=r)
    state.fold()
    state.end(None, add=row("new"), drop=state.base[0], alias=(URN + "old", URN + "new"))
    user = state.rows()[1]
    assert user["dependencies"] == [URN + "new"]
    assert user["propertyDependencies"] == {"content": [URN + "new"]}


def test_no_secret_is_in_any_file(tmp_path: Path) -> None:
    """Neither in the journal nor in the deployment; opened again with the same passphrase, refused with another."""
    state = fresh(tmp_path)
    state.end(
        state.begin("creating", row("a")),
        add=row("a", outputs={"key": secret("hush"), "deep": [{"x": secret({"y": secret("hush")})}]}),
    )
    journal = (tmp_path / "dev.journal").read_text()
    state.fold()
    stored = (tmp_path / "dev.json").read_text()
    assert "hush" not in journal + stored
    assert fresh(tmp_path).rows()[0]["outputs"]["key"] == secret("hush")
    assert fresh(tmp_path).rows()[0]["outputs"]["deep"] == [{"x": secret({"y": secret("hush")})}]
    assert '"plaintext": "\\"hush\\""' in json.dumps(fresh(tmp_path).deployment(show_secrets=True))
    with pytest.raises(EngineError, match="does not open"):
        State(tmp_path / "dev.json", {"PULUMI_CONFIG_PASSPHRASE": "another"})


def test_without_a_passphrase_a_key_file_is_made(tmp_path: Path) -> None:
    """A run must not find out in its middle that it cannot store what a provider returned."""
    crypter = Crypter(tmp_path / "dev.key", {})
    stored = crypter.encrypt("hush")
    assert (tmp_path / "dev.key").stat().st_mode & 0o777 == 0o600
    assert Crypter(tmp_path / "dev.key", {}, crypter.salt).decrypt(stored) == "hush"
    (tmp_path / "dev.key").unlink()
    with pytest.raises(EngineError, match="no passphrase is known"):
        Crypter(tmp_path / "dev.key", {}, crypter.salt).decrypt(stored)


def test_reads_what_pulumi_encrypted() -> None:
    """Salt and value as `pulumi config set --secret` of 3.260 wrote them with the passphrase `open sesame`."""
    vector = json.loads((Path(__file__).parent / "passphrase.json").read_text())
    crypter = Crypter(Path("none"), {"PULUMI_CONFIG_PASSPHRASE": vector["passphrase"]}, vector["salt"])
    assert crypter.decrypt(vector["value"]) == vector["plain"]


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    """Another process is refused with who and since when; killed, it holds nothing any more."""
    code = (
        "import sys,time; from pathlib import Path; from engine.lock import locked\n"
        "with locked(Path(sys.argv[1]), 'up'): print('held', flush=True); time.sleep(60)"
    )
    file = tmp_path / "dev.lock"
    holder = subprocess.Popen([sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Locked, match=f"pid {holder.pid}.*since") as caught, locked(file, "destroy"):
            pass
        assert caught.value.holder["command"] == "up"
    finally:
        holder.kill()
        holder.communicate()
    with locked(file, "destroy"):
        assert json.loads(file.read_text())["pid"] == os.getpid()


@pytest.mark.skipif(os.geteuid() != 0 and not os.access("/dev/full", os.W_OK), reason="no device that is always full")
def test_a_full_disk_leaves_the_old_state(tmp_path: Path) -> None:
    """The error names the file; what was there is there."""
    state = fresh(tmp_path)
    state.end(state.begin("creating", row("a")), add=row("a"))
    state.fold()
    before = (tmp_path / "dev.json").read_bytes()
    (tmp_path / "dev.json.new").symlink_to("/dev/full")
    state.end(state.begin("creating", row("b")), add=row("b"))
    with pytest.raises(EngineError, match="No space left on device"):
        state.fold()
    assert (tmp_path / "dev.json").read_bytes() == before
    (tmp_path / "dev.json.new").unlink()
    assert {r["urn"] for r in fresh(tmp_path).rows()} == {URN + "a", URN + "b"}


@pytest.mark.parametrize(
    ("text", "wrong"), [("{", "is not JSON"), ('{"version": 2}', "version 3"), ("[]", "version 3")]
)
def test_a_state_that_cannot_be_read_is_refused(tmp_path: Path, text: str, wrong: str) -> None:
    """Nothing starts from a state that is not understood."""
    (tmp_path / "dev.json").write_text(text)
    with pytest.raises(EngineError, match=wrong):
        fresh(tmp_path)
