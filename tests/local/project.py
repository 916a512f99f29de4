"""A copy of this project in a temporary folder, with ports, stack name and configuration of its own."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
PORTS = range(20000, 60000, 120)


def make_project(folder: Path, overrides: Mapping[str, Any] | None = None, *, stack: str = "local") -> Path:
    """The code is linked, the configuration is written: that of the worked local stack with `overrides`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("stacks", "infra", "serving", ".venv"):
        (folder / name).symlink_to(ROOT / name)
    project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
    (folder / "Pulumi.yaml").write_text(yaml.safe_dump({**project, "stackConfigDir": "config"}))
    configure(folder, {"port": free_base(), **(overrides or {})}, stack=stack)
    return folder


def configure(folder: Path, values: Mapping[str, Any], *, stack: str = "local") -> None:
    """Writes the stack's file; keys without their namespace; None removes one."""
    path = folder / "config" / f"Pulumi.{stack}.yaml"
    source = path if path.exists() else ROOT / "stacks" / "config" / "Pulumi.local.yaml"
    config = yaml.safe_load(source.read_text())["config"]
    config |= {f"slipway:{key}": value for key, value in values.items()}
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump({"config": {k: v for k, v in config.items() if v is not None}}))


def free_base() -> int:
    """A first port with all the ports of a stack free after it; never the default one, which may be in use."""
    for base in PORTS:
        if all(_free(base + offset) for offset in (0, 1, 2, 9, *range(10, 100))):
            return base
    raise RuntimeError("no free range of ports")


def _free(port: int) -> bool:
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
