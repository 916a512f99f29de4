"""Simulated clouds: real Pulumi provider plugins for gcp, aws and kubernetes that answer as the real ones do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulators.core.servicer import Simulator
    from simulators.core.world import World

CLOUDS = ("gcp", "aws", "kubernetes")
PLUGINS = {cloud: Path(__file__).parent / "plugin" / cloud for cloud in CLOUDS}  # for `plugins.providers` of a project


def providers(world: World) -> dict[str, Callable[[], Simulator]]:
    """For the embedded engine, in process: a provider of its own for each one that a program declares, one world."""
    from simulators.core.servicer import Simulator  # gRPC and the SDK load a quarter of a second

    return {cloud: lambda cloud=cloud: Simulator(cloud, world) for cloud in CLOUDS}  # type: ignore[misc]
