"""The only reader of Pulumi's configuration: every key of this project, as written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pulumi
from pulumi.runtime import config as runtime

NAMESPACE = "slipway:"
WHEELS = "SLIPWAY_WHEELS"


def read() -> Mapping[str, object]:
    """All keys without their namespace, unknown ones too (the specification refuses them by name)."""
    everything = {**runtime.get_config_env(), **runtime.CONFIG.get()}
    return {key.removeprefix(NAMESPACE): value for key, value in everything.items() if key.startswith(NAMESPACE)}


def project() -> Path:
    """The folder of Pulumi.yaml."""
    return Path(pulumi.get_root_directory()).resolve()


def wheels() -> Path | None:
    """Where packages for the servers' images are kept. SLIPWAY_WHEELS names another place; set to nothing it says that
    there are to be none."""
    named = os.environ.get(WHEELS)
    if named is None:
        return project() / ".slipway" / "wheels"
    return Path(named) if named else None
