"""A machine of a group, made of its user data: its files below a folder, its service run as systemd runs it.

What needs a machine of one's own (docker, iptables, systemctl, chown) are stand-ins on PATH; everything else is real.
"""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ETC = "/etc/slipway"
UNITS = "/etc/systemd/system/"
DOCKER = Path(__file__).with_name("docker_stand_in.py")


@dataclass(frozen=True, kw_only=True)
class Machine:
    folder: Path
    units: Mapping[str, configparser.ConfigParser]
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, user_data: str, folder: Path, **environment: str) -> Machine:
        """What cloud-init would write, below the folder."""
        document = yaml.safe_load(user_data)
        units = {}
        for file in document["write_files"]:
            text = file["content"].replace(ETC, f"{folder}{ETC}")
            path = folder / file["path"].lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(int(file["permissions"], 8))
            if file["path"].startswith(UNITS):
                unit = configparser.ConfigParser(interpolation=None, strict=True)
                unit.optionxform = str  # type: ignore[assignment,method-assign]
                unit.read_string(text)
                units[path.name] = unit
        programs = folder / "bin"
        programs.mkdir()
        _program(programs / "docker", f'exec {sys.executable} -I -S {DOCKER} "$@"\n')
        _program(programs / "iptables", f'echo "$*" >>{folder}/iptables\n[ "$2" != -C ]\n')
        _program(programs / "systemctl", f'echo "$*" >>{folder}/systemctl\ncat {folder}/system-state\n')
        _program(programs / "chown", "")
        (folder / "system-state").write_text("running\n")
        state = folder / "docker"
        state.mkdir()
        own = {
            "PATH": f"{programs}:/usr/bin:/bin",
            "SLIPWAY_HOME": f"{folder}{ETC}",
            "SLIPWAY_RUN": str(folder / "run"),
            "SLIPWAY_CONSOLE": str(folder / "console"),
            "STAND_IN_STATE": str(state),
        }
        return cls(folder=folder, units=units, environment={**own, **environment})

    def step(self, unit: str, key: str, main: int | None = None) -> subprocess.CompletedProcess[str]:
        """One command of a unit, to its end."""
        given = {"MAINPID": str(main)} if main is not None else {}
        command = shlex.split(self.units[unit]["Service"][key])
        return subprocess.run(
            command, env=self.environment | given, capture_output=True, text=True, timeout=90, check=False
        )

    @contextlib.contextmanager
    def main(self, unit: str) -> Iterator[subprocess.Popen[bytes]]:
        """The unit's own process, killed with its container at the end."""
        command = shlex.split(self.units[unit]["Service"]["ExecStart"])
        process = subprocess.Popen(command, env=self.environment, start_new_session=True)
        try:
            yield process
        finally:
            for path in (self.folder / "docker").glob("slipway-*.json"):
                record = json.loads(path.read_text())  # without a process where it could not be started
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(record.get("pid", process.pid), signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)

    def said(self, name: str) -> str:
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    def calls(self) -> list[Any]:
        return [json.loads(line) for line in self.said("docker/calls.jsonl").splitlines()]


def _program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)
