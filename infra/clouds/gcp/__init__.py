"""Google Cloud: GKE's clusters and Compute Engine's groups of machines, with network, identities, bucket, entry."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.clouds.gcp.machines import Machines
    from infra.clouds.gcp.site import Site

__all__ = ["Machines", "Site"]


def __getattr__(name: str) -> object:
    """The SDK loads when a stack asks for a site, not before; GKE's part of it only for a cluster."""
    if name == "Site":
        from infra.clouds.gcp.site import Site

        return Site
    if name == "Machines":
        from infra.clouds.gcp.machines import Machines

        return Machines
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
