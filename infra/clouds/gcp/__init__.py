"""GKE: network, cluster, node pools, identities, models' bucket, entry."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.clouds.gcp.site import Site

__all__ = ["Site"]


def __getattr__(name: str) -> object:
    """The SDK loads when a stack asks for the site, not before."""
    if name != "Site":
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from infra.clouds.gcp.site import Site

    return Site
