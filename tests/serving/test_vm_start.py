"""A machine's user data run for real: its service starts Triton, opens the ports when it serves, and drains."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from serving import python_stub, triton_pod, vm
from serving.container import ContainerSpec, Ports
from tests.serving.clouds import cloud_plan
from tests.serving.machine import Machine
from tests.serving.rewriting import rewritten
from tests.serving.servers import PROJECT, answers, ask, by_pixels, free_ports, outputs

pytestmark = pytest.mark.real
UNIT = "slipway-server.service"
Digits = tuple[list[str], npt.NDArray[np.float32], npt.NDArray[np.int64]]


@pytest.fixture
def folder_of_machine() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vm-") as place:
        yield Path(place)


@pytest.fixture
def machine(folder_of_machine: Path, triton_home: Path) -> tuple[Machine, int]:
    """The gce-gpu stack's machine; its container's settings are rewritten for this one (tests/serving/rewriting.py)."""
    container, port = _container(folder_of_machine, triton_home)
    plan = cloud_plan(shape="vm", accelerator="t4")
    text = vm.user_data(container, plan.pools[0], cloud="gcp")
    image = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", **python_stub.environment()}
    made = Machine.of(
        text.replace("cos-extensions install gpu -- -version=latest", ""),
        folder_of_machine,
        STAND_IN_ENV=json.dumps(image),
    )
    return made, port


def _container(folder: Path, triton_home: Path) -> tuple[ContainerSpec, int]:
    plan = cloud_plan(shape="vm", accelerator="t4")
    upload = triton_pod.uploads(plan, project=PROJECT)
    assert upload is not None
    container = triton_pod.pod(plan, plan.pools[0], project=PROJECT, uploaded=str(folder / "bucket"))
    pod = container.pod
    assert pod is not None
    http, grpc, metrics = free_ports(3)
    settings = json.loads(pod.config["start.json"])
    ports = {8000: http, 8001: grpc, 8002: metrics}
    mine, unproven = rewritten(settings, upload, models=folder / "bucket", home=triton_home, ports=ports)
    print(*(f"not proven: {line}" for line in unproven), sep="\n")
    pod = dataclasses.replace(pod, config={**pod.config, "start.json": json.dumps(mine)}, pre_stop_s=1)
    return dataclasses.replace(container, pod=pod, ports=Ports(http=http, grpc=grpc, metrics=metrics)), http


def test_the_service_serves_and_drains(machine: tuple[Machine, int], features: Digits) -> None:
    """Ready, open, a right prediction; at the machine's end the probes are refused first, and all else is answered."""
    made, port = machine
    _, pixels, labels = features
    prepared = made.step(UNIT, "ExecStartPre")
    assert prepared.returncode == 0, prepared.stdout + prepared.stderr
    rules = made.said("iptables").splitlines()
    assert [r for r in rules if f"--dport {port}" in r][-1].endswith("-j REJECT --reject-with tcp-reset")
    with made.main(UNIT) as process:
        ready = made.step(UNIT, "ExecStartPost", process.pid)
        assert ready.returncode == 0, ready.stdout + made.said("docker/slipway-server.log")[-2000:]
        assert [r for r in made.said("iptables").splitlines() if f"--dport {port}" in r][-1].endswith("-j ACCEPT")
        assert "server is ready after" in made.said("console")
        status, answer = ask(port, "/v2/models/digits/infer", by_pixels(pixels[:4]))
        assert (status, outputs(answer)["label"]) == (200, labels[:4].tolist())

        (made.folder / "system-state").write_text("stopping\n")
        answered: list[int] = []
        end = threading.Event()
        asking = threading.Thread(target=_ask_until, args=(port, pixels, end, answered))
        asking.start()
        stopped = made.step(UNIT, "ExecStop", process.pid)
        end.set()
        asking.join()
        assert stopped.returncode == 0, stopped.stderr
        assert process.wait(10) == 0
        assert not (made.folder / "docker/killed").exists(), "it was to end by itself"
    refused = [r for r in made.said("iptables").splitlines() if r.startswith("-w -I SLIPWAY-server 2")]
    assert f"-s 35.191.0.0/16 -p tcp --dport {port} -j REJECT" in " ".join(refused)
    assert "leaving: the machine stops" in made.said("console")
    assert len(answered) > 5
    assert set(answered) == {200}
    assert not answers(port, "/v2/health/live")


def _ask_until(port: int, pixels: npt.NDArray[np.float32], end: threading.Event, answered: list[int]) -> None:
    """As the balancer does while it has not seen the machine going: the first second of the drain."""
    until = time.monotonic() + 0.9
    while time.monotonic() < until and not end.is_set():
        answered.append(ask(port, "/v2/models/digits/infer", by_pixels(pixels[:1]))[0])
        time.sleep(0.02)


def test_a_container_that_cannot_start_is_told(machine: tuple[Machine, int]) -> None:
    """In docker's own words: a device that is not there, a flag that it does not know."""
    made, _ = machine
    assert made.step(UNIT, "ExecStartPre").returncode == 0
    (made.folder / "docker/start-error").write_text("could not select device driver with capabilities: [[gpu]]")
    with made.main(UNIT) as process:
        assert process.wait(10) == 125
        ready = made.step(UNIT, "ExecStartPost", process.pid)
    assert ready.returncode == 1
    said = "slipway: cannot start: the server ended: could not select device driver with capabilities: [[gpu]]"
    assert said in made.said("console").splitlines()


def test_a_model_that_does_not_load_is_told_on_the_console(machine: tuple[Machine, int]) -> None:
    """The unit fails with the server's own reason; the ports stay closed; the next try waits."""
    made, port = machine
    config = made.folder / "etc/slipway/config/start.json"
    settings = json.loads(config.read_text())
    settings["models"][0]["config"]["backend"] = "nonesuch"
    config.write_text(json.dumps(settings))
    assert made.step(UNIT, "ExecStartPre").returncode == 0
    with made.main(UNIT) as process:
        watcher = threading.Thread(target=process.wait)  # as systemd: the dead are buried
        watcher.start()
        ready = made.step(UNIT, "ExecStartPost", process.pid)
        watcher.join()
    assert ready.returncode == 1
    (line,) = (x for x in made.said("console").splitlines() if "cannot start" in x)
    assert line.startswith("slipway: cannot start: the server ended: cannot start: digits: ")
    assert "nonesuch" in line
    assert not [r for r in made.said("iptables").splitlines() if f"--dport {port}" in r and r.endswith("ACCEPT")]
    assert (made.folder / "run/server.failures").read_text().strip() == "1"
    assert os.stat(made.folder / "run/server.secrets").st_mode & 0o777 == 0o600
